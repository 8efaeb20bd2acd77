"""What HTTP clients get: right answers, and for every wrong request a sentence that says what to do."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from aiservice.api.runtime import LATENCY_BOUNDS, REPLAY_HEADER
from predictor import models
from predictor.models import tensor
from predictor.served import TOKEN, Served, serving

GOOD = tensor("x", "FP32", [1, 2, 3, 9, 8, 7], 2, 3)
INFER = "/v2/models/m/infer"


def error_of(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert list(found) == ["error"]
    assert "Traceback" not in found["error"]
    return str(found["error"])


def test_an_answer(classes: Served) -> None:
    answer = classes.infer(GOOD, id="mine")
    assert answer.status_code == 200
    assert answer.json() == {
        "model_name": "m",
        "id": "mine",
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [2], "data": [2, 0]},
            {"name": "scores", "datatype": "FP32", "shape": [2, 3], "data": [2.0, 4.0, 6.0, 18.0, 16.0, 14.0]},
        ],
    }


def test_ids_are_made_where_none_came(classes: Served) -> None:
    ids = {classes.infer(GOOD).json()["id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(ids)


def test_a_choice_of_outputs(classes: Served) -> None:
    assert [o["name"] for o in classes.infer(GOOD, outputs=[{"name": "scores"}]).json()["outputs"]] == ["scores"]


def test_binary_both_ways_and_mixed(classes: Served) -> None:
    raw = struct.pack("<3f", 1, 3, 2)
    head = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}],
        "outputs": [{"name": "scores", "parameters": {"binary_data": True}}, {"name": "label"}],
    }
    text = json.dumps(head).encode()
    answer = classes.client.post(INFER, content=text + raw, headers={"Inference-Header-Content-Length": str(len(text))})
    size = int(answer.headers["inference-header-content-length"])
    assert answer.headers["content-type"] == "application/octet-stream"
    outputs = json.loads(answer.content[:size])["outputs"]
    assert outputs[0]["parameters"] == {"binary_data_size": 12}
    assert outputs[1]["data"] == [1]
    assert np.frombuffer(answer.content[size:], np.float32).tolist() == [2, 6, 4]


def test_binary_for_all_outputs(classes: Served) -> None:
    answer = classes.infer(GOOD, parameters={"binary_data_output": True})
    size = int(answer.headers["inference-header-content-length"])
    assert len(answer.content) - size == 2 * 8 + 6 * 4


def test_gzip(classes: Served) -> None:
    body = gzip.compress(json.dumps({"inputs": [GOOD]}).encode())
    assert classes.client.post(INFER, content=body, headers={"content-encoding": "gzip"}).status_code == 200
    twice = gzip.compress(b'{"inputs": ') + gzip.compress(json.dumps([GOOD]).encode() + b"}")
    assert classes.client.post(INFER, content=twice, headers={"content-encoding": "gzip"}).status_code == 200


@pytest.mark.parametrize(
    ("content", "encoding", "status", "said"),
    [
        (b"no gzip", "gzip", 400, "not gzip"),
        (gzip.compress(b"x" * 100, mtime=0)[:-5], "gzip", 400, "ends too early"),
        (gzip.compress(bytes(50 * 2**20), mtime=0), "gzip", 413, "after gzip is undone"),
        (b"{}", "br", 415, "send gzip or none"),
    ],
)
def test_encodings_that_are_wrong(classes: Served, content: bytes, encoding: str, status: int, said: str) -> None:
    answer = classes.client.post(INFER, content=content, headers={"content-encoding": encoding})
    assert answer.status_code == status
    assert said in error_of(answer)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "must be a JSON object"),
        (b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [NaN, 1, 2]}]}', "NaN and Infinity are not JSON"),
        ({}, "inputs must be a list"),
        ({"inputs": {}}, "inputs must be a list"),
        ({"inputs": [1]}, "each of inputs must be an object"),
        ({"inputs": [tensor("z", "FP32", [1], 1)]}, "input 'z' is not one of the model's: 'x'"),
        ({"inputs": [{"data": [1]}]}, "input None is not one of the model's: 'x'"),
        ({"inputs": [GOOD, GOOD]}, "input 'x' is given twice"),
        ({"inputs": [tensor("x", "FP64", [1, 2, 3], 1, 3)]}, "datatype is 'FP64', the model expects \"FP32\""),
        ({"inputs": [tensor("x", "FP32", [1, 2, 3], 3)]}, "the model expects 2"),
        ({"inputs": [tensor("x", "FP32", [1, 2, 3, 4], 1, 4)]}, "axis 1 has 4, expected 3"),
        ({"inputs": [tensor("x", "FP32", [1, 2], 1, 3)]}, "takes 3 values, data has 2"),
        ({"inputs": [tensor("x", "FP32", ["1", 2, 3], 1, 3)]}, "data[0] is '1', expected numbers"),
        ({"inputs": [tensor("x", "FP32", [], 0, 3)]}, "has no rows"),
        ({"inputs": [tensor("x", "FP32", [], -1, 3)]}, "shape must be a list"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3]}]}, "neither data nor parameters.binary_data_size"),
        ({"inputs": [GOOD], "outputs": [{"name": "nope"}]}, "output 'nope' is not one of the model's: 'label', 'scores'"),
        ({"inputs": [GOOD], "outputs": 1}, "outputs must be a list"),
        ({"inputs": [GOOD], "outputs": [1]}, "each of outputs must be an object"),
        ({"inputs": [GOOD], "outputs": [{"name": "scores", "parameters": {"classification": 3}}]}, "classification"),
        ({"inputs": [GOOD], "id": 7}, "id must be a text"),
        ({"inputs": [GOOD], "parameters": []}, "parameters must be an object"),
        ({"inputs": [GOOD | {"parameters": {"binary_data_size": 4}}]}, "both data and"),
        (
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}]},
            "0 bytes are left in the body",
        ),
    ],
)
def test_wrong_bodies(classes: Served, body: Any, said: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = classes.client.post(INFER, content=content)
    assert answer.status_code == 400
    assert said in error_of(answer)


@pytest.mark.parametrize("size", ["x", "-1", "0", "99999", "1" * 30])
def test_wrong_sizes_of_the_json_part(classes: Served, size: str) -> None:
    answer = classes.client.post(INFER, content=b"{}", headers={"Inference-Header-Content-Length": size})
    assert answer.status_code == 400
    assert "Inference-Header-Content-Length" in error_of(answer)


def test_binary_data_that_belongs_to_nobody(classes: Served) -> None:
    text = json.dumps({"inputs": [GOOD]}).encode()
    answer = classes.client.post(INFER, content=text + b"1234", headers={"Inference-Header-Content-Length": str(len(text))})
    assert answer.status_code == 400
    assert "4 bytes of binary data belong to no input" in error_of(answer)


def test_too_many_rows_are_refused_before_their_data_is_looked_at(classes: Served) -> None:
    answer = classes.infer(tensor("x", "FP32", [], 1001, 3))
    assert answer.status_code == 413
    assert "1001 rows, at most 1000" in error_of(answer)


def test_a_body_over_the_limit(classes: Served) -> None:
    answer = classes.client.post(INFER, content=bytes(2**20 + 1))
    assert answer.status_code == 413
    assert "at most 1048576" in error_of(answer)


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", INFER, 405, "POST"),
        ("DELETE", "/v2", 405, "GET it"),
        ("POST", "/metrics", 405, "GET it"),
        ("POST", "/v2/health/ready", 405, "GET it"),
        ("GET", "/", 404, "/v2/models/m"),
        ("GET", "/v2/models/other", 404, "model 'other' is not served here; this is 'm'"),
        ("POST", "/v2/models/other/infer", 404, "model 'other' is not served here"),
        ("POST", "/v1/models/other:predict", 404, "model 'other' is not served here"),
        ("POST", "/v2/models/m/nothing", 404, "nothing is served under"),
        ("POST", "/v1/models/m:explain", 404, "nothing is served under"),
    ],
)
def test_wrong_places(classes: Served, method: str, path: str, status: int, said: str) -> None:
    answer = classes.client.request(method, path)
    assert answer.status_code == status
    assert ("allow" in answer.headers) == (status == 405)
    assert said in error_of(answer)


def test_health_and_metadata(classes: Served) -> None:
    found = {
        p: classes.client.get(p).json() for p in ("/healthz", "/v2/health/live", "/v2/health/ready", "/v2/models/m/ready", "/v1/models/m")
    }
    assert list(found.values()) == [
        {"status": "alive"},
        {"live": True},
        {"ready": True},
        {"name": "m", "ready": True},
        {"name": "m", "ready": True},
    ]
    assert classes.client.head("/v2/health/ready").status_code == 200
    assert "binary_tensor_data" in classes.client.get("/v2").json()["extensions"]
    assert classes.client.get("/v2/models/m").json() == {
        "name": "m",
        "versions": ["r1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "label", "datatype": "INT64", "shape": [-1]}, {"name": "scores", "datatype": "FP32", "shape": [-1, 3]}],
    }


def test_v1(classes: Served) -> None:
    answer = classes.client.post("/v1/models/m:predict", json={"instances": [[1, 2, 3], [9, 8, 7]]})
    assert answer.json() == {"predictions": [{"label": 2, "scores": [2.0, 4.0, 6.0]}, {"label": 0, "scores": [18.0, 16.0, 14.0]}]}
    for body in ({"inputs": [[1, 2, 3]]}, {"inputs": {"x": [[1, 2, 3]]}}, {"instances": [{"x": [1, 2, 3]}]}):
        assert classes.client.post("/v1/models/m:predict", json=body).json()["predictions"][0]["label"] == 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, '"instances"'),
        ({"instances": []}, '"instances"'),
        ({"instances": [1, 2, 3]}, "the model expects 2"),
        ({"instances": [[1, 2]]}, "axis 1 has 2, expected 3"),
        ({"instances": [[1, 2, 3], [1, 2]]}, "does not nest"),
        ({"instances": [[1, 2, "3"]]}, "expected numbers"),
        ({"instances": [{"y": [1, 2, 3]}]}, "row 0 must be an object with exactly 'x', got ['y']"),
        ({"instances": [{"x": [1, 2, 3]}, 5]}, "row 1 must be an object with exactly 'x'"),
    ],
)
def test_wrong_v1(classes: Served, body: dict[str, Any], said: str) -> None:
    answer = classes.client.post("/v1/models/m:predict", json=body)
    assert answer.status_code == 400
    assert said in error_of(answer)


def test_counting(classes: Served) -> None:
    classes.infer(GOOD)  # a decision is counted from its first time on
    before = {k: classes.metric(k) for k in (OK, WRONG, SECONDS, ROWS, V1, HIGH)}
    classes.infer(GOOD)
    classes.infer(tensor("x", "FP32", [1], 1))
    classes.client.post("/v1/models/m:predict", json={"instances": [[1, 2, 3]]})
    after = {k: classes.metric(k) - before[k] for k in before}
    assert after == {OK: 1, WRONG: 1, SECONDS: 2, ROWS: 3, V1: 1, HIGH: 2}
    text = classes.client.get("/metrics").text
    assert 'aiservice_model_info{digest="sha256:' in text
    assert 'name="m",revision="r1"} 1.0' in text
    edges = [float(line.split('"')[1]) for line in text.splitlines() if line.startswith("aiservice_request_seconds_bucket")]
    assert tuple(edges[:-1]) == LATENCY_BOUNDS


OK = 'aiservice_requests_total{outcome="ok",protocol="rest"}'
V1 = 'aiservice_requests_total{outcome="ok",protocol="v1"}'
WRONG = 'aiservice_requests_total{outcome="client_error",protocol="rest"}'
FAILED = 'aiservice_requests_total{outcome="server_error",protocol="rest"}'
SECONDS = "aiservice_request_seconds_count"
ROWS = "aiservice_rows_total"
HIGH = 'aiservice_decisions_total{decision="high"}'


def test_a_replayed_request_leaves_no_trace_and_tells_its_decisions(classes: Served) -> None:
    classes.infer(GOOD)  # a decision is counted from its first time on
    kept = ("aiservice_reservoir_requests", OK, SECONDS, ROWS, HIGH)
    before = [classes.metric(k) for k in kept]
    answer = classes.infer(GOOD, headers={REPLAY_HEADER: TOKEN})
    assert answer.json()["parameters"] == {"decisions": ["high", "low"]}
    assert [classes.metric(k) for k in kept] == before


def test_a_replay_without_the_token(classes: Served) -> None:
    answer = classes.infer(GOOD, headers={REPLAY_HEADER: "guess"})
    assert answer.status_code == 403
    assert "token" in error_of(answer)


def test_several_inputs_over_v1_and_v2(onnx: Callable[[bytes], Path]) -> None:
    with serving(onnx(models.pair())) as served:
        rows: dict[str, list[dict[str, Any]]] = {"instances": [{"a": [1, 2], "b": 3}, {"a": [4, 5], "b": [6]}]}
        wrong = served.client.post("/v1/models/m:predict", json=rows)
        assert wrong.status_code == 400
        rows["instances"][1]["b"] = 6
        found = served.client.post("/v1/models/m:predict", json=rows).json()["predictions"]
        assert found == [{"total": [6.0], "echo": [3]}, {"total": [15.0], "echo": [6]}]
        assert "each row must be an object" in error_of(served.client.post("/v1/models/m:predict", json={"instances": [[1, 2]]}))
        a, b = tensor("a", "FP32", [1, 2, 3, 4], 2, 2), tensor("b", "INT64", [5], 1, 1)
        assert "missing input: 'b' (INT64 [-1, 1])" in error_of(served.infer(a))
        assert "all must have the same number" in error_of(served.infer(a, b))
        data = served.infer(tensor("b", "INT64", [5, 6], 2, 1), a).json()["outputs"]
        assert [o["data"] for o in data] == [[8.0, 13.0], [5, 6]]


def test_failures_inside_the_graph(onnx: Callable[[bytes], Path]) -> None:
    with serving(onnx(models.table())) as served:
        answer = served.infer(tensor("x", "INT64", [1, 7]))
        assert answer.status_code == 500
        assert "the model failed on this request: " in error_of(answer)
        assert "idx=7" in error_of(answer)
        assert served.infer(tensor("x", "INT64", [1])).json()["outputs"][0]["data"] == [20.0]
        assert served.metric(FAILED) == 1


def test_numbers_that_json_does_not_have(onnx: Callable[[bytes], Path]) -> None:
    with serving(onnx(models.logarithm())) as served:
        answer = served.infer(tensor("x", "FP32", [1, -1]))
        assert answer.status_code == 500
        assert "output 'y' holds NaN or Infinity, which JSON cannot carry" in error_of(answer)
        assert served.client.post("/v1/models/m:predict", json={"instances": [-1]}).status_code == 500
        given = served.infer(tensor("x", "FP32", [None, 1]))
        assert given.status_code == 400
        assert "input 'x' holds such values as well" in error_of(given)
        binary = served.infer(tensor("x", "FP32", [1, -1]), parameters={"binary_data_output": True})
        values = np.frombuffer(binary.content[int(binary.headers["inference-header-content-length"]) :], np.float32)
        assert values[0] == 0
        assert np.isnan(values[1])


def test_text(onnx: Callable[[bytes], Path]) -> None:
    with serving(onnx(models.doubled_text())) as served:
        answer = served.infer(tensor("x", "BYTES", ["ab", "é", "", "null"]))
        assert answer.json()["outputs"][0]["data"] == ["abab", "éé", "", "nullnull"]
        head = {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}]}
        text = json.dumps(head).encode()
        wrong = served.client.post(INFER, content=text + b"\1\0\0\0\xff", headers={"Inference-Header-Content-Length": str(len(text))})
        assert wrong.status_code == 400
        assert "string 0 is not UTF-8" in error_of(wrong)


def test_bf16(onnx: Callable[[bytes], Path]) -> None:
    with serving(onnx(models.identity("BF16", "N"))) as served:
        answer = served.infer(tensor("x", "BF16", [1.5, -2]))
        assert answer.json()["outputs"][0] == {"name": "y", "datatype": "BF16", "shape": [2], "data": [1.5, -2.0]}
