"""Rounds -> medians, a table in Markdown, a picture, and one line of ratios."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import median
from typing import TypeAlias

Rounds: TypeAlias = Mapping[str, Mapping[str, list[dict[str, float]]]]
"""Server -> load -> one measurement a round."""
LIMIT = "in-process"
START, MINUTE = "start", "minute"
_REFERENCE = {"bin32": "json32"}
"""Payloads that are compared with the reference's on another one."""


def medians(rounds: Rounds) -> dict[str, dict[str, dict[str, float]]]:
    found: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for server, loads in rounds.items():
        for load, runs in loads.items():
            found[server][load] = {key: median(run[key] for run in runs) for key in runs[0]}
    return dict(found)


def ratio(rounds: Rounds, load: str, server: str, reference: str, other: str | None = None) -> float | None:
    """Median over rounds of requests a second against the reference's in the same round, or beside the very run where that was measured."""
    mine, theirs = rounds.get(server, {}).get(load), rounds.get(reference, {}).get(other or load)
    if not mine or not theirs:
        return None
    return median(a["requests"] / (a.get(reference) or b["requests"]) for a, b in zip(mine, theirs, strict=False))


def by_cpu(rounds: Rounds, load: str, server: str, reference: str, other: str | None = None) -> float | None:
    """As `ratio`, by the reference's CPU time for a request against the server's: a busy machine hardly moves it."""
    mine, theirs = rounds.get(server, {}).get(load), rounds.get(reference, {}).get(other or load)
    if not mine or not theirs:
        return None
    return median(b["cpu"] / a["cpu"] for a, b in zip(mine, theirs, strict=False))


def document(rounds: Rounds) -> str:
    """Everything that was measured, in Markdown."""
    return "\n\n".join(part for part in (table(rounds), resources(rounds), overload(rounds.get("overload", {}))) if part)


def resources(rounds: Rounds) -> str:
    """Start and memory of each server."""
    lines = ["| server | seconds from start to first answer | MiB then | MiB after a minute of load |", "|---|---|---|---|"]
    for server, loads in medians(rounds).items():
        if START in loads:
            minute = f"{loads[MINUTE]['memory'] / 2**20:.0f}" if MINUTE in loads else "-"
            lines.append(f"| {server} | {1 / loads[START]['requests']:.2f} | {loads[START]['memory'] / 2**20:.0f} | {minute} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def overload(loads: Mapping[str, list[dict[str, float]]]) -> str:
    """What became of more than can be answered."""
    lines = [
        "| open loop | capacity /s | offered /s | answered, of capacity | refused /s | refused within (p99) | other failures | MiB before / after |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for load, runs in loads.items():
        for m in runs:
            p99 = f"{m['p99'] * 1e3:.1f} ms" if m["p99"] else "-"
            memory = f"{m['before'] / 2**20:.0f} / {m['after'] / 2**20:.0f}"
            lines.append(
                f"| {load} | {m['capacity']:,.0f} | {m['offered']:,.0f} | {m['goodput']:.0%} | {m['refused']:,.0f} | {p99} | {m['failed']:.0f} | {memory} |"
            )
    return "\n".join(lines) if len(lines) > 2 else ""


def table(rounds: Rounds, reference: str = "kserve") -> str:
    lines = [
        f"| load | server | requests/s | p50 / p99 ms | CPU us/request | x {reference} | of {LIMIT} | errors | MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    found = {server: loads for server, loads in medians(rounds).items() if server != "overload"}
    for load in dict.fromkeys(load for loads in found.values() for load in loads if "," in load):
        rows = [(server, loads[load]) for server, loads in found.items() if load in loads]
        for server, m in sorted(rows, key=lambda r: -r[1]["requests"]):
            rows_of_load = load.partition(",")[0].removeprefix("json").removeprefix("bin").removeprefix("grpc")
            times, share = ratio(rounds, load, server, reference), ratio(rounds, load, server, LIMIT, rows_of_load)
            lines.append(
                f"| {load} | {server} | {m['requests']:,.0f} | {m['p50'] * 1e3:.2f} / {m['p99'] * 1e3:.2f} | {m['cpu'] * 1e6:.0f} | "
                f"{f'{times:.1f}' if times else '-'} | {f'{share:.0%}' if share else '-'} | {m['errors']:.0f} | {m['memory'] / 2**20:.0f} |"
            )
    return "\n".join(lines)


def ratios(rounds: Rounds, name: str = "aiservice", reference: str = "kserve") -> str:
    """One line: ours against the reference, load by load; binary against the reference's JSON of as many rows."""
    parts = []
    for load in rounds.get(name, {}):
        kind, _, rest = load.partition(",")
        other = f"{_REFERENCE[kind]},{rest}" if kind in _REFERENCE else load
        times = ratio(rounds, load, name, reference, other)
        if times:
            parts.append(f"{load} {times:.1f}x")
    return f"{name} against {reference}: " + ("; ".join(parts) or "nothing measured")


def picture(rounds: Rounds, load: str) -> str:
    """Requests a second of each server under one load, as SVG."""
    found = medians(rounds)
    rows = sorted(((s, loads[load]["requests"]) for s, loads in found.items() if load in loads), key=lambda r: -r[1])
    height, most = 26 * len(rows) + 40, max((r for _, r in rows), default=1.0)
    bars = []
    for index, (server, requests) in enumerate(rows):
        y, width = 32 + 26 * index, 420 * requests / most
        colour = "#2563eb" if server == "aiservice" else "#9ca3af"
        bars.append(
            f'<text x="96" y="{y + 14}" text-anchor="end">{server}</text><rect x="104" y="{y}" width="{width:.1f}" height="18" fill="{colour}"/>'
            f'<text x="{110 + width:.1f}" y="{y + 14}">{requests:,.0f}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="620" height="{height}" font-family="sans-serif" font-size="12">'
        f'<rect width="620" height="{height}" fill="white"/><text x="10" y="18">requests a second, one core: {load}</text>{"".join(bars)}</svg>\n'
    )
