"""A machine of its own for a test: state, cache, bundles and manifests in one folder, `aiservice` as real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from aiservice.api.status import AIServiceStatus, Decision, DecisionKind
from aiservice.core import names
from aiservice.local import manifest
from aiservice.local.store import Store
from local import bundles
from sending import Counts, rest

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds until something must have happened; a healthy machine needs a tenth."""
FREE: dict[str, Any] = {
    "replay": {"requests": 200},
    "steps": [{"weight": 20, "hold": "1s"}, {"weight": 50, "hold": "1s"}],
    "gates": {"agreement": {"min": "50%"}, "errors": {"margin": "20%"}},
    "standby": "1m",
}
"""A rollout that is over in seconds: its margins are wide."""


def free_port() -> int:
    """Below the ports that the kernel gives to whoever asks for any: others, who do, cannot take it before it is used."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


class Running:
    """One `aiservice up`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self.process, self.log, self.port = process, log, port
        self.url = f"http://127.0.0.1:{port}"

    @property
    def said(self) -> str:
        return self.log.read_text()

    def serves(self, name: str) -> bool:
        return any(line.startswith(f"{name}  ") and "serves with" in line for line in self.said.splitlines())

    def end(self, number: int = signal.SIGTERM, patience: float = PATIENCE) -> int:
        self.process.send_signal(number)
        return self.process.wait(patience)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Machine:
    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "s"
        self.env = dict(os.environ) | {
            "AISERVICE_STATE": str(self.state),
            "AISERVICE_CACHE": str(folder / "c"),
            "PYTHONPATH": os.pathsep.join(str(ROOT / room) for room in ("operator", "predictors")),
        }
        self.port = free_port()
        self._numbers = count()
        self._runs: list[Running] = []

    def bundle(self, name: str, **behaviour: Any) -> str:
        return bundles.write(self.folder / name, **behaviour)

    def ask(
        self, bundle: str, name: str = "svc", *, digest: str | None = None, real_time: dict[str, Any] | None = None, **rollout: Any
    ) -> str:
        """Save the manifest. -> the revision that it asks for. `rollout` replaces parts of FREE; None leaves one out."""
        merged = {k: v for k, v in (FREE | rollout).items() if v is not None}
        model = {"uri": f"file://{bundle}"} | ({"digest": digest} if digest else {})
        spec = {"model": model, "rollout": merged} | ({"realTime": real_time} if real_time else {})
        body = {"apiVersion": "aiservice.dev/v1alpha1", "kind": "AIService", "metadata": {"name": name}, "spec": spec}
        return self.write(yaml.safe_dump(body), name)

    def write(self, text: str, name: str = "svc") -> str:
        place = self.manifest(name)
        new = place.with_suffix(".new")
        new.write_text(text)
        new.replace(place)
        try:
            return names.revision(names.template(manifest.read(place).spec))
        except manifest.Invalid:
            return ""

    def manifest(self, name: str = "svc") -> Path:
        return self.folder / f"{name}.yaml"

    def up(self, *names: str, port: int | None = None, wait: bool = True, **how: Any) -> Running:
        """Start it; where `wait`, return when every service is Ready."""
        port = port or self.port
        files = [part for n in names or ("svc",) for part in ("-f", str(self.manifest(n)))]
        log = self.folder / f"up-{next(self._numbers)}.log"
        with log.open("wb") as out:
            command = [sys.executable, "-m", "aiservice.cli", "up", *files, "--port", str(port), *how.pop("more", ())]
            running = Running(subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=self.env, **how), log, port)
        self._runs.append(running)
        if wait:
            for name in names or ("svc",):
                self.until(lambda s: ready(s) and running.serves(name), name, up=running)  # noqa: B023
        return running

    def cli(self, *words: str, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "aiservice.cli", *words]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=self.env | env, cwd=self.folder, timeout=PATIENCE, check=False
        )

    def store(self, name: str = "svc") -> Store:
        return Store.of(name, self.state)

    def status(self, name: str = "svc") -> AIServiceStatus:
        try:
            found = self.store(name).load()
        except ValueError:
            found = None
        return found.status if found else AIServiceStatus()

    def until(self, holds: Callable[[AIServiceStatus], Any], name: str = "svc", *, up: Running | None = None) -> AIServiceStatus:
        """The first status of which that holds."""
        deadline = time.monotonic() + PATIENCE
        while not holds(seen := self.status(name)):
            ended = up.process.poll() if up else None
            assert ended is None, f"up ended with {ended}: {up.said if up else ''}"
            assert time.monotonic() < deadline, f"never came true: {seen.model_dump_json(exclude_none=True)} {up.said if up else ''}"
            time.sleep(0.05)
        return seen

    async def wait(self, holds: Callable[[AIServiceStatus], Any], name: str = "svc") -> AIServiceStatus:
        return await asyncio.to_thread(self.until, holds, name)

    def processes(self, word: str = "") -> list[int]:
        """Processes of this machine, whoever started them, whose command line holds the word."""
        out = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                pid, line = int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace")
                mine = f"AISERVICE_STATE={self.state}".encode() in (entry / "environ").read_bytes().split(b"\0")
                if mine and word in line and line:
                    out.append(pid)
        return sorted(out)

    def predictors(self) -> list[int]:
        return self.processes("aiservice_predictor")

    def envoys(self) -> list[int]:
        return self.processes("envoy.json")

    def end(self) -> None:
        """Everything that was started here, whoever lost sight of it."""
        for running in self._runs:
            running.kill()
        for _ in range(50):
            left = self.processes()
            if not left:
                break
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        shutil.rmtree(self.folder, ignore_errors=True)

    def traffic(
        self, name: str = "svc", *, clients: int = 4, pause: float = 0.002, port: int | None = None
    ) -> AbstractAsyncContextManager[Counts]:
        """Requests all the while: every kind, scores from 0 to 1."""
        return rest(port or self.port, name, clients=clients, pause=pause)


