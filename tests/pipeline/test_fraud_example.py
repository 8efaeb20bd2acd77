"""The fraud example's files are valid, and its broken versions are broken as they say. Needs no download."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.ensemble import HistGradientBoostingClassifier

from aiservice.api.spec import AIServiceSpec
from aiservice_pipeline.bundle import draft_sklearn
from aiservice_pipeline.parity import run

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fraud-detection"


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLE)
    import faults

    yield faults
    sys.modules.pop("faults", None)


@pytest.fixture(scope="module")
def model() -> tuple[Any, Any]:
    """A small model of 30 columns, and 2,000 rows with times and amounts as the transactions have them."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2000, 30)).astype(np.float32)
    inputs[:, 0], inputs[:, 29] = np.sort(rng.integers(0, 172_792, 2000)), np.round(rng.gamma(1, 90, 2000), 2)
    labels = (inputs[:, 14] < -1).astype(int)
    fitted = HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(inputs, labels)
    return draft_sklearn(fitted, inputs, labels, name="f", positive=1, input_name="transactions").model, inputs


def test_the_manifest_and_the_request() -> None:
    manifest = yaml.safe_load((EXAMPLE / "service.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("aiservice.dev/v1alpha1", "AIService")
    spec = AIServiceSpec.model_validate_json(json.dumps(manifest["spec"]))
    assert spec.rollout.gates.latency is not None
    tensor = json.loads((EXAMPLE / "request.json").read_text())["inputs"][0]
    assert (tensor["name"], tensor["datatype"], tensor["shape"], len(tensor["data"])) == ("transactions", "FP32", [2, 30], 60)


def test_the_slow_version_answers_the_same(faults: Any, model: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "WIDTH", 64)
    sound, inputs = model
    slow, plain = run(faults.slow(sound), {"transactions": inputs}), run(sound, {"transactions": inputs})
    assert (slow["probability"] == plain["probability"]).all()
    assert (slow["label"] == plain["label"]).all()


def test_the_failing_version_fails_one_request_in_fifty_and_spares_the_golden(faults: Any, model: tuple[Any, Any]) -> None:
    sound, inputs = model
    broken = faults.failing(sound, inputs[:10])
    run(broken, {"transactions": inputs[:10]})
    chosen = next(b for b in range(faults.BUCKETS) if b not in set(faults.bucket(inputs[:10]).tolist()))
    hit = faults.bucket(inputs) == chosen
    assert 0.01 < hit.mean() < 0.03
    assert (run(broken, {"transactions": inputs[~hit]})["label"] == run(sound, {"transactions": inputs[~hit]})["label"]).all()
    for row in np.flatnonzero(hit)[:3]:
        with pytest.raises(Exception, match="out of data bounds"):
            run(broken, {"transactions": inputs[row : row + 1]})
