from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aiservice.api.bundle import Decision, DecisionKind
from aiservice_predictor.codec.tensors import DTYPES, Array, Tensors
from aiservice_predictor.record import COPIED, OVERHEAD, Record, pack, unpack
from aiservice_predictor.recorder import Recorder
from aiservice_predictor.reservoir import MAX_STRATA, OTHER, Reservoir
from aiservice_predictor.shared import MAX_BYTES, choose
from aiservice_predictor.thinning import EACH, RARE, SPAN, Thinning

ENTRIES = st.lists(st.tuples(st.sampled_from("aaaaaabc"), st.integers(1, 900), st.booleans()), max_size=150)


def record(number: int, size: int = 0) -> Record:
    """Of at least so many bytes."""
    return pack(f"r{number}", float(number), ["d"], {"x": np.zeros(size, np.uint8)})


@settings(deadline=None)
@given(ENTRIES, st.integers(0, 40_000))
def test_bytes_are_bounded_and_every_entry_is_accounted_for(given: list[tuple[str, int, bool]], limit: int) -> None:
    reservoir = Reservoir(limit)
    for number, (stratum, size, labelled) in enumerate(given):
        reservoir.add(record(number, size), stratum)
        if labelled:
            reservoir.label(f"r{number}", "truth" * (size % 7), 1.0)
        kept = reservoir.spread(10_000)
        assert reservoir.size == sum(e.size + (e.label.size if e.label else 0) for e in kept) <= limit
        assert len(reservoir) == len(kept)
    labelled_ones = reservoir.labelled_after(0, 10_000)
    assert {e.id for e in labelled_ones} == {e.id for e in kept if e.label} if given else not labelled_ones
    fair = [e.sequence for e in reservoir.spread(10_000) if e.fair]
    if fair:
        small = [n + 1 for n, (_, size, _) in enumerate(given) if record(n, size).size + 10 <= limit * 3 // 4]
        assert fair == small[-len(fair) :], "the fair ones are the most recent ones without a gap"


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("aaaaaabbcd"), st.booleans()), max_size=120), st.integers(1, 60), st.integers(5_000, 60_000))
def test_what_is_spread_is_what_a_look_at_all_entries_would_choose(given: list[tuple[str, bool]], limit: int, held: int) -> None:
    reservoir = Reservoir(held)
    for number, (stratum, drawn) in enumerate(given):
        reservoir.add(record(number), stratum, drawn)
    everything = reservoir.spread(10_000)
    share = limit // max(1, len({e.stratum for e in everything}))
    first = [e for s in "abcd" for e in [x for x in everything if x.stratum == s][::-1][:share]]
    rest = [e for e in everything[::-1] if e.sequence not in {f.sequence for f in first}][: limit - len(first)]
    assert [e.sequence for e in reservoir.spread(limit)] == sorted(e.sequence for e in first + rest)


ARRAYS = st.sampled_from([t for t in DTYPES if t != "BYTES"]).flatmap(
    lambda t: st.tuples(st.just(t), st.lists(st.integers(0, 4), max_size=3).map(tuple), st.integers(0, 255))
)


@given(st.dictionaries(st.text(max_size=5), ARRAYS, max_size=3), st.text(max_size=30), st.lists(st.text(max_size=9), max_size=4))
def test_a_record_gives_back_what_was_packed(given: dict[str, tuple[str, tuple[int, ...], int]], id: str, texts: list[str]) -> None:
    inputs: Tensors = {n: np.full(shape, fill).astype(DTYPES[t]) for n, (t, shape, fill) in given.items()}
    inputs["texts"] = np.array([*texts, None], dtype=object)[:-1].reshape(-1, 1)
    inputs["large"] = np.arange(COPIED, dtype=np.uint16)
    packed = pack(id, 1.5, texts, inputs)
    found = unpack(packed.packed, packed.large)
    assert (found.id, found.at, found.decisions, list(found.inputs)) == (id, 1.5, texts, list(inputs))
    assert found.inputs["large"] is inputs["large"]
    for name, array in inputs.items():
        assert (found.inputs[name].dtype, found.inputs[name].shape) == (array.dtype, array.shape)
        assert found.inputs[name].tolist() == array.tolist()


