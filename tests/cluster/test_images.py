"""The images that run in the cluster: small, nobody's, and let in where Pod Security asks for the most."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiservice.api.runtime import RUNTIME
from cluster.kube import SYSTEM, Kube, ready, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
MOST = {"operator": 250e6, "predictor": 300e6}
"""Bytes, unpacked; docs/cluster.md says what they are."""


def image(of: str) -> str:
    if of == "operator":
        return run(
            "kubectl", "-n", SYSTEM, "get", "deployment/aiservice-operator", "-o", "jsonpath={.spec.template.spec.containers[0].image}"
        )
    return run("kubectl", "get", "clusterservingruntime", RUNTIME, "-o", "jsonpath={.spec.containers[0].image}")


@pytest.mark.parametrize("of", MOST)
def test_an_image_is_small_and_nobodys(of: str) -> None:
    (found,) = json.loads(run("docker", "image", "inspect", image(of)))
    print(f"{of}: {found['Size'] / 1e6:.0f} MB")
    assert found["Size"] <= MOST[of]
    assert found["Config"]["User"] == "65532:65532"


async def test_predictors_and_operators_are_let_in_where_pod_security_is_restricted(kube: Kube, tmp_path: Path) -> None:
    run("kubectl", "label", "namespace", kube.namespace, RESTRICTED)
    kube.publish(tmp_path, "v1")
    kube.apply(kube.service("v1"))
    await kube.until(ready, "ready")
    run("kubectl", "label", "namespace", SYSTEM, RESTRICTED, "--overwrite", "--dry-run=server", "--warnings-as-errors")
