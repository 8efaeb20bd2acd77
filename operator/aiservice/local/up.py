"""`aiservice up`: some manifests, one gateway, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import aiohttp

from aiservice.api.service import AIService
from aiservice.api.status import Decision
from aiservice.local import manifest
from aiservice.local.caretaker import Caretaker
from aiservice.local.control import Control, serve
from aiservice.local.envoy import Routed
from aiservice.local.files import Locked, locked
from aiservice.local.fleet import Fleet
from aiservice.local.gateway import Gateway, GatewayError
from aiservice.local.store import Store, cache, root
from aiservice.local.world import LocalWorld, new_session

DRAIN = 10.0
"""Seconds that open requests have when everything is to stop."""


class CannotStart(Exception):
    """Nothing was started, or what was started was stopped again; the message says what to do."""


class Up:
    """One run. `told` hears every decision, `said` every other sentence; both get the service's name first."""

    def __init__(
        self,
        paths: Sequence[Path],
        address: str,
        port: int,
        told: Callable[[str, Decision], None],
        said: Callable[[str, str], None],
    ) -> None:
        self.paths, self.address, self.port = [p.resolve() for p in paths], address, port
        self._told, self._said = told, said
        self.caretakers: dict[str, Caretaker] = {}
        self.gateway = Gateway(root() / "gateways" / f"{port}", address, port)
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until `stop` or a signal. Raises CannotStart, manifest.Invalid."""
        services = [manifest.read(p) for p in self.paths]
        names = [s.metadata.name for s in services]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise CannotStart(f"two manifests are named {twice[0]!r}")
        with ExitStack() as stack:
            holder = f"pid {os.getpid()} ({', '.join(names)})"
            for name in names:
                self._lock(stack, Store.of(name).lock, holder, f"{name!r} is already looked after by")
            self._lock(stack, self.gateway.folder / "lock", holder, f"port {self.port} is already served by")
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self.stop)
            try:
                await self._serve(services)
            finally:
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Once: gently. Twice: without waiting for open requests."""
        if self._stop.is_set():
            for task in asyncio.all_tasks():
                if task.get_name() == "drain":
                    task.cancel()
        self._stop.set()

    def _lock(self, stack: ExitStack, path: Path, holder: str, what: str) -> None:
        try:
            stack.enter_context(locked(path, holder))
        except Locked as taken:
            raise CannotStart(f"{what} `aiservice up` {taken.holder}; stop that one first, or choose another --port") from None
        except OSError as error:
            raise CannotStart(f"{path.parent}: cannot be written ({error.strerror}); set AISERVICE_STATE to a folder that can") from None

    async def _serve(self, services: Sequence[AIService]) -> None:
        session = new_session()
        runner, control_port = await serve(Control(lambda: self.caretakers))
        tasks: list[asyncio.Task[None]] = []
        try:
            for path, service in zip(self.paths, services, strict=True):
                care = self._caretaker(path, service, session, control_port)
                self.caretakers[care.name] = care
                await care.world.resume(care.service)
            try:
                if await self.gateway.start(self._routed()):
                    self._said("gateway", "found the one that an earlier run left; no request was lost")
            except GatewayError as error:
                raise CannotStart(str(error)) from None
            for care in self.caretakers.values():
                care.world.store.keep("control", {"url": f"http://127.0.0.1:{control_port}", "gateway": self.gateway.url})
            tasks = [asyncio.create_task(self._keep_gateway(), name="gateway")]
            for care in self.caretakers.values():
                tasks += [asyncio.create_task(care.run(), name=care.name), asyncio.create_task(care.watch(), name=f"watch {care.name}")]
            await self._stop.wait()
            self._said("aiservice", "stopping: open requests are answered first (once more to stop at once)")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._end()
            await session.close()
            await runner.cleanup()

    def _caretaker(self, path: Path, given: AIService, session: aiohttp.ClientSession, control: int) -> Caretaker:
        store = Store.of(given.metadata.name)
        try:
            saved = store.load()
        except ValueError as error:
            raise CannotStart(str(error)) from None
        service = saved or given
        if saved is None:
            store.save(given)
        fleet = Fleet(store.folder / "predictors", cache(), session, lambda: self._changed(given.metadata.name))
        world = LocalWorld(store, self.gateway, fleet, self._sync)
        world.control = control
        return Caretaker(path, service, world, self._told, self._said)

    def _routed(self) -> list[Routed]:
        return [r for c in self.caretakers.values() if (r := c.world.routed()) is not None]

    def _changed(self, name: str) -> None:
        """A predictor became ready or stopped being so."""
        if self.gateway.alive:
            self._sync()
        if name in self.caretakers:
            self.caretakers[name].wake()

    def _sync(self) -> None:
        self.gateway.write(self._routed())

    async def _keep_gateway(self) -> None:
        """If Envoy dies it is started again at once."""
        while True:
            await self.gateway.ended()
            self._said("gateway", "envoy ended; starting it again")
            try:
                await self.gateway.start(self._routed())
            except GatewayError as error:
                self._said("gateway", f"{error}; trying again")
                await asyncio.sleep(1)

    async def _end(self) -> None:
        """Clients first, then the gateway, then the predictors: nobody sees a closed door that was open."""
        drain = asyncio.create_task(self.gateway.drain(DRAIN), name="drain")
        with contextlib.suppress(asyncio.CancelledError):
            await drain
        await self.gateway.stop(3)
        for care in self.caretakers.values():
            await care.world.close()
        await asyncio.gather(*(care.world.fleet.stop() for care in self.caretakers.values()))
