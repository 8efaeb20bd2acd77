"""GET /v1/namespaces/NAMESPACE/services/NAME/revisions/REVISION/load: what KEDA asks. Every operator answers, leading or not."""

from __future__ import annotations

import asyncio
import re
import time

import aiohttp
from aiohttp import web

from aiservice.core import names
from aiservice.kube import pods
from aiservice.kube.cluster import Cluster
from aiservice.measure.client import Predictor
from aiservice.measure.load import LONGEST, SHORTEST, Meter

PATH = names.load("{namespace}", "{name}", "{revision}")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Loads:
    """The endpoint. It remembers a few looks for each revision that is asked for."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession, watched: str) -> None:
        self._cluster, self._session, self._watched = cluster, session, watched
        self._meters: dict[tuple[str, str, str], tuple[float, Meter]] = {}

    async def get(self, request: web.Request) -> web.Response:
        """{"requestsPerSecond", "concurrency", "predictors"}: of all predictors of the revision together. 503 if that cannot be told: then nobody scales."""
        key = (request.match_info["namespace"], request.match_info["name"], request.match_info["revision"])
        if not all(NAME.fullmatch(part) for part in key) or self._watched not in ("", key[0]):
            return web.json_response({"error": f"no revision {key[2]!r} of {key[0]}/{key[1]} is looked after here"}, status=404)
        meter = self._meter(key)
        predictors = await self._predictors(*key)
        load = await meter.ask(time.monotonic(), predictors)
        if predictors and load is None:
            await asyncio.sleep(SHORTEST)
            load = await meter.ask(time.monotonic(), predictors)
        if load is None:
            return web.json_response({"error": f"no ready predictor of {key[2]} could be asked"}, status=503)
        body = {"requestsPerSecond": load.requests_per_second, "concurrency": load.concurrency, "predictors": len(predictors)}
        return web.json_response(body)

    def _meter(self, key: tuple[str, str, str]) -> Meter:
        now = time.monotonic()
        self._meters = {k: v for k, v in self._meters.items() if now - v[0] <= LONGEST}
        meter = self._meters[key][1] if key in self._meters else Meter()
        self._meters[key] = (now, meter)
        return meter

    async def _predictors(self, namespace: str, name: str, revision: str) -> dict[str, Predictor]:
        """Run -> its predictor, of those that are ready."""
        found = await self._cluster.list("v1", "Pod", namespace, names.labels(name, revision))
        return {pods.run(p): Predictor(revision, pods.url(p), name, "", self._session) for p in found if pods.ready(p)}
