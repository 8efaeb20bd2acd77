"""The Gateway's Envoy proxies, where Envoy Gateway runs it: what clients were answered, backend by backend."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence

import aiohttp

from aiservice.api.status import Cursor
from aiservice.core.world import Manifest, Place, Totals
from aiservice.kube import pods
from aiservice.measure.client import UNREACHABLE

PORT, PATH = 19001, "/stats/prometheus"
CONTAINER = "envoy"
_COUNTER = re.compile(
    r"^envoy_cluster_(?:external|internal)_upstream_rq_(?P<what>xx|completed)\{(?P<labels>[^}]*)\} (?P<value>\d+)", re.MULTILINE
)
_CLUSTER = re.compile(r'envoy_cluster_name="(?P<kind>httproute|grpcroute)/(?P<route>[^/"]+/[^/"]+)/rule/\d+/backend/(?P<index>\d+)"')

Backend = tuple[str, int]
"""Kind of route and place among its backendRefs: the name under which Envoy Gateway counts."""


def labels(place: Place) -> dict[str, str]:
    """Of the proxies' Pods."""
    return {"gateway.envoyproxy.io/owning-gateway-name": place.gateway, "gateway.envoyproxy.io/owning-gateway-namespace": place.namespace}


def answers(text: str, namespace: str, name: str) -> dict[Backend, tuple[int, int]]:
    """Backend -> (answers 5xx, answers) that clients got since this Envoy began. `text`: the Prometheus text format."""
    out: dict[Backend, list[int]] = {}
    for found in _COUNTER.finditer(text):
        cluster = _CLUSTER.search(found["labels"])
        if cluster is None or cluster["route"] != f"{namespace}/{name}":
            continue
        counts = out.setdefault((cluster["kind"], int(cluster["index"])), [0, 0])
        if found["what"] == "completed":
            counts[1] += int(found["value"])
        elif 'envoy_response_code_class="5"' in found["labels"]:
            counts[0] += int(found["value"])
    return {backend: (bad, total) for backend, (bad, total) in out.items()}


def totals(seen: Mapping[str, dict[Backend, tuple[int, int]]], order: Sequence[str | None]) -> dict[str, Totals]:
    """One source for each proxy and backend. `seen`: a proxy's run -> its answers; `order`: the revision of each backendRef."""
    return {
        f"gateway.{run}/{kind}/{index}": Totals(revision, Cursor(errors=counts), arrivals=True)
        for run, found in seen.items()
        for (kind, index), counts in found.items()
        if index < len(order) and (revision := order[index])
    }


async def read(
    session: aiohttp.ClientSession, found: Sequence[Manifest], namespace: str, name: str
) -> dict[str, dict[Backend, tuple[int, int]]]:
    """Run of a proxy -> its answers; one that says nothing is left out. `found`: their Pods."""
    ready = [p for p in found if pods.ready(p)]
    texts = await asyncio.gather(*(_text(session, p, namespace, name) for p in ready))
    return {pods.run(p, CONTAINER): answers(text, namespace, name) for p, text in zip(ready, texts, strict=True) if text is not None}


async def _text(session: aiohttp.ClientSession, pod: Manifest, namespace: str, name: str) -> str | None:
    params = {"filter": f"^cluster\\.(http|grpc)route/{namespace}/{name}/.*upstream_rq_(5xx|completed)$"}
    try:
        async with session.get(f"http://{pods.address(pod)}:{PORT}{PATH}", params=params) as answer:
            answer.raise_for_status()
            return await answer.text()
    except UNREACHABLE:
        return None
