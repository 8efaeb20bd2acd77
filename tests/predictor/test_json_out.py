"""Rows that were written together with others are the rows that are written alone, whatever their type and shape."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiservice_predictor.codec.json_out import JsonOut
from aiservice_predictor.codec.request import Part, Texts
from aiservice_predictor.codec.tensors import DTYPES, Array, Spec
from aiservice_predictor.signature import Signature
from predictor.test_tensors import tensors


@settings(deadline=None)
@given(tensors(), st.data())
def test_a_share_of_a_call_is_written_as_if_it_were_alone(given: tuple[str, Array], data: st.DataObject) -> None:
    compare(*given, data.draw)


@pytest.mark.parametrize("datatype", ["BYTES", "FP32"])
def test_rows_without_values(datatype: str) -> None:
    places = iter((1, 3))
    compare(datatype, np.empty((3, 0), DTYPES[datatype]), lambda _: next(places))


def compare(datatype: str, array: Array, draw: Any) -> None:
    names = ("y", "z")
    out = JsonOut("m", cast(Signature, SimpleNamespace(outputs={n: Spec(n, datatype, (-1, *array.shape[1:])) for n in names})))
    if not array.ndim:
        return
    start = draw(st.integers(0, len(array)))
    end = draw(st.integers(start, len(array)))
    texts: Texts = {}
    shared = out.tensor("y", Part({"y": array}, start, end, texts))
    assert orjson.loads(shared) == orjson.loads(out.tensor("y", Part({"y": array[start:end]})))
    assert shared == out.tensor("y", Part({"y": array}, start, end, texts))
    outputs = {"y": array, "z": array[::-1]}
    for first, last in ((start, end), *((n, n + 1) for n in range(len(array)))):
        alone = out.tensors(names, Part({n: a[first:last] for n, a in outputs.items()}))
        assert orjson.loads(b"[%s]" % out.tensors(names, Part(outputs, first, last, texts))) == orjson.loads(b"[%s]" % alone)
