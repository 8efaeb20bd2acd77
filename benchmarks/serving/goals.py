"""What was measured beside what was wanted, and both into docs/performance.md: `python -m benchmarks.serving.goals` after `make bench`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import orjson

from . import report
from .peers import ROOT, plain
from .report import LIMIT, MINUTE, START, Rounds, by_cpu, medians, ratio

DOCUMENT = ROOT / "docs" / "performance.md"
OURS, PLAIN, REFERENCE, RIVAL = "aiservice", plain().name, "kserve", "mosec"


def table(rounds: Rounds) -> str:
    """Lines whose servers were not measured say so."""
    found = medians(rounds)
    rows = (
        ("JSON, 1 row", ">= 25 x kserve, >= 30 % of in-process, above every peer", _against(rounds, "json1, 16 connections", "1")),
        ("JSON, 32 rows", ">= 10 x kserve, above every peer", _against(rounds, "json32, 16 connections", "32")),
        ("binary, 32 rows", ">= 14 x kserve's JSON, >= 55 %", _against(rounds, "bin32, 16 connections", "32", "json32, 16 connections")),
        ("gRPC, 1 row", ">= 8 x kserve's gRPC; stretch 15 x", _against(rounds, "grpc1, 16 connections", "1")),
        ("gRPC, 32 rows", ">= 4.5 x; stretch 7 x", _against(rounds, "grpc32, 16 connections", "32")),
        ("1 connection, p50", "<= 0.25 x kserve", _latency(found, "json1, 1 connections", "p50", REFERENCE)),
        ("64 connections, p99", "below mosec", _latency(found, "json1, 64 connections", "p99", RIVAL)),
        ("convolution, binary", ">= 95 % of in-process", _against(rounds, "bin-conv, 4 connections", "-conv")),
        ("convolution, gRPC", ">= 95 % of in-process", _against(rounds, "grpc-conv, 4 connections", "-conv")),
        ("3 x capacity, open loop", ">= 90 % answered, the rest refused in < 5 ms", _overload(rounds.get("overload", {}))),
        ("start to first answer", "<= 0.5 s", _of(found, START, lambda m: f"{1 / m['requests']:.2f} s")),
        ("memory after a minute of load", "<= 90 MiB", _of(found, MINUTE, lambda m: f"{m['memory'] / 2**20:.0f} MiB")),
    )
    return "\n".join(["| load | goal | measured |", "|---|---|---|", *(f"| {load} | {goal} | {seen} |" for load, goal, seen in rows)])


def _against(rounds: Rounds, load: str, limit: str, other: str | None = None) -> str:
    times, share = ratio(rounds, load, OURS, REFERENCE, other), ratio(rounds, load, OURS, LIMIT, limit)
    parts = [_times(times, by_cpu(rounds, load, OURS, REFERENCE, other), REFERENCE), f"{share:.0%} of in-process" if share else ""]
    for server in rounds:
        if server not in (OURS, PLAIN, REFERENCE, LIMIT, "overload"):
            parts.append(_times(ratio(rounds, load, OURS, server), by_cpu(rounds, load, OURS, server), server))
    return ", ".join(p for p in parts if p) or "not measured"


def _times(requests: float | None, cpu: float | None, server: str) -> str:
    return f"{requests:.1f} x {server} ({cpu:.1f} x by CPU time)" if requests and cpu else ""


def _latency(found: Mapping[str, Mapping[str, Mapping[str, float]]], load: str, key: str, other: str) -> str:
    mine, theirs = (found.get(s, {}).get(load) for s in (OURS, other))
    if not mine or not theirs:
        return "not measured"
    return f"{mine[key] * 1e3:.2f} ms, {other} {theirs[key] * 1e3:.2f} ms: {mine[key] / theirs[key]:.2f} x"


def _overload(loads: Mapping[str, list[dict[str, float]]]) -> str:
    seen = [f"{load.partition(',')[0]} {runs[0]['goodput']:.0%}" for load, runs in loads.items()]
    refused = [runs[0]["p99"] for runs in loads.values() if runs[0]["p99"]]
    within = f"; refused within {max(refused) * 1e3:.1f} ms (p99)" if refused else ""
    return f"answered, of capacity: {', '.join(seen)}{within}" if seen else "not measured"


def _of(found: Mapping[str, Mapping[str, Mapping[str, float]]], load: str, text: Callable[[Mapping[str, float]], str]) -> str:
    seen = [f"{server} {text(found[server][load])}" for server in (OURS, REFERENCE) if load in found.get(server, {})]
    return ", ".join(seen) or "not measured"


def main() -> None:
    rounds: Rounds = orjson.loads((ROOT / "build" / "bench" / "serving.json").read_bytes())
    _write(
        DOCUMENT,
        {
            "goals": table(rounds), "table": report.table(rounds), "resources": report.resources(rounds),
            "overload": report.overload(rounds.get("overload", {})),
        },
    )  # fmt: skip


def _write(path: Path, parts: Mapping[str, str]) -> None:
    """Put each part between its two comments, where there is something to put."""
    text = path.read_text()
    for name, content in parts.items():
        if content:
            before, begin, rest = text.partition(f"<!-- {name} -->\n")
            _, end, after = rest.partition(f"<!-- /{name} -->")
            text = f"{before}{begin}\n{content}\n\n{end}{after}"
    path.write_text(text)


if __name__ == "__main__":
    main()
