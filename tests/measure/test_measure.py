"""The pure parts of measuring: golden answers, judging, counters, labels, the replay's tally."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiservice.api.bundle import Decision, DecisionKind, Golden
from aiservice.api.runtime import LATENCY_BOUNDS, Recorded
from aiservice.api.spec import QualityMetric
from aiservice.api.status import Cursor
from aiservice.measure import golden, judge, labels, scrape
from aiservice.measure.client import Answer
from aiservice.measure.replay import FEW, Item, Tally, interleave

NEAR = Golden(absolute=0.01, relative=0.1)
YES_NO = Decision(kind=DecisionKind.THRESHOLD, output="y", threshold=0.5, positive="fraud", negative="fine")
NUMBER = Decision(kind=DecisionKind.TOLERANCE, output="y", tolerance=0.5, edges=[float(i) for i in range(1, 10)])
CLASS = Decision(kind=DecisionKind.CLASS, output="y")


def tensor(name: str, data: Any, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": list(shape) or [len(data)], "data": data}


@pytest.mark.parametrize(
    ("expected", "got", "words"),
    [
        ([1.0, 2.0], [1.0, 2.0], ""),
        ([1.0, 100.0], [1.1, 110.0], ""),
        ([0.0], [0.01], ""),
        ([0.0], [0.02], "has 0.02 at 0, expected 0.0"),
        ([1.0, 2.0], [1.0, 3.0], "has 3.0 at 1, expected 2.0"),
        (["a"], ["b"], "has 'b' at 0, expected 'a'"),
        ([1.0], ["1.0"], "has '1.0' at 0"),
        ([True], [False], "at 0"),
        ([0.0], [float("nan")], "has nan at 0"),
        ([0.0], [None], "has None at 0"),
        ([1.0, 2.0], [[1.0], [2.0]], ""),
    ],
)
def test_a_golden_answer(expected: list[Any], got: list[Any], words: str) -> None:
    found = golden.difference([tensor("y", expected)], [tensor("y", got, len(expected))], NEAR)
    assert words in found
    assert bool(words) == bool(found)


def test_a_golden_answer_of_another_shape() -> None:
    assert "is missing" in golden.difference([tensor("y", [1.0])], [tensor("z", [1.0])], NEAR)
    assert "expected [1]" in golden.difference([tensor("y", [1.0])], [tensor("y", [1.0], 1, 1)], NEAR)
    assert "has 2 elements, expected 1" in golden.difference([tensor("y", [1.0])], [tensor("y", [1.0, 2.0], 1)], NEAR)
    assert golden.difference([], [tensor("y", [1.0])], NEAR) == ""


@pytest.mark.parametrize(
    ("label", "decided", "right"),
    [("1", "fraud", True), ("true", "fraud", True), ("True", "fraud", True), ("1.0", "fraud", True), ("0", "fine", True),
     ("fraud", "fraud", True), ("fine", "fraud", False), ("0", "fraud", False), ("2", "fraud", False)],
)  # fmt: skip
def test_a_label_is_taken_as_people_write_it(label: str, decided: str, right: bool) -> None:
    assert judge.right(decided, label, YES_NO) is right


def test_numbers_are_right_within_the_tolerance() -> None:
    assert judge.right("1.4", "1.0", NUMBER)
    assert not judge.right("1.6", "1.0", NUMBER)
    assert not judge.right("words", "1.0", NUMBER)
    assert judge.answered("nan", "nan", NUMBER) == "other"
    assert [judge.stratum(t, NUMBER) for t in ("-5", "1", "5.5", "99", "words")] == ["0", "1", "5", "9", "0"]
    assert judge.stratum("b", CLASS) == "b"


@pytest.mark.parametrize(
    ("metric", "decided", "label", "counts"),
    [
        (QualityMetric.ACCURACY, "fine", "fraud", True),
        (QualityMetric.RECALL, "fine", "1", True),
        (QualityMetric.RECALL, "fraud", "0", False),
        (QualityMetric.PRECISION, "fraud", "0", True),
        (QualityMetric.PRECISION, "fine", "1", False),
    ],
)
def test_which_rows_a_metric_is_about(metric: QualityMetric, decided: str, label: str, counts: bool) -> None:
    assert judge.relevant(decided, label, metric, YES_NO) is counts


def test_metrics_without_a_positive_class_count_nothing() -> None:
    assert not judge.relevant("a", "a", QualityMetric.RECALL, CLASS)
    assert not judge.relevant("a", "a", QualityMetric.PRECISION, CLASS)


METRICS = """
# HELP aiservice_requests_total x
aiservice_requests_total{protocol="http",outcome="ok"} 10.0
aiservice_requests_total{protocol="http",outcome="server_error"} 5.0
aiservice_requests_total{protocol="grpc",outcome="ok"} 7.0
aiservice_requests_total{protocol="grpc",outcome="client_error"} 3.0
aiservice_requests_total{protocol="grpc",outcome="server_error"} 2.0
aiservice_requests_total{protocol="grpc",outcome="timeout"} 1.0
aiservice_requests_total{protocol="grpc",outcome="rejected"} 4.0
aiservice_request_seconds_bucket{protocol="http",le="0.1"} 6.0
aiservice_request_seconds_bucket{protocol="http",le="0.15"} 8.0
aiservice_request_seconds_bucket{protocol="http",le="+Inf"} 15.0
aiservice_request_seconds_count{protocol="http"} 15.0
aiservice_request_seconds_bucket{protocol="grpc",le="0.1"} 1.0
aiservice_request_seconds_bucket{protocol="grpc",le="0.15"} 2.0
aiservice_request_seconds_count{protocol="grpc"} 1.7e1
"""


def test_counters_of_a_predictor() -> None:
    assert scrape.counts(METRICS, 0.1) == Cursor(errors=(7, 0), latency=(32 - 7, 32))
    assert scrape.counts(METRICS, 0.12) == Cursor(errors=(7, 0), latency=(32 - 10, 32))
    assert scrape.counts(METRICS, None) == Cursor(errors=(7, 0))
    assert scrape.counts("", 0.1) == Cursor()


@given(st.floats(1e-6, 1000))
def test_an_slo_is_counted_at_the_next_bound(slo: float) -> None:
    bound = scrape.bound_of(slo)
    assert bound in LATENCY_BOUNDS
    assert bound >= slo - 1e-9 or slo > LATENCY_BOUNDS[-1]
    assert not [b for b in LATENCY_BOUNDS if slo <= b < bound]


@pytest.mark.parametrize("bound", LATENCY_BOUNDS)
def test_a_bound_is_its_own(bound: float) -> None:
    assert scrape.bound_of(bound) == bound


@pytest.mark.parametrize(
    ("changes", "counts"),
    [({}, True), ({"fair": False}, False), ({"label": None, "labelled": None}, False), ({"labelled": 200.0}, False),
     ({"decisions": ["a", "b"]}, False), ({"decisions": []}, False), ({"labelled": 110.0}, True)],
)  # fmt: skip
def test_which_labels_count(changes: dict[str, Any], counts: bool) -> None:
    body = {"id": "1", "at": 100.0, "sequence": 1, "decisions": ["a"], "inputs": [], "label": "a", "labelled": 101.0, "fair": True}
    assert labels.counts(Recorded.model_validate(body | changes), 10.0) is counts


def answer(decisions: list[str] | None) -> Answer:
    return Answer(500, {"error": "x"}) if decisions is None else Answer(200, {"parameters": {"decisions": decisions}})


DECIDED = st.none() | st.sampled_from(["fraud", "fine"])
ROWS = st.lists(
    st.tuples(
        DECIDED, DECIDED, st.floats(0, 1), st.floats(0, 1), st.none() | st.sampled_from(["1", "0"]), st.booleans(), st.integers(1, 3)
    ),
    max_size=60,
)


@given(ROWS, st.sampled_from([None, *QualityMetric]), st.sampled_from([None, 0.5]))
def test_the_tally_of_a_replay_adds_up(rows: list[Any], metric: QualityMetric | None, slo: float | None) -> None:
    tally = Tally(YES_NO, metric, slo, len(rows), {})
    for stable, candidate, s_time, c_time, label, compared, size in rows:
        said = [None if d is None else [d] * size for d in (stable, candidate)]
        tally.add(Item([], label, compared), (answer(said[0]), s_time), (answer(said[1]), c_time))
    seen = tally.status()
    compared = [r for r in rows if r[5]]
    assert (seen.done, seen.planned) == (len(rows), len(rows))
    assert seen.errors.total == len(compared)
    assert seen.errors.candidate_only + seen.errors.both == sum(r[1] is None for r in compared)
    assert seen.errors.stable_only + seen.errors.both == sum(r[0] is None for r in compared)
    assert seen.latency.total == (len(compared) if slo else 0)
    if slo:
        assert seen.latency.candidate_only + seen.latency.both == sum(r[3] > slo for r in compared)
    assert sum(s.replayed for s in seen.strata) == sum(r[6] for r in compared if r[0] is not None)
    for s in seen.strata:
        assert sum(s.answers.values()) == s.replayed
        assert s.mass > 0
        assert s.answers.get("(failed)", 0) == sum(r[6] for r in compared if r[0] == s.decision and r[1] is None)
    labelled = [r for r in rows if r[4] is not None and r[0] is not None]
    if metric is QualityMetric.ACCURACY:
        assert seen.reference.total == len(labelled)
    elif metric is QualityMetric.RECALL:
        assert seen.reference.total == sum(r[4] == "1" for r in labelled)
    else:
        assert seen.reference.total == 0
    if metric is QualityMetric.PRECISION:
        assert seen.reference_arms.stable == sum(r[0] == "fraud" for r in labelled)
        assert seen.reference_arms.candidate == sum(r[1] == "fraud" for r in labelled)
        assert seen.reference_arms.bad_candidate == sum(r[1] == "fraud" and r[4] == "0" for r in labelled)


def test_a_candidate_that_answers_fewer_rows_does_not_agree_on_the_others() -> None:
    tally = Tally(YES_NO, None, None, 1, {})
    tally.add(Item([]), (answer(["fraud", "fine"]), 0), (answer(["fraud"]), 0))
    seen = tally.status()
    assert {s.decision: s.answers for s in seen.strata} == {"fraud": {"fraud": 1}, "fine": {"(failed)": 1}}


def test_natural_mass_comes_from_what_the_stable_saw() -> None:
    tally = Tally(YES_NO, None, None, 2, {"fraud": 3.0, "fine": 997.0})
    for decided in ("fraud", "fine"):
        tally.add(Item([]), (answer([decided]), 0), (answer([decided]), 0))
    assert {s.decision: s.mass for s in tally.status().strata} == {"fraud": 3.0, "fine": 997.0}


@given(st.lists(st.integers(0, 8), max_size=6))
def test_groups_take_turns(sizes: list[int]) -> None:
    groups = [[Item([{"group": g}]) for _ in range(size)] for g, size in enumerate(sizes)]
    mixed = interleave(groups)
    assert len(mixed) == sum(sizes)
    alive = [g for g, size in enumerate(sizes) if size]
    assert [i.inputs[0]["group"] for i in mixed[: len(alive)]] == alive
    assert FEW > 0
