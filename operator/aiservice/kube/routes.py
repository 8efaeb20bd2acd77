"""HTTPRoutes -> weights that the gateway confirmed. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from aiservice.core import names
from aiservice.core.world import Manifest


def accepted(route: Manifest) -> bool:
    """Every parent accepted this very generation and resolved its backends."""
    parents = route.get("status", {}).get("parents", ())
    generation = route["metadata"].get("generation")
    wanted = ("Accepted", "ResolvedRefs")
    return bool(parents) and all(
        any(c["type"] == kind and c["status"] == "True" and c.get("observedGeneration") == generation for c in parent.get("conditions", ()))
        for parent in parents
        for kind in wanted
    )


def weights(route: Manifest | None, service: str, revisions: Sequence[str]) -> dict[str, int]:
    """Revision -> percent; empty while the gateway has not confirmed it."""
    if route is None or not accepted(route):
        return {}
    found = zip(order(route, service, revisions), _backends(route), strict=True)
    return {revision: ref.get("weight", 1) for revision, ref in found if revision and ref.get("weight", 1)}


def order(route: Manifest, service: str, revisions: Sequence[str]) -> list[str | None]:
    """The revision of each backend, in the route's own order; None for one that is not ours."""
    by_backend = {names.predictor(service, r): r for r in revisions}
    return [by_backend.get(ref["name"]) for ref in _backends(route)]


def _backends(route: Manifest) -> list[Manifest]:
    return [ref for rule in route["spec"].get("rules", ()) for ref in rule.get("backendRefs", ())]
