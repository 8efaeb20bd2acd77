"""What goes to a running `aiservice up`, or takes care of what a killed one left."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from aiservice.cli.exits import NOT_FOUND, NOT_READY, fail
from aiservice.cli.sending import joined, post
from aiservice.local.store import Store, root

PATIENCE = 30.0


def command(name: str, verb: str) -> str:
    store, where = _running(name)
    answer = post(f"{where['url']}/v1/services/{name}/{verb}", "", {"Authorization": f"Bearer {store.token()}"})
    return f"{name}: {answer['phase']}, {answer['stable']} is stable. {answer['message']}"


def label(name: str, body: str) -> str:
    _, where = _running(name)
    return joined(post(f"{where['url']}/v1/labels", body))


def predict(name: str, body: str) -> str:
    _, where = _running(name)
    return json.dumps(post(f"{where['gateway']}/v2/models/{name}/infer", body), indent=2)


async def down(name: str) -> str:
    from aiservice.local import gateway, replica
    from aiservice.local.files import Locked, locked
    from aiservice.local.process import marked

    store = _known(name)
    ended = 0
    try:
        with locked(store.lock, f"aiservice down, pid {os.getpid()}"):
            processes = [process for process, _ in marked(replica.MARK, store.folder / "predictors")]
            for folder in gateway.forsaken(root() / "gateways", {name}):
                found = gateway.left(folder)
                await asyncio.gather(*(process.stop(PATIENCE) for process in found))
                ended += len(found)
            await asyncio.gather(*(process.stop(PATIENCE) for process in processes))
            ended += len(processes)
    except Locked as taken:
        fail(NOT_READY, f"an `aiservice up` ({taken.holder}) looks after {name}: stop it with Ctrl-C there")
    return f"{name}: ended {ended} processes" if ended else f"{name}: nothing was running"


def _known(name: str) -> Store:
    store = Store.of(name)
    if not (store.folder / "service.json").exists():
        others = ", ".join(s.name for s in Store.every())
        hint = f"; there are: {others}" if others else "; start one: aiservice up -f FILE"
        fail(NOT_FOUND, f"there is no service {name!r} here{hint}")
    return store


def _running(name: str) -> tuple[Store, dict[str, Any]]:
    store = _known(name)
    where = store.kept("control")
    if not store.running or not where:
        fail(NOT_READY, f"{name} is not looked after now: start it with aiservice up -f FILE")
    return store, where
