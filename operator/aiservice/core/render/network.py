"""NetworkPolicy: who may call the predictors of a service (docs/decisions/0012-network.md)."""

from __future__ import annotations

from aiservice.api.runtime import GRPC_PORT, HTTP_PORT
from aiservice.api.service import AIService
from aiservice.core import names
from aiservice.core.render.meta import meta
from aiservice.core.world import Manifest, Place


def policy(owner: AIService, place: Place) -> Manifest:
    """One for all revisions, so that a new predictor is never open for a moment: KServe hands the service's label on to its pods."""
    ports = [{"protocol": "TCP", "port": port} for port in (HTTP_PORT, GRPC_PORT)]
    peers = [{"podSelector": {}}, *(_peer(client) for client in dict.fromkeys((place.proxies, *(place.clients or ()))))]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(owner, owner.metadata.name),
        "spec": {
            "podSelector": {"matchLabels": {names.SERVICE_LABEL: owner.metadata.name}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": peers, "ports": ports}],
        },
    }


def _peer(client: str) -> Manifest:
    """A namespace by its name, or a range of addresses."""
    if "/" in client:
        return {"ipBlock": {"cidr": client}}
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": client}}}
