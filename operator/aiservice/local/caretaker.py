"""Looks after one service: reconciles it when something happened or is due, and takes in what its manifest says now."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from aiservice.api.service import AIService
from aiservice.api.status import Decision
from aiservice.core.reconcile import reconcile
from aiservice.core.world import Plan
from aiservice.local import manifest
from aiservice.local.world import LocalWorld

log = logging.getLogger("aiservice")

Stamp = tuple[int, int, int]

SHORTEST = 0.1
RESTS = 0.3
"""Seconds that a manifest must not have changed before it is read."""
HEARTBEAT = 10.0
"""Seconds between looks when nothing happens: what nobody told us of is seen then."""
LONGEST_BACK_OFF = 30.0


class Caretaker:
    """`told` hears every decision; `ready` every change of the Ready condition, as a sentence."""

    def __init__(
        self, path: Path, service: AIService, world: LocalWorld, told: Callable[[str, Decision], None], said: Callable[[str, str], None]
    ) -> None:
        self.path, self.service, self.world = path, service, world
        self._told, self._said = told, said
        self._awake = asyncio.Event()
        self.looked = asyncio.Condition()
        """Notified after every look."""
        self._taken: tuple[Stamp | None] | None = None
        """Stamp of the manifest that was read last; None before the first."""
        self._last: str = ""

    @property
    def name(self) -> str:
        return self.service.metadata.name

    def wake(self) -> None:
        self._awake.set()

    async def run(self) -> None:
        """For ever, until cancelled. What fails is said and tried again; what runs is left running."""
        back_off = 1.0
        while True:
            self._awake.clear()
            try:
                self.take_in()
                plan = await reconcile(self.service, self.world)
                self._done(plan)
                async with self.looked:
                    self.looked.notify_all()
                back_off, due = 1.0, min(plan.requeue or HEARTBEAT, HEARTBEAT)
            except OSError as error:
                self._said(self.name, f"cannot save its state ({_words(error)}); it serves on, trying again in {back_off:.0f} s")
                due = back_off
                back_off = min(back_off * 2, LONGEST_BACK_OFF)
            except Exception:
                log.exception("%s: the look failed; trying again in %.0f s", self.name, back_off)
                due = back_off
                back_off = min(back_off * 2, LONGEST_BACK_OFF)
            await asyncio.sleep(SHORTEST)
            try:
                async with asyncio.timeout(due):
                    await self._awake.wait()
            except TimeoutError:
                continue

    def _done(self, plan: Plan) -> None:
        self.service = self.service.model_copy(update={"status": plan.status})
        for decision in plan.decisions:
            self._told(self.name, decision)
        ready = next((c for c in plan.status.conditions if c.type == "Ready"), None)
        words = f"{ready.status}: {ready.message}" if ready else ""
        if ready and words != self._last:
            self._last = words
            self._said(self.name, ready.message)

    def take_in(self) -> None:
        """Saving the manifest is applying it. A manifest that is gone or invalid changes nothing but is said.

        One that was written this moment waits until it rests: half a manifest may be a valid one.
        """
        stamp = _stamp(self.path)
        if self._taken == (stamp,) or (self._taken and not _rests(stamp)):
            return
        self._read()
        self._taken = (stamp,)

    def _read(self) -> None:
        try:
            found = manifest.read(self.path)
            if found.metadata.name != self.name:
                raise manifest.Invalid(self.path, [f"metadata.name: {found.metadata.name!r} given, this service is {self.name!r}"])
        except manifest.Invalid as invalid:
            text = str(invalid) if self.path.exists() else f"{self.path} was deleted"
            problem = f"{text}; {self.name} serves on with its last good manifest"
            if problem != self.world.problem:
                self._said(self.name, problem)
            self.world.problem = problem
            return
        if self.world.problem:
            self._said(self.name, f"{self.path} is right again")
        self.world.problem = ""
        if found.spec != self.service.spec:
            generation = self.service.metadata.generation + 1
            meta = found.metadata.model_copy(update={"generation": generation})
            changed = self.service.model_copy(update={"spec": found.spec, "metadata": meta})
            self.world.store.save(changed)
            self.service = changed

    async def watch(self) -> None:
        """Wake when the manifest's file has changed."""
        told = _stamp(self.path)
        while True:
            await asyncio.sleep(RESTS)
            stamp = _stamp(self.path)
            if stamp != told and _rests(stamp):
                told = stamp
                self.wake()


def _rests(stamp: Stamp | None) -> bool:
    return stamp is None or not 0 <= time.time() - stamp[0] / 1e9 < RESTS


def _words(error: OSError) -> str:
    return f"{error.strerror}: {error.filename}" if error.strerror and error.filename else error.strerror or str(error)


def _stamp(path: Path) -> Stamp | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
