"""What is rendered keeps strangers out and predictors apart, and a Pod's content follows from its revision alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from aiservice.api.service import LONGEST_NAME, AIService
from aiservice.api.spec import AIServiceSpec
from aiservice.api.status import RevisionStatus, Role
from aiservice.core import names
from aiservice.core.render import everything
from aiservice.core.world import Place

PLACE = Place(proxies="proxies", clients=("operator", "monitoring", "10.0.0.0/8"))


def made(place: Place = PLACE, **real_time: Any) -> list[dict[str, Any]]:
    spec = AIServiceSpec.model_validate_json(json.dumps({"model": {"uri": "s3://m/v1"}, "realTime": real_time}))
    owner = AIService.model_validate({"metadata": {"name": "svc", "namespace": "shop"}, "spec": spec})
    pair = zip(("r00000001", "r00000002"), (Role.STABLE, Role.CANDIDATE), (95, 5), strict=True)
    return list(everything(owner, [RevisionStatus(name=n, role=r, template=names.template(spec), weight=w) for n, r, w in pair], place))


def one(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(o for o in objects if o["kind"] == kind)


def test_predictors_answer_proxies_operator_their_own_namespace_and_whom_the_chart_names() -> None:
    objects = made()
    assert objects[0]["kind"] == "NetworkPolicy", "before any pod"
    spec = objects[0]["spec"]
    (rule,) = spec["ingress"]
    spaces = [p["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for p in rule["from"] if "namespaceSelector" in p]
    assert spaces == ["proxies", "operator", "monitoring"]
    assert [p for p in rule["from"] if "namespaceSelector" not in p] == [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}]
    assert [p["port"] for p in rule["ports"]] == [8080, 8081]
    for service in (o for o in objects if o["kind"] == "InferenceService"):
        assert spec["podSelector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


def test_no_policy_where_everyone_may_call() -> None:
    assert all(o["kind"] != "NetworkPolicy" for o in made(replace(PLACE, clients=None)))


def test_revisions_spread_over_nodes_each_by_itself() -> None:
    for service in (o for o in made() if o["kind"] == "InferenceService"):
        (spread,) = service["spec"]["predictor"]["topologySpreadConstraints"]
        assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
        chosen = spread["labelSelector"]["matchLabels"]
        assert chosen.items() <= service["metadata"]["labels"].items()
        assert chosen[names.REVISION_LABEL] in service["metadata"]["name"]


def test_scaling_changes_no_pod() -> None:
    def pod(objects: list[dict[str, Any]]) -> dict[str, Any]:
        return {k: v for k, v in one(objects, "InferenceService")["spec"]["predictor"].items() if k not in ("minReplicas", "maxReplicas")}

    assert pod(made()) == pod(made(replicas={"min": 2, "max": 9}))


FOLLOWS: dict[str, Any] = {"replicas": {"min": 1, "max": 4}}


def test_the_number_follows_requests_by_keda_one_revision_by_itself() -> None:
    place = replace(PLACE, load="http://operator:8080")
    scalers = [o for o in made(place, **FOLLOWS, scaling={"metric": "Concurrency", "target": 8}) if o["kind"] == "ScaledObject"]
    assert [s["spec"]["scaleTargetRef"]["name"] for s in scalers] == ["svc-r00000001-predictor", "svc-r00000002-predictor"]
    assert [s["spec"]["triggers"][0]["metadata"]["url"] for s in scalers] == [
        f"http://operator:8080/v1/namespaces/shop/services/svc/revisions/{r}/load" for r in ("r00000001", "r00000002")
    ]
    (trigger,) = scalers[0]["spec"]["triggers"]
    assert (trigger["metricType"], trigger["metadata"]["valueLocation"], trigger["metadata"]["targetValue"]) == (
        "AverageValue",
        "concurrency",
        "8",
    )
    assert (scalers[0]["spec"]["minReplicaCount"], scalers[0]["spec"]["maxReplicaCount"]) == (1, 4)


def test_a_query_is_asked_of_the_named_prometheus() -> None:
    place = replace(PLACE, prometheus="http://prometheus:9090")
    scaler = one(made(place, **FOLLOWS, scaling={"metric": "Query", "target": 3, "query": "sum(orders)"}), "ScaledObject")
    (trigger,) = scaler["spec"]["triggers"]
    asked = {"serverAddress": "http://prometheus:9090", "query": "sum(orders)", "threshold": "3"}
    assert trigger["metadata"] == asked | {"ignoreNullValues": "false"}, "no result is no number, and not 0"


def test_what_cannot_be_followed_follows_the_cpu_meanwhile() -> None:
    asked: dict[str, Any] = {"scaling": {"metric": "RequestsPerSecond", "target": 5}}
    query: dict[str, Any] = {"scaling": {"metric": "Query", "target": 5, "query": "up"}}
    for objects in (made(replace(PLACE, keda=False), **FOLLOWS, **asked), made(**FOLLOWS, **query)):
        assert all(o["kind"] != "ScaledObject" for o in objects)
        resource = one(objects, "HorizontalPodAutoscaler")["spec"]["metrics"][0]["resource"]
        assert (resource["name"], resource["target"]["averageUtilization"]) == ("cpu", 80)


def test_a_number_that_is_fixed_needs_no_keda() -> None:
    objects = made(replicas={"min": 2, "max": 2}, scaling={"metric": "RequestsPerSecond", "target": 5})
    assert one(objects, "HorizontalPodAutoscaler")["spec"]["minReplicas"] == 2
    assert all(o["kind"] != "ScaledObject" for o in objects)


def test_the_longest_names_fit() -> None:
    """63 characters, for KEDA's autoscaler as well."""
    name = "a" * LONGEST_NAME
    real_time = FOLLOWS | {"scaling": {"metric": "Concurrency", "target": 1}}
    spec = AIServiceSpec.model_validate_json(json.dumps({"model": {"uri": "s3://m/v1"}, "realTime": real_time}))
    owner = AIService.model_validate({"metadata": {"name": name, "namespace": "n" * 63}, "spec": spec})
    objects = everything(owner, [RevisionStatus(name="r00000001", role=Role.STABLE, template=names.template(spec), weight=100)], PLACE)
    keda = one(list(objects), "ScaledObject")["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["name"]
    assert max(len(n) for n in [keda, *(o["metadata"]["name"] for o in objects)]) <= 63


def test_no_service_of_the_namespace_becomes_a_setting_of_the_predictor() -> None:
    """A Service named aiservice-http would set AISERVICE_HTTP_PORT."""
    assert one(made(), "InferenceService")["spec"]["predictor"]["enableServiceLinks"] is False


def test_the_gateway_routes_what_clients_are_for_and_no_private_endpoint() -> None:
    paths = [m["path"]["value"] for m in one(made(), "HTTPRoute")["spec"]["rules"][0]["matches"]]
    assert paths == ["/v2", "/v1/models", "/openapi.json"]


def test_workers_make_another_revision_and_take_the_cores_that_threads_would() -> None:
    def env(**real_time: Any) -> dict[str, str]:
        found = one(made(resources={"limits": {"cpu": "4"}}, **real_time), "InferenceService")["spec"]["predictor"]["model"]["env"]
        return {e["name"]: e["value"] for e in found if e["name"] in ("AISERVICE_WORKERS", "AISERVICE_THREADS")}

    assert env() == {"AISERVICE_THREADS": "4"}
    assert env(workers=1) == {"AISERVICE_THREADS": "4"}
    assert env(workers=4) == {"AISERVICE_THREADS": "1", "AISERVICE_WORKERS": "4"}
    template = names.template(AIServiceSpec.model_validate({"model": {"uri": "s3://m/v1"}}))
    assert "workers" not in template.wire(), "what there was before has the name that it had"
    assert names.revision(template.model_copy(update={"workers": 2})) != names.revision(template)


def test_a_secret_is_named_never_copied() -> None:
    spec = AIServiceSpec.model_validate({"model": {"uri": "s3://m/v1", "secret_name": "keys"}})
    owner = AIService.model_validate({"metadata": {"name": "svc", "namespace": "shop"}, "spec": spec})
    revision = RevisionStatus(name="r00000001", role=Role.STABLE, template=names.template(spec), weight=100)
    service = one(list(everything(owner, [revision], PLACE)), "InferenceService")
    annotations = service["metadata"]["annotations"]
    assert {annotations[f"serving.kserve.io/{key}"] for key in ("secretName", "storageSecretName")} == {"keys"}
