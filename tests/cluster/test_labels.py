"""Late labels through the operator: who may send them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.kube import SYSTEM, Kube, forwarded, ready

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


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
    friend, stranger = kube.robot("friend"), kube.robot("stranger", may=False)
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
