"""What goes to a running `aiservice up`, or takes care of what a killed one left."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from aiservice.cli.exits import BAD_INPUT, NOT_FOUND, NOT_READY, fail
from aiservice.local.store import Store, root

TIMEOUT = 30.0
PATIENCE = 30.0
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""What runs here is never asked through a proxy."""


def text(data: str) -> str:
    """JSON as it is, from @FILE, or from standard input (@-)."""
    if not data.startswith("@"):
        return data
    if data == "@-":
        return sys.stdin.read()
    try:
        return Path(data[1:]).read_text()
    except (OSError, UnicodeDecodeError) as error:
        fail(BAD_INPUT, f"{data[1:]}: cannot be read: {error}")


def pairs(given: list[str]) -> str:
    """ID=DECISION texts, as the body of a request."""
    wrong = [g for g in given if "=" not in g]
    if wrong or not given:
        fail(BAD_INPUT, f"{wrong[0]!r} given, expected ID=DECISION" if wrong else "no labels given: ID=DECISION or -d @FILE")
    return json.dumps({"labels": dict(g.rsplit("=", 1) for g in given)})


def command(name: str, verb: str) -> str:
    store, where = _running(name)
    answer = _post(f"{where['url']}/v1/services/{name}/{verb}", "", {"Authorization": f"Bearer {store.token()}"})
    return f"{name}: {answer['phase']}, {answer['stable']} is stable. {answer['message']}"


def label(name: str, body: str) -> str:
    _, where = _running(name)
    answer = _post(f"{where['url']}/v1/labels", body, {})
    unknown = answer["unknown"]
    return f"{answer['matched']} labels joined with their requests" + (f", {unknown} of unknown or forgotten requests" if unknown else "")


def predict(name: str, body: str) -> str:
    _, where = _running(name)
    return json.dumps(_post(f"{where['gateway']}/v2/models/{name}/infer", body, {}), indent=2)


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


def _post(url: str, body: str, headers: dict[str, str]) -> dict[str, Any]:
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json", **headers}, method="POST")
    try:
        with DIRECT.open(request, timeout=TIMEOUT) as answer:
            parsed: dict[str, Any] = json.load(answer)
            return parsed
    except urllib.error.HTTPError as error:
        raw = error.read()
        try:
            message = json.loads(raw)["error"]
        except (ValueError, KeyError, TypeError):
            message = raw.decode(errors="replace")[:300] or error.reason
        fail(BAD_INPUT if error.code in (400, 404, 413, 415, 422) else NOT_READY, f"{error.code}: {message}")
    except (urllib.error.URLError, OSError, ValueError) as error:
        fail(NOT_READY, f"{url}: no answer ({getattr(error, 'reason', error)})")
