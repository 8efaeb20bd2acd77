"""The predictors of one service on this machine: as many of each revision as the rendered objects ask for."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from aiservice.api.base import amount
from aiservice.core.world import Running
from aiservice.local import autoscale
from aiservice.local.autoscale import Advice, Bounds
from aiservice.local.files import read_if_there
from aiservice.local.process import Process, cpu_seconds, resident_bytes
from aiservice.local.replica import Recipe, Replica


@dataclass(slots=True)
class Crew:
    """The predictors of one revision."""

    recipe: Recipe
    bounds: Bounds
    requests: Mapping[str, str]
    replicas: dict[int, Replica] = field(default_factory=dict)
    advice: list[Advice] = field(default_factory=list)
    used: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Run -> when and how much processor time at the last look."""

    @property
    def ready(self) -> list[Replica]:
        return [r for r in self.replicas.values() if r.ready]


@dataclass(slots=True)
class Fleet:
    """Starts and stops replicas; `changed` is called whenever one becomes ready or stops being so."""

    folder: Path
    cache: Path
    session: aiohttp.ClientSession
    changed: Callable[[], None]
    crews: dict[str, Crew] = field(default_factory=dict)
    _leaving: set[asyncio.Task[None]] = field(default_factory=set)

    def want(self, wanted: Mapping[str, tuple[Recipe, Bounds, Mapping[str, str]]]) -> None:
        """Revision -> what it takes. What is no longer wanted leaves; what is missing starts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for revision in self.crews.keys() - wanted.keys():
            for replica in self.crews.pop(revision).replicas.values():
                self._dismiss(replica)
        now = time.monotonic()
        for revision, (recipe, bounds, requests) in wanted.items():
            crew = self.crews.setdefault(revision, Crew(recipe, bounds, requests))
            crew.bounds = bounds
            count = self._count(crew, now)
            for number in range(count):
                if number not in crew.replicas:
                    crew.replicas[number] = Replica(crew.recipe, number, self.folder, self.cache, self.session, self.changed)
                    crew.replicas[number].start()
            for number in [n for n in crew.replicas if n >= count]:
                self._dismiss(crew.replicas.pop(number))

    def _count(self, crew: Crew, now: float) -> int:
        if crew.bounds.least == crew.bounds.most:
            return crew.bounds.least
        current = max(len(crew.replicas), crew.bounds.least)
        crew.advice.append(Advice(now, autoscale.advise(current, self._use(crew, now), crew.bounds)))
        crew.advice = [a for a in crew.advice if now - a.at <= autoscale.PATIENCE]
        return autoscale.settle(current, crew.advice, now, crew.bounds)

    def _use(self, crew: Crew, now: float) -> float | None:
        """Mean use of the ready predictors as a share of the request; None until two looks lie a second apart."""
        shares = []
        for replica in crew.ready:
            if replica.process is None:
                continue
            if crew.bounds.metric == "memory":
                held = resident_bytes(replica.process.pid)
                shares += [held / amount(crew.requests["memory"])] if held is not None and "memory" in crew.requests else []
                continue
            spent = cpu_seconds(replica.process.pid)
            before = crew.used.get(replica.run)
            if spent is None or (before and now - before[0] < 1.0):
                continue
            crew.used[replica.run] = (now, spent)
            if before and "cpu" in crew.requests:
                shares.append((spent - before[1]) / (now - before[0]) / amount(crew.requests["cpu"]))
        return sum(shares) / len(shares) if shares else None

    def _dismiss(self, replica: Replica) -> None:
        task = asyncio.create_task(replica.stop(), name=f"stop {replica.label}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def adopted(self, patience: float) -> None:
        """Return when every predictor that an earlier run left is looked after again and ready, or after `patience` seconds."""
        deadline = time.monotonic() + patience
        await asyncio.sleep(0)
        while time.monotonic() < deadline:
            if all(r.ready or r.process is None for crew in self.crews.values() for r in crew.replicas.values()):
                return
            await asyncio.sleep(0.02)

    async def end_strays(self) -> None:
        """End what an earlier run left and nobody wants any more."""
        wanted = {r.label for crew in self.crews.values() for r in crew.replicas.values()} | {
            t.get_name().split()[-1] for t in self._leaving
        }
        for record in sorted(self.folder.glob("*.json")):
            if record.stem in wanted:
                continue
            kept = json.loads(read_if_there(record) or "null")
            process = Process.find(kept["pid"], kept["born"]) if kept else None
            if process:
                await process.stop(10)
            record.unlink(missing_ok=True)

    def running(self) -> dict[str, Running]:
        out = {}
        for revision, crew in self.crews.items():
            everyone = list(crew.replicas.values())
            refused = next((r.refused for r in everyone if r.refused), None)
            digest = next((r.digest for r in everyone if r.digest), None)
            waiting = next((r for r in everyone if not r.ready), everyone[0] if everyone else None)
            started = sum(r.process is not None for r in everyone)
            out[revision] = Running(started, len(crew.ready), digest, refused, waiting.message if waiting else "")
        return out

    def ready(self, revision: str | None) -> list[Replica]:
        crew = self.crews.get(revision or "")
        return crew.ready if crew else []

    async def stop(self) -> None:
        """Everything ends; returns when it has."""
        self.want({})
        while self._leaving:
            await asyncio.gather(*self._leaving, return_exceptions=True)

    async def release(self) -> None:
        """Everything runs on without us."""
        for crew in self.crews.values():
            for replica in crew.replicas.values():
                await replica.release()
