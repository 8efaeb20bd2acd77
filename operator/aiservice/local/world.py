"""The local World: one service's objects become processes behind the gateway, its status a file."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import aiohttp

from aiservice.api.base import seconds
from aiservice.api.bundle import Decision as ModelDecision
from aiservice.api.service import AIService
from aiservice.api.status import AIServiceStatus, Cursor, Decision, ReplayStatus
from aiservice.core import names
from aiservice.core.render import everything
from aiservice.core.world import Command, Labelled, Manifest, Observed, Plan, ReplayTask, Totals
from aiservice.local import rendered
from aiservice.local.envoy import Routed
from aiservice.local.fleet import Fleet
from aiservice.local.gateway import Gateway
from aiservice.local.store import Store
from aiservice.measure import labels, replay, scrape
from aiservice.measure.client import UNREACHABLE

log = logging.getLogger("aiservice")

AGAIN = 15.0
"""Seconds between two replays while the first was undecided."""
MOST_SOURCES = 1000
"""A predictor that crashes for days is a new source every time; the oldest are forgotten."""


class LocalWorld:
    """One service. `changed` wakes whoever reconciles it; `sync` tells the gateway, which may serve others as well."""

    def __init__(self, store: Store, gateway: Gateway, fleet: Fleet, sync: Callable[[], None]) -> None:
        self.store, self.gateway, self.fleet = store, gateway, fleet
        self.command: Command | None = None
        self.problem = ""
        self.control = 0
        self._sync = sync
        self._objects: tuple[Manifest, ...] = ()
        self._service: AIService | None = None
        self._replay: asyncio.Task[None] | None = None
        self._asked: tuple[object, ...] = ()
        self._replayed: ReplayStatus | None = None
        self._decision: tuple[str, ModelDecision] | None = None
        self._last: dict[str, Totals] = {}

    def routed(self) -> Routed | None:
        """What the gateway is to be told; None before the first apply."""
        if self._service is None:
            return None
        meta = self._service.metadata
        ready = {rev: self.fleet.ready(rev) for rev in self.fleet.crews}
        timeout = seconds(self._service.spec.real_time.timeout)
        return rendered.routed(self._objects, meta.name, meta.namespace, timeout, ready, self.control)

    def resume(self, service: AIService) -> None:
        """Take up what an earlier run left: the same objects as its last status says, before anything is decided or the gateway is told."""
        self._service, self._objects = service, everything(service, service.status.revisions)
        wanted = rendered.predictors(self._objects, service.metadata.name, self.store.token())
        self.fleet.adopt(wanted, self.gateway.serving())
        self.fleet.want(wanted)
        self._recall(service)

    def _recall(self, service: AIService) -> None:
        """What was counted before we were killed was counted."""
        for source, counts in service.status.rollout.cursors.items():
            revision = next((r.name for r in service.status.revisions if r.name in source), "")
            self._last[source] = Totals(revision, counts, arrivals=source.startswith("gateway."))

    async def observe(self, service: AIService) -> Observed:
        """Processes, the gateway's own word on the weights, counters while they matter, the replay, new labels."""
        state = service.status.rollout
        own = self.routed()
        confirmed = await self.gateway.weights([own]) if own else {}
        seen = Observed(
            now=datetime.now(UTC),
            running=self.fleet.running(),
            routed=confirmed.get(service.metadata.name, {}),
            replay=self._replayed,
            command=self.command,
            url=f"{self.gateway.url}/v2/models/{service.metadata.name}",
            problem=self.problem,
        )
        if state.candidate is None or state.stable is None:
            return seen
        pair = (state.stable, state.candidate)
        totals, labelled = await asyncio.gather(self._totals(service, pair), self._labels(service, pair))
        return replace(seen, totals=totals, labelled=labelled)

    async def apply(self, service: AIService, plan: Plan) -> None:
        """Start and stop predictors, tell the gateway, begin or end a replay."""
        self._service, self._objects = service.model_copy(update={"status": plan.status}), plan.objects
        self.fleet.want(rendered.predictors(plan.objects, service.metadata.name, self.store.token()))
        self._sync()
        self._replays(service, plan.replay)

    async def report(self, service: AIService, status: AIServiceStatus, decisions: Sequence[Decision]) -> None:
        """The status file. Raises OSError (no space) with the old one intact."""
        self.store.save_status(status)

    async def close(self) -> None:
        if self._replay:
            self._replay.cancel()
            await asyncio.gather(self._replay, return_exceptions=True)

    async def _totals(self, service: AIService, pair: tuple[str, str]) -> dict[str, Totals]:
        """Errors as clients saw them, from the gateway; gRPC's own and latency from the predictors.

        A source that does not answer this time stands where it stood: were it left out, all that it ever counted would seem new next time.
        """
        slo = _slo(service)
        name = service.metadata.name
        fresh: dict[str, Totals] = {}
        counters, gateway = await self.gateway.counters(), self.gateway.run
        for revision in pair:
            for cluster in (names.predictor(name, revision), names.grpc(name, revision)):
                if cluster in counters:
                    fresh[f"gateway.{gateway}/{cluster}"] = Totals(revision, Cursor(errors=counters[cluster]), arrivals=True)
        replicas = [(revision, r.run, r.predictor) for revision in pair for r in self.fleet.ready(revision)]
        texts = await asyncio.gather(*(p.metrics() for _, _, p in replicas), return_exceptions=True)
        for (revision, run, _), text in zip(replicas, texts, strict=True):
            if isinstance(text, str):
                fresh[run] = Totals(revision, scrape.counts(text, slo))
        stale = {source: t for source, t in self._last.items() if t.revision in pair and source not in fresh}
        self._last = dict([*stale.items(), *fresh.items()][-MOST_SOURCES:])
        return self._last

    async def _labels(self, service: AIService, pair: tuple[str, str]) -> Labelled | None:
        quality, state = service.spec.rollout.gates.quality, service.status.rollout
        stable, candidate = ([r.predictor for r in self.fleet.ready(rev)] for rev in pair)
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

    def _replays(self, service: AIService, task: ReplayTask | None) -> None:
        """Begin, go on, begin anew or end; what it is asked for (revisions, number, gates) makes it another one."""
        asked = (task.stable, task.candidate, task.requests, _slo(service), service.spec.rollout.gates.quality) if task else ()
        if asked != self._asked:
            if self._replay:
                self._replay.cancel()
            self._replay, self._replayed, self._asked = None, None, asked
        if task is None or (self._replay is not None and not self._replay.done()):
            return
        complete = self._replayed is not None and self._replayed.complete
        if not complete or task.again:
            wait = AGAIN if complete else 0.0
            self._replay = asyncio.create_task(self._run_replay(service, task, wait), name=f"replay {task.candidate}")

    async def _run_replay(self, service: AIService, task: ReplayTask, wait: float) -> None:
        await asyncio.sleep(wait)
        gates = service.spec.rollout.gates
        stable, candidate = ([r.predictor for r in self.fleet.ready(rev)] for rev in (task.stable, task.candidate))
        if not stable or not candidate:
            await asyncio.sleep(0.5)
            return

        def progress(status: ReplayStatus) -> None:
            if not wait:
                self._replayed = status

        try:
            self._replayed = await replay.run(
                stable,
                candidate,
                requests=task.requests,
                metric=gates.quality.metric if gates.quality else None,
                slo=_slo(service),
                progress=progress,
            )
        except Exception as error:
            if not isinstance(error, UNREACHABLE):
                log.exception("%s: the replay failed; trying again", service.metadata.name)
            self._replayed = ReplayStatus(message=f"the stable's recorded requests cannot be read: {error}"[:2048])
            await asyncio.sleep(1.0)


def _slo(service: AIService) -> float | None:
    """Seconds."""
    latency = service.spec.rollout.gates.latency
    return seconds(latency.slo) if latency else None


def new_session() -> aiohttp.ClientSession:
    """For everything that is asked of predictors."""
    connector = aiohttp.TCPConnector(limit=64, keepalive_timeout=15)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30, sock_connect=2))
