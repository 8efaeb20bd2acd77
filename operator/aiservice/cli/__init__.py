"""The command line: the same verbs for every world."""

from aiservice.cli.app import main

__all__ = ["main"]
