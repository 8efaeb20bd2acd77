"""Rows that were written together with others are the rows that are written alone, whatever their type and shape."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from aiservice_predictor.codec.json_out import JsonOut
from aiservice_predictor.codec.request import Part
from aiservice_predictor.codec.tensors import Array, Spec
from aiservice_predictor.signature import Signature
from predictor.test_tensors import tensors


@settings(deadline=None)
@given(tensors(), st.data())
def test_a_share_of_a_call_is_written_as_if_it_were_alone(given: tuple[str, Array], data: st.DataObject) -> None:
    datatype, array = given
    out = JsonOut("m", cast(Signature, SimpleNamespace(outputs={"y": Spec("y", datatype, (-1, *array.shape[1:]))})))
    if not array.ndim:
        return
    start = data.draw(st.integers(0, len(array)))
    end = data.draw(st.integers(start, len(array)))
    texts: dict[str, list[bytes]] = {}
    shared = out.tensor("y", Part({"y": array}, start, end, texts))
    assert orjson.loads(shared) == orjson.loads(out.tensor("y", Part({"y": array[start:end]})))
    assert shared == out.tensor("y", Part({"y": array}, start, end, texts))