def test_rare_decisions_outlive_common_ones() -> None:
    reservoir = Reservoir(100 * (record(1000).size + 10))
    for number in range(1000, 6000):
        reservoir.add(record(number), "rare" if number % 1000 == 0 else "common")
    kept = reservoir.spread(10_000)
    assert [e.id for e in kept if e.stratum == "rare"] == ["r1000", "r2000", "r3000", "r4000", "r5000"]
    assert not any(e.fair for e in kept if e.stratum == "rare")
    assert sum(e.fair for e in kept) == 75


def test_spread_gives_each_decision_its_share_then_the_most_recent() -> None:
    reservoir = Reservoir(10**6)
    for number in range(100):
        reservoir.add(record(number), "rare" if number < 3 else "common")
    found = reservoir.spread(10)
    assert Counter(e.stratum for e in found) == {"rare": 3, "common": 7}
    assert [e.sequence for e in found] == [1, 2, 3, *range(94, 101)]


def test_labels_in_the_order_in_which_they_came() -> None:
    reservoir = Reservoir(10**6)
    for number in range(5):
        reservoir.add(record(number), "a")
    assert [reservoir.label(f"r{n}", "x", 9.0) for n in (3, 1, 99, 3)] == [True, True, False, True]
    assert [(e.id, e.label.sequence) for e in reservoir.labelled_after(0, 10) if e.label] == [("r1", 2), ("r3", 3)]
    assert [e.id for e in reservoir.labelled_after(2, 10)] == ["r3"]
    assert [e.id for e in reservoir.labelled_after(0, 1)] == ["r1"]


def test_a_reused_id_means_the_latest() -> None:
    reservoir = Reservoir(10**5)
    for _ in range(3):
        reservoir.add(record(7), "a")
    assert reservoir.label("r7", "x", 1.0)
    assert [e.sequence for e in reservoir.labelled_after(0, 10)] == [3]


CLASS = Decision(kind=DecisionKind.CLASS, output="y")


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(1, 400)), max_size=150), st.integers(0, 60_000))
def test_the_recorder_counts_all_rows_and_keeps_within_its_bytes(given: list[tuple[list[int], int]], limit: int) -> None:
    recorder = Recorder(CLASS, limit)
    for number, (classes, width) in enumerate(given):
        inputs = {"x": np.zeros((len(classes), width), dtype=np.float32)}
        recorder.add(f"r{number}", 0.0, inputs, np.array(classes), inputs["x"].nbytes)
        assert recorder.reservoir.size + recorder._pending_bytes <= limit
    assert recorder.seen() == Counter(str(c) for classes, _ in given for c in classes)
    assert recorder.held()[0] <= limit
    assert all(e.decisions == [str(c) for c in given[int(e.id[1:])][0]] for e in recorder.reservoir.spread(1000))


def test_a_request_belongs_to_its_rarest_decision() -> None:
    recorder = Recorder(CLASS, 10**6)
    recorder.add("common", 0.0, {}, np.zeros(50, dtype=np.int64), 0)
    recorder.add("both", 0.0, {}, np.array([0, 0, 7, 0]), 0)
    recorder.fold()
    assert [e.stratum for e in recorder.reservoir.spread(10)] == ["0", "7"]


def test_decisions_beyond_a_hundred_are_counted_together() -> None:
    recorder = Recorder(CLASS, 0)
    recorder.add("r", 0.0, {}, np.arange(500), 0)
    seen = recorder.seen()
    assert len(seen) == MAX_STRATA + 1
    assert seen[OTHER] == 400
    assert recorder.held() == (0, 0)


def test_decisions_of_any_length_are_accounted_for_and_cut_in_the_counters() -> None:
    recorder = Recorder(CLASS, 10**6)
    for number in range(30):
        recorder.add(f"r{number}", 0.0, {}, np.array([f"{number}" + "x" * 50_000], dtype=object), 0)
    assert all(len(s) == 128 for s in recorder.seen())
    held, entries = recorder.held()
    assert entries * 50_000 <= held <= 10**6
    assert 0 < entries < 20


def test_large_views_count_with_what_they_hold() -> None:
    body = bytes(100_000)
    view = np.frombuffer(body, dtype=np.float32, count=COPIED).reshape(1, -1)
    assert pack("id", 0.0, [], {"x": view}).size >= 100_000
    assert pack("id", 0.0, [], {"a": view, "b": view}).size < 200_000
    assert pack("id", 0.0, [], {"x": view[:, :2]}).size < 1000, "a small one is copied"
    assert pack("id", 0.0, [], {"x": np.array(["a" * 5000], dtype=object)}).size >= 5000 + OVERHEAD


