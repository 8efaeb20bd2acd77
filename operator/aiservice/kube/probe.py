"""What the cluster must have and has not, in a sentence that says how to get it."""

from __future__ import annotations

import asyncio
import time

from aiservice.api.runtime import RUNTIME
from aiservice.core.world import Place
from aiservice.kube.cluster import Cluster

KSERVE = "serving.kserve.io"
GATEWAY = "gateway.networking.k8s.io"
KINDS = (
    (f"{KSERVE}/v1beta1", "InferenceService", "KServe is not installed: install its charts kserve-crd and kserve (Standard mode)"),
    (
        f"{GATEWAY}/v1",
        "HTTPRoute",
        "the Gateway API is not installed: install its CRDs, or a gateway that brings them, such as Envoy Gateway",
    ),
    (f"{GATEWAY}/v1", "GRPCRoute", "the Gateway API is older than 1.1 and has no GRPCRoute: upgrade its CRDs"),
)
TTL = 30.0
"""Seconds for which an answer is believed."""


class Probe:
    """One for all services of an operator."""

    def __init__(self, cluster: Cluster, place: Place) -> None:
        self._cluster, self._place = cluster, place
        self._found, self._keda, self._at = "", False, -TTL
        self._lock = asyncio.Lock()

    async def missing(self) -> str:
        """Empty if nothing is."""
        await self._fresh()
        return self._found

    async def keda(self) -> bool:
        """Whether replicas can follow requests and queries: wanted by some services only, so nothing that is missing."""
        await self._fresh()
        return self._keda

    async def _fresh(self) -> None:
        async with self._lock:
            if time.monotonic() - self._at >= TTL:
                self._keda = await self._cluster.knows("keda.sh/v1alpha1", "ScaledObject")
                self._found, self._at = await self._look(), time.monotonic()

    async def _look(self) -> str:
        lacking = [words for api, kind, words in KINDS if not await self._cluster.knows(api, kind)]
        if any(words.startswith("the Gateway API is not") for words in lacking):
            lacking = [words for words in lacking if "GRPCRoute" not in words]
        apis = {api for api, _, words in KINDS if words in lacking}
        if f"{KSERVE}/v1beta1" not in apis and await self._cluster.get(f"{KSERVE}/v1alpha1", "ClusterServingRuntime", RUNTIME) is None:
            lacking.append(f"there is no ClusterServingRuntime {RUNTIME}: it comes with the chart aiservice (helm upgrade --install)")
        where = self._place
        if f"{GATEWAY}/v1" not in apis and await self._cluster.get(f"{GATEWAY}/v1", "Gateway", where.gateway, where.namespace) is None:
            lacking.append(
                f"there is no Gateway {where.gateway} in namespace {where.namespace}: create it, or name yours with gateway.name and gateway.namespace"
            )
        return "; ".join(lacking)
