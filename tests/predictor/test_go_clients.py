"""grpc-go (grpcurl, with our .proto) and h2spec against the real process. `make test-go`."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from aiservice_predictor import proto
from predictor import models
from predictor.go_tools import program
from predictor.served import Served, serving

pytestmark = [pytest.mark.go, pytest.mark.timeout(1000)]

PROTO = Path(proto.__path__[0])
CODES = {"InvalidArgument": 3, "DeadlineExceeded": 4, "NotFound": 5, "Unimplemented": 12}
TYPED = {"name": "x", "datatype": "FP32", "shape": [1, 3], "contents": {"fp32_contents": [1, 3, 2]}}
ANSWER: dict[str, Any] = {
    "modelName": "m",
    "id": "7",
    "outputs": [
        {"name": "label", "datatype": "INT64", "shape": ["1"], "contents": {"int64Contents": ["1"]}},
        {"name": "scores", "datatype": "FP32", "shape": ["1", "3"], "contents": {"fp32Contents": [2, 6, 4]}},
    ],
}


def ask(served: Served, method: str, message: dict[str, Any], *options: str) -> Any:
    """The answer, or (code, text) where there is none."""
    plain = [] if "-cacert" in options else ["-plaintext"]
    command = [f"{program('grpcurl')}", *plain, "-import-path", f"{PROTO}", "-proto", "open_inference.proto", *options]
    target = [f"localhost:{served.grpc}", f"inference.GRPCInferenceService/{method}"]
    done = subprocess.run([*command, "-d", json.dumps(message), *target], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout)
    lines = dict(line.strip().split(": ", 1) for line in done.stderr.splitlines() if ": " in line)
    assert done.returncode == 64 + CODES[lines["Code"]], done.stderr
    return lines["Code"], lines["Message"]


def test_typed_contents(classes: Served) -> None:
    assert ask(classes, "ModelInfer", {"model_name": "m", "id": "7", "inputs": [TYPED]}) == ANSWER


def test_raw_contents(classes: Served) -> None:
    raw = {name: value for name, value in TYPED.items() if name != "contents"}
    message = {
        "model_name": "m",
        "id": "7",
        "inputs": [raw],
        "raw_input_contents": [base64.b64encode(struct.pack("<3f", 1, 3, 2)).decode()],
    }
    found = ask(classes, "ModelInfer", message)
    outputs = [{name: value for name, value in o.items() if name != "contents"} for o in ANSWER["outputs"]]
    assert found["outputs"] == outputs
    assert [base64.b64decode(r) for r in found["rawOutputContents"]] == [struct.pack("<q", 1), struct.pack("<3f", 2, 6, 4)]


def test_health_and_metadata(classes: Served) -> None:
    assert ask(classes, "ServerLive", {}) == {"live": True}
    assert ask(classes, "ServerReady", {}) == {"ready": True}
    assert ask(classes, "ModelReady", {"name": "m"}) == {"ready": True}
    assert ask(classes, "ServerMetadata", {})["name"] == "aiservice-predictor"
    assert ask(classes, "ModelMetadata", {"name": "m"})["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "3"]}]


@pytest.mark.parametrize(
    ("message", "code", "said"),
    [
        ({"model_name": "other", "inputs": [TYPED]}, "NotFound", "model 'other' is not served here; this is 'm'"),
        ({"model_name": "m"}, "InvalidArgument", "missing input: 'x' (FP32 [-1, 3])"),
        ({"model_name": "m", "inputs": [TYPED | {"shape": [1, 4]}]}, "InvalidArgument", "axis 1 has 4, expected 3"),
    ],
)
def test_errors(classes: Served, message: dict[str, Any], code: str, said: str) -> None:
    found = ask(classes, "ModelInfer", message)
    assert found[0] == code
    assert said in found[1]


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = tmp_path_factory.mktemp("slow") / "model.onnx"
    path.write_bytes(models.slow())
    with serving(path, timeout=1) as served:
        yield served


def test_a_deadline(slow: Served) -> None:
    """Both sides know it: the client gives up, and the predictor has counted it."""
    tensor = {"name": "x", "datatype": "INT64", "shape": [1], "contents": {"int64_contents": [60_000]}}
    code, _ = ask(slow, "ModelInfer", {"model_name": "m", "inputs": [tensor]}, "-max-time", "0.3")
    assert code == "DeadlineExceeded"
    assert ask(slow, "ModelInfer", {"model_name": "m", "inputs": [tensor]}) == ("DeadlineExceeded", "not answered within 1 seconds")
    assert slow.metric('aiservice_requests_total{outcome="timeout",protocol="grpc"}') >= 1


def test_over_tls(tmp_path: Path) -> None:
    """grpc-go insists on ALPN."""
    authority = trustme.CA()
    pair = authority.issue_cert("localhost")
    certificate, key, root = tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "root.crt"
    certificate.write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    pair.private_key_pem.write_to_path(f"{key}")
    authority.cert_pem.write_to_path(f"{root}")
    models.bundle(tmp_path / "bundle")
    with serving(tmp_path / "bundle", tls_certificate=certificate, tls_key=key) as served:
        assert ask(served, "ModelInfer", {"model_name": "m", "id": "7", "inputs": [TYPED]}, "-cacert", f"{root}") == ANSWER


def test_h2spec(classes: Served) -> None:
    command = [f"{program('h2spec')}", "-h", "127.0.0.1", "-p", f"{classes.grpc}", "-o", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.rstrip().endswith("145 tests, 145 passed, 0 skipped, 0 failed"), done.stdout[-5000:]
