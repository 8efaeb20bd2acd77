"""How long calls take: what is believed, and when."""

from __future__ import annotations

from time import perf_counter, thread_time

from aiservice_predictor.pace import MOST_ROWS, QUICK, Pace


def pace(stretch: bool = True) -> Pace:
    return Pace(32, follows_rows=True, stretch=stretch)


def test_nothing_is_quick_before_it_is_known() -> None:
    found = pace()
    assert not found.quick(1)
    assert found.most_rows == 32
    found.learn(1, 10e-6)
    assert found.quick(1)


def test_a_quick_call_takes_as_many_rows_as_are_quick() -> None:
    found, fixed = pace(), pace(stretch=False)
    for p in (found, fixed):
        p.learn(100, 105e-6)
    assert (found.most_rows, fixed.most_rows) == (int(QUICK / 1e-6), 32)
    assert found.quick(found.most_rows - 1)
    assert not found.quick(2 * found.most_rows)
    for _ in range(50):
        found.learn(1000, 1e-6)
    assert found.most_rows == MOST_ROWS


def test_a_slow_model_keeps_to_its_limit() -> None:
    found = pace()
    for _ in range(2):
        found.learn(1, 0.01)
    assert found.most_rows == 32
    assert not found.quick(1)


def test_a_pause_is_not_the_models_fault() -> None:
    found = pace()
    found.learn(10, 100e-6)
    assert found.clock is perf_counter
    found.learn(10, 0.02)
    assert found.clock is thread_time, "what the clock says is checked"
    assert found.quick(10)
    found.learn(10, 100e-6)
    assert found.clock is perf_counter
    found.learn(10, 300e-6)
    assert found.clock is thread_time, "three times of what is usual is, too"


def test_a_model_that_has_become_slow_is_found_out_and_forgotten_slowly() -> None:
    found = pace()
    found.learn(10, 100e-6)
    for _ in range(2):
        found.learn(10, 0.02)
    assert not found.quick(1)
    found.learn(10, 100e-6)
    assert not found.quick(1), "one quick call proves little"
    for _ in range(30):
        found.learn(10, 100e-6)
    assert found.quick(10)


def test_a_time_that_does_not_follow_rows_is_never_quick() -> None:
    found = Pace(32, follows_rows=False, stretch=True)
    found.learn(1, 10e-6)
    assert not found.quick(1)
    assert found.most_rows == 32
