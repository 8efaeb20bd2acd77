"""One autoscaler for each revision, never shared, so that it does not fight the rollout: a HorizontalPodAutoscaler, or KEDA's ScaledObject."""

from __future__ import annotations

from aiservice.api.service import AIService
from aiservice.api.spec import RESOURCES, Scaling, ScalingMetric
from aiservice.api.status import RevisionStatus
from aiservice.core import names, scaling
from aiservice.core.render.meta import meta
from aiservice.core.world import Manifest, Place

LOCATIONS = {ScalingMetric.CONCURRENCY: "concurrency", ScalingMetric.REQUESTS_PER_SECOND: "requestsPerSecond"}
"""Metric -> its field in what a revision's load endpoint answers."""


def autoscaler(owner: AIService, revision: RevisionStatus, place: Place) -> Manifest:
    """What the service asks for where the place can do it, else CPU. A number that is fixed needs no more than a HorizontalPodAutoscaler."""
    replicas, asked = owner.spec.real_time.replicas, owner.spec.real_time.scaling
    if asked.metric in RESOURCES:
        return _horizontal(owner, revision, asked)
    if replicas.min == replicas.max or scaling.lacking(asked, place):
        return _horizontal(owner, revision, Scaling())
    return _scaled(owner, revision, place)


def _horizontal(owner: AIService, revision: RevisionStatus, follows: Scaling) -> Manifest:
    replicas = owner.spec.real_time.replicas
    resource = {"name": follows.metric.value.lower(), "target": {"type": "Utilization", "averageUtilization": follows.aim}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        # KEDA's webhook refuses a ScaledObject while another autoscaler is there, also one that is about to go.
        "metadata": _meta(owner, revision, annotations={"validations.keda.sh/hpa-ownership": "false"}),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": _target(owner, revision)},
            "minReplicas": replicas.min,
            "maxReplicas": replicas.max,
            "metrics": [{"type": "Resource", "resource": resource}],
        },
    }


def _scaled(owner: AIService, revision: RevisionStatus, place: Place) -> Manifest:
    """Without numbers (the operator or Prometheus is away) the number of predictors stays as it is."""
    replicas = owner.spec.real_time.replicas
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": _meta(owner, revision),
        "spec": {
            "scaleTargetRef": {"name": _target(owner, revision)},
            "minReplicaCount": replicas.min,
            "maxReplicaCount": replicas.max,
            "advanced": {"horizontalPodAutoscalerConfig": {"name": names.keda_autoscaler(owner.metadata.name, revision.name)}},
            "triggers": [_trigger(owner, revision, place)],
        },
    }


def _trigger(owner: AIService, revision: RevisionStatus, place: Place) -> Manifest:
    asked = owner.spec.real_time.scaling
    if asked.metric is ScalingMetric.QUERY:
        # A query without a result is no number; KEDA would take it for 0 and end predictors.
        metadata = {"serverAddress": place.prometheus, "query": asked.query, "threshold": f"{asked.aim}", "ignoreNullValues": "false"}
        return {"type": "prometheus", "metricType": "AverageValue", "metadata": metadata}
    url = f"{place.load}{names.load(owner.metadata.namespace, owner.metadata.name, revision.name)}"
    metadata = {"url": url, "valueLocation": LOCATIONS[asked.metric], "targetValue": f"{asked.aim}"}
    return {"type": "metrics-api", "metricType": "AverageValue", "metadata": metadata}


def _meta(owner: AIService, revision: RevisionStatus, **more: Manifest) -> Manifest:
    return meta(owner, names.autoscaler(owner.metadata.name, revision.name), revision.name, **more)


def _target(owner: AIService, revision: RevisionStatus) -> str:
    return names.predictor(owner.metadata.name, revision.name)