def test_an_answer_is_bounded_in_bytes() -> None:
    reservoir = Reservoir(2**26)
    for number in range(40):
        reservoir.add(record(number, 2**20), "a")
        reservoir.label(f"r{number}", "x", 1.0)
    for after in (-1, 0):
        given = choose(reservoir, after, 40)
        assert MAX_BYTES / 4 < sum(e.size for e in given) <= MAX_BYTES
    assert choose(reservoir, -1, 40)[-1].id == "r39", "the most recent ones"
    assert choose(reservoir, 0, 40)[0].id == "r0", "the first labelled ones"


def test_a_label_that_is_longer_than_a_sixteenth_is_not_taken() -> None:
    reservoir = Reservoir(2**20)
    reservoir.add(record(1), "a")
    assert not reservoir.label("r1", "x" * 2**14, 1.0)
    assert reservoir.label("r1", "x" * 2**13, 1.0)


def busy(recorder: Recorder, seconds: int, rate: int, classes: Array) -> None:
    """`rate` requests a second; their decisions are taken from `classes` in turn."""
    for number in range(seconds * rate):
        recorder.add(f"r{number}", 1e9 + number / rate, {}, classes[number % len(classes) :][:1], 0)


def test_all_are_recorded_at_an_ordinary_rate() -> None:
    recorder = Recorder(CLASS, 10**7)
    busy(recorder, 5, EACH // 2, np.array([0, 1]))
    recorder.fold()
    assert len(recorder.reservoir) == 5 * EACH // 2
    assert all(e.fair for e in recorder.reservoir.spread(10_000))


def test_under_load_a_fair_sample_is_recorded_and_rare_decisions_beside_it() -> None:
    recorder = Recorder(CLASS, 10**8)
    classes = np.zeros(1000, dtype=np.int64)
    classes[:100], classes[500] = 1, 2
    busy(recorder, 8, 30 * EACH, classes)
    rounds = 8 * 30 * EACH // 1000
    assert recorder.seen() == {"0": rounds * 899, "1": rounds * 100, "2": rounds}
    kept = recorder.reservoir.spread(10**6)
    fair = Counter(e.stratum for e in kept if e.fair)
    assert 4 * EACH < fair.total() < 16 * EACH, "about as many a second, whatever comes"
    assert 0.07 < fair["1"] / fair.total() < 0.13, "as often as among all requests"
    assert sum(e.stratum == "2" for e in kept) == rounds, "every one"
    assert len(kept) - fair.total() <= 9 * RARE + 3
    late = [e for e in kept if e.fair and e.at > 1e9 + 4]
    assert 3 * EACH < len(late) < 5.5 * EACH


def test_the_sample_follows_the_rate_down() -> None:
    recorder = Recorder(CLASS, 10**8)
    busy(recorder, 3, 50 * EACH, np.array([0]))
    held = recorder.held()[1]
    for number in range(EACH):
        recorder.add(f"late{number}", 1e9 + 10 + number / 100, {}, np.array([0]), 0)
    assert recorder.held()[1] - held >= EACH - 100, "all of few, once the second is over in which there were many"


def test_of_large_requests_so_many_are_recorded_that_they_reach_back_a_minute() -> None:
    recorder = Recorder(CLASS, 2**26)
    picture = {"x": np.zeros(150_000, np.float32)}
    for number in range(20_000):
        recorder.add(f"r{number}", 1e9 + number / 100, picture, np.array([int(number % 1500 == 0)]), picture["x"].nbytes)
    recorder.fold()
    kept = recorder.reservoir.spread(10_000)
    fair = [e.at - 1e9 for e in kept if e.fair]
    assert len(fair) > 30
    assert 140 - 1.5 * SPAN < fair[0] < 200 - 0.7 * SPAN
    assert [round(e.at - 1e9) for e in kept if e.stratum == "1"][-8:] == [90, 105, 120, 135, 150, 165, 180, 195], "rare ones, all that fit"


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 10**6), st.integers(1, 3))
def test_what_is_kept_for_its_decision_stays_within_its_share(strata: int, size: int, seconds: int) -> None:
    limit = 2**26
    thinning = Thinning(limit)
    taken = Counter(n % strata for n in range(3000 * seconds) if thinning.rare(str(n % strata), strata, size, n / 3000))
    assert all(taken[n] >= 1 for n in range(strata)), "each decision at least once"
    assert taken.total() <= min(RARE, limit / 4 / SPAN / size) * (seconds + 1) + 2 * strata
