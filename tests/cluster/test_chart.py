"""The chart on a real cluster: upgraded and removed under traffic, looking after one namespace, and tested by `helm test`."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.kube import ROOT, SYSTEM, Kube, Refused, ready, run

pytestmark = [pytest.mark.cluster, pytest.mark.disruptive, pytest.mark.timeout(900)]

CHART = ROOT / "charts" / "aiservice"
CRD = "aiservices.aiservice.dev"
Helm = Callable[..., str]


@pytest.fixture
def helm(tmp_path: Path) -> Iterator[Helm]:
    """Installs or upgrades the release with its own values and what a test sets; afterwards it is as it was."""
    values = tmp_path / "values.json"
    values.write_text(run("helm", "-n", SYSTEM, "get", "values", "aiservice", "-o", "json"))

    def deploy(*words: str, chart: Path = CHART, release: str = "aiservice") -> str:
        return run("helm", "upgrade", "--install", release, str(chart), "-n", SYSTEM, "-f", str(values), "--wait", "--timeout=120s", *words)

    yield deploy
    for release in json.loads(run("helm", "-n", SYSTEM, "list", "-o", "json")):
        if release["name"] != "aiservice":
            run("helm", "-n", SYSTEM, "uninstall", release["name"], "--wait")
    deploy("--take-ownership")


async def serving(kube: Kube, folder: Path, name: str = "v1") -> None:
    kube.publish(folder, name)
    kube.apply(kube.service(name, replicas=2))
    await kube.until(lambda s: ready(s) and s.revisions[0].ready == 2, "two predictors serve")


def described() -> str:
    """What the CRD says of rollout.standby."""
    crd: dict[str, Any] = json.loads(run("kubectl", "get", "crd", CRD, "-o", "json"))
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return str(spec["properties"]["rollout"]["properties"]["standby"]["description"])


async def test_an_upgrade_in_the_middle_of_a_rollout_upgrades_the_crd_and_loses_no_request(kube: Kube, tmp_path: Path, helm: Helm) -> None:
    now = described()
    older = tmp_path / "older"
    shutil.copytree(CHART, older)
    crd = older / "files" / "crd.yaml"
    crd.write_text(crd.read_text().replace("How long the replaced revision stays warm;", "As it was;"))
    await asyncio.to_thread(helm, chart=older)
    assert described().startswith("As it was;")
    await serving(kube, tmp_path)
    first = kube.status().rollout.stable
    kube.publish(tmp_path, "v2", bias=0.001)
    async with kube.traffic() as counts:
        kube.apply(kube.service("v2", replicas=2, steps=[{"weight": 20, "hold": "10s"}, {"weight": 50, "hold": "10s"}]))
        await kube.until(lambda s: s.rollout.weight == 20, "under way")
        await asyncio.to_thread(helm, "--set", "resources.requests.cpu=51m")
        assert described() == now
        await kube.until(lambda s: s.rollout.stable not in (None, first), "promoted by the new operator")
    assert counts.failed == 0, counts.errors[:3]
    assert counts.good > 100


async def test_an_uninstall_leaves_what_serves_and_an_install_goes_on(kube: Kube, tmp_path: Path, helm: Helm) -> None:
    await serving(kube, tmp_path)
    before = {o["metadata"]["uid"] for o in kube.get("ais,inferenceservices,httproutes,pods")["items"]}
    first = kube.status().rollout.stable
    kube.publish(tmp_path, "v2", bias=0.001)
    async with kube.traffic() as counts:
        await asyncio.to_thread(run, "helm", "-n", SYSTEM, "uninstall", "aiservice", "--wait")
        await asyncio.sleep(5)
        assert {o["metadata"]["uid"] for o in kube.get("ais,inferenceservices,httproutes,pods")["items"]} >= before
        kube.ctl("delete", "pod", kube.get("pods", "-l", "aiservice.dev/service=svc")["items"][0]["metadata"]["name"], "--wait=false")
        kube.ctl("wait", "--for=condition=Available", "deployment", "--all", "--timeout=60s")
        kube.apply(kube.service("v2", replicas=2))
        await asyncio.to_thread(helm)
        await kube.until(lambda s: s.rollout.stable not in (None, first), "promoted after the install")
    assert counts.failed == 0, counts.errors[:3]


async def test_one_namespace(kube: Kube, tmp_path: Path, helm: Helm) -> None:
    """With a Role instead of a ClusterRole: what stands there is served, the rest is left alone."""
    await asyncio.to_thread(run, "helm", "-n", SYSTEM, "uninstall", "aiservice", "--wait")
    await asyncio.to_thread(helm, "--set", f"watchNamespace={kube.namespace}", "--take-ownership", release="one")
    rules = json.loads(run("kubectl", "get", "clusterrole", "-l", "app.kubernetes.io/instance=one", "-o", "json"))["items"]
    assert not [r for role in rules for r in role["rules"] if {"secrets", "pods"} & set(r["resources"])]
    away = kube.service("v1")
    away["metadata"]["namespace"] = "default"
    away["metadata"]["name"] = kube.namespace
    run("kubectl", "apply", "-f", "-", given=json.dumps(away))
    try:
        await serving(kube, tmp_path)
        assert "status" not in json.loads(run("kubectl", "-n", "default", "get", "ais", kube.namespace, "-o", "json"))
    finally:
        run("kubectl", "-n", "default", "delete", "ais", kube.namespace)


async def test_helm_test_sends_a_request_or_says_what_is_wrong(kube: Kube, tmp_path: Path, helm: Helm) -> None:
    await serving(kube, tmp_path)
    await asyncio.to_thread(helm, "--set", f"test.service={kube.namespace}/svc")
    said = await asyncio.to_thread(run, "helm", "-n", SYSTEM, "test", "aiservice", "--logs", "--timeout=90s")
    assert f"{kube.namespace}/svc answers: " in said
    await asyncio.to_thread(helm, "--set", f"test.service={kube.namespace}/nobody")
    with pytest.raises(Refused):
        await asyncio.to_thread(run, "helm", "-n", SYSTEM, "test", "aiservice", "--timeout=90s")
    assert "there is no AIService nobody" in run("kubectl", "-n", SYSTEM, "logs", "aiservice-test")
