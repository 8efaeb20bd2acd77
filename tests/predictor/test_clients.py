"""The clients that people have: kserve's and Triton's, against the real process."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pytest

from aiservice_predictor.codec.tensors import DTYPES
from clients import triton
from predictor.served import Served

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import kserve
    from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

# its asyncio client works with aiohttp alone, but its package asks for gevent first
GEVENT = ("gevent", "gevent.pool", "geventhttpclient", "geventhttpclient.url")
with mock.patch.dict(sys.modules, {name: mock.MagicMock() for name in GEVENT if find_spec(name.partition(".")[0]) is None}):
    import tritonclient.http.aio

TYPES = [t for t in DTYPES if t != "BF16"]
RAW_ONLY = {"FP16"}


def values(datatype: str) -> Any:
    if datatype == "BYTES":
        return np.array([["a", "é"], ["", "\0x"]], dtype=object)
    if datatype == "BOOL":
        return np.array([[True, False], [False, True]])
    dtype = DTYPES[datatype]
    if dtype.kind == "f":
        return np.array([[0.1, -2.5], [1e4, 0]], dtype=dtype)
    return np.array([[np.iinfo(dtype).min, np.iinfo(dtype).max], [0, 1]], dtype=dtype)


def same(datatype: str, got: Any) -> None:
    want = values(datatype)
    if datatype == "BYTES":
        got = [v.decode() if isinstance(v, bytes) else v for v in np.asarray(got).ravel()]
        assert got == want.ravel().tolist()
    else:
        assert np.asarray(got).dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def triton_inputs(client: ModuleType, **binary: bool) -> list[Any]:
    found = []
    for t in TYPES:
        array = values(t)
        tensor = client.InferInput(f"in_{t}", array.shape, t)
        json_form = not binary.get("binary_data", True) and t not in RAW_ONLY
        tensor.set_data_from_numpy(array, **({"binary_data": False} if json_form else {}))
        found.append(tensor)
    return found


@pytest.mark.parametrize("binary", [True, False])
async def test_triton_over_http(every_type: Served, binary: bool) -> None:
    async with tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{every_type.http}") as client:
        outputs = [tritonclient.http.InferRequestedOutput(f"out_{t}", binary_data=binary or t in RAW_ONLY) for t in TYPES]
        answer = await client.infer("m", triton_inputs(tritonclient.http, binary_data=binary), outputs=outputs, request_id="7")
        assert answer.get_response()["id"] == "7"
        for t in TYPES:
            same(t, answer.as_numpy(f"out_{t}"))
        gz = await client.infer("m", triton_inputs(tritonclient.http), request_compression_algorithm="gzip")
        same("FP64", gz.as_numpy("out_FP64"))


async def test_triton_asks_for_health_and_metadata_over_http(every_type: Served) -> None:
    async with tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{every_type.http}") as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("m")
        assert not await client.is_model_ready("other")
        assert (await client.get_server_metadata())["name"] == "aiservice-predictor"
        assert [t["datatype"] for t in (await client.get_model_metadata("m"))["inputs"]] == TYPES
        with pytest.raises(tritonclient.utils.InferenceServerException, match="is not served here"):
            await client.infer("other", triton_inputs(tritonclient.http))


def test_triton_over_grpc(every_type: Served) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{every_type.grpc}") as client:
        answer = client.infer("m", triton_inputs(triton), request_id="7")
        assert answer.get_response().id == "7"
        for t in TYPES:
            same(t, answer.as_numpy(f"out_{t}"))
        some = client.infer("m", triton_inputs(triton), outputs=[triton.InferRequestedOutput("out_INT8")])
        assert [o.name for o in some.get_response().outputs] == ["out_INT8"]
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("m")
        assert client.get_server_metadata().version
        assert [t.datatype for t in client.get_model_metadata("m").outputs] == TYPES
        assert list(client.get_model_metadata("m").inputs[0].shape) == [-1, 2]
        with pytest.raises(tritonclient.utils.InferenceServerException, match=r"NOT_FOUND.*is not served here"):
            client.infer("other", triton_inputs(triton))
        with pytest.raises(tritonclient.utils.InferenceServerException, match=r"INVALID_ARGUMENT.*missing input"):
            client.infer("m", triton_inputs(triton)[:3])


def kserve_request(binary: bool) -> InferRequest:
    inputs = []
    for t in TYPES:
        array = values(t)
        tensor = InferInput(f"in_{t}", list(array.shape), t)
        tensor.set_data_from_numpy(array, binary_data=binary or t in RAW_ONLY)
        inputs.append(tensor)
    return InferRequest("m", inputs, request_id="7")


@pytest.fixture
def quiet() -> Iterator[None]:
    """kserve's clients warn of what is in their own libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("binary", [True, False])
async def test_kserve_over_rest(every_type: Served, binary: bool) -> None:
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        request = kserve_request(binary)
        answer = await client.infer(every_type.url, request, model_name="m")
        assert answer.id == "7"
        for output in answer.outputs:
            same(output.name.removeprefix("out_"), output.as_numpy())
        assert await client.is_server_live(every_type.url)
        assert await client.is_server_ready(every_type.url)
        assert await client.is_model_ready(every_type.url, "m")


@pytest.mark.usefixtures("quiet")
async def test_kserve_v1(classes: Served) -> None:
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        answer = await client.infer(classes.url, {"instances": [[1, 2, 3]]}, model_name="m")
        assert answer["predictions"] == [{"label": 2, "scores": [2.0, 4.0, 6.0]}]
        assert await client.is_model_ready(classes.url, "m")


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("binary", [True, False])
async def test_kserve_over_grpc(every_type: Served, classes: Served, binary: bool) -> None:
    async with InferenceGRPCClient(f"127.0.0.1:{every_type.grpc}") as client:
        if binary:
            answer = await client.infer(kserve_request(True))
            assert answer.id == "7"
            for output in answer.outputs:
                same(output.name.removeprefix("out_"), output.as_numpy())
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("m")
    async with InferenceGRPCClient(f"127.0.0.1:{classes.grpc}") as client:
        tensor = InferInput("x", [1, 3], "FP32")
        tensor.set_data_from_numpy(np.array([[1, 2, 3]], dtype=np.float32), binary_data=binary)
        answer = await client.infer(InferRequest("m", [tensor]))
        assert answer.id
        assert [o.as_numpy().tolist() for o in answer.outputs] == [[2], [[2.0, 4.0, 6.0]]]


def test_other_stubs_of_the_same_protocol_live_beside_ours() -> None:
    from aiservice_predictor.proto import messages

    theirs = kserve.protocol.grpc.grpc_predict_v2_pb2.ModelInferRequest(model_name="m", id="1")
    assert messages.ModelInferRequest.FromString(theirs.SerializeToString()).id == "1"
