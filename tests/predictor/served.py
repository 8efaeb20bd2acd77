"""A predictor as a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
PREDICTORS = Path(os.environ.get("AISERVICE_TEST_PREDICTORS", ROOT / "predictors")).resolve()
"""Where the package lies that is tested: a compiled copy, perhaps (`make test-compiled`)."""
TOKEN = "secret-token"
PATIENCE = 30.0
"""Seconds until something must have happened; a healthy machine needs a tenth."""


class Served:
    """Its ports, and a client for short requests."""

    def __init__(self, process: subprocess.Popen[str], http: int, grpc: int, client: httpx.Client) -> None:
        self.process, self.http, self.grpc, self.client = process, http, grpc, client
        self.url = f"http://127.0.0.1:{http}"

    def infer(self, *inputs: dict[str, Any], **more: Any) -> httpx.Response:
        headers = more.pop("headers", {})
        return self.client.post("/v2/models/m/infer", json={"inputs": list(inputs)} | more, headers=headers)

    def metric(self, line: str) -> float:
        """The value of one line of /metrics."""
        for found in self.client.get("/metrics").text.splitlines():
            if found.startswith(line + " "):
                return float(found.rpartition(" ")[2])
        raise AssertionError(f"no {line} in /metrics")

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Return once it holds."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, what
            time.sleep(0.01)

    def until_called(self, times: int = 1) -> None:
        """Return once the model has been called so often; the last call may still run."""
        self.until(lambda: self.metric("aiservice_batch_rows_count") >= times, "the model was not called")

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        return self.process.wait(seconds)


def environment(path: Path, **config: object) -> dict[str, str]:
    values: dict[str, object] = {
        "model_name": "m", "model_dir": path, "host": "127.0.0.1", "http_port": 0, "grpc_port": 0, "token": TOKEN,
        "termination_log": path.parent / "termination-log",
    } | config  # fmt: skip
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join((str(PREDICTORS), str(ROOT / "operator"))),
        **{f"AISERVICE_{name.upper()}": str(value) for name, value in values.items()},
    }


def run(path: Path, *arguments: str, **config: object) -> subprocess.CompletedProcess[str]:
    """A process that is expected to end by itself."""
    command = [sys.executable, "-m", "aiservice_predictor", *arguments]
    return subprocess.run(command, env=environment(path, **config), capture_output=True, text=True, timeout=30, check=False)


@contextmanager
def serving(path: Path, **config: object) -> Iterator[Served]:
    """Start, wait until it is ready, end it."""
    command = [sys.executable, "-m", "aiservice_predictor"]
    process = subprocess.Popen(command, env=environment(path, **config), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        word, _, ports = process.stdout.readline().partition(" ")
        assert word == "ready", f"ended with {process.wait(5)}"
        found = json.loads(ports)
        with httpx.Client(base_url=f"http://127.0.0.1:{found['http']}", timeout=20, trust_env=False) as client:
            yield Served(process, found["http"], found["grpc"], client)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
