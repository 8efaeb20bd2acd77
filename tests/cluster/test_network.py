"""Who reaches predictors: clients by the gateway, and nobody who has no business there."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from cluster.kube import PORT, SYSTEM, Kube, Refused, ready, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

PROBE = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=4).status)"


def through_the_gateway(kube: Kube, path: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", headers={"Host": kube.host("svc")})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def visitor(namespace: str, image: str) -> None:
    """A Pod that stays and can be told to ask."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "visitor", "namespace": namespace},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "visitor", "image": image, "command": ["python", "-c", "import time; time.sleep(3600)"]}],
        },
    }
    run("kubectl", "apply", "-f", "-", given=json.dumps(pod))
    run("kubectl", "-n", namespace, "wait", "--for=condition=Ready", "pod/visitor", "--timeout=90s")


def reaches(namespace: str, url: str, pod: str = "visitor") -> bool:
    try:
        return run("kubectl", "-n", namespace, "exec", pod, "--", "python", "-c", PROBE, url).strip() == "200"
    except Refused as refused:
        if "timed out" in str(refused):
            return False
        raise


async def test_predictors_answer_the_gateway_the_operator_and_their_own_namespace(kube: Kube, tmp_path: Path) -> None:
    kube.publish(tmp_path, "v1")
    kube.apply(kube.service("v1", replicas=2))
    await kube.until(lambda s: s.revisions and s.revisions[0].ready == 2, "two predictors")
    assert kube.get("networkpolicy", "svc")["metadata"]["ownerReferences"][0]["kind"] == "AIService"
    pods = kube.get("pods", "-l", "aiservice.dev/service=svc")["items"]
    assert all(any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"]["conditions"]) for p in pods), "the kubelet's probes"
    url, image = f"http://{pods[0]['status']['podIP']}:8080/healthz", pods[0]["spec"]["containers"][0]["image"]
    visitor(kube.namespace, image)
    assert reaches(kube.namespace, url)
    leader = run("kubectl", "-n", SYSTEM, "get", "lease", "aiservice-operator", "-o", "jsonpath={.spec.holderIdentity}")
    assert reaches(SYSTEM, url, leader)
    away = f"{kube.namespace}-away"
    run("kubectl", "create", "namespace", away)
    try:
        visitor(away, image)
        assert not reaches(away, url)
    finally:
        run("kubectl", "delete", "namespace", away, "--wait=false")


async def test_the_gateway_leads_to_inference_and_nothing_else(kube: Kube, tmp_path: Path) -> None:
    kube.publish(tmp_path, "v1")
    kube.apply(kube.service("v1"))
    await kube.until(ready, "ready")
    expected = {"/v2/models/svc/ready": 200, "/v1/models/svc": 200, "/openapi.json": 200, "/metrics": 404, "/aiservice/v1/reservoir": 404}
    assert {path: through_the_gateway(kube, path) for path in expected} == expected


async def test_replicas_stand_on_different_nodes(kube: Kube, tmp_path: Path) -> None:
    """Of those that take Pods; with one node there is nothing to spread over."""
    places = [n for n in json.loads(run("kubectl", "get", "nodes", "-o", "json"))["items"] if not n["spec"].get("taints")]
    kube.publish(tmp_path, "v1")
    kube.apply(kube.service("v1", replicas=len(places)))
    await kube.until(lambda s: s.revisions and s.revisions[0].ready == len(places), "all of them")
    pods = kube.get("pods", "-l", "aiservice.dev/service=svc")["items"]
    (spread,) = pods[0]["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert {p["spec"]["nodeName"] for p in pods} == {n["metadata"]["name"] for n in places}
