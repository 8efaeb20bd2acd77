"""PodDisruptionBudget: a node may be drained, one predictor of a revision at a time."""

from __future__ import annotations

from aiservice.api.service import AIService
from aiservice.api.status import RevisionStatus
from aiservice.core import names
from aiservice.core.render.meta import meta
from aiservice.core.world import Manifest


def budget(owner: AIService, revision: RevisionStatus) -> Manifest:
    name = names.inference_service(owner.metadata.name, revision.name)
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta(owner, name, revision.name),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"serving.kserve.io/inferenceservice": name}}},
    }
