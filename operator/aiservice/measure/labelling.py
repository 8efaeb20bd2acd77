"""Labels as clients send them, whichever world answers: read, then told to every predictor that may have the request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from aiservice.measure.client import UNREACHABLE, Predictor

MOST = 10_000
MOST_BYTES = 4 * 2**20
EXPECTED = '{"labels": {"<request id>": <the true decision>}}'


class Unfit(ValueError):
    """Labels that cannot be taken; the message says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def read(body: bytes) -> dict[str, str]:
    """Request id -> the true decision, as text. Raises Unfit with an HTTP status."""
    try:
        parsed = json.loads(body)
    except ValueError:
        raise Unfit(400, f"the body is not JSON; expected {EXPECTED}") from None
    given = parsed.get("labels") if isinstance(parsed, dict) else None
    if not isinstance(given, dict) or not given:
        raise Unfit(400, f"expected {EXPECTED}")
    if len(given) > MOST:
        raise Unfit(413, f"{len(given)} labels given, at most {MOST} are taken at once")
    wrong = next((k for k, v in given.items() if not isinstance(v, str | int | float | bool)), None)
    if wrong is not None:
        raise Unfit(400, f"label of {wrong!r} is {given[wrong]!r}, expected a text, a number, true or false")
    return {k: _text(v) for k, v in given.items()}


async def join(predictors: Sequence[Predictor], labels: dict[str, str]) -> dict[str, int]:
    """How many found their request in a predictor's memory, and how many did not. A predictor that cannot be reached has none."""
    answers = await asyncio.gather(*(p.label(labels) for p in predictors), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, UNREACHABLE):
            raise answer
    matched = {i for a in answers if isinstance(a, list) for i in a}
    return {"matched": len(matched), "unknown": len(labels) - len(matched)}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
