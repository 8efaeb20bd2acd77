"""The gRPC codec, message by message, and that our stubs are what the .proto says."""

from __future__ import annotations

import math
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings

from aiservice.api.bundle import Decision, DecisionKind
from aiservice_predictor.codec import grpc as codec
from aiservice_predictor.codec.grpc_raw import GrpcCodec
from aiservice_predictor.codec.request import Part
from aiservice_predictor.codec.tensors import Array, Spec, to_bytes
from aiservice_predictor.failures import Invalid
from aiservice_predictor.proto import generate, messages
from aiservice_predictor.signature import Signature
from predictor.models import TYPES
from predictor.served import Served
from predictor.test_tensors import tensors


def signature(datatype: str, *shape: int) -> Signature:
    spec = Spec("x", datatype, shape)
    return Signature({"x": spec}, {"x": spec}, Decision(kind=DecisionKind.CLASS, output="x"))


def message(datatype: str, shape: list[int], raw: bytes | None = None, **contents: Any) -> Any:
    found = messages.ModelInferRequest(model_name="m", id="7")
    tensor = found.inputs.add(name="x", datatype=datatype, shape=shape)
    for name, values in contents.items():
        getattr(tensor.contents, name).extend(values)
    if raw is not None:
        found.raw_input_contents.append(raw)
    return found


def test_the_descriptor_is_what_the_proto_says() -> None:
    assert generate.TARGET.read_bytes() == generate.generated(), "run: python -m aiservice_predictor.proto.generate"


@settings(deadline=None)
@given(tensors(finite=False))
def test_raw_and_typed_round_trip(given: tuple[str, Array]) -> None:
    datatype, array = given
    if 0 in array.shape[:1]:
        return
    sig = signature(datatype, *array.shape)
    request = codec.decode(sig, 100, message(datatype, list(array.shape), to_bytes(datatype, array)))
    for raw in (True, False):
        request.raw = raw
        answer = messages.ModelInferResponse.FromString(GrpcCodec("m", sig, 100, lambda _: None).encode(request, Part({"x": array})))
        assert answer.id == "7"
        if raw or datatype == "FP16":
            back = message(datatype, list(array.shape), answer.raw_output_contents[0])
        else:
            back = messages.ModelInferRequest()
            back.inputs.add().MergeFromString(answer.outputs[0].SerializeToString())
        np.testing.assert_array_equal(codec.decode(sig, 100, back).inputs["x"], array)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (message("FP64", [1, 2]), "datatype is 'FP64'"),
        (message("FP32", [1, 2], raw=b"1234"), "takes 8 bytes of binary data, got 4"),
        (message("FP32", [1, 2], fp32_contents=[1]), "takes 2 values, fp32_contents has 1"),
        (message("FP32", [1, 2], fp64_contents=[1, 2]), "contents are in fp64_contents, FP32 takes fp32_contents"),
        (message("FP32", [1, 2], raw=b"12345678", fp32_contents=[1, 2]), "both contents and raw_input_contents"),
        (message("FP32", [-1, 2]), "shape must be"),
        (message("FP32", [2**40, 2**40]), "more than"),
        (messages.ModelInferRequest(), "missing input: 'x'"),
    ],
)
def test_wrong_messages(request_: Any, said: str) -> None:
    with pytest.raises(Invalid) as error:
        codec.decode(signature("FP32", -1, 2), 100, request_)
    assert said in str(error.value)


def test_typed_integers_out_of_range_and_types_without_a_typed_form() -> None:
    with pytest.raises(Invalid, match=r"int_contents\[1\] is 300, out of the range of INT8"):
        codec.decode(signature("INT8", -1), 100, message("INT8", [2], int_contents=[1, 300]))
    with pytest.raises(Invalid, match="send raw_input_contents"):
        codec.decode(signature("FP16", -1), 100, message("FP16", [1], fp32_contents=[1]))
    bad = message("FP32", [1], raw=b"1234")
    bad.raw_input_contents.append(b"")
    with pytest.raises(Invalid, match="raw_input_contents has 2 entries for 1 inputs"):
        codec.decode(signature("FP32", -1), 100, bad)
    with pytest.raises(Invalid, match="string 0 is not UTF-8"):
        codec.decode(signature("BYTES", -1), 100, message("BYTES", [1], bytes_contents=[b"\xff"]))


def call(served: Served, method: str, data: bytes, **options: Any) -> bytes:
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc}") as channel:
        found: bytes = channel.unary_unary(f"/{messages.SERVICE}/{method}")(data, **options)
        return found


def test_every_type_typed_over_the_wire(every_type: Served) -> None:
    request = messages.ModelInferRequest(model_name="m")
    for datatype in TYPES:
        if datatype in ("BF16", "FP16"):
            continue
        tensor = request.inputs.add(name=f"in_{datatype}", datatype=datatype, shape=[1, 2])
        name = codec._CONTENTS[datatype]
        getattr(tensor.contents, name).extend([b"1", b"0"] if datatype == "BYTES" else [1, 0])
    with pytest.raises(grpc.RpcError) as error:
        call(every_type, "ModelInfer", request.SerializeToString())
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "missing input: 'in_FP16'" in error.value.details()


def test_garbage_and_unknown_methods(classes: Served) -> None:
    for method, code in (("ModelInfer", "INVALID_ARGUMENT"), ("ServerLive", "INVALID_ARGUMENT"), ("Nothing", "UNIMPLEMENTED")):
        with pytest.raises(grpc.RpcError) as error:
            call(classes, method, b"\xff\xff\xff")
        assert error.value.code().name == code


def test_a_message_over_the_limit(classes: Served) -> None:
    with pytest.raises(grpc.RpcError) as error:
        call(classes, "ModelInfer", message("FP32", [1, 3], raw=bytes(2**21)).SerializeToString())
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_nan_goes_through_grpc_as_it_is(classes: Served) -> None:
    sent = message("FP32", [1, 3], fp32_contents=[math.nan, 1, math.inf])
    answer = messages.ModelInferResponse.FromString(call(classes, "ModelInfer", sent.SerializeToString()))
    scores = list(answer.outputs[1].contents.fp32_contents)
    assert math.isnan(scores[0])
    assert scores[2] == math.inf


def test_grpc_is_counted(classes: Served) -> None:
    line = 'aiservice_requests_total{outcome="ok",protocol="grpc"}'
    before = classes.metric(line)
    call(classes, "ModelInfer", message("FP32", [1, 3], fp32_contents=[1, 2, 3]).SerializeToString())
    assert classes.metric(line) == before + 1
