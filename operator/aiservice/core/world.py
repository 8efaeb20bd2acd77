"""The one seam: what the core is told, what it asks for, and who carries it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from aiservice.api.runtime import Refusal
from aiservice.api.service import AIService
from aiservice.api.status import AIServiceStatus, Arms, Cursor, Decision, Pairs, ReplayStatus

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Running:
    """One revision as it runs now."""

    replicas: int = 0
    ready: int = 0
    """Loaded, and answered the golden requests."""
    digest: str | None = None
    refused: Refusal | None = None
    """It will not load this model; starting it again does not help."""
    message: str = ""
    """What a person would want to know: what it waits for, how often it crashed, its last words."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Monotone counters of one source (a predictor's run, a gateway's backend), since that source began."""

    revision: str
    counts: Cursor
    arrivals: bool = False
    """This source stands where clients' requests arrive (the gateway): its totals tell the split."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labels that came since the cursors in the status, judged on both revisions."""

    pairs: Pairs = field(default_factory=Pairs)
    arms: Arms = field(default_factory=Arms)
    cursors: Mapping[str, int] = field(default_factory=dict)


class Verb(StrEnum):
    PROMOTE = "promote"
    ABORT = "abort"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Command:
    """What a person asked for. It is carried out once: its id is kept in the status."""

    id: str
    verb: Verb


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something that a person must mend and that does not stop what serves: a manifest that is gone, a cluster without KServe."""

    reason: str
    """One word, for the condition."""
    message: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where routes hang: the Gateway, and the domain and port under which clients reach it."""

    gateway: str = "gateway"
    namespace: str = "kserve"
    domain: str = "localhost"
    port: int = 80
    proxies: str = "envoy-gateway-system"
    """Namespace in which the Gateway's proxies run."""
    clients: tuple[str, ...] | None = ("aiservice-system",)
    """Who may call predictors beside the proxies and the service's own namespace: namespaces and address ranges. None: everyone."""
    load: str = "http://aiservice-operator.aiservice-system.svc:8080"
    """URL of the operator, which tells the load of revisions."""
    prometheus: str = ""
    """URL of the Prometheus that scaling queries are asked of. Empty: there is none."""
    keda: bool = True
    """Replicas can follow requests and queries."""

    def hostname(self, service: str, namespace: str) -> str:
        return f"{service}.{namespace}.{self.domain}"

    def url(self, service: str, namespace: str) -> str:
        """Of a service's own host."""
        port = "" if self.port == 80 else f":{self.port}"
        return f"http://{self.hostname(service, namespace)}{port}"


@dataclass(frozen=True, slots=True)
class Observed:
    """All that one reconcile may know about the outside."""

    now: datetime
    running: Mapping[str, Running] = field(default_factory=dict)
    routed: Mapping[str, int] = field(default_factory=dict)
    """Revision -> weight, as the gateway confirms it."""
    totals: Mapping[str, Totals] = field(default_factory=dict)
    """Source -> its counters."""
    replay: ReplayStatus | None = None
    """How far the replay has come that the last plan asked for."""
    labelled: Labelled | None = None
    command: Command | None = None
    url: str | None = None
    place: Place = field(default_factory=Place)
    unscaled: Mapping[str, str] = field(default_factory=dict)
    """Revision -> why the number of its predictors follows nothing now."""
    obstacle: Obstacle | None = None


@dataclass(frozen=True, slots=True)
class ReplayTask:
    """Send recorded requests to both revisions and compare."""

    stable: str
    candidate: str
    requests: int
    again: bool = False
    """It was complete and undecided: once there are more recorded requests, start anew."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that one reconcile asks for."""

    objects: tuple[Manifest, ...]
    status: AIServiceStatus
    replay: ReplayTask | None = None
    decisions: tuple[Decision, ...] = ()
    """What was decided in this reconcile: to be told as events."""
    requeue: float | None = None
    """Look again after so many seconds, even if nothing happens."""


class World(Protocol):
    """Kubernetes, or this machine."""

    async def observe(self, service: AIService) -> Observed: ...
    async def apply(self, service: AIService, plan: Plan) -> None: ...
    async def report(self, service: AIService, status: AIServiceStatus, decisions: Sequence[Decision]) -> None: ...
