"""What is printed of services, wherever they are."""

from __future__ import annotations

import json as jsonlib
import signal
import sys
import time
from collections.abc import Callable, Sequence

import typer
import yaml
from rich.console import RenderableType
from rich.live import Live

from aiservice.cli.exits import BAD_INPUT, NOT_READY, Format, fail, out
from aiservice.cli.source import Seen, Source
from aiservice.cli.table import overview, ready, watched, why


def status(source: Source, name: str | None, form: Format, *, watch: bool) -> None:
    """Print it, once or for ever. Leaves with NOT_READY if a service is not."""
    structured = form in (Format.JSON, Format.YAML)
    if watch and structured:
        fail(BAD_INPUT, f"--watch follows the table: leave out -o {form.value}")
    if watch:
        follow(source, lambda: picture(source, source.services(name), name, wide=form is Format.WIDE))
        return
    found = source.services(name)
    if structured:
        body = found[0][0].status.wire() if name else {"apiVersion": "v1", "kind": "List", "items": [s.wire() for s, _ in found]}
        sys.stdout.write(jsonlib.dumps(body, indent=2) + "\n" if form is Format.JSON else yaml.safe_dump(body, sort_keys=False))
    else:
        out.print(picture(source, found, name, wide=form is Format.WIDE))
    if not all(ready(service, running) for service, running in found):
        raise typer.Exit(NOT_READY)


def explain(source: Source, name: str) -> None:
    """Why it is as it is."""
    service, running = source.services(name)[0]
    out.print(why(service, running, source))


def picture(source: Source, found: Sequence[Seen], name: str | None, *, wide: bool) -> RenderableType:
    return watched(*found[0], source, wide=wide) if name else overview(found, namespaces=source.everywhere)


def follow(source: Source, picture: Callable[[], RenderableType]) -> None:
    """Until Ctrl-C, SIGTERM or a closed pipe. Without a terminal each picture that differs from the last one is printed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        if out.is_terminal:
            with Live(console=out, auto_refresh=False) as live:
                while True:
                    live.update(picture(), refresh=True)
                    time.sleep(source.beat)
        last = ""
        while True:
            with out.capture() as capture:
                out.print(picture())
            if capture.get() != last:
                last = capture.get()
                sys.stdout.write(last)
                sys.stdout.flush()
            time.sleep(source.beat)
    except KeyboardInterrupt:
        return
