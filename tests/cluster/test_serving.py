"""From `kubectl apply` to answers, on a real API server, KServe and gateway."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from aiservice.api.spec import AIServiceSpec
from aiservice.api.status import DecisionKind
from api.test_rules import BREAKING
from clients import triton
from cluster.kube import PORT, Kube, Refused, decided, ready
from local import bundles

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def infer(kube: Kube, name: str = "svc") -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/v2/models/{name}/infer",
        json.dumps({"inputs": bundles.row(0.75)}).encode(),
        {"Content-Type": "application/json", "Host": f"{name}.{kube.namespace}.localhost"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


async def test_apply_to_ready_to_answers_over_rest_and_grpc(kube: Kube, tmp_path: Path) -> None:
    digest = kube.publish(tmp_path, "v1")
    kube.apply(kube.service("v1", digest=digest))
    kube.ctl("wait", "--for=condition=Ready", "ais/svc", "--timeout=180s")
    status = kube.status()
    assert status.revisions[0].digest == digest
    assert status.url == f"http://svc.{kube.namespace}.localhost:{PORT}/v2/models/svc"
    assert infer(kube)["outputs"][0]["data"] == [0.75]
    assert await asyncio.to_thread(over_grpc, kube) == 0.75
    columns = kube.ctl("get", "ais", "svc").splitlines()[0].split()
    assert columns == ["NAME", "READY", "STABLE", "CANARY", "WEIGHT", "PHASE", "URL", "AGE"]


def over_grpc(kube: Kube) -> float:
    import numpy as np

    host = f"svc.{kube.namespace}.localhost"
    client = triton.InferenceServerClient(f"127.0.0.1:{PORT}", channel_args=[("grpc.default_authority", host)])
    given = triton.InferInput("x", [1, 2], "FP32")
    given.set_data_from_numpy(np.array([[0.75, 0]], dtype=np.float32))
    found = client.infer("svc", [given]).as_numpy("y")
    client.close()
    return float(found[0][0])


@pytest.mark.parametrize("message", BREAKING)
def test_the_api_server_refuses_what_breaks_a_rule_with_our_sentence(kube: Kube, message: str) -> None:
    body = kube.service("v1")
    body["spec"] = {"model": {"uri": "s3://m/v"}} | BREAKING[message]
    with pytest.raises(Refused, match=message.replace(".", r"\.")):
        kube.apply(body)


def test_the_api_server_refuses_what_is_no_field_or_no_value(kube: Kube) -> None:
    body = kube.service("v1")
    body["spec"]["realtime"] = {}
    with pytest.raises(Refused, match="realtime"):
        kube.apply(body)
    body = kube.service("v1")
    body["metadata"]["name"] = "a" * 41
    with pytest.raises(Refused, match="longer than 40"):
        kube.apply(body)


def test_defaults_are_those_of_the_models(kube: Kube) -> None:
    body = kube.service("v1")
    body["spec"] = {"model": {"uri": "s3://m/v"}}
    body["metadata"]["name"] = "bare"
    kube.apply(body)
    given = kube.get("ais", "bare")["spec"]
    assert given == AIServiceSpec.model_validate_json('{"model": {"uri": "s3://m/v"}}').wire()


async def test_nothing_is_written_when_nothing_changed(kube: Kube, tmp_path: Path) -> None:
    kube.publish(tmp_path, "v1")
    kube.apply(kube.service("v1"))
    await kube.until(ready, "ready")
    await asyncio.sleep(10)
    before = versions(kube)
    await asyncio.sleep(65)
    assert versions(kube) == before


def versions(kube: Kube) -> dict[str, str]:
    kinds = "ais,inferenceservices,services,hpa,httproutes,grpcroutes,networkpolicies,secrets"
    return {f"{o['kind']}/{o['metadata']['name']}": ours(o) for o in kube.get(kinds)["items"]}


def ours(item: dict[str, Any]) -> str:
    """Changes when we write; other controllers write statuses."""
    return json.dumps(
        [m["time"] for m in item["metadata"].get("managedFields", ()) if m["manager"] == "aiservice"] + [item["metadata"].get("generation")]
    )


async def test_hand_edits_are_taken_back(kube: Kube, tmp_path: Path) -> None:
    kube.publish(tmp_path, "v1")
    kube.apply(kube.service("v1"))
    await kube.until(ready, "ready")
    kube.ctl("patch", "httproute", "svc", "--type=json", "-p", '[{"op":"replace","path":"/spec/rules/0/backendRefs/0/weight","value":7}]')
    kube.ctl("delete", "service", kube.get("services", "-l", "aiservice.dev/service=svc")["items"][0]["metadata"]["name"])

    def mended() -> bool:
        weight = kube.get("httproute", "svc")["spec"]["rules"][0]["backendRefs"][0]["weight"]
        return weight == 100 and len(kube.get("services", "-l", "aiservice.dev/service=svc,aiservice.dev/revision")["items"]) >= 1

    for _ in range(60):
        if mended():
            return
        await asyncio.sleep(1)
    pytest.fail("the edits are still there")


async def test_deleting_it_leaves_nothing(kube: Kube, tmp_path: Path) -> None:
    kube.publish(tmp_path, "v1")
    kube.apply(kube.service("v1"))
    await kube.until(ready, "ready")
    kube.ctl("delete", "ais", "svc", "--timeout=60s")
    for _ in range(120):
        left = kube.get(
            "inferenceservices,services,hpa,httproutes,grpcroutes,networkpolicies,secrets,pods", "-l", "aiservice.dev/service=svc"
        )["items"]
        if not left:
            return
        await asyncio.sleep(1)
    pytest.fail(f"left behind: {[o['kind'] + '/' + o['metadata']['name'] for o in left]}")


async def test_a_damaged_model_is_refused_and_says_why(kube: Kube, tmp_path: Path) -> None:
    digest = kube.publish(tmp_path, "v1")
    wrong = "sha256:" + "0" * 64
    kube.apply(kube.service("v1", digest=wrong))
    found = await kube.until(decided(DecisionKind.REFUSED), "refused")
    assert found.reason == "DigestMismatch"
    assert digest.removeprefix("sha256:")[:12] in found.message
    for _ in range(30):  # events are posted behind the decision's back
        if any(e["reason"] == "Refused" for e in kube.get("events")["items"]):
            return
        await asyncio.sleep(0.5)
    pytest.fail("no event tells of the refusal")


async def test_more_load_means_more_predictors(kube: Kube, tmp_path: Path) -> None:
    kube.publish(tmp_path, "v1", always=2)
    body = kube.service("v1")
    body["spec"]["realTime"] |= {"replicas": {"min": 1, "max": 3}, "scaling": {"metric": "Cpu", "target": 50}}
    kube.apply(body)
    await kube.until(ready, "ready")
    async with kube.traffic(clients=8, pause=0.05) as counts:
        await kube.until(lambda s: s.revisions[0].ready >= 2, "a second predictor")
        await asyncio.sleep(5)
    assert counts.failed == 0, counts.errors[:3]