@contextmanager
def machine() -> Iterator[Machine]:
    made = Machine(Path(tempfile.mkdtemp(prefix="ais-", dir="/tmp")))
    try:
        yield made
    finally:
        made.end()


async def until(holds: Callable[[], Any], what: str) -> None:
    """Return once it holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


def ready(status: AIServiceStatus) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in status.conditions)


def condition(status: AIServiceStatus, kind: str) -> str:
    return next((f"{c.status} {c.reason}: {c.message}" for c in status.conditions if c.type == kind), "")


def stable(revision: str) -> Callable[[AIServiceStatus], bool]:
    return lambda s: s.rollout.stable == revision and s.rollout.candidate is None and ready(s)


def alone(revision: str) -> Callable[[AIServiceStatus], bool]:
    """Stable, and the gateway confirms that it has every request."""
    return lambda s: stable(revision)(s) and any(c.type == "RouteReady" and c.message == f"{revision} 100 %" for c in s.conditions)


def decided(revision: str, kind: DecisionKind) -> Callable[[AIServiceStatus], Decision | None]:
    return lambda s: next((d for d in s.rollout.decisions if d.revision == revision and d.kind is kind), None)


def said(status: AIServiceStatus, revision: str, kind: DecisionKind) -> Decision:
    found = decided(revision, kind)(status)
    assert found
    return found


def infer(url: str, host: str = "", name: str = "svc", score: float = 0.75) -> dict[str, Any]:
    """One request, from a thread without an event loop."""
    import urllib.request

    body = json.dumps({"inputs": bundles.row(score)}).encode()
    request = urllib.request.Request(
        f"{url}/v2/models/{name}/infer", body, {"Content-Type": "application/json"} | ({"Host": host} if host else {})
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
        found: dict[str, Any] = json.load(answer)
        return found
