"""Each test has a namespace of its own on the cluster that `make cluster deploy` started."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from cluster.kube import Kube, nodes, run


@pytest.fixture
def kube() -> Iterator[Kube]:
    made = Kube(f"t-{uuid.uuid4().hex[:8]}")
    run("kubectl", "create", "namespace", made.namespace)
    made.claim()
    try:
        yield made
    finally:
        run("kubectl", "delete", "namespace", made.namespace, "--wait=false")
        run("kubectl", "delete", "pv", f"models-{made.namespace}", "--wait=false")
        for node in nodes():
            run("docker", "exec", node, "rm", "-rf", f"/var/models/{made.namespace}")
