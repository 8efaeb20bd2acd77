"""Candidates that cannot serve: each ends in its verdict, says why in a sentence for whoever is woken, and costs no client a request.

Those that answer wrongly, slowly or not at all are stories of tests/contract.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aiservice.api.runtime import CONTAINER, RUNTIME
from aiservice.api.status import AIServiceStatus, Decision, DecisionKind
from cluster.kube import Kube, decided, ready, run, served
from local.bundles import products

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SOON = "25s"
"""Until a candidate that does not come up is given up."""


async def judged(kube: Kube, stable: str, candidate: dict[str, Any], kind: DecisionKind, *, met: bool = False) -> Decision:
    """What was decided about it, under traffic; the stable serves on and no request fails. `met`: clients meet it."""
    async with kube.traffic() as counts:
        kube.apply(candidate)
        found: Decision = await kube.until(decided(kind), f"it is {kind.value}")
        await kube.until(lambda s: ready(s) and s.rollout.candidate is None, "the stable serves alone")
    status = kube.status()
    assert status.rollout.stable == stable
    assert found.message in stalled(status)
    assert counts.failed == 0, counts.errors[:3]
    assert counts.good > 20
    if not met:
        assert set(counts.by_revision) == {stable}
    return found


def stalled(status: AIServiceStatus) -> str:
    return next((c.message for c in status.conditions if c.type == "Stalled" and c.status == "True"), "")


def asked(kube: Kube, *, model: str = "v2", real_time: dict[str, Any] | None = None, **rollout: Any) -> dict[str, Any]:
    body = kube.service(model, **({"deadline": SOON} | rollout))
    body["spec"]["realTime"] |= real_time or {}
    return body


def runtime(kube: Kube, **container: Any) -> None:
    """What predictors of this namespace are run with from here on: KServe takes a ServingRuntime before a ClusterServingRuntime of that name."""
    spec = json.loads(run("kubectl", "get", "clusterservingruntime", RUNTIME, "-o", "json"))["spec"]
    spec["containers"][0] |= container
    about = {"name": RUNTIME, "namespace": kube.namespace}
    kube.apply({"apiVersion": "serving.kserve.io/v1alpha1", "kind": "ServingRuntime", "metadata": about, "spec": spec})


async def test_one_for_which_no_node_has_room(kube: Kube, tmp_path: Path) -> None:
    stable = await served(kube, tmp_path)
    large = {"resources": {"requests": {"cpu": "50m", "memory": "4Ti"}, "limits": {"memory": "4Ti"}}}
    found = await judged(kube, stable, asked(kube, real_time=large), DecisionKind.REJECTED)
    assert found.reason == "NeverReady"
    assert f"not ready for {SOON}: cannot be scheduled: " in found.message
    assert "Insufficient memory" in found.message


async def test_one_that_the_quota_forbids(kube: Kube, tmp_path: Path) -> None:
    stable = await served(kube, tmp_path)
    kube.ctl("create", "quota", "small", "--hard=pods=1")
    found = await judged(kube, stable, asked(kube), DecisionKind.REJECTED)
    assert found.reason == "NeverReady"
    assert "it has no pod: FailedCreate: " in found.message
    assert "exceeded quota: small" in found.message


async def test_one_whose_model_is_not_there(kube: Kube, tmp_path: Path) -> None:
    stable = await served(kube, tmp_path)
    found = await judged(kube, stable, asked(kube, model="nowhere"), DecisionKind.REFUSED)
    assert found.reason == "MissingFile"
    assert "bundle.json" in found.message


async def test_one_whose_claim_is_not_there(kube: Kube, tmp_path: Path) -> None:
    stable = await served(kube, tmp_path)
    body = asked(kube)
    body["spec"]["model"]["uri"] = "pvc://nowhere/v2"
    found = await judged(kube, stable, body, DecisionKind.REJECTED)
    assert 'persistentvolumeclaim "nowhere" not found' in found.message


async def test_one_whose_secret_is_not_there(kube: Kube, tmp_path: Path) -> None:
    stable = await served(kube, tmp_path)
    body = asked(kube)
    body["spec"]["model"] = {"uri": "s3://models/v2", "secretName": "nowhere"}
    found = await judged(kube, stable, body, DecisionKind.REJECTED)
    assert "it has no pod: " in found.message
    assert 'secrets "nowhere" not found' in found.message


async def test_one_whose_image_is_not_there_and_comes_later(kube: Kube, tmp_path: Path) -> None:
    """The first revision waits for it and says so; a candidate is given up, and what serves is left alone."""
    good = json.loads(run("kubectl", "get", "clusterservingruntime", RUNTIME, "-o", "json"))["spec"]["containers"][0]["image"]
    runtime(kube, image="registry.invalid/aiservice-predictor:none")
    kube.publish(tmp_path, "v1")
    kube.publish(tmp_path, "v2", bias=0.001)
    kube.apply(kube.service("v1"))
    waits = await kube.until(
        lambda s: next((c.message for c in s.conditions if "ImagePullBackOff" in c.message), None), "it says what it waits for"
    )
    assert "registry.invalid/aiservice-predictor:none" in waits
    runtime(kube, image=good)
    await kube.until(ready, "v1 is ready")
    stable = str(kube.status().rollout.stable)
    runtime(kube, image="registry.invalid/aiservice-predictor:none")
    found = await judged(kube, stable, asked(kube), DecisionKind.REJECTED)
    assert f"{CONTAINER}: ImagePullBackOff: " in found.message or f"{CONTAINER}: ErrImagePull: " in found.message
    assert "registry.invalid/aiservice-predictor:none" in found.message


async def test_one_that_crashes_says_its_last_words(kube: Kube, tmp_path: Path) -> None:
    stable = await served(kube, tmp_path)
    runtime(kube, command=["python", "-c", "raise SystemExit('the licence server does not answer')"])
    found = await judged(kube, stable, asked(kube), DecisionKind.REJECTED)
    assert found.reason == "NeverReady"
    assert f"{CONTAINER}: " in found.message
    assert "with status 1: the licence server does not answer" in found.message


async def test_one_that_never_says_it_is_ready(kube: Kube, tmp_path: Path) -> None:
    stable = await served(kube, tmp_path)
    runtime(kube, command=["python", "-c", "import time; time.sleep(3600)"])
    found = await judged(kube, stable, asked(kube), DecisionKind.REJECTED)
    assert "running, not ready yet" in found.message


async def test_one_that_is_slow_live_is_rolled_back(kube: Kube, tmp_path: Path) -> None:
    gates = {"errors": {"margin": "20%"}, "latency": {"slo": "150ms", "margin": "10%"}}
    stable = await served(kube, tmp_path)
    kube.publish(tmp_path, "v3", always=products(0.6))
    found = await judged(kube, stable, asked(kube, model="v3", replay={"requests": 0}, gates=gates), DecisionKind.ROLLED_BACK, met=True)
    assert found.gate == "latency"
    assert found.requests > 0


async def test_a_candidate_that_is_killed_for_its_memory_never_meets_a_client(kube: Kube, tmp_path: Path) -> None:
    first = await served(kube, tmp_path)
    body = kube.service("v2", deadline="1m")
    body["spec"]["realTime"]["resources"]["limits"] = {"memory": "24Mi"}
    body["spec"]["realTime"]["resources"]["requests"]["memory"] = "24Mi"
    async with kube.traffic() as counts:
        kube.apply(body)
        found = await kube.until(lambda s: next((d for d in s.rollout.decisions if d.reason == "NeverReady"), None), "given up")
    assert any(word in found.message for word in ("CrashLoopBackOff", "ended", "OOM")), found.message
    assert set(counts.by_revision) == {first}
    assert counts.failed == 0, counts.errors[:3]
