"""HTTPRoutes -> weights that the gateway confirmed, and the next route on the way to the wanted one. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from aiservice.core import names
from aiservice.core.world import Manifest

FIELDS = ("name", "port", "weight", "filters")
"""Of a backend, that we render."""
LITTLE = 1
"""Weight of a backend that comes or goes: one without weight is none to Envoy Gateway."""


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


def toward(live: Manifest | None, wanted: Manifest) -> Manifest:
    """The next route on the way: a backend comes with little weight, and gets its own once the gateway has confirmed that.

    Envoy hears of routes and of backends one after the other: what comes, goes or changes its place with much weight costs requests in between
    (docs/decisions/0013-backends.md). What goes from behind goes at once: that is a candidate that failed.
    """
    if live is None:
        return wanted
    now = {ref["name"]: {k: ref[k] for k in FIELDS if k in ref} for ref in _backends(live)}
    then = {ref["name"]: ref for ref in _backends(wanted)}
    new = [ref | {"weight": LITTLE} for name, ref in then.items() if name not in now]
    raised = any(name in now and now[name].get("weight", 1) <= LITTLE < ref["weight"] for name, ref in then.items())
    if now and (new or (raised and not accepted(live))):
        return _with(wanted, [*now.values(), *new])
    order = list(now)
    moving = {name for i, name in enumerate(order) if name not in then and any(other in then for other in order[i:])}
    gone = [now[name] | {"weight": LITTLE} for name in order if name in moving and now[name].get("weight", 1) > LITTLE]
    return _with(wanted, [*then.values(), *gone]) if gone else wanted


def _with(route: Manifest, backends: list[Manifest]) -> Manifest:
    rule = route["spec"]["rules"][0] | {"backendRefs": backends}
    return route | {"spec": route["spec"] | {"rules": [rule]}}


def _backends(route: Manifest) -> list[Manifest]:
    return [ref for rule in route["spec"].get("rules", ()) for ref in rule.get("backendRefs", ())]
