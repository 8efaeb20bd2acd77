"""What `helm test` runs: is everything there, and does a service answer? Says each thing; ends with 1 at the first that is not so."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from aiservice.api.runtime import RUNTIME
from aiservice.api.service import API_VERSION, KIND
from aiservice.kube import proxies
from aiservice.kube.cluster import Cluster
from aiservice.kube.settings import Settings
from aiservice.measure.client import UNREACHABLE

TIMEOUT = aiohttp.ClientTimeout(total=20)
TEXT, FALSE, ZERO = "BYTES", "BOOL", 0


class Failed(Exception):
    """What is not so, and what to do."""


def zeros(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A V2 request of one row, from the model's metadata: zeros, empty texts, false."""
    return {"inputs": list(_tensors(metadata["inputs"]))}


def _tensors(inputs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for given in inputs:
        shape, count = [1 if n < 1 else n for n in given["shape"]], 1
        for n in shape:
            count *= n
        value: Any = {TEXT: "", FALSE: False}.get(given["datatype"], ZERO)
        yield {"name": given["name"], "datatype": given["datatype"], "shape": shape, "data": [value] * count}


async def installed(cluster: Cluster, session: aiohttp.ClientSession, operator: str) -> None:
    """The kinds, the runtime, an operator that answers."""
    if not await cluster.knows(API_VERSION, KIND):
        raise Failed(f"the API server does not know {KIND}: install the chart with crds.install=true")
    print(f"{KIND} {API_VERSION} is known")
    if await cluster.get("serving.kserve.io/v1alpha1", "ClusterServingRuntime", RUNTIME) is None:
        raise Failed(f"there is no ClusterServingRuntime {RUNTIME}: install KServe, then upgrade this release")
    print(f"ClusterServingRuntime {RUNTIME} is there")
    status, body = await _ask(session, "GET", f"{operator}/readyz", {}, None)
    if status != 200:
        raise Failed(f"the operator is not ready: {body.strip()}")
    print(f"the operator answers: {body.strip()}")


async def answers(cluster: Cluster, session: aiohttp.ClientSession, service: str, request: str, gateway: str) -> None:
    """One request through the gateway. `service`: NAMESPACE/NAME."""
    namespace, _, name = service.partition("/")
    found = await cluster.get(API_VERSION, KIND, name, namespace)
    if found is None:
        raise Failed(f"there is no AIService {name} in namespace {namespace}: set test.service")
    url = found.get("status", {}).get("url")
    if not url:
        raise Failed(f"{service} has no URL yet: kubectl -n {namespace} describe ais {name}")
    parts = urlsplit(url)
    headers, base = {"Host": parts.netloc}, f"http://{gateway}{parts.path}"
    if not request:
        status, body = await _ask(session, "GET", base, headers, None)
        if status != 200:
            raise Failed(f"{service} does not tell its metadata through {gateway}: {status} {body[:300]}")
        request = json.dumps(zeros(json.loads(body)))
    status, body = await _ask(session, "POST", f"{base}/infer", headers, request)
    if status != 200:
        raise Failed(f"{service} answers {status}: {body[:300]}; give a fitting request in test.request")
    print(f"{service} answers: {body[:300]}")


async def gateway(cluster: Cluster, settings: Settings, given: str) -> str:
    """ADDRESS:PORT inside the cluster."""
    if given:
        return given
    found = await cluster.list("v1", "Service", settings.place.proxies, proxies.labels(settings.place))
    if not found:
        raise Failed(
            f"no Service of Envoy Gateway's proxies in namespace {settings.place.proxies}: set test.address to the gateway's ADDRESS:PORT"
        )
    spec = found[0]["spec"]
    return f"{spec['clusterIP']}:{spec['ports'][0]['port']}"


async def _ask(session: aiohttp.ClientSession, method: str, url: str, headers: Mapping[str, str], body: str | None) -> tuple[int, str]:
    try:
        async with session.request(method, url, headers=headers, data=body) as answer:
            return answer.status, await answer.text()
    except UNREACHABLE as error:
        raise Failed(f"{url} does not answer: {error!r}") from None


async def check(env: Mapping[str, str]) -> None:
    settings, service = Settings.of(env), env.get("AISERVICE_TEST_SERVICE", "")
    async with Cluster() as cluster, aiohttp.ClientSession(timeout=TIMEOUT) as session:
        await installed(cluster, session, env["AISERVICE_OPERATOR_URL"])
        if service:
            to = await gateway(cluster, settings, env.get("AISERVICE_TEST_ADDRESS", ""))
            await answers(cluster, session, service, env.get("AISERVICE_TEST_REQUEST", ""), to)


def main() -> None:
    try:
        asyncio.run(check(os.environ))
    except Failed as failed:
        sys.exit(f"error: {failed}")


if __name__ == "__main__":
    main()
