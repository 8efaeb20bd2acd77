"""Late labels through the operator: who may send them, and that they decide."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from aiservice.api.status import DecisionKind
from cluster.kube import SYSTEM, Kube, decided, forwarded, ready, request_id

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def robot(kube: Kube, name: str, *, may: bool) -> str:
    """A ServiceAccount. -> its token."""
    kube.ctl("create", "serviceaccount", name)
    if may:
        kube.ctl("create", "rolebinding", name, "--clusterrole=aiservice-labels", f"--serviceaccount={kube.namespace}:{name}")
    return kube.ctl("create", "token", name).strip()


def send(port: int, kube: Kube, token: str, labels: dict[str, Any], name: str = "svc") -> httpx.Response:
    return httpx.post(
        f"http://127.0.0.1:{port}/v1/namespaces/{kube.namespace}/services/{name}/labels",
        json={"labels": labels},
        headers={"Authorization": f"Bearer {token}"} if token else {},
        trust_env=False,
        timeout=30,
    )


async def test_only_whom_the_cluster_lets_may_label(kube: Kube, tmp_path: Path) -> None:
    kube.publish(tmp_path, "v1")
    kube.apply(kube.service("v1"))
    await kube.until(ready, "ready")
    friend, stranger = robot(kube, "friend", may=True), robot(kube, "stranger", may=False)
    with forwarded(SYSTEM, "service/aiservice-operator", 8080) as port:
        answers = {
            "no token": send(port, kube, "", {"a": 1}),
            "nonsense": send(port, kube, "nonsense", {"a": 1}),
            "no right": send(port, kube, stranger, {"a": 1}),
            "no labels": send(port, kube, friend, {}),
            "no service": send(port, kube, friend, {"a": 1}, name="nobody"),
            "fine": send(port, kube, friend, {"a": 1}),
        }
    assert {what: answer.status_code for what, answer in answers.items()} == {
        "no token": 401,
        "nonsense": 401,
        "no right": 403,
        "no labels": 400,
        "no service": 404,
        "fine": 200,
    }
    assert f"system:serviceaccount:{kube.namespace}:stranger may not create aiservices/labels" in answers["no right"].json()["error"]
    assert answers["fine"].json() == {"matched": 0, "unknown": 1}


async def test_late_labels_decide_about_quality(kube: Kube, tmp_path: Path) -> None:
    how: dict[str, Any] = {
        "replay": {"requests": 0},
        "gates": {"errors": {"margin": "20%"}, "quality": {"metric": "Accuracy", "margin": "5%"}},
        "steps": [{"weight": 50, "hold": "1s"}],
    }
    kube.publish(tmp_path, "v1")
    kube.publish(tmp_path, "v2", bias=-0.3)
    kube.apply(kube.service("v1", **how))
    await kube.until(ready, "ready")
    first, token = kube.status().rollout.stable, robot(kube, "labels", may=True)
    found, matched = None, 0
    with forwarded(SYSTEM, "service/aiservice-operator", 8080) as port:
        async with kube.traffic() as counts:
            kube.apply(kube.service("v2", **how))
            await kube.until(lambda s: s.rollout.weight == 50, "half of the requests")
            for _ in range(200):
                numbers, counts.good[:] = list(counts.good), []
                truth = {request_id(n): (n % 20) / 20 >= 0.5 for n in numbers}
                if truth:
                    answer = await asyncio.to_thread(send, port, kube, token, truth)
                    matched += answer.json()["matched"]
                found = decided(DecisionKind.ROLLED_BACK)(await asyncio.to_thread(kube.status))
                if found:
                    break
                await asyncio.sleep(0.5)
    assert found is not None, f"{matched} labels matched; {kube.status().rollout}"
    assert found.gate == "quality"
    assert kube.status().rollout.stable == first
    assert counts.failed == 0, counts.errors[:3]
