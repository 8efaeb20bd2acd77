"""What of an answer is acted upon: texts that rollouts compare and labels judge, and the strata that the reservoir keeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from aiservice.api.bundle import Decision, DecisionKind
from aiservice_predictor.codec.tensors import Array, Tensors

_NEAR = 64


def decide(decision: Decision, outputs: Tensors) -> list[str]:
    """Outputs of one call -> one text a row: the class, `positive` or `negative`, or the number as Python writes it."""
    return texts(decision, outputs[decision.output])


def texts(decision: Decision, output: Array) -> list[str]:
    """The decision output, [rows] or [rows, columns], -> one text a row. An output without a row axis is one row."""
    if decision.kind is DecisionKind.CLASS:
        return _classes(decision, output)
    numbers = _column(decision, output)
    if decision.kind is DecisionKind.THRESHOLD:
        positive, negative = decision.positive or "positive", decision.negative or "negative"
        threshold = 0.5 if decision.threshold is None else decision.threshold
        return [positive if yes else negative for yes in (numbers >= threshold).tolist()]
    return [repr(n) for n in numbers.tolist()]


def strata(decision: Decision, output: Array) -> tuple[Array, Callable[[int], str]]:
    """-> a code for each row, and what a code stands for: the row's text, or for numbers the tenth "0" to "9" of the reference
    predictions that it lies in. One pass over many answers, without a text for each row or each of a thousand classes."""
    if decision.kind is DecisionKind.TOLERANCE:
        numbers = _column(decision, output)
        if not decision.edges:
            return np.zeros(len(numbers), dtype=np.int64), str
        return np.searchsorted(np.array(decision.edges), numbers, side="right"), str
    if decision.kind is DecisionKind.THRESHOLD:
        threshold = 0.5 if decision.threshold is None else decision.threshold
        names = [decision.negative or "negative", decision.positive or "positive"]
        return (_column(decision, output) >= threshold).astype(np.int64), names.__getitem__
    rows = _rows(output)
    if rows.shape[1] == 1 and rows.dtype.kind != "f":
        return _coded(rows[:, 0])
    return rows.argmax(axis=1), partial(_name, decision)


def _coded(values: Array) -> tuple[Array, Callable[[int], str]]:
    """Classes that are values themselves. Small integers near each other are told apart without sorting."""
    if values.dtype.kind in "iu" and values.size:
        low, high = int(values.min()), int(values.max())
        if high - low < _NEAR:
            return (values - low).astype(np.int64), lambda code: str(low + code)
    found, codes = np.unique(values, return_inverse=True)
    texts: list[Any] = found.tolist()
    return codes.reshape(-1), lambda code: _text(texts[code])


def _classes(decision: Decision, output: Array) -> list[str]:
    rows = _rows(output)
    if rows.shape[1] == 1 and rows.dtype.kind != "f":
        values: list[Any] = rows[:, 0].tolist()
        return [_text(v) for v in values]
    best: list[int] = rows.argmax(axis=1).tolist()
    return [_name(decision, i) for i in best]


def _name(decision: Decision, index: int) -> str:
    names = decision.labels
    return names[index] if names and index < len(names) else str(index)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _column(decision: Decision, output: Array) -> Array:
    rows = _rows(output)
    return rows[:, min(decision.column, rows.shape[1] - 1)].astype(np.float64)


def _rows(output: Array) -> Array:
    if output.ndim == 2:
        return output
    return output.reshape((output.shape[0], -1)) if output.ndim else output.reshape((1, 1))
