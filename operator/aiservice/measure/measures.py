"""All that one service's rollout is measured by, whoever runs its predictors: the replay, the labels."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from aiservice.api.base import seconds
from aiservice.api.bundle import Decision
from aiservice.api.service import AIService
from aiservice.api.status import ReplayStatus
from aiservice.core.world import Labelled, ReplayTask
from aiservice.measure import labels, replay
from aiservice.measure.client import UNREACHABLE, Predictor

log = logging.getLogger("aiservice")

AGAIN = 15.0
"""Seconds between two replays while the first was undecided."""

Predictors = Callable[[str], Sequence[Predictor]]
"""Revision -> those of its predictors that are ready now."""


def slo(service: AIService) -> float | None:
    """Seconds."""
    latency = service.spec.rollout.gates.latency
    return seconds(latency.slo) if latency else None


class Measures:
    """One service's. `of` tells its ready predictors."""

    def __init__(self, of: Predictors) -> None:
        self.replayed: ReplayStatus | None = None
        """How far the replay has come; None: none was asked for."""
        self._of = of
        self._asked: tuple[object, ...] = ()
        self._replay: asyncio.Task[None] | None = None
        self._decision: tuple[str, Decision] | None = None

    def want(self, service: AIService, task: ReplayTask | None) -> None:
        """Begin, go on, begin anew or end; what it is asked for (revisions, number, gates) makes it another one."""
        asked = (task.stable, task.candidate, task.requests, slo(service), service.spec.rollout.gates.quality) if task else ()
        if asked != self._asked:
            if self._replay:
                self._replay.cancel()
            self._replay, self.replayed, self._asked = None, None, asked
        if task is None or (self._replay is not None and not self._replay.done()):
            return
        complete = self.replayed is not None and self.replayed.complete
        if not complete or task.again:
            wait = AGAIN if complete else 0.0
            self._replay = asyncio.create_task(self._run(service, task, wait), name=f"replay {task.candidate}")

    async def close(self) -> None:
        if self._replay:
            self._replay.cancel()
            await asyncio.gather(self._replay, return_exceptions=True)

    async def labelled(self, service: AIService, pair: tuple[str, str]) -> Labelled | None:
        """Labels that came since the status was written, judged on both revisions; None where quality is not judged. pair: stable, candidate."""
        quality, state = service.spec.rollout.gates.quality, service.status.rollout
        stable, candidate = self._of(pair[0]), self._of(pair[1])
        if quality is None or not stable or not candidate or state.metric is not quality.metric:
            return None
        try:
            if self._decision is None or self._decision[0] != pair[0]:
                self._decision = (pair[0], (await stable[0].reference())[1])
            return await labels.collect(
                stable,
                candidate,
                cursors=state.labels,
                metric=quality.metric,
                within=seconds(quality.labels_within),
                decision=self._decision[1],
            )
        except UNREACHABLE:
            return None

    async def _run(self, service: AIService, task: ReplayTask, wait: float) -> None:
        await asyncio.sleep(wait)
        quality = service.spec.rollout.gates.quality
        stable, candidate = self._of(task.stable), self._of(task.candidate)
        if not stable or not candidate:
            await asyncio.sleep(0.5)
            return

        def progress(status: ReplayStatus) -> None:
            if not wait:
                self.replayed = status

        try:
            self.replayed = await replay.run(
                stable,
                candidate,
                requests=task.requests,
                metric=quality.metric if quality else None,
                slo=slo(service),
                progress=progress,
            )
        except Exception as error:
            if not isinstance(error, UNREACHABLE):
                log.exception("%s: the replay failed; trying again", service.metadata.name)
            self.replayed = ReplayStatus(message=f"the stable's recorded requests cannot be read: {error}"[:2048])
            await asyncio.sleep(1.0)
