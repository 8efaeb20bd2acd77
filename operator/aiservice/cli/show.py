"""What is printed of services and of what they are made of."""

from __future__ import annotations

import json as jsonlib
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.console import RenderableType
from rich.live import Live

from aiservice.api.service import AIService
from aiservice.api.status import RevisionStatus, Role
from aiservice.cli.exits import BAD_INPUT, NOT_FOUND, fail, out
from aiservice.cli.table import overview, ready, watched
from aiservice.core import names
from aiservice.core.render import everything
from aiservice.core.world import Manifest
from aiservice.local import manifest
from aiservice.local.store import Store

BEAT = 0.5
"""Seconds between two looks of --watch."""


def rendered(files: Sequence[Path], *, json: bool) -> str:
    """The objects of services that are new."""
    objects: list[Manifest] = []
    for path in files:
        try:
            service = manifest.read(path)
        except manifest.Invalid as invalid:
            fail(BAD_INPUT, *[f"{path}: {p}" for p in invalid.problems])
        made_from = names.template(service.spec)
        revision = RevisionStatus(name=names.revision(made_from), role=Role.STABLE, template=made_from, weight=100)
        objects += everything(service, [revision])
    return jsonlib.dumps(objects, indent=2) + "\n" if json else yaml.safe_dump_all(objects, sort_keys=False)


def services(name: str | None) -> list[tuple[AIService, bool]]:
    """(service, whether an `up` looks after it). Leaves with NOT_FOUND where there is none."""
    stores = [Store.of(name)] if name else Store.every()
    try:
        found = [(s, store.running) for store in stores if (s := store.load()) is not None]
    except (OSError, ValueError) as error:
        fail(BAD_INPUT, str(error))
    if not found:
        others = ", ".join(s.name for s in Store.every())
        hint = f"; there are: {others}" if others else "; start one: aiservice up -f service.yaml"
        fail(NOT_FOUND, f"there is no service {name!r} here{hint}" if name else f"there is no service here{hint}")
    return found


def all_ready(name: str | None) -> bool:
    return all(ready(service, running) for service, running in services(name))


def as_data(name: str | None, *, json: bool) -> str:
    """One service's status; of all: a list of services."""
    found = services(name)
    body = found[0][0].status.wire() if name else {"apiVersion": "v1", "kind": "List", "items": [s.wire() for s, _ in found]}
    return jsonlib.dumps(body, indent=2) + "\n" if json else yaml.safe_dump(body, sort_keys=False)


def picture(name: str | None, *, wide: bool) -> RenderableType:
    found = services(name)
    return watched(*found[0], wide=wide) if name else overview(found)


def follow(name: str | None, *, wide: bool) -> None:
    """Until Ctrl-C, SIGTERM or a closed pipe. Without a terminal each picture that differs from the last one is printed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        if out.is_terminal:
            with Live(console=out, auto_refresh=False) as live:
                while True:
                    live.update(picture(name, wide=wide), refresh=True)
                    time.sleep(BEAT)
        last = ""
        while True:
            with out.capture() as capture:
                out.print(picture(name, wide=wide))
            if capture.get() != last:
                last = capture.get()
                sys.stdout.write(last)
                sys.stdout.flush()
            time.sleep(BEAT)
    except KeyboardInterrupt:
        return
