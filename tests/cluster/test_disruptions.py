"""What breaks around a service costs no request: operators, API server, KServe, nodes, load."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiservice.api.status import AIServiceStatus, DecisionKind
from cluster import node
from cluster.kube import NAME, SYSTEM, Kube, nodes, run, served

pytestmark = [pytest.mark.cluster, pytest.mark.disruptive, pytest.mark.timeout(900)]

OPERATOR = "aiservice.kube.main"


def holder() -> str:
    return run("kubectl", "-n", SYSTEM, "get", "lease", "aiservice-operator", "-o", "jsonpath={.spec.holderIdentity}")


async def leader() -> str:
    """The Pod that acts, once there is one: a dead one holds the Lease for some seconds more."""
    found = ""
    for _ in range(120):
        found = holder()
        if f"pod/{found}" in run("kubectl", "-n", SYSTEM, "get", "pods", "-o", "name").split():
            return found
        await asyncio.sleep(0.5)
    raise AssertionError(f"nobody leads; the Lease is held by {found!r}")


async def test_an_operator_that_dies_after_each_write_still_promotes(kube: Kube, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    first = await served(kube, tmp_path)
    request.getfixturevalue("no_operator")
    env = os.environ | {
        "KUBECONFIG": str(node.kubeconfig(tmp_path)),
        "POD_NAME": "crashing",
        "POD_NAMESPACE": SYSTEM,
        "AISERVICE_WATCH_NAMESPACE": kube.namespace,
        "AISERVICE_CLIENTS": f"{node.address()}/32",
        "AISERVICE_OPERATOR_PORT": "18080",
    }
    killed = 0
    async with kube.traffic() as counts:
        kube.apply(kube.service("v2"))
        for writes in itertools.cycle((1, 2, 3)):
            if kube.status().rollout.stable != first:
                break
            killed += await asyncio.to_thread(life, kube, first, writes, env, tmp_path)
            assert killed < 200, kube.status().rollout
    assert killed >= 6
    assert counts.failed == 0, counts.errors[:3]


def life(kube: Kube, first: str, writes: int, env: dict[str, str], folder: Path) -> bool:
    """Run an operator until it died after so many writes (True), or the candidate is promoted."""
    command = [*node.network(), sys.executable, str(Path(__file__).with_name("crashing.py")), str(writes)]
    with (folder / "log").open("ab") as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as process:
        while process.poll() is None and kube.status().rollout.stable == first:
            time.sleep(0.2)
        process.kill()
    assert process.returncode == -9, (folder / "log").read_text()[-3000:]
    return kube.status().rollout.stable == first


async def test_an_operator_that_is_killed_is_followed(kube: Kube, tmp_path: Path) -> None:
    first = await served(kube, tmp_path)
    async with kube.traffic() as counts:
        await asyncio.sleep(4)
        kube.apply(kube.service("v2"))
        for _ in range(2):
            run("kubectl", "-n", SYSTEM, "delete", "pod", await leader(), "--grace-period=0", "--force", "--wait=false")
            await asyncio.sleep(12)
        await kube.until(lambda s: s.rollout.stable not in (None, first), "promoted by whoever leads")
    assert counts.failed == 0, counts.errors[:3]


async def test_an_operator_that_hangs_is_followed_and_decides_nothing_when_it_wakes(kube: Kube, tmp_path: Path) -> None:
    first = await served(kube, tmp_path)
    async with kube.traffic() as counts:
        kube.apply(kube.service("v2"))
        await kube.until(lambda s: s.rollout.candidate, "the rollout began")
        before = await leader()
        with node.frozen(node.processes(command=OPERATOR, environment=f"POD_NAME={before}")):
            await asyncio.sleep(16)
            assert holder() != before
        await kube.until(lambda s: s.rollout.stable not in (None, first), "promoted")
        await asyncio.sleep(5)
    kinds = [d.kind for d in kube.status().rollout.decisions]
    assert kinds.count(DecisionKind.PROMOTED) == 2, kinds  # the first revision, then v2: once each
    assert counts.failed == 0, counts.errors[:3]


async def test_the_api_server_is_away_for_half_a_minute(kube: Kube, tmp_path: Path) -> None:
    first = await served(kube, tmp_path)
    async with kube.traffic() as counts:
        kube.apply(kube.service("v2"))
        await kube.until(lambda s: s.rollout.candidate, "the rollout began")
        with node.frozen(node.processes(command="kube-apiserver --")):
            await asyncio.sleep(30)
        await asyncio.sleep(5)
        await kube.until(lambda s: s.rollout.stable not in (None, first), "promoted")
    assert counts.failed == 0, counts.errors[:3]


async def test_kserve_is_away_when_a_rollout_begins(kube: Kube, tmp_path: Path) -> None:
    first = await served(kube, tmp_path)
    deployment = "deployment/kserve-controller-manager"
    async with kube.traffic() as counts:
        run("kubectl", "-n", "kserve", "scale", deployment, "--replicas=0")
        run("kubectl", "-n", "kserve", "wait", "--for=delete", "pod", "-l", "control-plane=kserve-controller-manager", "--timeout=60s")
        try:
            kube.apply(kube.service("v2"))
            said = await kube.until(refused, "the refusal is said")
            assert "webhook" in said
        finally:
            run("kubectl", "-n", "kserve", "scale", deployment, "--replicas=1")
            run("kubectl", "-n", "kserve", "rollout", "status", deployment, "--timeout=120s")
        await kube.until(lambda s: s.rollout.stable not in (None, first), "promoted")
        await kube.until(lambda s: not refused(s), "nothing is refused any more")
    assert counts.failed == 0, counts.errors[:3]


def refused(status: AIServiceStatus) -> str:
    return next((c.message for c in status.conditions if c.type == "Stalled" and c.reason == "ApplyRejected"), "")


@pytest.mark.workers
async def test_a_drained_node_costs_no_request(kube: Kube, tmp_path: Path) -> None:
    workers = [n for n in nodes() if n != f"{NAME}-control-plane"]
    kube.publish(tmp_path, "v1")
    kube.apply(kube.service("v1", replicas=2))
    await kube.until(lambda s: s.revisions and s.revisions[0].ready == 2, "both ready")
    gateway = run(
        "kubectl",
        "-n",
        "envoy-gateway-system",
        "get",
        "pods",
        "-o",
        "jsonpath={.items[*].spec.nodeName}",
        "-l",
        "app.kubernetes.io/name=envoy",
    ).split()
    leave = next(w for w in workers if w not in gateway)
    try:
        async with kube.traffic() as counts:
            await asyncio.sleep(2)
            began = time.monotonic()
            await asyncio.to_thread(
                run, "kubectl", "drain", leave, "--ignore-daemonsets", "--delete-emptydir-data", "--force",
                "--pod-selector=aiservice.dev/service", "--timeout=120s",
            )  # fmt: skip
            print(f"drained in {time.monotonic() - began:.0f} s")
            await asyncio.sleep(5)
    finally:
        run("kubectl", "uncordon", leave)
    assert counts.failed == 0, counts.errors[:3]
