"""What goes to a running `aiservice up`, or takes care of what a killed one left."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from aiservice.cli.exits import BAD_INPUT, NOT_FOUND, NOT_READY, fail
from aiservice.local.process import Process
from aiservice.local.store import Store, root

TIMEOUT = 30.0


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


def pairs(given: list[str]) -> dict[str, str]:
    """ID=DECISION texts."""
    wrong = [g for g in given if "=" not in g]
    if wrong or not given:
        fail(BAD_INPUT, f"{wrong[0]!r} given, expected ID=DECISION" if wrong else "no labels given: ID=DECISION or -d @FILE")
    return dict(g.rsplit("=", 1) for g in given)


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
    store = Store.of(name)
    if store.running:
        fail(NOT_READY, f"an `aiservice up` looks after {name}: stop it with Ctrl-C there")
    folders = [store.folder / "predictors", *(g for g in (root() / "gateways").glob("*") if not _held(g))]
    ended = 0
    for record in (r for f in folders for r in [*f.glob("*-*.json"), *f.glob("process.json")]):
        kept = json.loads(record.read_text())
        process = Process.find(kept["pid"], kept["born"])
        if process:
            await process.stop(30)
            ended += 1
        record.unlink(missing_ok=True)
    return f"{name}: ended {ended} processes" if ended else f"{name}: nothing was running"


def _held(gateway: Path) -> bool:
    from aiservice.local.files import is_locked

    return is_locked(gateway / "lock")


def _running(name: str) -> tuple[Store, dict[str, Any]]:
    store = Store.of(name)
    if not (store.folder / "service.json").exists():
        others = ", ".join(s.name for s in Store.every())
        fail(
            NOT_FOUND, f"there is no service {name!r} here" + (f"; there are: {others}" if others else "; start one: aiservice up -f FILE")
        )
    where = store.kept("control")
    if not store.running or not where:
        fail(NOT_READY, f"{name} is not looked after now: start it with aiservice up -f FILE")
    return store, where


def _post(url: str, body: str, headers: dict[str, str]) -> dict[str, Any]:
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json", **headers}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
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
