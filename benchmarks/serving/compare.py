"""Two revisions of ours, by what they do rather than how long it takes: `make bench-compare REV=main~3` (against what is in the folder).

The same number of requests is sent one after the other over 16 connections, and the instructions that the server retired for them are
counted: by `perf stat` where the machine counts them, else by valgrind's callgrind, else CPU time stands in. Instructions do not know of
caches, of the kernel (callgrind) and of waiting; they do know of every line of Python, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx

from . import load
from .payloads import Payload, make
from .peers import ROOT, Peer, plain, running

CONNECTIONS = 16


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-compare", description=__doc__)
    parser.add_argument("rev", help="a revision of this repository")
    parser.add_argument("--requests", type=int, default=800)
    parser.add_argument("--kinds", default="json1,json32,bin32", help="payloads, with commas")
    arguments = parser.parse_args()
    kinds = arguments.kinds.split(",")
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", arguments.rev], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        model, payloads = make(ROOT / "build" / "bench")
        unit, count = _counter()
        found = {
            name: {kind: count(plain(path, name), model, payloads[kind], payloads["json1"], arguments.requests) for kind in kinds}
            for name, path in ((arguments.rev, Path(folder)), ("this folder", ROOT))
        }
    print(f"| {unit} a request | {' | '.join(kinds)} |\n|---|{'---|' * len(kinds)}")
    for name, counts in found.items():
        print(f"| {name} | {' | '.join(f'{counts[k]:,.1f}' for k in kinds)} |")
    old, new = found.values()
    print(f"this folder against {arguments.rev}: " + "; ".join(f"{k} {new[k] / old[k] - 1:+.1%}" for k in kinds))


def _counter() -> tuple[str, Callable[[Peer, Path, Payload, Payload, int], float]]:
    if shutil.which("perf"):
        tried = subprocess.run(["perf", "stat", "-x,", "-e", "instructions:u", "true"], capture_output=True, text=True, check=False)
        if tried.returncode == 0 and tried.stderr.partition(",")[0].isdigit():
            return "thousand instructions (perf)", _perf
    if shutil.which("valgrind") and shutil.which("callgrind_control"):
        return "thousand instructions (callgrind)", _callgrind
    return "microseconds of CPU", _cpu


def _perf(peer: Peer, model: Path, payload: Payload, probe: Payload, requests: int) -> float:
    with running(peer, model, probe) as server:
        _send(server.url, payload, requests)
        command = ["perf", "stat", "-x,", "-e", "instructions:u", "-p", str(server.process)]
        perf = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        time.sleep(0.5)
        _send(server.url, payload, requests)
        perf.send_signal(2)
        return int(perf.communicate(timeout=30)[1].partition(",")[0]) / requests / 1000


def _callgrind(peer: Peer, model: Path, payload: Payload, probe: Payload, requests: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind"
        tool = ("valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}")
        with running(replace(peer, command=(*tool, *peer.command)), model, probe) as server:
            _send(server.url, payload, requests // 2)
            subprocess.run(["callgrind_control", "-z", str(server.process)], check=True, capture_output=True)
            _send(server.url, payload, requests)
            subprocess.run(["callgrind_control", "-d", str(server.process)], check=True, capture_output=True)
            for _ in range(100):
                dumps = [p for p in Path(folder).glob("callgrind*") if b"totals:" in p.read_bytes()]
                if dumps:
                    break
                time.sleep(0.1)
            match = re.search(rb"totals: (\d+)", dumps[0].read_bytes())
            if match is None:
                raise RuntimeError("callgrind counted nothing")
            return int(match[1]) / requests / 1000


def _cpu(peer: Peer, model: Path, payload: Payload, probe: Payload, requests: int) -> float:
    with running(peer, model, probe) as server:
        _send(server.url, payload, requests)
        before = load.cpu(server.process)
        _send(server.url, payload, 10 * requests)
        return (load.cpu(server.process) - before) / requests / 10 * 1e6


def _send(url: str, payload: Payload, requests: int) -> None:
    content, headers = payload.path.read_bytes(), {"content-type": "application/json"}
    if payload.json_size is not None:
        headers["inference-header-content-length"] = str(payload.json_size)
    clients = [httpx.Client(trust_env=False, timeout=60) for _ in range(CONNECTIONS)]
    for number in range(requests):
        clients[number % CONNECTIONS].post(url, content=content, headers=headers).raise_for_status()
    for client in clients:
        client.close()


if __name__ == "__main__":
    main()
