"""What a cluster lacks is said with the way to get it; asked once, believed for a while."""

from __future__ import annotations

from typing import Any, cast

import pytest

from aiservice.core.world import Place
from aiservice.kube.cluster import Cluster
from aiservice.kube.probe import Probe


class Has:
    """A cluster with these kinds and objects."""

    def __init__(self, *found: str) -> None:
        self.found, self.asked = found, 0

    async def knows(self, _: str, kind: str) -> bool:
        self.asked += 1
        return kind in self.found

    async def get(self, _: str, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        return {} if f"{kind}/{name}" in self.found else None


ALL = ("InferenceService", "HTTPRoute", "GRPCRoute", "ClusterServingRuntime/aiservice-onnx", "Gateway/gateway")


@pytest.mark.parametrize(
    ("without", "words"),
    [
        ((), ()),
        (("InferenceService",), ("KServe is not installed",)),
        (("HTTPRoute", "GRPCRoute"), ("the Gateway API is not installed",)),
        (("GRPCRoute",), ("has no GRPCRoute",)),
        (("Gateway/gateway",), ("no Gateway gateway in namespace kserve",)),
        (("ClusterServingRuntime/aiservice-onnx",), ("helm upgrade --install",)),
        (("InferenceService", "Gateway/gateway"), ("KServe", "no Gateway")),
    ],
)
async def test_each_lack_has_its_sentence(without: tuple[str, ...], words: tuple[str, ...]) -> None:
    said = await Probe(cast(Cluster, Has(*(x for x in ALL if x not in without))), Place()).missing()
    assert said.count(";") == max(0, len(words) - 1)
    assert all(word in said for word in words)
    assert bool(said) is bool(words)


async def test_the_answer_is_believed_for_a_while() -> None:
    has = Has(*ALL)
    probe = Probe(cast(Cluster, has), Place())
    await probe.missing()
    asked = has.asked
    await probe.missing()
    assert has.asked == asked
