"""Where services are read from: one rendering, two sources."""

from __future__ import annotations

from typing import Protocol

from aiservice.api.service import AIService

Seen = tuple[AIService, bool]
"""A service, and whether somebody looks after it."""


class Source(Protocol):
    """This machine, or a cluster."""

    program: str
    """What a person types before a verb."""
    beat: float
    """Seconds between two looks of --watch."""
    everywhere: bool
    """Services of several namespaces."""

    def services(self, name: str | None) -> list[Seen]:
        """One, or all. Leaves with NOT_FOUND where there is none."""
        ...

    def unattended(self, name: str) -> str:
        """What to say of a service that nobody looks after, and what to do about it."""
        ...
