"""Load from one core on a server that is pinned to another: wrk for REST, h2load for gRPC."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles

from .payloads import Payload

SERVER_CORE, LOAD_CORE = "0", "1"
_LUA = Path(__file__).with_name("post.lua")
GRPC_HEADERS = ("content-type: application/grpc", "te: trailers")


@dataclass(frozen=True)
class Measured:
    """One load on one server."""

    requests: float
    """Per second."""
    p50: float
    """Seconds."""
    p99: float
    cpu: float
    """Seconds of the server's processes for one request."""
    errors: int
    memory: int
    """Bytes resident, all of the server's processes, at the end."""

    def wire(self) -> dict[str, float]:
        return asdict(self)


def pinned(core: str, *command: str) -> list[str]:
    """A command on one core; ahead of others, where we may."""
    nice = ["nice", "-n", "-15"] if os.geteuid() == 0 else []
    return [*nice, "taskset", "-c", core, *command]


def ahead(process: int) -> None:
    """Its whole session ahead of others, where we may: with Linux's autogroup, `nice` counts within a session alone, however many processes it has."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{process}/autogroup").write_text("-15")


def rest(url: str, payload: Payload, connections: int, seconds: float, server: int, cores: str = LOAD_CORE, threads: int = 1) -> Measured:
    """Closed loop: each connection asks again as soon as it is answered. `server`: the process whose tree is measured."""
    kind = _content_type(payload)
    extra = [] if payload.json_size is None else [str(payload.json_size)]
    command = pinned(cores, "wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s", "-s", str(_LUA), url, "--")
    before = cpu(server)
    out = _run([*command, str(payload.path), kind, *extra])
    used = cpu(server) - before
    match = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", out)
    if match is None:
        raise RuntimeError(f"wrk said:\n{out}")
    requests, micros, p50, p99, errors = map(int, match.groups())
    return Measured(requests / micros * 1e6, p50 / 1e6, p99 / 1e6, used / max(1, requests), errors, memory(server))


def _content_type(payload: Payload) -> str:
    return "application/json" if payload.json_size is None else "application/octet-stream"


def rest_headers(payload: Payload) -> list[str]:
    extra = [] if payload.json_size is None else [f"inference-header-content-length: {payload.json_size}"]
    return [f"content-type: {_content_type(payload)}", *extra]


def grpc(port: int, payload: Payload, connections: int, seconds: float, server: int, log: Path) -> Measured:
    """As `rest`, one stream a connection. h2load does not look at grpc-status: answers are checked before."""
    log.unlink(missing_ok=True)
    command = pinned(LOAD_CORE, "h2load", f"-D{seconds:g}", *h2load_arguments(grpc_url(port), payload, connections, log, GRPC_HEADERS))
    before = cpu(server)
    out = _run(command)
    used = cpu(server) - before
    match = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded", out)
    if match is None:
        raise RuntimeError(f"h2load said:\n{out}")
    done, succeeded = map(int, match.groups())
    times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    cuts = quantiles(times, n=100) if len(times) > 1 else [0.0] * 99
    return Measured(done / seconds, cuts[49] / 1e6, cuts[98] / 1e6, used / max(1, done), done - succeeded, memory(server))


def grpc_url(port: int) -> str:
    return f"http://127.0.0.1:{port}/inference.GRPCInferenceService/ModelInfer"


def h2load_arguments(url: str, payload: Payload, connections: int, log: Path, headers: Sequence[str]) -> list[str]:
    """One request a connection at a time."""
    given = [word for header in headers for word in ("-H", header)]
    return ["-t1", f"-c{connections}", "-m1", f"--log-file={log}", "-d", str(payload.path), *given, url]


def cpu(root: int) -> float:
    """Seconds that a process and its children have used."""
    ticks = os.sysconf("SC_CLK_TCK")
    return sum(sum(map(int, _stat(pid)[11:13])) for pid in tree(root)) / ticks


def memory(root: int) -> int:
    page = os.sysconf("SC_PAGE_SIZE")
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in tree(root))


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
            except (OSError, IndexError):
                continue
    found = [root]
    for pid in found:
        found += parents.get(pid, [])
    return found


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from the state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")
    return done.stdout
