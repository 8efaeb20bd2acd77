"""ClusterServingRuntime: how KServe runs our predictor. One for the whole cluster; the chart ships it, the local world reads it."""

from __future__ import annotations

from aiservice.api.runtime import COMMAND, CONTAINER, GRPC_PORT, HTTP_PORT, RUNTIME
from aiservice.core import names
from aiservice.core.world import Manifest


def serving_runtime(image: str) -> Manifest:
    """`image`: the predictor's. The last words of one that crashes are the end of its log, so that the status can say them."""
    container: Manifest = {
        "name": CONTAINER,
        "image": image,
        "command": list(COMMAND),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "ports": [{"name": "http", "containerPort": HTTP_PORT}, {"name": "grpc", "containerPort": GRPC_PORT}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterServingRuntime",
        "metadata": {"name": RUNTIME, "labels": {names.MANAGED_LABEL: names.MANAGER}},
        "spec": {
            "supportedModelFormats": [{"name": "onnx", "version": "1", "autoSelect": False}],
            "protocolVersions": ["v1", "v2", "grpc-v2"],
            "containers": [container],
        },
    }
