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
    by_backend = {names.predictor(service, r): r for r in revisions}
    refs = [ref for rule in route["spec"].get("rules", ()) for ref in rule.get("backendRefs", ())]
    return {by_backend[ref["name"]]: ref.get("weight", 1) for ref in refs if ref["name"] in by_backend and ref.get("weight", 1)}
