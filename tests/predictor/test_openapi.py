"""The OpenAPI document says what the predictor does: schemathesis makes requests of it, good and bad, and judges every answer by it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from onnx import helper as h

from predictor import models
from predictor.served import Served, serving
from predictor.wire import Raw

CONFIG = Path(__file__).with_name("schemathesis.toml")


def bounded() -> bytes:
    """a FP32 [N, 2], b INT64 [N] -> sine FP32 [N, 2], same INT64 [N]: finite for whatever is finite."""
    return models.model(
        [h.make_node("Sin", ["a"], ["sine"]), h.make_node("BitwiseAnd", ["b", "b"], ["same"])],
        [models.info("a", "FP32", "N", 2), models.info("b", "INT64", "N")],
        [models.info("sine", "FP32", "N", 2), models.info("same", "INT64", "N")],
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = tmp_path_factory.mktemp("two") / "model.onnx"
    path.write_bytes(bounded())
    with serving(path, max_body=2**20, max_rows=1000) as served:
        yield served


def document(served: Served) -> Any:
    answer = served.client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "most"), [("two", 25), ("every_type", 10)])
def test_answers_are_as_the_document_says(name: str, most: int, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    served: Served = request.getfixturevalue(name)
    command = [f"{Path(sys.executable).with_name('st')}", "--config-file", f"{CONFIG}", "run", f"{served.url}/openapi.json"]
    options = ["--checks", "all", "--mode", "all", "--seed", "7", "--max-examples", f"{most}", "--no-color"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 selected / 9 total" in done.stdout, "every operation is asked"


def test_it_is_of_this_model(classes: Served) -> None:
    found = document(classes)
    assert found["openapi"] == "3.1.0"
    assert (found["info"]["title"], found["info"]["version"]) == ("m", "r1")
    assert found["info"]["x-limits"] == {
        "bodyBytes": 2**20, "rows": 1000, "waitingRequests": 256, "timeoutSeconds": 10, "headBytes": 65536, "headers": 100,
    }  # fmt: skip
    given = found["components"]["schemas"]["InferRequest"]["properties"]["inputs"]["items"]["properties"]
    assert (given["name"], given["datatype"]) == ({"const": "x"}, {"const": "FP32"})
    assert given["shape"]["prefixItems"] == [{"type": "integer", "minimum": 1, "maximum": 1000}, {"const": 3}]


def test_it_names_what_clients_are_for_and_nothing_else(classes: Served) -> None:
    found = document(classes)
    assert sorted(found["paths"]) == [
        "/openapi.json", "/v1/models", "/v1/models/m", "/v1/models/m:predict", "/v2", "/v2/health/live", "/v2/health/ready",
        "/v2/models/m", "/v2/models/m/infer", "/v2/models/m/ready",
    ]  # fmt: skip
    assert "Retry-After" in found["components"]["responses"]["503"]["headers"]


REFUSED = {
    400: b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
    403: b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nx-aiservice-replay: guess\r\nContent-Length: 0\r\n\r\n",
    413: b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
    415: b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Encoding: br\r\nContent-Length: 0\r\n\r\n",
    417: b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nExpect: 200\r\n\r\n",
    431: b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n" + b"x: y\r\n" * 101 + b"\r\n",
    501: b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    505: b"POST /v2/models/m/infer HTTP/2.0\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("status", REFUSED)
def test_what_no_generator_sends_is_in_it_too(classes: Served, status: int) -> None:
    with Raw(classes) as raw:
        assert raw.send(REFUSED[status]).answer().status == status
    assert f"{status}" in document(classes)["paths"]["/v2/models/m/infer"]["post"]["responses"]
