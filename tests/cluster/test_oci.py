"""Models in images: KServe's modelcar (oci://) and image volumes (oci+native://)."""

from __future__ import annotations

import asyncio

import pytest

from aiservice.api.status import AIServiceStatus, DecisionKind
from cluster.kube import ROOT, Kube, decided, ready, run
from cluster.test_serving import infer
from local import bundles

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Version -> digest of the bundle in the image aiservice-test-models:VERSION, which every node has."""
    folder = tmp_path_factory.mktemp("oci")
    found = {version: bundles.write(folder / version, bias=bias) for version, bias in (("v1", 0.0), ("v2", 0.01))}
    for version in found:
        (folder / "Dockerfile").write_text(f"ARG BASE\nARG BUILD_BASE\nFROM ${{BASE}}\nCOPY {version} /models\n")
        run(str(ROOT / "hack/cluster/build"), "-q", "-t", f"aiservice-test-models:{version}", str(folder))
        run(str(ROOT / "hack/cluster/load"), f"aiservice-test-models:{version}")
    return found


@pytest.mark.parametrize("scheme", ["oci", "oci+native"])
async def test_an_image_is_served_and_replaced_by_a_better_one(kube: Kube, images: dict[str, str], scheme: str) -> None:
    body = kube.service("v1")
    body["spec"]["model"] = {"uri": f"{scheme}://docker.io/library/aiservice-test-models:v1", "digest": images["v1"]}
    kube.apply(body)
    status = await kube.until(lambda s: ready(s) and s, "ready")
    assert status.revisions[0].digest == images["v1"]
    assert (await asyncio.to_thread(infer, kube))["outputs"][0]["data"] == [0.75]
    body["spec"]["model"] = {"uri": f"{scheme}://docker.io/library/aiservice-test-models:v2", "digest": images["v2"]}
    async with kube.traffic() as counts:
        kube.apply(body)
        await kube.until(decided(DecisionKind.PROMOTED), "promoted")
    assert counts.failed == 0, counts.errors[:3]


async def test_another_image_than_the_pinned_one_is_refused(kube: Kube, images: dict[str, str]) -> None:
    body = kube.service("v1")
    body["spec"]["model"] = {"uri": "oci+native://docker.io/library/aiservice-test-models:v1", "digest": images["v2"]}
    kube.apply(body)
    decision = await kube.until(decided(DecisionKind.REFUSED), "refused")
    assert decision.reason == "DigestMismatch"
    assert images["v1"].removeprefix("sha256:") in decision.message


async def test_an_image_that_is_not_there_is_named(kube: Kube) -> None:
    missing = "docker.io/library/aiservice-test-models:none"
    body = kube.service("v1")
    body["spec"]["model"] = {"uri": f"oci+native://{missing}"}
    kube.apply(body)

    def why(status: AIServiceStatus) -> bool:
        return any(c.type == "Ready" and c.status == "False" and missing in c.message and "Pull" in c.message for c in status.conditions)

    await kube.until(why, "said")
