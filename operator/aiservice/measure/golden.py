"""Golden requests over the wire: is this predictor's answer the one that the source model gave?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiservice.api.bundle import Golden
from aiservice.measure.client import UNREACHABLE, Predictor

PASSING = (0, 429, 503, 504)
"""No answer, or one that says nothing of the model."""


class NotAnswered(Exception):
    """Nothing can be said of the model yet; ask again."""


async def check(predictor: Predictor) -> str:
    """Empty if every golden request is answered as expected, else a sentence that names the first difference. Raises NotAnswered."""
    try:
        requests, near = await predictor.golden()
    except (*UNREACHABLE, ValueError, KeyError) as error:
        raise NotAnswered(f"golden requests cannot be read: {error}") from None
    for number, request in enumerate(requests, 1):
        answer = await predictor.infer(request.inputs)
        if answer.status in PASSING:
            raise NotAnswered(f"golden request {number} got {answer.status or 'no answer'}: {answer.error}")
        if not answer.ok:
            return f"golden request {number} got {answer.status or 'no answer'}: {answer.error}"
        wrong = difference(request.outputs, answer.body.get("outputs", []), near)
        if wrong:
            return f"golden request {number}: {wrong}"
    return ""


def difference(expected: list[dict[str, Any]], got: list[dict[str, Any]], near: Golden) -> str:
    """Empty, or the first output that differs. Both are V2 tensors with flat data."""
    by_name = {tensor["name"]: tensor for tensor in got}
    for want in expected:
        have = by_name.get(want["name"])
        if have is None:
            return f"output {want['name']!r} is missing"
        if have["shape"] != want["shape"]:
            return f"output {want['name']!r} has shape {have['shape']}, expected {want['shape']}"
        right, found = list(flat(want["data"])), list(flat(have["data"]))
        if len(right) != len(found):
            return f"output {want['name']!r} has {len(found)} elements, expected {len(right)}"
        for place, (a, b) in enumerate(zip(right, found, strict=True)):
            numeric = isinstance(a, int | float) and isinstance(b, int | float)
            if a != b and not (numeric and abs(a - b) <= near.absolute + near.relative * abs(a)):
                return f"output {want['name']!r} has {b!r} at {place}, expected {a!r}"
    return ""


def flat(data: Any) -> Iterator[Any]:
    """The elements of V2 JSON data, nested or flat."""
    if isinstance(data, list):
        for item in data:
            yield from flat(item)
    else:
        yield data
