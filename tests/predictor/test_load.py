"""What is loaded, what is refused, and how that is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper as h

from aiservice.api.bundle import MANIFEST, MODEL, DecisionKind
from aiservice.api.runtime import REFUSED, Refusal
from aiservice.bundle.read import Refused
from aiservice_predictor.load import load
from predictor import models
from predictor.models import tensor
from predictor.served import run

Write = Callable[[bytes], Path]


def refused(path: Path, digest: str | None = None) -> Refused:
    with pytest.raises(Refused) as error:
        load(path, digest)
    return error.value


def test_a_bundle(tmp_path: Path) -> None:
    digest = models.bundle(tmp_path)
    loaded = load(tmp_path, digest)
    assert loaded.digest == digest
    assert loaded.by_row
    assert len(loaded.golden) == 1
    assert [r.label for r in loaded.reference] == ["2"]
    assert loaded.signature.decision.labels == ["low", "middle", "high"]


def test_another_digest(tmp_path: Path) -> None:
    models.bundle(tmp_path)
    assert refused(tmp_path, "sha256:" + "0" * 64).reason == "DigestMismatch"


@pytest.mark.parametrize("name", [MODEL, "golden.json", "reference.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_damaged_bundles(tmp_path: Path, name: str, damage: str) -> None:
    models.bundle(tmp_path)
    path = tmp_path / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[:-1])
    else:
        path.write_bytes(data[:10] + bytes([data[10] ^ 1]) + data[11:])
    found = refused(tmp_path)
    assert found.reason == ("MissingFile" if damage == "missing" else "DamagedBundle")
    assert name in found.message


def test_a_manifest_that_is_not_of_this_model(tmp_path: Path) -> None:
    models.bundle(tmp_path, inputs=[{"name": "x", "datatype": "FP32", "shape": [-1, 4]}])
    found = refused(tmp_path)
    assert found.reason == "DamagedBundle"
    assert "bundle.json says FP32 [-1, 4], model.onnx has FP32 [-1, 3]" in found.message
    models.bundle(tmp_path, inputs=[{"name": "z", "datatype": "FP32", "shape": [-1, 3]}])
    assert "model.onnx has ['x']" in refused(tmp_path).message


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ([tensor("label", "INT64", [1], 1)], "output 'label': value 0 is 2, expected 1"),
        ([tensor("scores", "FP32", [2, 4, 6.1], 1, 3)], "output 'scores': value 2 is 6.0, expected 6.1 (1 of 3 differ)"),
        ([tensor("scores", "FP32", [2, 4], 1, 2)], "golden request 1 of 1"),
    ],
)
def test_golden_requests_that_are_answered_otherwise(tmp_path: Path, outputs: list[dict[str, object]], said: str) -> None:
    models.bundle(tmp_path, golden_requests=[{"inputs": [tensor("x", "FP32", [1, 2, 3], 1, 3)], "outputs": outputs}])
    found = refused(tmp_path)
    assert found.reason == "GoldenMismatch"
    assert said in found.message


def test_golden_answers_within_the_tolerance(tmp_path: Path) -> None:
    near = [tensor("scores", "FP32", [2, 4, 6.1], 1, 3)]
    golden = [{"inputs": [tensor("x", "FP32", [1, 2, 3], 1, 3)], "outputs": near}]
    models.bundle(tmp_path, golden={"absolute": 0.2, "relative": 0.0}, golden_requests=golden)
    load(tmp_path)


def zipmap() -> bytes:
    node = h.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])
    key = h.make_map_type_proto(T.INT64, h.make_tensor_type_proto(T.FLOAT, []))
    output = h.make_value_info("y", h.make_sequence_type_proto(key))
    graph = h.make_graph([node], "g", [models.info("x", "FP32", "N", 3)], [output])
    opsets = [h.make_opsetid("", 18), h.make_opsetid("ai.onnx.ml", 1)]
    found: bytes = h.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return found


@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        (b"", "DamagedBundle", "not a whole ONNX model"),
        (b"garbage " * 20, "DamagedBundle", "not a whole ONNX model"),
        (models.classifier()[:-30], "DamagedBundle", "not a whole ONNX model"),
        (models.model([h.make_node("Identity", ["x"], ["y"])], [models.info("x", "FP32", 1)], [models.info("y", "FP32", 1)], opset=99),
         "UnsupportedModel", "export it with an older opset"),
        (models.model([h.make_node("Nonsense", ["x"], ["y"])], [models.info("x", "FP32", 1)], [models.info("y", "FP32", 1)]),
         "UnsupportedModel", "Nonsense"),
        (zipmap(), "UnsupportedModel", "zipmap=False"),
    ],
)  # fmt: skip
def test_plain_models_that_cannot_be_served(onnx: Write, content: bytes, reason: str, said: str) -> None:
    found = refused(onnx(content))
    assert found.reason == reason
    assert said in found.message
    assert len(found.message) < 600


def test_nothing_there(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere").reason == "MissingFile"


@pytest.mark.parametrize(
    ("content", "kind", "output"),
    [
        (models.classifier(), DecisionKind.CLASS, "label"),
        (models.identity("FP32", "N", 4), DecisionKind.CLASS, "y"),
        (models.identity("FP32", "N", 1), DecisionKind.TOLERANCE, "y"),
        (models.identity("FP64", "N"), DecisionKind.TOLERANCE, "y"),
        (models.identity("FP32", 1, 3, 4, 4), DecisionKind.TOLERANCE, "y"),
        (models.identity("FP32", "N", "M"), DecisionKind.CLASS, "y"),
        (models.doubled_text(), DecisionKind.CLASS, "y"),
        (models.identity("BF16", "N"), DecisionKind.CLASS, "y"),
        (models.pair(), DecisionKind.TOLERANCE, "total"),
    ],
)
def test_the_decision_of_a_plain_model(onnx: Write, content: bytes, kind: DecisionKind, output: str) -> None:
    loaded = load(onnx(content))
    decision = loaded.signature.decision
    assert (decision.kind, decision.output) == (kind, output)
    assert loaded.golden
    if kind is DecisionKind.TOLERANCE:
        assert decision.tolerance
        assert decision.edges == sorted(decision.edges or ())


def test_every_type_is_loaded_and_stacked(onnx: Write) -> None:
    loaded = load(onnx(models.identities()))
    assert loaded.by_row
    assert not load(onnx(models.identity("FP32", 1, 3))).by_row


def test_rows_that_depend_on_each_other_are_found_out(onnx: Write) -> None:
    loaded = load(onnx(models.mean_over_rows()))
    assert loaded.signature.by_row
    assert not loaded.by_row


def test_a_model_that_answers_nothing(onnx: Write) -> None:
    never = models.model(
        [h.make_node("Sqrt", ["x"], ["root"]), h.make_node("Sub", ["root", "big"], ["low"]), h.make_node("Log", ["low"], ["y"])],
        [models.info("x", "FP32", "N")],
        [models.info("y", "FP32", "N")],
        [h.make_tensor("big", T.FLOAT, [], [100.0])],
    )
    found = refused(onnx(never))
    assert found.reason == "GoldenMismatch"
    assert "not finite" in found.message


def test_calls_whose_time_follows_the_values_never_run_in_the_event_loop(onnx: Write) -> None:
    assert not load(onnx(models.slow(4))).model.steady
    assert load(onnx(models.classifier())).model.steady


def test_a_refused_model_ends_the_process(tmp_path: Path) -> None:
    models.bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / MODEL).write_bytes(b"x")
    ended = run(tmp_path / "bundle", termination_log=tmp_path / "log")
    assert ended.returncode == REFUSED
    refusal = Refusal.model_validate_json((tmp_path / "log").read_text())
    assert refusal.reason == "DamagedBundle"
    assert ended.stderr == f"aiservice_predictor: DamagedBundle: {refusal.message}\n"
    assert ended.stdout == ""


def test_a_termination_log_that_cannot_be_written(tmp_path: Path) -> None:
    ended = run(tmp_path / "nowhere", termination_log="/proc/none/log")
    assert ended.returncode == REFUSED
    assert "MissingFile" in ended.stderr


def test_a_wrong_environment(tmp_path: Path) -> None:
    ended = run(tmp_path, http_port="many", batch_max_size=0)
    assert ended.returncode == 2
    assert "AISERVICE_HTTP_PORT: " in ended.stderr
    assert "AISERVICE_BATCH_MAX_SIZE: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_inspect(tmp_path: Path) -> None:
    digest = models.bundle(tmp_path)
    found = json.loads(run(tmp_path, "inspect", str(tmp_path)).stdout)
    assert found["digest"] == digest
    assert found["bundle"]["name"] == "classes"
    assert found["decision"]["labels"] == ["low", "middle", "high"]
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert (found["goldenRequests"], found["referenceRows"], found["batching"]) == (1, 1, True)
    (tmp_path / MANIFEST).write_text("{")
    damaged = run(tmp_path, "inspect", str(tmp_path))
    assert damaged.returncode == REFUSED
    assert Refusal.model_validate_json(damaged.stderr).reason == "DamagedBundle"
    assert run(tmp_path, "nonsense").returncode == 2


def test_bf16_values_survive_the_model(onnx: Write) -> None:
    model = load(onnx(models.identity("BF16", "N"))).model
    bits = np.array([0x3F80, 0x7FC0, 0x0001], dtype=np.uint16)
    assert model.run({"x": bits})["y"].tolist() == bits.tolist()
