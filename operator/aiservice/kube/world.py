"""The Kubernetes World: one service's objects in a cluster, its status on the AIService."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain

import aiohttp

from aiservice.api.service import API_VERSION, KIND, AIService
from aiservice.api.status import AIServiceStatus, Decision
from aiservice.core import names
from aiservice.core.render.inference import TOKEN_KEY
from aiservice.core.render.meta import meta
from aiservice.core.world import Command, Manifest, Observed, Obstacle, Place, Plan, Running, Totals, Verb
from aiservice.kube import autoscalers, differ, pods, proxies, routes
from aiservice.kube.cluster import Cluster, Rejected
from aiservice.kube.probe import Probe
from aiservice.measure import golden, scrape
from aiservice.measure.client import UNREACHABLE, Predictor
from aiservice.measure.measures import Measures, slo

INFERENCE_SERVICE = ("serving.kserve.io/v1beta1", "InferenceService")
OWNED = (
    ("networking.k8s.io/v1", "NetworkPolicy"),
    INFERENCE_SERVICE,
    ("v1", "Service"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("policy/v1", "PodDisruptionBudget"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("gateway.networking.k8s.io/v1", "GRPCRoute"),
)
"""Kinds that we render, in the order in which they are applied; pruned in the reverse."""
AUTOSCALERS = tuple((api, kind) for api, kind in OWNED if kind in autoscalers.SIGNS)
ROUTES = ("HTTPRoute", "GRPCRoute")
COMMAND = "aiservice.dev/command"
"""Annotation: `promote`, `abort` or `retry`, a colon and anything that makes it another command than the last."""


class KubeWorld:
    """One service. It keeps nothing that cannot be found again; what it remembers saves requests only."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession, place: Place, probe: Probe) -> None:
        self.cluster, self.session, self.place, self.probe = cluster, session, place, probe
        self.measures = Measures(self._predictors)
        self._pods: list[Manifest] = []
        self._token = ""
        self._service = ""
        self._right: dict[str, bool] = {}
        self._wrong: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        self.silent: dict[str, str] = {}
        """Predictors that are ready and could not be asked at the last look: their run, and why."""
        self._applied: dict[tuple[str, str], tuple[str, str]] = {}
        self.annotations: dict[str, str] = {}
        self.refused = ""
        """What the API server said when it last took no object of ours."""

    async def observe(self, service: AIService) -> Observed:
        """Pods, the gateway's word on the route, counters while they matter, the replay, new labels."""
        name, namespace = service.metadata.name, service.metadata.namespace
        self._service = name
        self._token = self._token or await self._ensure_token(service)
        self._pods, route, missing, keda, scalers = await asyncio.gather(
            self.cluster.list("v1", "Pod", namespace, names.labels(name)),
            self.cluster.get("gateway.networking.k8s.io/v1", "HTTPRoute", name, namespace),
            self.probe.missing(),
            self.probe.keda(),
            asyncio.gather(*(self.cluster.list(api, kind, namespace, names.labels(name)) for api, kind in AUTOSCALERS)),
        )
        self.silent = {}
        await asyncio.gather(*(self._verify(p) for p in self._pods if pods.ready(p) and pods.run(p) not in self._right))
        state = service.status.rollout
        running = pods.running(self._pods, self._right, self._wrong, self._digests, self.silent)
        seen = Observed(
            now=datetime.now(UTC),
            running=running | await self._absent(service, running),
            routed=routes.weights(route, name, [r.name for r in service.status.revisions]),
            replay=self.measures.replayed,
            command=_command(self.annotations),
            url=f"{self.place.url(name, namespace)}/v2/models/{name}",
            place=replace(self.place, keda=keda),
            unscaled=autoscalers.idle(chain(*scalers)),
            obstacle=_obstacle(missing, self.refused),
        )
        if state.candidate is None or state.stable is None:
            return seen
        pair = (state.stable, state.candidate)
        totals, labelled = await asyncio.gather(self._totals(service, pair, route), self.measures.labelled(service, pair))
        return replace(seen, totals=totals, labelled=labelled)

    async def apply(self, service: AIService, plan: Plan) -> None:
        """Write what differs, and nothing else; take away what is no longer rendered. Raises Rejected."""
        try:
            await self._apply(service, plan)
        except Rejected as rejected:
            self.refused = str(rejected)
            raise
        self.refused = ""
        self.measures.want(service, plan.replay)

    async def _apply(self, service: AIService, plan: Plan) -> None:
        name, namespace = service.metadata.name, service.metadata.namespace
        found = [(kind, o) for api, kind in OWNED for o in await self.cluster.list(api, kind, namespace, names.labels(name))]
        live = {(kind, o["metadata"]["name"]): o for kind, o in found if _ours(o, service.metadata.uid)}
        for wanted in plan.objects:
            there = live.pop((wanted["kind"], wanted["metadata"]["name"]), None)
            await self._apply_one(routes.toward(there, wanted) if wanted["kind"] in ROUTES else wanted, there)
        for kind, other in sorted(live, key=lambda k: -[kind for _, kind in OWNED].index(k[0])):
            if "deletionTimestamp" not in live[kind, other]["metadata"]:
                await self.cluster.delete(next(api for api, k in OWNED if k == kind), kind, other, namespace)

    async def report(self, service: AIService, status: AIServiceStatus, decisions: Sequence[Decision]) -> None:
        """The status subresource, of the very object that was looked at. Server-side apply makes null of a map that became empty, so empty ones are left out.

        Raises Conflict if the object changed meanwhile: an operator that lost the lead without knowing decides nothing.
        """
        meta = service.metadata
        await self.cluster.apply_status(
            API_VERSION, KIND, meta.name, meta.namespace, differ.without_empty(status.wire()), version=meta.resource_version
        )

    async def close(self) -> None:
        await self.measures.close()

    async def _apply_one(self, wanted: Manifest, live: Manifest | None) -> None:
        key = (wanted["kind"], wanted["metadata"]["name"])
        mark = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
        if live is not None and self._applied.get(key) == (mark, live["metadata"]["resourceVersion"]):
            return
        if differ.changed(live, wanted):
            done = await self.cluster.apply(wanted)
            self._applied[key] = (mark, done["metadata"]["resourceVersion"])

    async def _absent(self, service: AIService, running: Mapping[str, Running]) -> dict[str, Running]:
        """Why revisions have no pod."""
        lacking = {
            names.inference_service(self._service, r.name): r.name
            for r in service.status.revisions
            if not running.get(r.name, Running()).replicas
        }
        if not lacking:
            return {}
        found = await self.cluster.list(*INFERENCE_SERVICE, service.metadata.namespace, names.labels(self._service))
        return {lacking[o["metadata"]["name"]]: Running(message=pods.absent(o)) for o in found if o["metadata"]["name"] in lacking}

    async def _ensure_token(self, service: AIService) -> str:
        """The Secret that opens the predictors' private endpoints to us; made once."""
        name, namespace = names.token(service.metadata.name), service.metadata.namespace
        found = await self.cluster.get("v1", "Secret", name, namespace)
        if found is None:
            value = secrets.token_urlsafe(32)
            made = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": meta(service, name),
                "stringData": {TOKEN_KEY: value},
                "type": "Opaque",
            }
            if await self.cluster.create(made):
                return value
            found = await self.cluster.get("v1", "Secret", name, namespace) or {}
        return base64.b64decode(found["data"][TOKEN_KEY]).decode()

    def _predictor(self, pod: Manifest) -> Predictor:
        return Predictor(pods.revision(pod) or "", pods.url(pod), self._service, self._token, self.session)

    def _predictors(self, revision: str) -> list[Predictor]:
        return [self._predictor(p) for p in self._pods if pods.revision(p) == revision and pods.ready(p) and self._right.get(pods.run(p))]

    async def _verify(self, pod: Manifest) -> None:
        """Golden requests over the wire, once for each run of a predictor; a Pod that cannot be asked is asked again."""
        run, predictor = pods.run(pod), self._predictor(pod)
        try:
            wrong = await golden.check(predictor)
            text = await predictor.metrics()
        except (golden.NotAnswered, *UNREACHABLE) as error:
            self.silent[run] = f"{pod['metadata']['name']} is ready, but the operator cannot ask it: {error}"
            return
        if wrong:
            self._wrong[run] = wrong
            return
        digest = scrape.digest(text)
        if digest:
            self._digests[run] = digest
        self._right[run] = True

    async def _totals(self, service: AIService, pair: tuple[str, str], route: Manifest | None) -> dict[str, Totals]:
        """Errors as clients saw them, from the Gateway's Envoys; gRPC's own and latency from the predictors. Where there is no such Envoy, all from the predictors."""
        name, namespace = service.metadata.name, service.metadata.namespace
        envoys = await self.cluster.list("v1", "Pod", self.place.proxies, proxies.labels(self.place))
        found = dict[str, Totals]()
        if envoys and route is not None:
            seen = await proxies.read(self.session, envoys, namespace, name)
            found = proxies.totals(seen, routes.order(route, name, [r.name for r in service.status.revisions]))
        counts = scrape.counts if envoys else scrape.all_counts
        ready = [(p, self._predictor(p)) for p in self._pods if pods.revision(p) in pair and pods.ready(p)]
        texts = await asyncio.gather(*(predictor.metrics() for _, predictor in ready), return_exceptions=True)
        for (p, _), text in zip(ready, texts, strict=True):
            if isinstance(text, str):
                found[pods.run(p)] = Totals(pods.revision(p) or "", counts(text, slo(service)), arrivals=not envoys)
        return found


def _ours(live: Manifest, uid: str) -> bool:
    """KServe hands our labels on to what it makes; only what names the AIService as its owner is ours."""
    return any(o["kind"] == KIND and o["uid"] == uid for o in live["metadata"].get("ownerReferences", ()))


def _obstacle(missing: str, refused: str) -> Obstacle | None:
    if missing:
        return Obstacle("RequirementMissing", missing)
    return Obstacle("ApplyRejected", refused) if refused else None


def _command(annotations: dict[str, str]) -> Command | None:
    """`promote:3` and the like; anything else is no command."""
    text = annotations.get(COMMAND, "")
    verb, _, mark = text.partition(":")
    return Command(text[:64], Verb(verb)) if mark and verb in set(Verb) else None
