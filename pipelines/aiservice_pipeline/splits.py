"""Make tree splits exact in float32.

Requests and ONNX trees are float32, scikit-learn's histogram trees split at float64 bounds. Rounding such a bound to the nearest float32
can carry it past a value, and that row falls to the other side. Rounded down it cannot: x <= bound holds for the same float32 x.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from aiservice_pipeline.tensors import Array


def exact_splits(model: Any) -> Any:
    """A copy that answers the same for every float32 input, and whose histogram-tree bounds are float32 numbers."""
    model = copy.deepcopy(model)
    for estimator in _estimators(model, set()):
        for trees in getattr(estimator, "_predictors", []):
            for tree in trees:
                tree.nodes["num_threshold"] = floor32(tree.nodes["num_threshold"])
    return model


def floor32(values: Array) -> Array:
    """The greatest float32 at most as large, as float64."""
    near = values.astype(np.float32)
    return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float64)


def _estimators(value: Any, seen: set[int]) -> Iterator[Any]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, BaseEstimator):
        yield value
        for part in vars(value).values():
            yield from _estimators(part, seen)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _estimators(part, seen)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _estimators(part, seen)
