"""JSON values <-> arrays <-> bytes."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aiservice_predictor.codec.numbers import LONGEST, Numbers
from aiservice_predictor.codec.tensors import DTYPES, FLOATS, Array, Spec, fits, from_bytes, from_json, shape_of, to_bytes, to_json
from aiservice_predictor.failures import Invalid

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@st.composite
def tensors(draw: st.DrawFn, finite: bool = True) -> tuple[str, Array]:
    datatype = draw(st.sampled_from([t for t in DTYPES if t != "BF16"]))
    shape = draw(SHAPES)
    if datatype == "BYTES":
        texts = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=math.prod(shape), max_size=math.prod(shape)))
        array = np.empty(len(texts), dtype=object)
        array[:] = texts
        return datatype, array.reshape(shape)
    elements: Any = {"allow_nan": False, "allow_infinity": False} if datatype in FLOATS and finite else None
    return datatype, draw(hnp.arrays(DTYPES[datatype], shape, elements=elements))


def spec(datatype: str, array: Array) -> Spec:
    return Spec("x", datatype, array.shape)


@settings(deadline=None)
@given(tensors())
def test_what_is_written_as_json_is_read_back(given: tuple[str, Array]) -> None:
    datatype, array = given
    data = orjson.loads(orjson.dumps(to_json(datatype, array), option=orjson.OPT_SERIALIZE_NUMPY))
    back = from_json(spec(datatype, array), array.shape, data)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@settings(deadline=None)
@given(tensors())
def test_nested_data_is_the_same_as_flat(given: tuple[str, Array]) -> None:
    datatype, array = given
    data = orjson.loads(orjson.dumps(array.tolist()))
    np.testing.assert_array_equal(from_json(spec(datatype, array), array.shape, data), array)


@settings(deadline=None)
@given(tensors(finite=False), st.binary(max_size=5), st.binary(max_size=5))
def test_what_is_written_as_bytes_is_read_back_wherever_it_stands(given: tuple[str, Array], before: bytes, after: bytes) -> None:
    datatype, array = given
    raw = to_bytes(datatype, array)
    back = from_bytes(spec(datatype, array), array.shape, before + raw + after, len(before), len(raw))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@settings(deadline=None)
@given(tensors(), st.integers(-9, 9).filter(bool))
def test_bytes_of_another_size_are_refused(given: tuple[str, Array], more: int) -> None:
    datatype, array = given
    raw = to_bytes(datatype, array)
    raw = raw + b"\0" * more if more > 0 else raw[:more]
    if len(raw) == len(to_bytes(datatype, array)):
        return
    with pytest.raises(Invalid, match="input 'x'"):
        from_bytes(spec(datatype, array), array.shape, raw, 0, len(raw))


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 5))
def test_garbage_strings_never_crash(raw: bytes, count: int) -> None:
    with contextlib.suppress(Invalid):
        from_bytes(Spec("x", "BYTES", (count,)), (count,), raw, 0, len(raw))


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda s: st.lists(s, max_size=3), max_leaves=8)


@settings(deadline=None)
@given(st.sampled_from(list(DTYPES)), st.lists(st.integers(0, 3), max_size=3), JSON)
def test_any_json_is_read_or_refused(datatype: str, shape: list[int], data: object) -> None:
    with contextlib.suppress(Invalid):
        assert from_json(Spec("x", datatype, tuple(shape)), tuple(shape), data).shape == tuple(shape)


@pytest.mark.parametrize(
    ("datatype", "data", "said"),
    [
        ("INT64", [1, 2.5], "data[1] is 2.5, expected integers"),
        ("INT8", [1, 300], "data[1] is 300"),
        ("UINT64", [0, -1], "data[1] is -1"),
        ("INT64", [1, 2**64], "data[1]"),
        ("FP32", [1, "2"], "data[1] is '2', expected numbers"),
        ("FP32", [1e39, 1], "data[0] is 1e+39"),
        ("FP16", [1e6, 1], "data[0] is 1000000.0"),
        ("FP64", [True, {}], "data[1] is {}"),
        ("BOOL", [True, 1], "data[1] is 1, expected true or false"),
        ("BYTES", ["a", 1], "data[1] is 1, expected strings"),
        ("INT64", [None, 1], "data[0] is null"),
        ("FP32", [1], "takes 2 values, data has 1"),
        ("FP32", [[1], [2]], "data[0] is [1], expected numbers"),
        ("FP32", "12", "data must be a list"),
        ("FP32", {"a": 1}, "data must be a list"),
    ],
)
def test_the_first_wrong_value_is_named(datatype: str, data: object, said: str) -> None:
    with pytest.raises(Invalid) as error:
        from_json(Spec("x", datatype, (-1,)), (2,), data)
    assert said in str(error.value)


def test_null_is_nan_in_floats() -> None:
    array = from_json(Spec("x", "FP32", (-1,)), (2,), [None, 1.5])
    assert math.isnan(array[0])
    assert array[1] == 1.5


@settings(deadline=None)
@given(st.floats(width=32))
def test_bf16_is_the_nearest(value: float) -> None:
    data = [None if math.isnan(value) else value]
    if math.isinf(value):
        return
    bits = from_json(Spec("x", "BF16", (1,)), (1,), data)
    back = float(to_json("BF16", bits)[0])
    if math.isnan(value):
        assert math.isnan(back)
    elif math.isfinite(back):
        assert abs(back - value) <= abs(value) / 256 + 2.0**-133


def test_lists_that_do_not_nest_as_the_shape_says() -> None:
    for data in ([[1], [2]], [[1, 2, 3]], [[1, 2, 3], [4, 5]], [[1, 2, 3], 4]):
        with pytest.raises(Invalid, match=r"does not nest as shape \[2, 3\] says"):
            from_json(Spec("x", "FP32", (-1, 3)), (2, 3), data)


@pytest.mark.parametrize("shape", [[-1], [1.0], ["1"], [True], None, 3, [1] * 17, [2**30, 2**30], [0, 2**60]])
def test_shapes_that_are_none(shape: object) -> None:
    with pytest.raises(Invalid, match="shape"):
        shape_of("x", shape)


def test_what_came_and_what_is_expected_is_said() -> None:
    expected = Spec("x", "FP32", (-1, 3))
    fits(expected, "FP32", (5, 3))
    with pytest.raises(Invalid, match=r"datatype is 'INT8', the model expects \"FP32\""):
        fits(expected, "INT8", (5, 3))
    with pytest.raises(Invalid, match=r"shape \[3\] has 1 axes, the model expects 2: \[-1, 3\]"):
        fits(expected, "FP32", (3,))
    with pytest.raises(Invalid, match=r"axis 1 has 4, expected 3"):
        fits(expected, "FP32", (5, 4))


NUMBERS = Numbers()
LISTS = st.lists(
    st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(width=32, allow_nan=False, allow_infinity=False)
    | st.integers(-(2**70), 2**70)
)


@settings(deadline=None)
@given(st.sampled_from(["FP32", "FP64", "INT64", "INT32"]), LISTS | st.lists(st.integers(-(2**63), 2**64 - 1)))
def test_numbers_that_are_read_at_once_are_those_that_are_read_one_by_one(datatype: str, values: list[float]) -> None:
    given = Spec("x", datatype, (-1,))
    text = b"[" + b",".join(str(v).encode() for v in values) + b"]"
    found = NUMBERS.read(given, (len(values),), text)
    try:
        expected = from_json(given, (len(values),), orjson.loads(text))
    except Invalid:
        assert found is None
        return
    if found is not None:
        assert found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes()


def test_usual_numbers_are_read_at_once() -> None:
    assert NUMBERS.read(Spec("x", "FP32", (-1, 2)), (2, 2), b"[1.5, 2, -3e-2, 4]") is not None
    assert NUMBERS.read(Spec("x", "INT64", (-1,)), (2,), b"[1, -9223372036854775808]") is not None


@pytest.mark.parametrize(
    ("datatype", "text"),
    [
        ("FP32", b"[1,null]"), ("FP32", b"[1,2"), ("FP32", b"[1,2]x"), ("FP32", b"[[1],[2]]"), ("FP32", b"[1,1e39]"), ("FP32", b"[1]"),
        ("FP32", b"[1,true]"), ("INT64", b"[1,2.0]"), ("INT64", b"[1,9223372036854775808]"), ("INT8", b"[1,2]"),
        ("FP32", b"[" + b"1," * (LONGEST // 2) + b"1]"),
    ],
)  # fmt: skip
def test_what_is_not_a_flat_list_of_fitting_numbers_is_left_to_be_read_one_by_one(datatype: str, text: bytes) -> None:
    assert NUMBERS.read(Spec("x", datatype, (-1,)), (2,), text) is None
    assert NUMBERS.read(Spec("x", datatype, (-1,)), (1,), b"[1]") is not None or datatype == "INT8"
