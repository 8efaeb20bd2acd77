"""How a table becomes a model's input tensors: one float tensor, or one tensor a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer

from aiservice.api.bundle import Feature
from aiservice_pipeline.tensors import Array

Table: TypeAlias = "pd.DataFrame | Array"
"""[rows, columns]."""


@dataclass(frozen=True)
class Layout:
    """Numbers travel as FP32, texts as BYTES with "" for a missing one. The source model is judged on the same."""

    columns: tuple[str, ...]
    texts: frozenset[str]
    tensor: str | None
    """Name of the one input tensor [rows, columns]; None: one input [rows, 1] for each column, named after it."""

    @classmethod
    def of(cls, model: Any, table: Table, input_name: str) -> Layout:
        """One tensor, unless a column holds texts or the model picks columns by name."""
        if not isinstance(table, pd.DataFrame):
            return cls(tuple(f"x{i}" for i in range(table.shape[1])), frozenset(), input_name)
        names = tuple(str(c) for c in table.columns)
        texts = frozenset(str(c) for c in table.columns if not pd.api.types.is_numeric_dtype(table[c]))
        return cls(names, texts, None if texts or _picks_columns(model) else input_name)

    def as_served(self, table: Table) -> Table:
        """What the source model would get of a request, rounded as the wire rounds it."""
        if not isinstance(table, pd.DataFrame):
            return table.astype(np.float32)
        return pd.DataFrame(
            {c: table[c].fillna("").astype(str) if str(c) in self.texts else table[c].astype(np.float32) for c in table.columns}
        )

    def feeds(self, table: Table) -> dict[str, Array]:
        """Input tensors by name, first axis: rows."""
        served = self.as_served(table)
        if self.tensor is not None:
            return {self.tensor: np.ascontiguousarray(served, dtype=np.float32)}
        assert isinstance(served, pd.DataFrame)
        return {n: self._column(served, i).reshape(-1, 1) for i, n in enumerate(self.columns)}

    def features(self) -> list[Feature]:
        return [
            Feature(name=n, input=self.tensor or n, column=i if self.tensor else 0, kind="Category" if n in self.texts else "Number")
            for i, n in enumerate(self.columns)
        ]

    def initial_types(self) -> list[tuple[str, Any]]:
        """As skl2onnx wants to be told."""
        if self.tensor is not None:
            return [(self.tensor, FloatTensorType([None, len(self.columns)]))]
        return [(n, (StringTensorType if n in self.texts else FloatTensorType)([None, 1])) for n in self.columns]

    def _column(self, served: pd.DataFrame, i: int) -> Array:
        values = served.iloc[:, i]
        return np.asarray(values, dtype=object if self.columns[i] in self.texts else np.float32)


def finite(feeds: dict[str, Array]) -> Array:
    """[rows] bool: the row holds no NaN and no infinity, so JSON can carry it."""
    fine = [np.isfinite(a).all(axis=1) for a in feeds.values() if a.dtype.kind == "f"]
    return np.logical_and.reduce(fine) if fine else np.ones(len(next(iter(feeds.values()))), dtype=bool)


def _picks_columns(model: Any) -> bool:
    if isinstance(model, ColumnTransformer):
        return True
    return any(_picks_columns(step) for _, step in getattr(model, "steps", []))
