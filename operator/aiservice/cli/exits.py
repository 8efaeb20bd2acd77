"""Exit statuses that scripts can rely on."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape

NOT_READY = 1
"""It is not ready, or could not be done now."""
BAD_INPUT = 2
"""The input is wrong; nothing was changed."""
NOT_FOUND = 3
"""There is no such thing here."""


class Format(StrEnum):
    """How a status is printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


PLAIN_WIDTH = 2000
"""Columns where there is no terminal to ask: nothing is cut off."""

out = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)


class Unheard(Console):
    """Where nobody reads any more (`2>&1 | head`) it falls silent; who speaks goes on with its work."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


err = Unheard(stderr=True, highlight=False, soft_wrap=True)


def saying(name: str, words: str) -> None:
    """Tell the person who started us, beside what we print."""
    err.print(f"[bold]{escape(name)}[/bold]  {escape(words)}")


def fail(status: int, *sentences: str) -> NoReturn:
    """Say why, and leave."""
    for sentence in sentences:
        err.print(f"[red]error:[/red] {escape(sentence)}")
    raise typer.Exit(status)
