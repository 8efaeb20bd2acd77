"""The main job, from real data to seven verdicts: `make demo`.

Serves a fraud model, replaces it by a better one on evidence, and shows how four bad ones and one without evidence are kept out.
Writes build/demo/report.json. Exit status 1 if a verdict is not the expected one or a client's request failed that should not have.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

import prepare
from traffic import Client

from aiservice.api.status import AIServiceStatus, Decision, DecisionKind, Phase
from aiservice.core import names
from aiservice.local import manifest
from aiservice.local.store import Store

NAME = "fraud-detection"
DEMO = prepare.DEMO
MANIFEST = DEMO / "service.yaml"
WARM_UP = 20_000
"""Requests that v1 answers alone, so that its reservoir holds some alerts."""
END = {DecisionKind.PROMOTED, DecisionKind.REJECTED, DecisionKind.ROLLED_BACK, DecisionKind.REFUSED, DecisionKind.INSUFFICIENT_EVIDENCE}
ROLLOUT: dict[str, Any] = {
    "replay": {"requests": 6000},
    "steps": [{"weight": 5, "hold": "10s"}, {"weight": 25, "hold": "4s"}, {"weight": 50, "hold": "4s"}],
    "gates": {
        "agreement": {"min": "50%"},
        "errors": {"margin": "0.5%"},
        "latency": {"slo": "100ms", "margin": "2%"},
        "quality": {"metric": "Recall", "margin": "10%"},
    },
    "standby": "2s",
}


@dataclass(frozen=True, slots=True)
class Act:
    """One version and what must become of it."""

    name: str
    verdict: str
    gate: str
    replay: bool = True
    traffic: bool = True


ACTS = (
    Act("v1", "Promoted", ""),
    Act("v2", "Promoted", ""),
    Act("v3", "Rejected", "agreement"),
    Act("v4", "Rejected", "latency"),
    Act("v5", "RolledBack", "errors", replay=False),
    Act("v6", "Refused", ""),
    Act("v7", "InsufficientEvidence", "errors", replay=False, traffic=False),
)


def write_manifest(act: Act) -> str:
    """Saving the manifest is applying it. -> the revision that it asks for."""
    rollout = json.loads(json.dumps(ROLLOUT))
    if not act.replay:
        rollout["replay"]["requests"] = 0
        del rollout["gates"]["agreement"]
    body = {
        "apiVersion": "aiservice.dev/v1alpha1",
        "kind": "AIService",
        "metadata": {"name": NAME},
        "spec": {"model": {"uri": f"file://bundles/{act.name}"}, "realTime": {"replicas": {"min": 1}}, "rollout": rollout},
    }
    new = MANIFEST.with_suffix(".new")
    new.write_text(yaml.safe_dump(body, sort_keys=False))
    new.replace(MANIFEST)
    return names.revision(names.template(manifest.read(MANIFEST).spec))


def status() -> AIServiceStatus:
    service = Store.of(NAME).load()
    return service.status if service else AIServiceStatus()


async def until(what: Callable[[AIServiceStatus], Decision | None], show: Callable[[AIServiceStatus], None], within: float) -> Decision:
    """The first decision that `what` finds. Raises TimeoutError with the last state in its message."""
    deadline, seen = time.monotonic() + within, AIServiceStatus()
    while time.monotonic() < deadline:
        seen = status()
        show(seen)
        found = what(seen)
        if found:
            return found
        await asyncio.sleep(0.2)
    raise TimeoutError(f"no verdict within {within:.0f} s; {seen.rollout.phase}: {[g.message for g in seen.rollout.gates]}")


def verdict_of(revision: str, expected: str) -> Callable[[AIServiceStatus], Decision | None]:
    """The revision's last word; waiting for evidence is one only where it is expected to last."""

    def found(seen: AIServiceStatus) -> Decision | None:
        own = [d for d in seen.rollout.decisions if d.revision == revision and d.kind in END]
        last = own[-1] if own else None
        waits = last is not None and last.kind is DecisionKind.INSUFFICIENT_EVIDENCE and expected != last.kind.value
        return None if waits else last

    return found


