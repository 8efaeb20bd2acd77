"""What the rendered objects say to this machine: recipes for predictors, bounds for their number, weights for the gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiservice.api.runtime import CONTAINER
from aiservice.core import names
from aiservice.core.render.runtime import serving_runtime
from aiservice.core.world import Manifest
from aiservice.local.autoscale import Bounds, Metric
from aiservice.local.envoy import Backend, Routed
from aiservice.local.fleet import Wanted
from aiservice.local.replica import Recipe, Replica


def of_kind(objects: Sequence[Manifest], kind: str) -> list[Manifest]:
    return [o for o in objects if o["kind"] == kind]


def revision(of: Manifest) -> str:
    return str(of["metadata"]["labels"][names.REVISION_LABEL])


def predictors(objects: Sequence[Manifest], service: str, token: str) -> Wanted:
    """Revision -> how to start a predictor, how many, and what each requests. As KServe would: the runtime's container, the model's env."""
    runtime = serving_runtime("local")["spec"]["containers"][0]
    assert runtime["name"] == CONTAINER
    bounds = {revision(o): read(o["spec"]) for kind, read in SCALERS.items() for o in of_kind(objects, kind)}
    out: dict[str, tuple[Recipe, Bounds, Mapping[str, str]]] = {}
    for isvc in of_kind(objects, "InferenceService"):
        model, rev = isvc["spec"]["predictor"]["model"], revision(isvc)
        env = {e["name"]: e["value"] for e in model["env"] if "value" in e}
        recipe = Recipe(service, rev, model["storageUri"], env.get("AISERVICE_DIGEST"), tuple(runtime["command"]), env, token)
        out[rev] = (recipe, bounds[rev], model["resources"]["requests"])
    return out


def _horizontal(spec: Manifest) -> Bounds:
    resource = spec["metrics"][0]["resource"]
    return Bounds(spec["minReplicas"], spec["maxReplicas"], Metric(resource["name"]), resource["target"]["averageUtilization"])


def _scaled(spec: Manifest) -> Bounds:
    least, most, (trigger,) = spec["minReplicaCount"], spec["maxReplicaCount"], spec["triggers"]
    asked = trigger["metadata"]
    if trigger["type"] == "prometheus":
        return Bounds(least, most, Metric.QUERY, int(asked["threshold"]), asked["query"], asked["serverAddress"])
    return Bounds(least, most, Metric(asked["valueLocation"]), int(asked["targetValue"]))


SCALERS = {"HorizontalPodAutoscaler": _horizontal, "ScaledObject": _scaled}


def weights(objects: Sequence[Manifest], kind: str) -> dict[str, int]:
    """Backend -> percent, from the HTTPRoute or GRPCRoute; empty if there is none."""
    return {b["name"]: b["weight"] for route in of_kind(objects, kind) for b in route["spec"]["rules"][0]["backendRefs"]}


def routed(
    objects: Sequence[Manifest], service: str, namespace: str, timeout: float, ready: Mapping[str, Sequence[Replica]], control: int
) -> Routed:
    """The service as the gateway is told of it. `ready`: revision -> its ready predictors."""
    backends = []
    for isvc in of_kind(objects, "InferenceService"):
        rev = revision(isvc)
        up = ready.get(rev, ())
        ports = (tuple(r.http for r in up), tuple(r.grpc for r in up))
        backends.append(Backend(rev, names.predictor(service, rev), names.grpc(service, rev), *ports))
    known = {b.http for b in backends}, {b.grpc for b in backends}
    http = {n: w for n, w in weights(objects, "HTTPRoute").items() if n in known[0]}
    grpc = {n: w for n, w in weights(objects, "GRPCRoute").items() if n in known[1]}
    return Routed(service, namespace, timeout, tuple(backends), http, grpc, control)
