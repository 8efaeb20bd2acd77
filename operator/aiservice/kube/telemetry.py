"""The operator's own /metrics, /healthz and /readyz."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from aiservice.api.status import AIServiceStatus, Decision, Phase
from aiservice.measure import labelling


class Telemetry:
    """`leading` is told by main, `synced` by the first event of a service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.leading = False
        self.synced = False
        r, service = self.registry, ["exported_namespace", "service"]
        self._reconciles = Counter("aiservice_operator_reconciles", "Looks, by how they ended.", ["outcome"], registry=r)
        self._seconds = Histogram("aiservice_operator_reconcile_seconds", "How long a look took.", registry=r)
        self._decisions = Counter("aiservice_operator_decisions", "Decisions of rollouts.", [*service, "kind"], registry=r)
        self._weight = Gauge(
            "aiservice_operator_candidate_weight", "Percent of the requests that the candidate is given.", service, registry=r
        )
        self._ready = Gauge("aiservice_operator_ready", "1 if a service serves: its condition Ready.", service, registry=r)
        self._phase = Gauge("aiservice_operator_phase", "1 for the phase that a service is in.", [*service, "phase"], registry=r)
        self._writes = Counter(
            "aiservice_operator_api_writes", "Writes that the API server took; none while nothing changes.", ["verb", "kind"], registry=r
        )
        self._services = Gauge("aiservice_operator_services", "Services that are looked after.", registry=r)
        self._leader = Gauge("aiservice_operator_leader", "1 if this operator acts.", registry=r)

    def reconciled(self, outcome: str, seconds: float) -> None:
        self._reconciles.labels(outcome).inc()
        self._seconds.observe(seconds)

    def wrote(self, verb: str, kind: str) -> None:
        self._writes.labels(verb, kind).inc()

    def cares_for(self, services: int) -> None:
        self._services.set(services)

    def decided(self, namespace: str, service: str, decision: Decision) -> None:
        self._decisions.labels(namespace, service, decision.kind.value).inc()

    def state(self, namespace: str, service: str, status: AIServiceStatus) -> None:
        self._weight.labels(namespace, service).set(status.rollout.weight)
        self._ready.labels(namespace, service).set(any(c.type == "Ready" and c.status == "True" for c in status.conditions))
        for phase in Phase:
            self._phase.labels(namespace, service, phase.value).set(phase is status.rollout.phase)

    def forget(self, namespace: str, service: str) -> None:
        """A service that is gone leaves no series behind."""
        for gauge in (self._weight, self._ready, self._phase):
            gauge.remove_by_labels({"exported_namespace": namespace, "service": service})

    def app(self) -> web.Application:
        """Alive: the loop answers. Ready: it leads and has seen the services, or it stands by for the leader."""
        app = web.Application(client_max_size=labelling.MOST_BYTES)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self.leading and not self.synced:
            return web.Response(status=503, text="leading, but the services have not been listed yet\n")
        return web.Response(text="leading\n" if self.leading else "standing by\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        self._leader.set(self.leading)
        return web.Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
