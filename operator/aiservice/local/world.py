"""The local World: one service's objects become processes behind the gateway, its status a file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import aiohttp

from aiservice.api.base import seconds
from aiservice.api.service import AIService
from aiservice.api.status import AIServiceStatus, Cursor, Decision
from aiservice.core import names
from aiservice.core.render import everything
from aiservice.core.world import Command, Manifest, Observed, Obstacle, Place, Plan, Totals
from aiservice.local import rendered
from aiservice.local.envoy import Routed
from aiservice.local.fleet import Fleet
from aiservice.local.gateway import Gateway
from aiservice.local.store import Store
from aiservice.measure import scrape
from aiservice.measure.measures import Measures, slo

PROMETHEUS = "AISERVICE_PROMETHEUS"
"""Variable: the URL of the Prometheus that scaling queries are asked of."""


class LocalWorld:
    """One service. `changed` wakes whoever reconciles it; `sync` tells the gateway, which may serve others as well."""

    def __init__(self, store: Store, gateway: Gateway, fleet: Fleet, sync: Callable[[], None]) -> None:
        self.store, self.gateway, self.fleet = store, gateway, fleet
        self.command: Command | None = None
        self.problem = ""
        self.control = 0
        self.place = Place(prometheus=os.environ.get(PROMETHEUS, "").rstrip("/"))
        self._sync = sync
        self._objects: tuple[Manifest, ...] = ()
        self._service: AIService | None = None
        self._measures = Measures(lambda revision: [r.predictor for r in fleet.ready(revision)])

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
        self._service, self._objects = service, everything(service, service.status.revisions, self.place)
        wanted = rendered.predictors(self._objects, service.metadata.name, self.store.token())
        self.fleet.adopt(wanted, self.gateway.serving())
        self.fleet.want(wanted)

    async def observe(self, service: AIService) -> Observed:
        """Processes, the gateway's own word on the weights, counters while they matter, the replay, new labels."""
        state = service.status.rollout
        own = self.routed()
        confirmed = await self.gateway.weights([own]) if own else {}
        await self.fleet.measure()
        seen = Observed(
            now=datetime.now(UTC),
            running=self.fleet.running(),
            routed=confirmed.get(service.metadata.name, {}),
            replay=self._measures.replayed,
            command=self.command,
            url=f"{self.gateway.url}/v2/models/{service.metadata.name}",
            place=self.place,
            unscaled=self.fleet.unscaled(),
            obstacle=Obstacle("ManifestUnusable", self.problem) if self.problem else None,
        )
        if state.candidate is None or state.stable is None:
            return seen
        pair = (state.stable, state.candidate)
        totals, labelled = await asyncio.gather(self._totals(service, pair), self._measures.labelled(service, pair))
        return replace(seen, totals=totals, labelled=labelled)

    async def apply(self, service: AIService, plan: Plan) -> None:
        """Start and stop predictors, tell the gateway, begin or end a replay."""
        self._service, self._objects = service.model_copy(update={"status": plan.status}), plan.objects
        self.fleet.want(rendered.predictors(plan.objects, service.metadata.name, self.store.token()))
        self._sync()
        self._measures.want(service, plan.replay)

    async def report(self, service: AIService, status: AIServiceStatus, decisions: Sequence[Decision]) -> None:
        """The status file. Raises OSError (no space) with the old one intact."""
        self.store.save_status(status)

    async def close(self) -> None:
        await self._measures.close()

    async def _totals(self, service: AIService, pair: tuple[str, str]) -> dict[str, Totals]:
        """Errors as clients saw them, from the gateway; gRPC's own and latency from the predictors."""
        name, found = service.metadata.name, dict[str, Totals]()
        counters, gateway = await self.gateway.counters(), self.gateway.run
        for revision in pair:
            for cluster in (names.predictor(name, revision), names.grpc(name, revision)):
                if cluster in counters:
                    found[f"gateway.{gateway}/{cluster}"] = Totals(revision, Cursor(errors=counters[cluster]), arrivals=True)
        replicas = [(revision, r.run, r.predictor) for revision in pair for r in self.fleet.ready(revision)]
        texts = await asyncio.gather(*(p.metrics() for _, _, p in replicas), return_exceptions=True)
        for (revision, run, _), text in zip(replicas, texts, strict=True):
            if isinstance(text, str):
                found[run] = Totals(revision, scrape.counts(text, slo(service)))
        return found


def new_session() -> aiohttp.ClientSession:
    """For everything that is asked of predictors."""
    connector = aiohttp.TCPConnector(limit=64, keepalive_timeout=15)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30, sock_connect=2))
