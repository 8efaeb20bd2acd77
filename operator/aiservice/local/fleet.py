"""The predictors of one service on this machine: as many of each revision as the rendered objects ask for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Container, Coroutine, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import aiohttp

from aiservice.api.base import amount
from aiservice.core.world import Running
from aiservice.local import autoscale, load
from aiservice.local.autoscale import Advice, Bounds, Metric
from aiservice.local.process import cpu_seconds, marked, resident_bytes
from aiservice.local.replica import MARK, Recipe, Replica
from aiservice.measure.load import Meter

Wanted = Mapping[str, tuple[Recipe, Bounds, Mapping[str, str]]]
"""Revision -> how to start a predictor, how many, and what each requests."""
STRAY = 10.0
"""Seconds that a predictor which nobody wants any more has to end."""


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
    meter: Meter = field(default_factory=Meter)
    load: float | None = None
    """What its predictors share of requests or of the query's result; None: not known now."""
    trouble: str = ""
    """Why it is not known."""

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
    _leaving: dict[asyncio.Task[None], str] = field(default_factory=dict)
    """Task that stops a replica -> its label."""

    def adopt(self, wanted: Wanted, serving: Container[int]) -> None:
        """Take up the predictors that an earlier run left: those that are wanted, and were `serving` (HTTP ports that the gateway was told of),
        serve on without a gap. The others end. To be called before `want`."""
        found = sorted(marked(MARK, self.folder), key=lambda one: replica_port(one[1]) not in serving)
        for process, env in found:
            label = Path(env[MARK]).stem
            revision, _, number = label.rpartition("-")
            crew = self.crews.get(revision) or (Crew(*wanted[revision]) if revision in wanted else None)
            if crew is None or int(number) in crew.replicas:
                self._leave(process.stop(STRAY), label)
                continue
            self.crews[revision] = crew
            replica = crew.replicas[int(number)] = self._replica(crew, int(number))
            replica.adopt(process, env, ready=replica_port(env) in serving)
            replica.start()

    def _replica(self, crew: Crew, number: int) -> Replica:
        return Replica(crew.recipe, number, self.folder, self.cache, self.session, self.changed)

    def want(self, wanted: Wanted) -> None:
        """What is no longer wanted leaves; what is missing starts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for revision in self.crews.keys() - wanted.keys():
            for replica in self.crews.pop(revision).replicas.values():
                self._dismiss(replica)
        now = time.monotonic()
        for revision, (recipe, bounds, requests) in wanted.items():
            crew = self.crews.setdefault(revision, Crew(recipe, bounds, requests))
            crew.bounds = bounds
            size = self._count(crew, now)
            while len(crew.replicas) < size:
                number = self._free_number(crew)
                crew.replicas[number] = self._replica(crew, number)
                crew.replicas[number].start()
            surplus = sorted(crew.replicas, key=lambda n: (not crew.replicas[n].ready, n))[size:]
            for number in surplus:
                self._dismiss(crew.replicas.pop(number))

    def _free_number(self, crew: Crew) -> int:
        """Not that of a replica which is still leaving: its log and its last words are its own."""
        leaving = set(self._leaving.values())
        return next(n for n in count() if n not in crew.replicas and f"{crew.recipe.revision}-{n}" not in leaving)

    def _count(self, crew: Crew, now: float) -> int:
        if crew.bounds.least == crew.bounds.most:
            return crew.bounds.least
        current = max(len(crew.replicas), crew.bounds.least)
        if not crew.advice:
            crew.advice.append(Advice(now, current))
        crew.advice.append(Advice(now, autoscale.advise(current, self._use(crew, now), crew.bounds)))
        crew.advice = [a for a in crew.advice if now - a.at <= autoscale.PATIENCE]
        return autoscale.settle(current, crew.advice, now, crew.bounds)

    async def measure(self) -> None:
        """Ask for the loads that numbers follow."""
        await asyncio.gather(*(self._measure(crew) for crew in self.crews.values() if crew.bounds.least < crew.bounds.most))

    async def _measure(self, crew: Crew) -> None:
        if crew.bounds.metric is Metric.QUERY:
            try:
                crew.load, crew.trouble = await load.of_query(self.session, crew.bounds), ""
            except load.NoNumber as error:
                crew.load, crew.trouble = None, str(error)
        elif crew.bounds.metric in (Metric.CONCURRENCY, Metric.REQUESTS_PER_SECOND):
            crew.load = await load.of_predictors(crew.meter, crew.bounds.metric, crew.ready)

    def unscaled(self) -> dict[str, str]:
        return {revision: crew.trouble for revision, crew in self.crews.items() if crew.trouble}

    def _use(self, crew: Crew, now: float) -> float | None:
        """Mean of the ready predictors, in the target's unit; None while it is not known."""
        if crew.bounds.metric in (Metric.CPU, Metric.MEMORY):
            shares = self._shares(crew, now)
            return 100 * sum(shares) / len(shares) if shares else None
        return crew.load / len(crew.ready) if crew.load is not None and crew.ready else None

    def _shares(self, crew: Crew, now: float) -> list[float]:
        """Of what each requests; empty until two looks lie a second apart."""
        shares: list[float] = []
        for replica in crew.ready:
            if replica.process is None:
                continue
            if crew.bounds.metric is Metric.MEMORY:
                held = resident_bytes(replica.process.pid, children=True)
                shares += [held / amount(crew.requests["memory"])] if held is not None and "memory" in crew.requests else []
                continue
            spent = cpu_seconds(replica.process.pid, children=True)
            before = crew.used.get(replica.run)
            if spent is None or (before and now - before[0] < 1.0):
                continue
            crew.used[replica.run] = (now, spent)
            if before and "cpu" in crew.requests:
                shares.append((spent - before[1]) / (now - before[0]) / amount(crew.requests["cpu"]))
        return shares

    def _dismiss(self, replica: Replica) -> None:
        self._leave(replica.stop(), replica.label)

    def _leave(self, stop: Coroutine[None, None, None], label: str) -> None:
        task = asyncio.create_task(stop, name=f"stop {label}")
        self._leaving[task] = label
        task.add_done_callback(self._leaving.pop)

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
        for crew in self.crews.values():
            for replica in crew.replicas.values():
                self._dismiss(replica)
        self.crews.clear()
        while self._leaving:
            await asyncio.gather(*self._leaving, return_exceptions=True)

    async def kill(self) -> None:
        """Everything ends at once, whoever started it."""
        for crew in self.crews.values():
            for replica in crew.replicas.values():
                await replica.release()
        for task in list(self._leaving):
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        await asyncio.gather(*(process.kill() for process, _ in marked(MARK, self.folder)))


def replica_port(env: Mapping[str, str]) -> int:
    """Port of a running predictor, from its environment."""
    with contextlib.suppress(ValueError):
        return int(env.get("AISERVICE_HTTP_PORT", 0))
    return 0
