"""What of an answer is acted upon: texts that rollouts compare and labels judge, and the strata that the reservoir keeps."""

from __future__ import annotations

from typing import Any

import numpy as np

from aiservice.api.bundle import Decision, DecisionKind
from aiservice_predictor.codec.tensors import Array, Tensors


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


def strata(decision: Decision, decisions: list[str]) -> list[str]:
    """Texts -> strata: the text itself, or for numbers the tenth "0" to "9" of the reference predictions that it lies in."""
    if decision.kind is not DecisionKind.TOLERANCE:
        return decisions
    if not decision.edges:
        return ["0"] * len(decisions)
    tenths: list[int] = np.searchsorted(np.array(decision.edges), np.array([float(d) for d in decisions]), side="right").tolist()
    return [str(t) for t in tenths]


def _classes(decision: Decision, output: Array) -> list[str]:
    rows = _rows(output)
    if rows.shape[1] == 1 and rows.dtype.kind != "f":
        values: list[Any] = rows[:, 0].tolist()
        return [_text(v) for v in values]
    names = decision.labels
    best: list[int] = rows.argmax(axis=1).tolist()
    return [names[i] if names and i < len(names) else str(i) for i in best]


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
