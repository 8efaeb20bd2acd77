"""One file for each kind of object: values in, manifest out."""

from __future__ import annotations

from collections.abc import Sequence

from aiservice.api.service import AIService
from aiservice.api.status import RevisionStatus
from aiservice.core.render import autoscale, disruption, inference, network, route, service
from aiservice.core.world import Manifest, Place


def everything(owner: AIService, revisions: Sequence[RevisionStatus], place: Place = Place()) -> tuple[Manifest, ...]:  # noqa: B008 (frozen)
    """All objects of one AIService, in the order in which they are applied."""
    out: list[Manifest] = [] if place.clients is None else [network.policy(owner, place)]
    for r in revisions:
        out += [inference.inference_service(owner, r), service.grpc(owner, r), autoscale.autoscaler(owner, r, place)]
        out += [disruption.budget(owner, r)] if owner.spec.real_time.replicas.min > 1 else []
    weighted = {r.name: r.weight for r in revisions if r.weight}
    if weighted:
        out += [route.http(owner, weighted, place), route.grpc(owner, weighted, place)]
    return tuple(out)
