"""A wrong export is found and named; a bundle is written whole or not at all."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

from aiservice.api.bundle import Golden
from aiservice.bundle.read import load
from aiservice_pipeline.bundle import bundle_sklearn, draft_sklearn
from aiservice_pipeline.export import PREDICTION, export
from aiservice_pipeline.parity import Disparity, check, run
from aiservice_pipeline.tensors import to_v2
from aiservice_pipeline.write import Draft, write


@pytest.fixture(scope="module")
def draft() -> Draft:
    x, y = load_diabetes(return_X_y=True)
    return draft_sklearn(Ridge().fit(x[:300], y[:300]), x[300:], y[300:], name="p")


def feeds() -> dict[str, Any]:
    return {"features": load_diabetes(return_X_y=True)[0][300:].astype(np.float32)}


def test_parity_names_the_output_the_row_and_both_values(draft: Draft) -> None:
    sound = run(draft.model, feeds())
    check(draft.model, feeds(), sound, Golden())
    wrong = {PREDICTION: sound[PREDICTION].copy()}
    wrong[PREDICTION][[3, 17]] += np.array([1, 5], dtype=np.float32)
    with pytest.raises(Disparity, match=r"'prediction': 2 of 142 rows differ; worst is row 17: ONNX gives \d+.*, the source \d+"):
        check(draft.model, feeds(), wrong, Golden())
    wrong[PREDICTION][5] = np.nan
    with pytest.raises(Disparity, match="worst is row 5"):
        check(draft.model, feeds(), wrong, Golden())
    check(draft.model, feeds(), {PREDICTION: sound[PREDICTION] + 1}, Golden(absolute=2))


def test_parity_sees_names_shapes_and_types(draft: Draft) -> None:
    sound = run(draft.model, feeds())[PREDICTION]
    for expected, told in (
        ({"other": sound}, r"answers \['prediction'\], the source model \['other'\]"),
        ({PREDICTION: sound.reshape(-1, 1)}, r"shape \[142\], the source \[142, 1\]"),
        ({PREDICTION: sound.astype(np.int64)}, "float32, the source int64"),
        ({PREDICTION: sound.astype(str)}, "float32, the source <U"),
    ):
        with pytest.raises(Disparity, match=told):
            check(draft.model, feeds(), expected, Golden())


def test_a_wrong_export_is_never_written(draft: Draft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = export

    def wrong(*arguments: Any) -> ModelProto:
        model = honest(*arguments)
        node = next(n for n in model.graph.node if n.op_type == "LinearRegressor")
        node.attribute[0].floats[0] += 1
        return model

    monkeypatch.setattr("aiservice_pipeline.bundle.export", wrong)
    x, y = load_diabetes(return_X_y=True)
    with pytest.raises(Disparity):
        bundle_sklearn(Ridge().fit(x[:300], y[:300]), x[300:], y[300:], tmp_path / "b", name="p")
    assert list(tmp_path.iterdir()) == []


def test_writing_again_changes_nothing_and_never_overwrites(draft: Draft, tmp_path: Path) -> None:
    digest = write(tmp_path / "b", draft)
    before = (tmp_path / "b" / "bundle.json").stat()
    assert write(tmp_path / "b", draft) == digest
    assert (tmp_path / "b" / "bundle.json").stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(FileExistsError, match=r"in use: .*the pin says"):
        write(tmp_path / "b", replace(draft, name="other"))
    assert load(tmp_path / "b").digest == digest
    (tmp_path / "b" / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(FileExistsError, match=r"in use: model\.onnx"):
        write(tmp_path / "b", draft)
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    (tmp_path / "empty").mkdir()
    assert write(tmp_path / "empty", draft) == digest


def test_a_failed_write_leaves_nothing(draft: Draft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "b", draft)
    assert list(tmp_path.iterdir()) == []


def test_a_draft_that_is_none(draft: Draft, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one golden request"):
        write(tmp_path / "b", replace(draft, golden=[]))
    with pytest.raises(ValueError, match="is not one of the model's outputs"):
        write(tmp_path / "b", replace(draft, decision=draft.decision.model_copy(update={"output": "none"})))
    assert list(tmp_path.iterdir()) == []


def test_tensors() -> None:
    assert to_v2("x", np.array([[0.1], [2.5]], dtype=np.float32)) == {"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [0.1, 2.5]}
    assert to_v2("x", np.array(["a", "ö"]))["datatype"] == "BYTES"
    assert to_v2("x", np.array([True]))["data"] == [True]
    with pytest.raises(ValueError, match="JSON cannot carry"):
        to_v2("x", np.array([np.nan], dtype=np.float32))