async def acts(client: Client, progress: Progress, url: str) -> list[dict[str, Any]]:
    rows = []
    for act in ACTS:
        task = progress.add_task(f"{act.name}: {prepare.models.WHAT[act.name]}", total=None)

        def show(seen: AIServiceStatus, act: Act = act, task: Any = task) -> None:
            state = seen.rollout
            share = f", {state.weight} %" if state.weight else ""
            done = f", {state.replay.done:,} replayed" if state.phase is Phase.REPLAYING and state.replay else ""
            progress.update(task, description=f"{act.name}: {state.phase.value}{share}{done}; {client.counts.sent:,} requests sent")

        if not act.traffic:
            await client.pause()
        revision = write_manifest(act)
        decision = await until(verdict_of(revision, act.verdict), show, within=120)
        if act.name == "v1":
            client.go()
            while client.counts.sent < WARM_UP:
                show(status())
                await asyncio.sleep(0.2)
        progress.update(task, description=f"{act.name}: {decision.kind.value} {decision.gate}", total=1, completed=1)
        rows.append(
            {
                "name": act.name,
                "revision": revision,
                "verdict": decision.kind.value,
                "gate": decision.gate,
                "reason": f"{decision.reason}: {shortened(decision)}",
                "seen": decision.requests,
                "seconds": round(decision.seconds, 1),
            }
        )
    return rows


def shortened(decision: Decision) -> str:
    """The deciding gate's sentence; all of them where all decided."""
    parts = decision.message.split("; ") if decision.kind is DecisionKind.INSUFFICIENT_EVIDENCE else [decision.message]
    return parts[0]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


async def main() -> int:
    console = Console(width=None if sys.stdout.isatty() else 160)
    prepared = prepare.prepare(console)
    began = time.monotonic()
    for old in ("state", "cache"):
        shutil.rmtree(DEMO / old, ignore_errors=True)
    os.environ |= {"AISERVICE_STATE": str(DEMO / "state"), "AISERVICE_CACHE": str(DEMO / "cache")}
    write_manifest(ACTS[0])
    port = free_port()
    log = (DEMO / "up.log").open("w")
    command = [sys.executable, "-m", "aiservice.cli", "up", "-f", str(MANIFEST), "--port", f"{port}"]
    up = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    base = f"http://localhost:{port}"
    client = Client(f"{base}/v2/models/{NAME}/infer", f"{base}/v1/labels", DEMO / "traffic.npz")
    sending = asyncio.create_task(client.run())
    try:
        with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as progress:
            rows = await acts(client, progress, base)
        await client.pause()
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending
        up.send_signal(signal.SIGTERM)
        await asyncio.wait_for(up.wait(), 30)
    by_v5 = client.counts.by_revision.get(next(r["revision"] for r in rows if r["name"] == "v5"), 0)
    report = {
        "requests": {"sent": client.counts.sent, "failed": client.counts.failed, "failed_by_candidate": by_v5},
        "revisions": [{k: r[k] for k in ("name", "verdict", "gate", "reason", "seen", "seconds")} for r in rows],
        "seconds": round(time.monotonic() - began, 1),
    }
    (DEMO / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    show(report, prepared, console)
    return judge(report, client.counts.errors, console)


def show(report: dict[str, Any], prepared: dict[str, Any], console: Console) -> None:
    table = Table(title="What became of seven versions", box=box.SIMPLE_HEAD, padding=(0, 1, 1, 0))
    for column in ("version", "verdict", "by", "requests", "seconds", "evidence"):
        table.add_column(
            column, justify="right" if column in ("requests", "seconds") else "left", no_wrap=column not in ("version", "evidence")
        )
    for r in report["revisions"]:
        recall = prepared["figures"].get(r["name"], {}).get("recall")
        found = f", finds {recall:.0%} of the frauds" if recall is not None else ""
        colour = {"Promoted": "green", "InsufficientEvidence": "yellow"}.get(r["verdict"], "red")
        what = f"{r['name']} {prepare.models.WHAT[r['name']]}{found}"
        numbers = f"{r['seen']:,}", f"{r['seconds']:.1f}"
        table.add_row(what, f"[{colour}]{r['verdict']}[/{colour}]", r["gate"], *numbers, escape(r["reason"]))
    console.print(table)
    console.print(
        "v3 answers fast and with 200s, and its share of alerts is normal: whoever watches latency and errors would have promoted it."
    )
    n = report["requests"]
    console.print(
        f"{n['sent']:,} client requests, {n['failed']} failed, {n['failed_by_candidate']} of them v5's own at its small share; "
        f"{report['seconds']:.0f} s. Written: build/demo/report.json"
    )


def judge(report: dict[str, Any], errors: list[str], console: Console) -> int:
    wrong = [
        f"{act.name}: {r['verdict']} by {r['gate'] or 'no gate'}, expected {act.verdict} by {act.gate or 'no gate'}"
        for act, r in zip(ACTS, report["revisions"], strict=True)
        if (r["verdict"], r["gate"]) != (act.verdict, act.gate)
    ]
    if report["requests"]["failed"] != report["requests"]["failed_by_candidate"]:
        wrong.append(f"requests failed that v5 did not cause: {errors[-5:]}")
    for sentence in wrong:
        console.print(f"[red]not as expected:[/red] {sentence}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
