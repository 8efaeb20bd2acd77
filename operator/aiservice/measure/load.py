"""How much a revision has to do, from what its predictors have done since they began."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiservice.measure.client import UNREACHABLE, Predictor
from aiservice.measure.scrape import REQUESTS, SECONDS

PATIENCE = 1.0
"""Seconds that a predictor has to answer; KEDA itself waits three for all of them."""

WINDOW = 10.0
"""Seconds over which load is averaged, where there is a look that old."""
SHORTEST = 1.0
"""Seconds that two looks must lie apart to say anything."""
LONGEST = 120.0
"""Seconds after which a look says nothing about now."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one run of a predictor has done so far."""

    requests: int
    seconds: float
    """That requests spent in it, all together."""


@dataclass(frozen=True, slots=True)
class Load:
    """Of all predictors of a revision together."""

    requests_per_second: float
    concurrency: float
    """Requests at a time, in the mean: their rate times their stay (Little 1961, doi:10.1287/opre.9.3.383)."""

    def times(self, more: float) -> Load:
        return Load(self.requests_per_second * more, self.concurrency * more)


def work(text: str) -> Work:
    """From the Prometheus text format of a predictor."""
    requests, seconds = 0, 0.0
    for line in text.splitlines():
        if line.startswith(f"{REQUESTS}{{"):
            requests += int(float(line.rpartition(" ")[2]))
        elif line.startswith(f"{SECONDS}_sum"):
            seconds += float(line.rpartition(" ")[2])
    return Work(requests, seconds)


async def works(predictors: Mapping[str, Predictor]) -> dict[str, Work]:
    """Run -> its work, of those that answer in time."""

    async def ask(predictor: Predictor) -> Work | None:
        try:
            async with asyncio.timeout(PATIENCE):
                return work(await predictor.metrics())
        except (*UNREACHABLE, ValueError):
            return None

    found = await asyncio.gather(*(ask(p) for p in predictors.values()))
    return {run: done for run, done in zip(predictors, found, strict=True) if done is not None}


def between(before: Mapping[str, Work], after: Mapping[str, Work], seconds: float) -> Load:
    """Run -> its work, twice, so many seconds apart. A run that is new began in between; what one that is gone did last is not known."""
    none = Work(0, 0.0)
    changes = [(now.requests - was.requests, now.seconds - was.seconds) for run, now in after.items() for was in (before.get(run, none),)]
    return Load(sum(r for r, _ in changes) / seconds, sum(s for _, s in changes) / seconds)


class Meter:
    """One revision. Keeps a few looks, for two make a load."""

    def __init__(self) -> None:
        self._looks: list[tuple[float, Mapping[str, Work]]] = []

    async def ask(self, now: float, predictors: Mapping[str, Predictor]) -> Load | None:
        """Run -> its predictor. One that is too busy to be asked has as much to do as the others. None: nobody answered, or nothing to compare with."""
        done = await works(predictors)
        load = self.look(now, done) if done else None
        return load and load.times(len(predictors) / len(done))

    def look(self, now: float, runs: Mapping[str, Work]) -> Load | None:
        """`now` in seconds of a clock that never goes back. None: there is no earlier look to compare with."""
        self._looks = [(at, seen) for at, seen in self._looks if now - at <= LONGEST]
        earlier = [(at, seen) for at, seen in self._looks if now - at >= SHORTEST]
        if not self._looks or now - self._looks[-1][0] >= SHORTEST:
            self._looks.append((now, dict(runs)))
        if not earlier:
            return None
        at, before = next((look for look in reversed(earlier) if now - look[0] >= WINDOW), earlier[0])
        return between(before, runs, now - at)
