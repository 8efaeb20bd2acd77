"""Two looks at counters make a load; what starts anew in between counts from nothing."""

from __future__ import annotations

import asyncio
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from aiservice.measure.client import Predictor
from aiservice.measure.load import LONGEST, WINDOW, Load, Meter, Work, between, work
from aiservice.measure.scrape import REQUESTS, SECONDS

WORK = st.builds(Work, st.integers(0, 10**6), st.floats(0, 1e4))
RUNS = st.dictionaries(st.sampled_from("abcdef"), WORK, min_size=1)

TEXT = """# HELP aiservice_requests_total by outcome
aiservice_requests_total{protocol="rest",outcome="ok"} 40.0
aiservice_requests_total{protocol="grpc",outcome="rejected"} 2.0
aiservice_request_seconds_bucket{le="+Inf"} 40.0
aiservice_request_seconds_sum 12.5
"""


def test_what_a_predictor_has_done_is_read_from_its_metrics() -> None:
    assert work(TEXT) == Work(42, 12.5)


@given(RUNS, st.floats(1, 100))
def test_nothing_done_is_no_load_and_never_a_negative_one(runs: dict[str, Work], seconds: float) -> None:
    assert between(runs, runs, seconds) == Load(0, 0)
    assert between(runs, {}, seconds) == Load(0, 0)


@given(RUNS, st.integers(0, 1000), st.floats(0.01, 2), st.floats(1, 100))
def test_load_is_rate_and_stay(runs: dict[str, Work], more: int, stay: float, seconds: float) -> None:
    """As many requests more, each of the same stay, on every run; one run that was not there before did all of its work since."""
    after = {run: Work(w.requests + more, w.seconds + more * stay) for run, w in runs.items()} | {"new": Work(more, more * stay)}
    load = between(runs, after, seconds)
    assert abs(load.requests_per_second - (len(runs) + 1) * more / seconds) < 1e-3
    assert abs(load.concurrency - load.requests_per_second * stay) < 1e-2


def test_a_run_that_started_again_counts_from_nothing() -> None:
    assert between({"a.0": Work(1000, 50)}, {"a.1": Work(10, 1)}, 10) == Load(1, 0.1)


@given(st.lists(st.floats(0.1, 60), min_size=1, max_size=60))
def test_the_mean_is_over_the_window_where_looks_are_that_old(gaps: list[float]) -> None:
    """A steady load is told as it is, however often it is looked at, and looks do not pile up."""
    meter, now = Meter(), 0.0
    for gap in gaps:
        now += gap
        load = meter.look(now, {"a": Work(int(now * 1000), now * 3)})
        assert load is None or (abs(load.requests_per_second - 1000) < 2 and abs(load.concurrency - 3) < 1e-6)
    assert len(meter._looks) <= LONGEST


def test_a_change_is_seen_after_the_window() -> None:
    meter = Meter()
    for second in range(60):
        meter.look(float(second), {"a": Work(0, 0.0)})
    loads = [meter.look(60.0 + s, {"a": Work(10 * s, 0.0)}) for s in range(int(WINDOW) + 2)]
    assert loads[-1] is not None
    assert loads[-1].requests_per_second == 10
    assert [load.requests_per_second for load in loads if load] == sorted(load.requests_per_second for load in loads if load)


class Told:
    """A predictor that has answered so many requests of half a second each; or that is too busy to say so."""

    def __init__(self, requests: int | None) -> None:
        self.requests = requests

    async def metrics(self) -> str:
        if self.requests is None:
            await asyncio.sleep(60)
        return f'{REQUESTS}{{outcome="ok"}} {self.requests}\n{SECONDS}_sum {(self.requests or 0) / 2}\n'


async def test_one_that_is_too_busy_to_answer_has_as_much_to_do_as_the_others() -> None:
    meter = Meter()
    for now, requests in ((0.0, 0), (10.0, 100)):
        told = {"a": Told(requests), "b": Told(requests), "c": Told(None)}
        load = await meter.ask(now, cast(dict[str, Predictor], told))
    assert load == Load(30.0, 15.0)


async def test_nobody_answers_and_nothing_is_known() -> None:
    meter = Meter()
    for now in (0.0, 10.0):
        assert await meter.ask(now, cast(dict[str, Predictor], {"a": Told(None)})) is None
    assert await meter.ask(20.0, {}) is None
