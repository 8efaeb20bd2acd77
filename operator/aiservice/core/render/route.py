"""HTTPRoute and GRPCRoute: the same host, the same weights."""

from __future__ import annotations

from collections.abc import Mapping

from aiservice.api.runtime import GRPC_PORT, REVISION_HEADER
from aiservice.api.service import AIService
from aiservice.core import names
from aiservice.core.render.meta import meta
from aiservice.core.world import Manifest, Place

GRPC_SERVICE = "inference.GRPCInferenceService"
PATHS = ("/v2", "/v1/models", "/openapi.json")
"""What clients are for, and the document that describes it; the private endpoints and /metrics are not reached through the gateway."""


def _route(owner: AIService, kind: str, rule: Manifest, place: Place) -> Manifest:
    gateway = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": place.gateway, "namespace": place.namespace}
    hosts = [place.hostname(owner.metadata.name, owner.metadata.namespace)]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": meta(owner, owner.metadata.name),
        "spec": {"parentRefs": [gateway], "hostnames": hosts, "rules": [rule]},
    }


def _backend(name: str, port: int, revision: str, weight: int) -> Manifest:
    """The answer says which revision it was given to, also when nobody there could answer."""
    header = {"set": [{"name": REVISION_HEADER, "value": revision}]}
    return {
        "name": name,
        "port": port,
        "weight": weight,
        "filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": header}],
    }


def http(owner: AIService, weights: Mapping[str, int], place: Place) -> Manifest:
    """`weights`: revision -> percent, adding up to 100."""
    name = owner.metadata.name
    backends = [_backend(names.predictor(name, r), 80, r, w) for r, w in weights.items()]
    matches = [{"path": {"type": "PathPrefix", "value": path}} for path in PATHS]
    return _route(owner, "HTTPRoute", {"matches": matches, "backendRefs": backends}, place)


def grpc(owner: AIService, weights: Mapping[str, int], place: Place) -> Manifest:
    name = owner.metadata.name
    backends = [_backend(names.grpc(name, r), GRPC_PORT, r, w) for r, w in weights.items()]
    return _route(owner, "GRPCRoute", {"matches": [{"method": {"service": GRPC_SERVICE}}], "backendRefs": backends}, place)
