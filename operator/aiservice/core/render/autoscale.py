"""HorizontalPodAutoscaler: one for each revision, never shared, so that it does not fight the rollout."""

from __future__ import annotations

from aiservice.api.service import AIService
from aiservice.api.status import RevisionStatus
from aiservice.core import names
from aiservice.core.render.meta import meta
from aiservice.core.world import Manifest


def autoscaler(owner: AIService, revision: RevisionStatus) -> Manifest:
    serving = owner.spec.real_time
    resource = {
        "name": serving.scaling.metric.value.lower(),
        "target": {"type": "Utilization", "averageUtilization": serving.scaling.target},
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": meta(owner, names.autoscaler(owner.metadata.name, revision.name), revision.name),
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": names.predictor(owner.metadata.name, revision.name),
            },
            "minReplicas": serving.replicas.min,
            "maxReplicas": serving.replicas.max,
            "metrics": [{"type": "Resource", "resource": resource}],
        },
    }
