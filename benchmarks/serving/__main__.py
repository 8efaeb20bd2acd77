"""Our server against others, in alternating rounds on the same machine: `make bench ARGS=--quick`, or all of them without it.

Writes build/bench/serving.json, .md and .svg; the last line of the output are the ratios.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import orjson

from . import load, overload, report
from .payloads import Payload, heavy, make
from .peers import OTHERS, ROOT, Peer, compiled, plain, running

OUT = ROOT / "build" / "bench"
CELLS = (("json1", 16), ("json32", 16), ("bin32", 16), ("grpc1", 16), ("grpc32", 16), ("json1", 1), ("json1", 64))
HEAVY = (("bin-conv", 4), ("grpc-conv", 4))
_WARM_UP = 1

Cells = tuple[tuple[str, int], ...]
Rounds = dict[str, dict[str, list[dict[str, float]]]]


def main() -> None:
    arguments = _arguments()
    missing = [tool for tool in ("wrk", "h2load", "taskset") if not shutil.which(tool)]
    if missing:
        sys.exit(f"needed: {', '.join(missing)}; on Debian: apt-get install wrk nghttp2-client util-linux")
    small, large = make(OUT), heavy(OUT)
    peers = [compiled(), *(p for p in (plain(), *OTHERS) if p.name == "kserve" or not arguments.quick)]
    if arguments.only:
        peers = [p for p in peers if p.name in arguments.only.split(",")]
    rounds: Rounds = defaultdict(lambda: defaultdict(list))
    for number in range(arguments.rounds):
        for peer in peers if number % 2 == 0 else reversed(peers):
            for cells, (model, payloads) in ((CELLS, small), (HEAVY, large)):
                wanted = tuple(c for c in cells if c[0] in peer.loads)
                try:
                    _measure(peer, wanted, model, payloads, arguments.seconds, rounds)
                except RuntimeError as error:
                    print(f"{peer.name}: {error}", file=sys.stderr, flush=True)
        limits = _limit(small[0], "1", "32") | {"-conv": _limit(large[0], "1")["1"]}
        for rows, runs in limits.items():
            rounds[report.LIMIT][rows].append({"requests": runs})
        _write(rounds)
    for peer in peers:
        if arguments.minute and peer.name in ("aiservice", "kserve"):
            _minute(peer, *small, arguments.minute, rounds)
    if arguments.overload:
        rounds["overload"] = overload.measure(compiled(), OUT, arguments.overload)
    _write(rounds)
    print(report.document(rounds))
    print(report.ratios(rounds))


def _measure(peer: Peer, cells: Cells, model: Path, payloads: dict[str, Payload], seconds: float, rounds: Rounds) -> None:
    if not cells:
        return
    with running(peer, model, next(p for p in payloads.values() if p.answer)) as server:
        if cells[0] in CELLS:
            rounds[peer.name][report.START].append({"requests": 1 / server.ready, "memory": server.idle})
        for kind, connections in cells:
            payload = payloads[kind]
            beside = [_limit(model, "1")["1"]] if kind.endswith("-conv") else []
            for length in (_WARM_UP, seconds):
                if kind.startswith("grpc"):
                    found = load.grpc(server.grpc, payload, connections, length, server.process, OUT / "h2load.log")
                else:
                    found = load.rest(server.url, payload, connections, length, server.process)
            if beside:
                beside.append(_limit(model, "1")["1"])
            wire = found.wire() | ({report.LIMIT: fmean(beside)} if beside else {})
            rounds[peer.name][f"{kind}, {connections} connections"].append(wire)
            print(f"{peer.name} {kind} c{connections}: {found.requests:,.0f}/s", file=sys.stderr, flush=True)


def _minute(peer: Peer, model: Path, payloads: dict[str, Payload], seconds: float, rounds: Rounds) -> None:
    """What a fresh server holds in memory after so long."""
    with running(peer, model, payloads["json1"]) as server:
        rounds[peer.name][report.MINUTE].append(load.rest(server.url, payloads["json1"], 16, seconds, server.process).wire())


def _limit(model: Path, *rows: str) -> dict[str, float]:
    command = load.pinned(load.SERVER_CORE, sys.executable, str(Path(__file__).with_name("inproc.py")), str(model), *rows)
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    found: dict[str, float] = orjson.loads(done.stdout)
    return found


def _write(rounds: Rounds) -> None:
    (OUT / "serving.json").write_bytes(orjson.dumps(rounds, option=orjson.OPT_INDENT_2))
    (OUT / "serving.md").write_text(report.document(rounds) + "\n")
    (OUT / "serving.svg").write_text(report.picture(rounds, "json1, 16 connections"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ours, kserve and the in-process limit only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each load")
    parser.add_argument("--only", default="", help="names of servers, with commas")
    parser.add_argument("--minute", type=int, default=60, help="seconds of load after which memory is read; 0: not at all")
    parser.add_argument("--overload", type=int, default=5, help="seconds of each overload; 0: none")
    return parser.parse_args()


if __name__ == "__main__":
    main()
