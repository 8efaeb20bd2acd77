"""HTTPRoutes -> weights that the gateway confirmed, and the next route on the way to the wanted one. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from aiservice.core import names
from aiservice.core.world import Manifest

FIELDS = ("name", "port", "weight", "filters")
"""Of a backend, that we render."""
PERCENT = 10_000
"""Weight of one percent while a backend comes or goes."""
LITTLE = 1
"""Weight of that backend, a millionth of the requests: one without weight is none to Envoy Gateway."""


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


def _looked_at(route: Manifest) -> bool:
    """Every parent has said something of this very generation, whatever it was: backends that cannot be found must be able to go."""
    parents, generation = route.get("status", {}).get("parents", ()), route["metadata"].get("generation")
    return bool(parents) and all(any(c.get("observedGeneration") == generation for c in p.get("conditions", ())) for p in parents)


def weights(route: Manifest | None, service: str, revisions: Sequence[str]) -> dict[str, int]:
    """Revision -> percent, 0 for one that comes or goes; empty while the gateway has not confirmed it."""
    if route is None or not accepted(route):
        return {}
    shares, by_backend = _shares(route), {names.predictor(service, r): r for r in revisions}
    return {by_backend[ref["name"]]: shares[ref["name"]] for ref in _backends(route) if ref["name"] in by_backend and ref.get("weight", 1)}


def order(route: Manifest, service: str, revisions: Sequence[str]) -> list[str | None]:
    """The revision of each backend, in the route's own order; None for one that is not ours."""
    by_backend = {names.predictor(service, r): r for r in revisions}
    return [by_backend.get(ref["name"]) for ref in _backends(route)]


def toward(live: Manifest | None, wanted: Manifest) -> Manifest:
    """The next route on the way: a backend comes and goes with little weight, a look before it gets its own and a look before it is taken out.

    Envoy hears of routes and of backends one after the other: what comes, goes or changes its place with much weight costs requests in between
    (docs/decisions/0013-backends.md).
    """
    if live is None:
        return wanted
    now = {ref["name"]: {k: ref[k] for k in FIELDS if k in ref} for ref in _backends(live) if ref.get("weight", 1)}
    shares = _shares(live)
    then = {ref["name"]: ref for ref in _backends(wanted)}
    new = [ref | {"weight": LITTLE} for name, ref in then.items() if name not in now]
    raised = any(shares.get(name) == 0 < ref["weight"] for name, ref in then.items())
    if now and (new or (raised and not accepted(live))):
        return _with(wanted, [*(ref | {"weight": shares[name] * PERCENT or LITTLE} for name, ref in now.items()), *new])
    gone = [name for name in now if name not in then]
    if any(shares[name] for name in gone) or (gone and not _looked_at(live)):
        going = [now[name] | {"weight": LITTLE} for name in gone]
        return _with(wanted, [*(ref | {"weight": ref["weight"] * PERCENT} for ref in then.values()), *going])
    return wanted


def _shares(route: Manifest) -> dict[str, int]:
    """Backend -> percent of the requests."""
    refs = _backends(route)
    total = sum(ref.get("weight", 1) for ref in refs) or 1
    return {ref["name"]: round(100 * ref.get("weight", 1) / total) for ref in refs}


def _with(route: Manifest, backends: list[Manifest]) -> Manifest:
    rule = route["spec"]["rules"][0] | {"backendRefs": backends}
    return route | {"spec": route["spec"] | {"rules": [rule]}}


def _backends(route: Manifest) -> list[Manifest]:
    return [ref for rule in route["spec"].get("rules", ()) for ref in rule.get("backendRefs", ())]
