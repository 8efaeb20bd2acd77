"""Three times the requests that ours can answer, in an open loop: they are sent at a fixed rate, whatever becomes of the answers.

`python -m benchmarks.serving.overload [SECONDS]`. Capacity is what 64 connections get in a closed loop just before.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import quantiles

import httpx
import orjson

from . import load, report
from .payloads import Payload, heavy, make, slow
from .peers import ROOT, Peer, Running, compiled, running

TIMES = 3
CELLS: tuple[tuple[Callable[[Path], tuple[Path, dict[str, Payload]]], str, int], ...] = (
    (make, "json1", 64), (make, "json1", 512), (make, "json1", 2000), (make, "grpc1", 2000), (slow, "json-slow", 512), (slow, "grpc-slow", 512),
    (heavy, "bin-conv", 400),
)  # fmt: skip
"""Model, payload, connections: one request a connection at a time, so that only more of them than the queue is long can be refused."""
_APART = 5000
"""Requests a second up to which each is sent at a moment of its own (`openloop`); more than that only h2load can send."""
_CAPACITY_SECONDS = 3
_CAPACITY_CONNECTIONS = 64


def measure(peer: Peer, out: Path, seconds: float) -> dict[str, list[dict[str, float]]]:
    """Load -> what became of it."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for made, kind, connections in CELLS:
        model, payloads = made(out)
        with running(peer, model, next(p for p in payloads.values() if p.answer)) as server:
            seen = _overload(server, kind, payloads[kind], connections, seconds, out / "h2load.log")
        found[f"{kind}, {connections} connections"].append(seen)
        print(f"overload {kind} c{connections}: {seen['goodput']:.0%} of {seen['capacity']:,.0f}/s", file=sys.stderr, flush=True)
    return dict(found)


def _overload(server: Running, kind: str, payload: Payload, connections: int, seconds: float, log: Path) -> dict[str, float]:
    if kind.startswith("grpc"):
        capacity = load.grpc(server.grpc, payload, _CAPACITY_CONNECTIONS, _CAPACITY_SECONDS, server.process, log).requests
    else:
        capacity = load.rest(server.url, payload, _CAPACITY_CONNECTIONS, _CAPACITY_SECONDS, server.process).requests
    before, memory = _outcomes(server), load.memory(server.process)
    rate = TIMES * capacity
    if kind.startswith("grpc"):
        where, headers = load.grpc_url(server.grpc), load.GRPC_HEADERS
        took, refusals = _flood(["h2load"], where, rate, seconds, connections, payload, log, headers)
    elif rate > _APART:
        took, refusals = _flood(["h2load", "--h1"], server.url, rate, seconds, connections, payload, log, load.rest_headers(payload))
    else:
        words = [server.url, f"{rate:.2f}", f"{seconds:g}", str(connections), str(payload.path), *load.rest_headers(payload)]
        took, out = _run(sys.executable, "-m", "benchmarks.serving.openloop", *words)
        refusals = orjson.loads(out).get("503", [])
    after = _outcomes(server)
    ok, refused = (after.get(o, 0) - before.get(o, 0) for o in ("ok", "rejected"))
    failed = sum(after.values()) - sum(before.values()) - ok - refused
    return {
        "capacity": capacity, "offered": rate, "goodput": ok / took / capacity, "refused": refused / took, "failed": failed,
        "p99": quantiles(refusals, n=100)[98] if len(refusals) > 1 else 0.0, "before": memory, "after": load.memory(server.process),
    }  # fmt: skip


def _flood(
    command: list[str], url: str, rate: float, seconds: float, connections: int, payload: Payload, log: Path, headers: Sequence[str]
) -> tuple[float, list[float]]:
    """h2load at a fixed rate, -> seconds that it took, and those of each 503."""
    log.unlink(missing_ok=True)
    words = [*command, f"-D{seconds:g}", f"--rps={rate / connections:.4f}", *load.h2load_arguments(url, payload, connections, log, headers)]
    took, _ = _run(*words)
    return took, [int(t) / 1e6 for _, status, t in map(str.split, log.read_text().splitlines()) if status == "503"]


def _run(*command: str) -> tuple[float, bytes]:
    """-> seconds, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(load.pinned(load.LOAD_CORE, *command), cwd=ROOT, capture_output=True, check=True, timeout=300)
    return time.perf_counter() - start, done.stdout


def _outcomes(server: Running) -> dict[str, float]:
    """Requests by outcome, both protocols."""
    url = server.url.partition("/v2/")[0] + "/metrics"
    text = httpx.get(url, trust_env=False, timeout=30).text
    found: dict[str, float] = defaultdict(float)
    for outcome, count in re.findall(r'aiservice_requests_total\{outcome="(\w+)",protocol="\w+"\} (\S+)', text):
        found[outcome] += float(count)
    return found


if __name__ == "__main__":
    print(report.overload(measure(compiled(), ROOT / "build" / "bench", float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)))
