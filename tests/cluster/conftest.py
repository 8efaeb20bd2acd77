"""Each test has a namespace of its own on the cluster that `make cluster deploy` started."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from cluster.kube import SYSTEM, Kube, nodes, run


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of what the cluster was made without are not chosen, and that is said."""
    for marker, there, words in (
        (
            "keda",
            lambda: run("kubectl", "get", "crd", "scaledobjects.keda.sh", "--ignore-not-found", "-o", "name"),
            "KEDA: KEDA=1 make cluster",
        ),
        ("workers", lambda: len(nodes()) > 2, "two workers: WORKERS=2 make cluster"),
    ):
        asking = [item for item in items if item.get_closest_marker(marker)]
        if asking and not there():
            config.hook.pytest_deselected(items=asking)
            items[:] = [item for item in items if item not in asking]
            print(f"\n{len(asking)} tests are left out: they need {words}")


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


@pytest.fixture
def no_operator() -> Iterator[None]:
    """Nobody acts in the cluster while it lasts."""
    run("kubectl", "-n", SYSTEM, "scale", "deployment/aiservice-operator", "--replicas=0")
    run("kubectl", "-n", SYSTEM, "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=operator", "--timeout=60s")
    try:
        yield
    finally:
        run("kubectl", "-n", SYSTEM, "scale", "deployment/aiservice-operator", "--replicas=2")
        run("kubectl", "-n", SYSTEM, "rollout", "status", "deployment/aiservice-operator", "--timeout=120s")
