"""metadata that all rendered objects share."""

from __future__ import annotations

from aiservice.api.service import API_VERSION, KIND, AIService
from aiservice.core import names
from aiservice.core.world import Manifest


def meta(owner: AIService, name: str, revision: str | None = None, **more: Manifest) -> Manifest:
    """Name, namespace, our labels and, where the owner stands in a cluster, its reference (deleting it deletes the object)."""
    out: Manifest = {"name": name, "namespace": owner.metadata.namespace, "labels": names.labels(owner.metadata.name, revision)}
    if "labels" in more:
        out["labels"] = out["labels"] | more.pop("labels")
    if owner.metadata.uid:
        reference = {"apiVersion": API_VERSION, "kind": KIND, "name": owner.metadata.name, "uid": owner.metadata.uid}
        out["ownerReferences"] = [reference | {"controller": True, "blockOwnerDeletion": True}]
    return out | more
