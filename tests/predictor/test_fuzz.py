"""Whatever JSON or message comes: it is read, or refused as the client's fault. Never anything else."""

from __future__ import annotations

import contextlib
import json
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiservice.api.bundle import Decision, DecisionKind
from aiservice_predictor.codec import grpc, rest, v1
from aiservice_predictor.codec.grpc_raw import GrpcCodec
from aiservice_predictor.codec.request import Part
from aiservice_predictor.codec.rest_codec import RestCodec
from aiservice_predictor.codec.tensors import DTYPES, Spec
from aiservice_predictor.failures import Invalid, TooLarge
from aiservice_predictor.proto import messages
from aiservice_predictor.signature import Signature
from predictor import fuzz

SPECS = {
    "x": Spec("x", "FP32", (-1, 2)),
    "n": Spec("n", "INT8", (-1,)),
    "s": Spec("s", "BYTES", (-1, 1)),
}
SIGNATURE = Signature(SPECS, SPECS, Decision(kind=DecisionKind.CLASS, output="n"))
V2: dict[str, Any] = {
    "id": "1",
    "parameters": {"binary_data_output": False},
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[1.5, 2], [3, 4]], "parameters": {}},
        {"name": "n", "datatype": "INT8", "shape": [2], "data": [1, -2]},
        {"name": "s", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": 11}},
    ],
    "outputs": [{"name": "x", "parameters": {"binary_data": True}}, {"name": "s"}],
}
V1: dict[str, Any] = {"instances": [{"x": [1.5, 2], "n": 1, "s": ["a"]}, {"x": [3, 4], "n": -2, "s": ["b"]}]}
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
    | st.sampled_from(["x", "n", "FP32", "INT8", "BYTES"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "data", "shape", "x", "n", "s"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, whole: dict[str, Any]) -> dict[str, Any]:
    """`whole` with one to three of its parts replaced or taken away."""
    found = deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        at: Any = found
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(at[key], dict | list) and draw(st.integers(0, 3)):
                at = at[key]
                continue
            if draw(st.booleans()):
                at[key] = draw(ANY)
            else:
                del at[key]
            break
    return found


STRINGS = b"\1\0\0\0a\2\0\0\0bc"


def test_the_whole_ones_are_read() -> None:
    head = json.dumps(V2).encode()
    request = rest.decode(SIGNATURE, 100, head + STRINGS, len(head))
    assert request.rows == 2
    assert request.inputs["s"].tolist() == [["a"], ["bc"]]
    body, size = RestCodec("m", SIGNATURE, 100).encode(request, Part(request.inputs))
    assert size is not None
    answer = json.loads(body[:size])
    assert [o["name"] for o in answer["outputs"]] == ["x", "s"]
    np.testing.assert_array_equal(np.frombuffer(body[size:], np.float32).reshape(2, 2), request.inputs["x"])
    assert v1.decode(SIGNATURE, 100, json.dumps(V1).encode()).rows == 2


@settings(max_examples=400, deadline=None)
@given(damaged(V2), st.binary(max_size=20) | st.just(STRINGS))
def test_v2(body: dict[str, Any], binary: bytes) -> None:
    head = json.dumps(body).encode()
    with contextlib.suppress(Invalid, TooLarge):
        request = rest.decode(SIGNATURE, 100, head + binary, len(head))
        for name, array in request.inputs.items():
            assert array.dtype == DTYPES[SPECS[name].datatype]
            assert array.ndim == len(SPECS[name].shape)
        RestCodec("m", SIGNATURE, 100).encode(request, Part(request.inputs))


@settings(max_examples=400, deadline=None)
@given(damaged(V1))
def test_v1(body: dict[str, Any]) -> None:
    with contextlib.suppress(Invalid, TooLarge):
        request = v1.decode(SIGNATURE, 100, json.dumps(body).encode())
        v1.encode(SIGNATURE, request, request.inputs)


MESSAGE = messages.ModelInferRequest(model_name="m", id="1")
for spec, raw in zip(SPECS.values(), (bytes(16), b"\1\2", STRINGS), strict=True):
    MESSAGE.inputs.add(name=spec.name, datatype=spec.datatype, shape=[2, *spec.shape[1:]])
    MESSAGE.raw_input_contents.append(raw)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4), st.integers(0, 20))
def test_grpc(flips: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(MESSAGE.SerializeToString())
    for place, value in flips:
        data[place % len(data)] = value
    with contextlib.suppress(Invalid, TooLarge):
        message = grpc.parse(messages.ModelInferRequest, bytes(data[: len(data) - cut]))
        request = grpc.decode(SIGNATURE, 100, message)
        GrpcCodec("m", SIGNATURE, 100, lambda _: None).encode(request, Part(request.inputs))


def test_json_that_takes_far_more_memory_than_bytes() -> None:
    with pytest.raises(TooLarge, match="lists and objects"):
        rest.parse(b'{"inputs": [' + b"[]," * 2**20 + b"[]]}")


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_damaged_bytes(target: str) -> None:
    fuzz.run(target, 1500, seed=7)
