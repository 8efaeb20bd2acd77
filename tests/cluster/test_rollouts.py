"""Canaries on a real cluster: promoted or stopped by themselves, with clients all the while."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from aiservice.api.status import DecisionKind, Phase
from cluster.kube import SYSTEM, Kube, decided, ready, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


async def served(kube: Kube, folder: Path, **how: int | float) -> str:
    """v1 serves; -> its revision."""
    kube.publish(folder, "v1")
    kube.apply(kube.service("v1"))
    await kube.until(ready, "v1 ready")
    return str(kube.status().rollout.stable)


async def test_a_good_candidate_is_promoted_and_no_request_fails(kube: Kube, tmp_path: Path) -> None:
    first = await served(kube, tmp_path)
    kube.publish(tmp_path, "v2", bias=0.001)
    async with kube.traffic() as counts:
        await asyncio.sleep(5)
        kube.apply(kube.service("v2"))
        await kube.until(lambda s: s.rollout.stable not in (None, first), "promoted")
        await asyncio.sleep(3)
    status = kube.status()
    assert counts.failed == 0, counts.errors[:3]
    assert counts.by_revision[str(status.rollout.stable)] > 0
    assert sum(r.weight for r in status.revisions) == 100
    assert {r.role.value for r in status.revisions} == {"Stable", "Standby"}


async def test_a_candidate_that_disagrees_is_stopped_before_any_client(kube: Kube, tmp_path: Path) -> None:
    first = await served(kube, tmp_path)
    kube.publish(tmp_path, "v2", scale=-1.0, bias=0.99)
    async with kube.traffic() as counts:
        await asyncio.sleep(8)
        kube.apply(kube.service("v2"))
        found = await kube.until(decided(DecisionKind.REJECTED), "rejected")
    assert (found.gate, found.requests) == ("agreement", 0)
    assert set(counts.by_revision) == {first}
    assert counts.failed == 0, counts.errors[:3]


async def test_a_candidate_that_fails_live_is_rolled_back(kube: Kube, tmp_path: Path) -> None:
    off: dict[str, Any] = {"replay": {"requests": 0}}
    kube.publish(tmp_path, "v1")
    kube.apply(kube.service("v1", **off))
    await kube.until(ready, "v1 ready")
    first = kube.status().rollout.stable
    kube.publish(tmp_path, "v2", fails=4)
    async with kube.traffic() as counts:
        kube.apply(kube.service("v2", **off))
        found = await kube.until(decided(DecisionKind.ROLLED_BACK), "rolled back")
        await asyncio.sleep(3)
        before = counts.failed
        await asyncio.sleep(3)
        assert counts.failed == before, "after the rollback nobody meets it"
    assert found.gate == "errors"
    assert kube.status().rollout.stable == first
    assert {e.split()[1] for e in counts.errors} == {found.revision}, counts.errors[:3]


@pytest.mark.disruptive
async def test_the_operator_is_killed_in_the_middle_and_another_goes_on(kube: Kube, tmp_path: Path) -> None:
    first = await served(kube, tmp_path)
    kube.publish(tmp_path, "v2", bias=0.001)
    async with kube.traffic() as counts:
        await asyncio.sleep(4)
        kube.apply(kube.service("v2"))
        for _ in range(3):
            holder = run("kubectl", "-n", SYSTEM, "get", "lease", "aiservice-operator", "-o", "jsonpath={.spec.holderIdentity}")
            run("kubectl", "-n", SYSTEM, "delete", "pod", holder, "--grace-period=0", "--force", "--wait=false")
            await asyncio.sleep(12)
        await kube.until(lambda s: s.rollout.stable not in (None, first), "promoted by whoever leads")
    assert counts.failed == 0, counts.errors[:3]


async def test_a_person_promotes_by_annotation(kube: Kube, tmp_path: Path) -> None:
    manual: dict[str, Any] = {"promotion": "Manual", "replay": {"requests": 0}}
    kube.publish(tmp_path, "v1")
    kube.apply(kube.service("v1", **manual))
    await kube.until(ready, "v1 ready")
    first = kube.status().rollout.stable
    kube.publish(tmp_path, "v2", bias=0.001)
    async with kube.traffic() as counts:
        kube.apply(kube.service("v2", **manual))
        await kube.until(lambda s: s.rollout.phase is Phase.PAUSED, "paused")
        kube.ctl("annotate", "ais", "svc", "aiservice.dev/command=promote:1")
        await kube.until(lambda s: s.rollout.stable not in (None, first), "promoted")
    assert counts.failed == 0, counts.errors[:3]
