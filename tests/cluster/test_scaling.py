"""Replicas follow requests and queries, by KEDA, one revision by itself."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from aiservice.api.status import AIServiceStatus, DecisionKind
from aiservice.core import names
from cluster.kube import SYSTEM, Kube, decided, forwarded, ready, run
from local.machine import machine, until

pytestmark = [pytest.mark.cluster, pytest.mark.keda, pytest.mark.timeout(600)]


def asking(kube: Kube, metric: str, target: int, *, most: int = 3, **more: Any) -> dict[str, Any]:
    body = kube.service("v1")
    body["spec"]["realTime"] |= {"replicas": {"min": 1, "max": most}, "scaling": {"metric": metric, "target": target} | more}
    return body


def scaling(status: AIServiceStatus) -> str:
    return next((f"{c.reason}: {c.message}" for c in status.conditions if c.type == "ScalingReady"), "")


def load(kube: Kube, revision: str) -> dict[str, float]:
    path = names.load(kube.namespace, "svc", revision)
    found: dict[str, float] = json.loads(
        run("kubectl", "get", "--raw", f"/api/v1/namespaces/{SYSTEM}/services/aiservice-operator:8080/proxy{path}")
    )
    return found


def autoscalers(kube: Kube) -> list[str]:
    return [item["metadata"]["name"] for item in kube.get("hpa")["items"]]


def scaled_objects(kube: Kube) -> set[str]:
    return {item["metadata"]["name"] for item in kube.get("scaledobject")["items"]}


async def test_replicas_follow_requests_at_a_time(kube: Kube, tmp_path: Path) -> None:
    kube.publish(tmp_path, "v1", always=20)
    kube.apply(asking(kube, "Concurrency", 1))
    follows = "Following: 1 to 3 predictors follow 1 requests at a time for each"
    status = await kube.until(lambda s: ready(s) and scaling(s) == follows and s, follows)
    revision = status.rollout.stable
    async with kube.traffic(clients=6, pause=0) as counts:
        await kube.until(lambda s: s.revisions[0].ready >= 2, "a second predictor")
        told = await asyncio.to_thread(load, kube, revision)
    assert told["concurrency"] > 1
    assert told["requestsPerSecond"] > 1
    assert counts.failed == 0, counts.errors[:3]
    assert autoscalers(kube) == [names.keda_autoscaler("svc", revision)]


def test_the_load_of_nobody_is_no_number(kube: Kube) -> None:
    with forwarded(SYSTEM, "service/aiservice-operator", 8080) as port, pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{port}{names.load(kube.namespace, 'svc', 'r00000000')}", timeout=20)
    assert refused.value.code == 503
    assert b"no ready predictor of r00000000" in refused.value.read()


async def test_a_candidate_follows_its_own_share(kube: Kube, tmp_path: Path) -> None:
    """Stable and candidate have an autoscaler each, and the candidate's goes with it."""
    kube.publish(tmp_path, "v1")
    kube.publish(tmp_path, "v2", bias=0.01)
    kube.apply(asking(kube, "RequestsPerSecond", 1000))
    first = (await kube.until(lambda s: ready(s) and s, "ready")).rollout.stable
    body = asking(kube, "RequestsPerSecond", 1000)
    body["spec"]["model"]["uri"] = "pvc://models/v2"
    body["spec"]["rollout"]["standby"] = "0s"
    async with kube.traffic() as counts:
        kube.apply(body)
        second = (await kube.until(lambda s: s.rollout.candidate and s, "a candidate")).rollout.candidate
        both = {names.autoscaler("svc", r) for r in (first, second)}
        await until(lambda: scaled_objects(kube) == both, "each has its own")
        await kube.until(decided(DecisionKind.PROMOTED, second), "promoted")
        await kube.until(lambda s: len(s.revisions) == 1, "the first has gone")
    assert counts.failed == 0, counts.errors[:3]
    await until(lambda: scaled_objects(kube) == {names.autoscaler("svc", second)}, "the first's has gone")


async def test_what_is_followed_can_be_changed_while_it_serves(kube: Kube, tmp_path: Path) -> None:
    """From CPU to requests and back: no request fails, no pod is replaced, one autoscaler is left."""
    kube.publish(tmp_path, "v1")
    kube.apply(asking(kube, "Cpu", 80))
    revision = (await kube.until(lambda s: ready(s) and s, "ready")).rollout.stable
    pods = {p["metadata"]["uid"] for p in kube.get("pods")["items"]}
    async with kube.traffic() as counts:
        for metric, left in (("Concurrency", names.keda_autoscaler("svc", revision)), ("Cpu", names.autoscaler("svc", revision))):
            kube.apply(asking(kube, metric, 80))
            await until(lambda: autoscalers(kube) == [left], f"{metric} is followed")  # noqa: B023
    assert counts.failed == 0, counts.errors[:3]
    assert {p["metadata"]["uid"] for p in kube.get("pods")["items"]} == pods
    await until(lambda: not scaled_objects(kube), "KEDA has let go")


async def test_replicas_follow_a_query_of_a_real_prometheus(kube: Kube, tmp_path: Path) -> None:
    kube.publish(tmp_path, "v1")
    kube.apply(asking(kube, "Query", 2, query="vector(6) + 0 * sum(up)"))
    await kube.until(lambda s: ready(s) and s.revisions[0].ready == 3, "three predictors for six")


async def test_a_query_without_an_answer_changes_no_number_and_is_said(kube: Kube, tmp_path: Path) -> None:
    kube.publish(tmp_path, "v1")
    kube.apply(asking(kube, "Query", 2, query="nobody_counts_this"))
    status = await kube.until(lambda s: "NoNumbers" in scaling(s) and ready(s) and s, "said")
    assert status.revisions[0].replicas == 1


async def test_the_same_prometheus_drives_this_machine() -> None:
    """`aiservice up` follows the same query."""
    with forwarded("keda", "service/prometheus", 9090) as port, machine() as box:
        box.env["AISERVICE_PROMETHEUS"] = f"http://127.0.0.1:{port}"
        box.bundle("v1")
        how: dict[str, Any] = {"replicas": {"min": 1, "max": 3}, "scaling": {"metric": "Query", "target": 2, "query": "vector(6)"}}
        box.ask("v1", real_time=how)
        await asyncio.to_thread(box.up)
        status = await box.wait(lambda s: s.revisions[0].ready == 3)
        assert "Following" in scaling(status)


@pytest.mark.disruptive
async def test_without_the_operator_no_number_changes(kube: Kube, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Who tells the load is away: predictors stay as many as they are, and the service serves on."""
    kube.publish(tmp_path, "v1", always=20)
    kube.apply(asking(kube, "Concurrency", 1))
    await kube.until(ready, "ready")
    async with kube.traffic(clients=6, pause=0) as counts:
        before = (await kube.until(lambda s: s.revisions[0].ready >= 2 and s, "a second predictor")).revisions[0].ready
        request.getfixturevalue("no_operator")
        await asyncio.sleep(45)  # three looks of the autoscaler
        left = [p for p in kube.get("pods", "-l", "aiservice.dev/service=svc")["items"] if "deletionTimestamp" not in p["metadata"]]
    assert len(left) >= before
    assert counts.failed == 0, counts.errors[:3]
