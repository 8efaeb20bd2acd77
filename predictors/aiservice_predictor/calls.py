"""Calls of the model: requests stacked, or one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from aiservice_predictor.codec.request import Part, Texts
from aiservice_predictor.codec.tensors import Tensors
from aiservice_predictor.failures import Failure, ModelFailed
from aiservice_predictor.waiting import Waiting

Run: TypeAlias = Callable[[Tensors], Tensors]
Result: TypeAlias = Part | Failure


class Calls:
    """Of one model."""

    def __init__(self, run: Run, by_row: bool) -> None:
        self.run = run
        self.by_row = by_row
        """Whether requests may be stacked; no longer where that changed the number of rows."""

    def execute(self, batch: list[Waiting], apart: bool, clock: Callable[[], float]) -> tuple[list[Result], float]:
        """One result a request, in order, and the seconds that the model took by that clock. `apart`: each in a call of its own."""
        start = clock()
        results = None if apart else self._together(batch)
        if results is None:
            results = [self._alone(item) for item in batch]
        return results, clock() - start

    def _together(self, batch: list[Waiting]) -> list[Result] | None:
        """None where the stacked call failed, or its outputs do not have one row for each row."""
        try:
            outputs = self.run({name: np.concatenate([item.inputs[name] for item in batch]) for name in batch[0].inputs})
        except Exception:
            return None
        rows = sum(item.rows for item in batch)
        if any(a.ndim == 0 or a.shape[0] != rows for a in outputs.values()):
            self.by_row = False
            return None
        results: list[Result] = []
        texts: Texts = {}
        start = 0
        for item in batch:
            results.append(Part(outputs, start, start + item.rows, texts))
            start += item.rows
        return results

    def _alone(self, item: Waiting) -> Result:
        try:
            return Part(self.run(item.inputs))
        except Failure as failure:
            return failure
        except Exception as error:
            return ModelFailed(f"the model failed on this request: {_brief(error)}")


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
