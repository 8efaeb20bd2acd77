"""Service for gRPC: KServe's own has the ports that the runtime names, and a namespace may bring a runtime of its own."""

from __future__ import annotations

from aiservice.api.runtime import GRPC_PORT
from aiservice.api.service import AIService
from aiservice.api.status import RevisionStatus
from aiservice.core import names
from aiservice.core.render.meta import meta
from aiservice.core.world import Manifest


def grpc(owner: AIService, revision: RevisionStatus) -> Manifest:
    """Selects KServe's pods by their label."""
    name = names.inference_service(owner.metadata.name, revision.name)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(owner, names.grpc(owner.metadata.name, revision.name), revision.name),
        "spec": {
            "selector": {"serving.kserve.io/inferenceservice": name, "component": "predictor"},
            "ports": [{"name": "grpc", "port": GRPC_PORT, "targetPort": GRPC_PORT, "appProtocol": "kubernetes.io/h2c"}],
        },
    }
