"""Exit statuses that scripts can rely on."""

from __future__ import annotations

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

err = Console(stderr=True, highlight=False, soft_wrap=True)


def fail(status: int, *sentences: str) -> NoReturn:
    """Say why, and leave."""
    for sentence in sentences:
        err.print(f"[red]error:[/red] {escape(sentence)}")
    raise typer.Exit(status)
