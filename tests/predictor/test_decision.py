from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aiservice.api.bundle import Decision, DecisionKind
from aiservice_predictor.codec.tensors import Array
from aiservice_predictor.decision import decide, strata, texts

CLASS = Decision(kind=DecisionKind.CLASS, output="y")


def strata_of(decision: Decision, output: Array) -> list[str]:
    codes, name = strata(decision, output)
    return [name(c) for c in codes.tolist()]


def strings(*values: str) -> Array:
    return np.array(values, dtype=object)


def test_classes() -> None:
    assert texts(CLASS, np.array([3, -1])) == ["3", "-1"]
    assert texts(CLASS, np.array([[3], [4]])) == ["3", "4"]
    assert texts(CLASS, np.array([True, False])) == ["true", "false"]
    assert texts(CLASS, strings("cat", "dog")) == ["cat", "dog"]
    scores = np.array([[0.1, 0.9], [0.8, 0.2]], dtype=np.float32)
    assert texts(CLASS, scores) == ["1", "0"]
    assert texts(CLASS.model_copy(update={"labels": ["ham", "spam"]}), scores) == ["spam", "ham"]


def test_threshold_on_a_column() -> None:
    decision = Decision(kind=DecisionKind.THRESHOLD, output="y", column=1, threshold=0.5, positive="fraud", negative="fine")
    assert decide(decision, {"y": np.array([[0.0, 0.5], [1.0, 0.49]])}) == ["fraud", "fine"]


def test_numbers_and_their_tenths() -> None:
    decision = Decision(kind=DecisionKind.TOLERANCE, output="y", tolerance=1.0, edges=[float(n) for n in range(1, 10)])
    found = decide(decision, {"y": np.array([0.5, 1.0, 99.0], dtype=np.float32)})
    assert found == ["0.5", "1.0", "99.0"]
    numbers = np.array([0.5, 1.0, 99.0], dtype=np.float32)
    assert strata_of(decision, numbers) == ["0", "1", "9"]
    assert strata_of(decision.model_copy(update={"edges": None}), numbers) == ["0"] * 3


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1), st.booleans())
def test_a_rows_stratum_is_its_text(rows: list[int], scores: bool) -> None:
    for labels in (None, ["low", "high"]):
        decision = CLASS.model_copy(update={"labels": labels})
        output = np.eye(3, dtype=np.float32)[rows] if scores else np.array(rows)
        assert strata_of(decision, output) == texts(decision, output)
    threshold = Decision(kind=DecisionKind.THRESHOLD, output="y", threshold=1.0)
    assert strata_of(threshold, np.array(rows)) == texts(threshold, np.array(rows))
    words = np.array([f"word {n}" for n in rows], dtype=object)
    assert strata_of(CLASS, words) == texts(CLASS, words)


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=True), min_size=1), st.lists(st.floats(-1e9, 1e9), min_size=9, max_size=9))
def test_every_number_has_a_tenth(numbers: list[float], edges: list[float]) -> None:
    decision = Decision(kind=DecisionKind.TOLERANCE, output="y", tolerance=1.0, edges=sorted(edges))
    assert set(strata_of(decision, np.array(numbers))) <= set("0123456789")
