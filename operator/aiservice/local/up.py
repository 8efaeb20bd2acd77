"""`aiservice up`: some manifests, one gateway, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
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
from aiservice.local.gateway import Gateway, GatewayError, forsaken, left
from aiservice.local.store import Store, cache, root
from aiservice.local.world import LocalWorld, new_session

log = logging.getLogger("aiservice")

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
        self.paths, self.address, self.port = [p.absolute() for p in paths], address, port
        self._told, self._said = _unheard(told), _unheard(said)
        self.caretakers: dict[str, Caretaker] = {}
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Until `stop` or a signal. Raises CannotStart, manifest.Invalid: then nothing that ran was touched."""
        services = [manifest.read(p) for p in self.paths]
        names = [s.metadata.name for s in services]
        for place, name in enumerate(names):
            if name in names[:place]:
                raise manifest.Invalid(self.paths[place], [f"metadata.name: {name!r} is also in {self.paths[names.index(name)]}"])
        self.gateway = Gateway(root() / "gateways" / f"{self.port}", self.address, self.port, names)
        with ExitStack() as stack:
            self._listen(stack)
            holder = f"pid {os.getpid()} ({', '.join(names)})"
            for name in names:
                self._lock(stack, Store.of(name).lock, holder, f"{name!r} is already looked after by", "stop that one first")
            way = "stop that one first, or choose another --port"
            self._lock(stack, self.gateway.folder / "lock", holder, f"port {self.port} is already served by", way)
            await self._serve(self._load(services))

    def _listen(self, stack: ExitStack) -> None:
        """Ctrl-C, kill and a closed terminal; what our parent told us to ignore (nohup) is ignored."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self.stop)
                stack.callback(loop.remove_signal_handler, number)

    def stop(self) -> None:
        """Once: open requests are answered first. Twice: at once."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _lock(self, stack: ExitStack, path: Path, holder: str, what: str, way: str) -> None:
        try:
            stack.enter_context(locked(path, holder))
        except Locked as taken:
            raise CannotStart(f"{what} `aiservice up` {taken.holder}; {way}") from None
        except OSError as error:
            raise CannotStart(f"{path.parent}: cannot be written ({error.strerror}); set AISERVICE_STATE to a folder that can") from None

    def _load(self, services: Sequence[AIService]) -> list[AIService]:
        """Each as it was saved, or as its manifest says where it is new; and whether the gateway can be had."""
        try:
            saved = [Store.of(s.metadata.name).load() or s for s in services]
            self.gateway.check()
            for service in saved:
                Store.of(service.metadata.name).save(service)
        except (ValueError, GatewayError) as error:
            raise CannotStart(str(error)) from None
        except OSError as error:
            raise CannotStart(f"{root()}: its state cannot be read or saved ({error.strerror or error})") from None
        return saved

    async def _serve(self, services: Sequence[AIService]) -> None:
        session = new_session()
        runner, control_port = await serve(Control(lambda: self.caretakers))
        begin = asyncio.create_task(self._begin(services, session, control_port), name="begin")
        stopped = asyncio.create_task(self._stop.wait(), name="stop")
        tasks: list[asyncio.Task[None]] = []
        try:
            await asyncio.wait({begin, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if begin.done():
                begin.result()
                tasks = [asyncio.create_task(self._keep_gateway(), name="gateway")]
                for care in self.caretakers.values():
                    tasks += [asyncio.create_task(care.run(), name=care.name), asyncio.create_task(care.watch(), name=f"watch {care.name}")]
                await stopped
            self._said("aiservice", "stopping: open requests are answered first (once more to stop at once)")
        finally:
            for task in (begin, stopped, *tasks):
                task.cancel()
            await asyncio.gather(begin, stopped, *tasks, return_exceptions=True)
            await self._end()
            await session.close()
            await runner.cleanup()

    async def _begin(self, services: Sequence[AIService], session: aiohttp.ClientSession, control: int) -> None:
        for path, service in zip(self.paths, services, strict=True):
            care = self._caretaker(path, service, session, control)
            self.caretakers[care.name] = care
            care.world.resume(care.service)
        try:
            if await self.gateway.start(self._routed()):
                self._said("gateway", "found the one that an earlier run left; no request was lost")
            for care in self.caretakers.values():
                care.world.store.keep("control", {"url": f"http://127.0.0.1:{control}", "gateway": self.gateway.url})
        except (GatewayError, OSError) as error:
            raise CannotStart(str(error)) from None
        for folder in forsaken(self.gateway.folder.parent, set(self.caretakers)):
            for process in left(folder):
                self._said("gateway", f"ending the one that an earlier run left on port {folder.name}")
                await process.stop(3)

    def _caretaker(self, path: Path, service: AIService, session: aiohttp.ClientSession, control: int) -> Caretaker:
        store = Store.of(service.metadata.name)
        fleet = Fleet(store.folder / "predictors", cache(), session, lambda: self._changed(service.metadata.name))
        world = LocalWorld(store, self.gateway, fleet, self._sync)
        world.control = control
        return Caretaker(path, service, world, self._told, self._said)

    def _routed(self) -> list[Routed]:
        return [r for c in self.caretakers.values() if (r := c.world.routed()) is not None]

    def _changed(self, name: str) -> None:
        """A predictor became ready or stopped being so. What cannot be written now is written, or said, at the look that follows."""
        if self.gateway.alive:
            try:
                self._sync()
            except OSError as error:
                log.debug("%s: the gateway could not be told: %s", name, error)
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
            except (GatewayError, OSError) as error:
                self._said("gateway", f"{error}; trying again")
                await asyncio.sleep(1)

    async def _end(self) -> None:
        """Clients first, then the gateway, then the predictors: nobody sees a closed door that was open. When told twice, all at once."""
        gently = asyncio.create_task(self._end_gently(), name="end")
        hurried = asyncio.create_task(self._hurry.wait(), name="hurry")
        await asyncio.wait({gently, hurried}, return_when=asyncio.FIRST_COMPLETED)
        for task in (gently, hurried):
            task.cancel()
        for failed in await asyncio.gather(gently, hurried, return_exceptions=True):
            if isinstance(failed, Exception):
                log.error("could not stop everything gently: %s", failed)
        await self.gateway.kill()
        await asyncio.gather(*(care.world.fleet.kill() for care in self.caretakers.values()))

    async def _end_gently(self) -> None:
        await self.gateway.drain(DRAIN)
        await self.gateway.stop(3)
        for care in self.caretakers.values():
            await care.world.close()
        await asyncio.gather(*(care.world.fleet.stop() for care in self.caretakers.values()))


def _unheard(listener: Callable[..., None]) -> Callable[..., None]:
    """Nobody may be listening any more (a closed terminal or pipe); the work goes on."""

    def tell(*words: object) -> None:
        try:
            listener(*words)
        except (OSError, ValueError) as error:
            log.debug("could not be said: %s", error)

    return tell
