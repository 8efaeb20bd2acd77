"""What KEDA does in a cluster, for processes: the value that a revision's predictors share, from themselves or from a Prometheus."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import aiohttp

from aiservice.local.autoscale import Bounds, Metric
from aiservice.local.replica import Replica
from aiservice.measure.client import UNREACHABLE
from aiservice.measure.load import Meter


class NoNumber(Exception):
    """A Prometheus that could not be asked, or whose answer is no single number."""


async def of_predictors(meter: Meter, metric: Metric, replicas: Sequence[Replica]) -> float | None:
    """All of them together; None while it is not known."""
    load = await meter.ask(time.monotonic(), {r.run: r.predictor for r in replicas})
    if load is None:
        return None
    return load.concurrency if metric is Metric.CONCURRENCY else load.requests_per_second


async def of_query(session: aiohttp.ClientSession, bounds: Bounds) -> float:
    """The result of the query, a scalar or a vector of one. Raises NoNumber."""
    url = f"{bounds.server}/api/v1/query"
    try:
        async with session.get(url, params={"query": bounds.query}) as answer:
            body = await answer.json(content_type=None)
        if body["status"] != "success":
            raise NoNumber(f"{bounds.server}: {body.get('error', body['status'])}")
        kind, result = body["data"]["resultType"], body["data"]["result"]
        if kind == "vector" and len(result) != 1:
            raise NoNumber(f"{bounds.server}: {len(result)} results of {bounds.query!r}, expected one: sum over the others")
        value = float(result[1] if kind == "scalar" else result[0]["value"][1])
    except (*UNREACHABLE, ValueError, KeyError, TypeError, IndexError) as error:
        raise NoNumber(f"{bounds.server} gave no number: {error!r}") from None
    if not math.isfinite(value):
        raise NoNumber(f"{bounds.server}: {bounds.query!r} is {value}")
    return value
