from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiservice_predictor.batcher import Batcher, Limits
from aiservice_predictor.codec.request import Part
from aiservice_predictor.codec.tensors import Tensors
from aiservice_predictor.failures import Failure, Late, ModelFailed, Overloaded
from aiservice_predictor.metrics import Metrics
from aiservice_predictor.pace import Pace
from aiservice_predictor.waiting import Waiting
from local.machine import until
from predictor.turns import no_turn_until_done


def request(*values: int) -> Tensors:
    return {"x": np.array(values, dtype=np.int64)}


class Caller(Waiting):
    """Waits with a future."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: asyncio.Future[Tensors] = asyncio.get_running_loop().create_future()

    def settle(self, part: Part) -> None:
        self.answer.set_result(part.tensors())

    def fail(self, failure: Failure) -> None:
        self.answer.set_exception(failure)


async def submit(batcher: Batcher, inputs: Tensors, rows: int, seconds: float, holds: int = 0) -> Tensors:
    caller = Caller()
    batcher.enter(caller, inputs, rows, seconds, holds)
    try:
        return await caller.answer
    finally:
        batcher.withdraw(caller)


class Doubler:
    """y = 2 x; fails where x is negative; remembers the rows of each call. `held`: a call ends when it is let go."""

    def __init__(self, *, held: bool = False) -> None:
        self.calls: list[int] = []
        self.let_go = threading.Event()
        if not held:
            self.let_go.set()

    def __call__(self, inputs: Tensors) -> Tensors:
        self.calls.append(len(inputs["x"]))
        assert self.let_go.wait(60)
        if (inputs["x"] < 0).any():
            raise ModelFailed("negative")
        return {"y": inputs["x"] * 2}


async def answers(batcher: Batcher, requests: list[list[int]]) -> list[Any]:
    submitted = (submit(batcher, request(*values), len(values), 5) for values in requests)
    return await asyncio.gather(*submitted, return_exceptions=True)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(-1, 50), min_size=1, max_size=5), max_size=20), st.integers(1, 16), st.booleans(), st.booleans())
def test_each_request_gets_its_own_answer_and_no_neighbours_failure(
    requests: list[list[int]], max_rows: int, by_row: bool, inline: bool
) -> None:
    async def check() -> list[Any]:
        batcher = Batcher(Doubler(), Limits(max_rows=max_rows, by_row=by_row, inline=inline), Metrics())
        try:
            return await answers(batcher, requests)
        finally:
            batcher.close()

    for values, answer in zip(requests, asyncio.run(check()), strict=True):
        if min(values) < 0:
            assert isinstance(answer, ModelFailed)
        else:
            assert answer["y"].tolist() == [2 * v for v in values]


async def test_what_waits_is_taken_together_and_nothing_waits_at_low_load() -> None:
    model = Doubler()
    batcher = Batcher(model, Limits(max_rows=8, stretch=False), Metrics())
    await answers(batcher, [[n] for n in range(20)])
    assert model.calls == [8, 8, 4]
    task = asyncio.create_task(submit(batcher, request(1), 1, 5))
    for _ in range(10):
        await asyncio.sleep(0)
    assert task.done()
    batcher.close()


async def test_a_size_that_was_asked_for_is_kept_by_quick_calls_as_well() -> None:
    model = Doubler()
    batcher = Batcher(model, Limits(max_rows=8, stretch=False), Metrics())
    for _ in range(20):
        await answers(batcher, [[n] for n in range(64)])
    batcher.close()
    assert max(model.calls) == 8


async def test_a_delay_waits_for_more() -> None:
    model = Doubler()
    batcher = Batcher(model, Limits(max_rows=8, max_delay=0.1), Metrics())

    async def later(seconds: float, value: int) -> Tensors:
        await asyncio.sleep(seconds)
        return await submit(batcher, request(value), 1, 5)

    await asyncio.gather(later(0, 1), later(0.02, 2))
    assert model.calls == [2]
    batcher.close()


async def test_requests_of_other_shapes_are_not_stacked() -> None:
    calls: list[tuple[int, ...]] = []

    def run(inputs: Tensors) -> Tensors:
        calls.append(inputs["x"].shape)
        return {"y": inputs["x"]}

    batcher = Batcher(run, Limits(), Metrics())
    shapes = [(1, 2), (1, 2), (1, 3)]
    found = await asyncio.gather(*(submit(batcher, {"x": np.zeros(s)}, 1, 5) for s in shapes))
    assert [f["y"].shape for f in found] == shapes
    assert calls == [(2, 2), (1, 3)]
    batcher.close()


async def test_a_model_that_merges_rows_is_run_one_by_one_from_then_on() -> None:
    calls: list[int] = []

    def run(inputs: Tensors) -> Tensors:
        calls.append(len(inputs["x"]))
        return {"y": inputs["x"].sum(keepdims=True)}

    batcher = Batcher(run, Limits(), Metrics())
    assert [a["y"].tolist() for a in await answers(batcher, [[1], [2]])] == [[1], [2]]
    await answers(batcher, [[1], [2]])
    assert calls == [2, 1, 1, 1, 1]
    batcher.close()


async def test_the_queue_is_bounded() -> None:
    model = Doubler(held=True)
    batcher = Batcher(model, Limits(max_rows=1, queue=3, inline=False), Metrics())
    first = asyncio.create_task(submit(batcher, request(0), 1, 60))
    await until(lambda: model.calls == [1], "not called")
    asyncio.get_running_loop().call_later(0.05, model.let_go.set)
    found = await answers(batcher, [[1], [2], [3], [4], [5]])
    assert [isinstance(f, Overloaded) for f in found] == [False, False, False, True, True]
    assert (await first)["y"].tolist() == [0]
    assert batcher.idle()
    batcher.close()


async def test_the_queue_is_bounded_in_bytes() -> None:
    model = Doubler(held=True)
    batcher = Batcher(model, Limits(max_rows=1, queue_bytes=100, inline=False), Metrics())
    first = asyncio.create_task(submit(batcher, request(0), 1, 60, holds=1000))
    await until(lambda: model.calls == [1], "not called")
    asyncio.get_running_loop().call_later(0.05, model.let_go.set)
    found = await asyncio.gather(*(submit(batcher, request(n), 1, 60, holds=60) for n in range(4)), return_exceptions=True)
    assert [isinstance(f, Overloaded) for f in found] == [False, False, True, True]
    assert "requests of 100 bytes wait already" in str(found[2])
    await first
    assert (await submit(batcher, request(3), 1, 60, holds=60))["y"].tolist() == [6]
    batcher.close()


class Known(Pace):
    """A model that is known to be quick, however slow this machine is."""

    def __init__(self) -> None:
        super().__init__(32, follows_rows=True, stretch=False)
        self.learned: list[int] = []

    def quick(self, rows: int) -> bool:
        return True

    def learn(self, rows: int, seconds: float) -> None:
        self.learned.append(rows)


async def test_a_quick_model_answers_rather_than_refuses() -> None:
    model, pace = Doubler(), Known()
    batcher = Batcher(model, Limits(queue=4), Metrics(), pace)
    batcher.try_out(request(1), 1)
    assert (pace.learned, model.calls) == ([1], [1])
    found = await answers(batcher, [[n] for n in range(50)])
    assert [f["y"].tolist() for f in found] == [[2 * n] for n in range(50)]
    batcher.close()


async def test_whoever_would_wait_for_most_of_its_time_is_refused_at_once() -> None:
    model = Doubler(held=True)
    batcher = Batcher(model, Limits(max_rows=1, inline=False), Metrics())
    waiting = [asyncio.create_task(submit(batcher, request(n), 1, 60)) for n in range(2)]
    await until(lambda: model.calls == [1], "not called")
    await asyncio.sleep(0.1)
    with pytest.raises(Overloaded, match=r"requests wait already, .* too long for one that has 0\.1 seconds"):
        await submit(batcher, request(3), 1, 0.1)
    waiting.append(asyncio.create_task(submit(batcher, request(4), 1, 600)))
    await asyncio.sleep(0)
    model.let_go.set()
    assert [(await task)["y"].tolist() for task in waiting] == [[0], [2], [8]]
    batcher.close()


async def test_a_deadline_passes_while_waiting_and_while_running() -> None:
    model = Doubler(held=True)
    batcher = Batcher(model, Limits(max_rows=1, inline=False), Metrics())
    running = asyncio.create_task(submit(batcher, request(1), 1, 0.05))
    waiting = asyncio.create_task(submit(batcher, request(2), 1, 0.05))
    for task in (running, waiting):
        with pytest.raises(Late, match=r"0\.05 seconds"):
            await task
    model.let_go.set()
    await until(batcher.idle, "never idle")
    assert model.calls == [1], "the second was never run"
    batcher.close()


async def test_a_call_that_runs_on_is_seen_and_close_answers_who_waits_for_it() -> None:
    model = Doubler(held=True)
    batcher = Batcher(model, Limits(max_rows=1, inline=False), Metrics())
    tasks = [asyncio.create_task(submit(batcher, request(n), 1, 60)) for n in range(2)]
    assert batcher.running_for() == 0
    await until(lambda: batcher.running_for() > 0.05, "not called")
    batcher.close()
    for task in tasks:
        with pytest.raises(Overloaded, match="is ending"):
            await task
    with pytest.raises(Overloaded, match="is ending"):
        await submit(batcher, request(1), 1, 5)
    model.let_go.set()


async def test_a_cancelled_request_leaves_the_queue() -> None:
    model = Doubler(held=True)
    batcher = Batcher(model, Limits(max_rows=1, inline=False), Metrics())
    first = asyncio.create_task(submit(batcher, request(1), 1, 60))
    second = asyncio.create_task(submit(batcher, request(2), 1, 60))
    await until(lambda: model.calls == [1], "not called")
    second.cancel()
    model.let_go.set()
    await first
    await until(batcher.idle, "never idle")
    assert model.calls == [1]
    batcher.close()


async def test_a_long_call_leaves_the_loop_free_and_a_short_one_stays_in_it() -> None:
    model = Doubler(held=True)
    batcher = Batcher(model, Limits(inline=True), Metrics())
    task = asyncio.create_task(submit(batcher, request(1), 1, 60))
    await until(lambda: model.calls == [1], "not called")
    assert not task.done()
    model.let_go.set()
    await task
    batcher.close()


async def test_a_fault_that_nobody_foresaw_is_the_models_failure() -> None:
    def run(inputs: Tensors) -> Tensors:
        raise ZeroDivisionError("x")

    batcher = Batcher(run, Limits(), Metrics())
    for found in await answers(batcher, [[1], [2]]):
        assert isinstance(found, ModelFailed)
        assert "ZeroDivisionError" in str(found)
    batcher.close()


async def test_whatever_ends_a_call_in_the_thread_is_an_answer_and_the_next_one_is_made() -> None:
    def run(inputs: Tensors) -> Tensors:
        if inputs["x"][0] == 0:
            raise GeneratorExit("odd")
        return inputs

    batcher = Batcher(run, Limits(max_rows=1, inline=False), Metrics())
    with pytest.raises(ModelFailed, match="GeneratorExit"):
        await submit(batcher, request(0), 1, 5)
    assert (await submit(batcher, request(1), 1, 5))["x"].tolist() == [1]
    batcher.close()


class Stepped(Doubler):
    """Each call ends when it is let go."""

    def __init__(self) -> None:
        super().__init__(held=True)
        self.steps = threading.Semaphore(0)
        self.let_go.set()

    def __call__(self, inputs: Tensors) -> Tensors:
        outputs = super().__call__(inputs)
        assert self.steps.acquire(timeout=60)
        return outputs


async def stepped(callers: int) -> tuple[Stepped, Batcher, Metrics, list[Caller]]:
    """So many large requests, taken together while the first call, of another, was made; that one is answered."""
    model, metrics = Stepped(), Metrics()
    batcher = Batcher(model, Limits(inline=False), metrics)
    first, others = Caller(), [Caller() for _ in range(callers)]
    batcher.enter(first, request(100), 1, 60, holds=2**18)
    await until(lambda: len(model.calls) == 1, "not called")
    for n, caller in enumerate(others):
        batcher.enter(caller, request(n), 1, 60, holds=2**18)
    model.steps.release()
    await first.answer
    await until(lambda: len(model.calls) == 2, "not called")
    return model, batcher, metrics, others


async def test_large_requests_that_are_called_one_by_one_are_answered_one_by_one() -> None:
    model, batcher, metrics, callers = await stepped(3)
    for n, caller in enumerate(callers):
        await asyncio.sleep(0.03)
        assert not caller.answer.done()
        let_go = time.perf_counter()
        model.steps.release()
        assert (await caller.answer)["y"].tolist() == [2 * n]
        assert batcher.running_for() < time.perf_counter() - let_go, "of the next call"
    assert batcher.idle()
    assert metrics.queue.sum > 0.03 + 0.06, "they waited for each other"
    batcher.close()


async def test_nobodys_large_request_is_not_called() -> None:
    model, batcher, _, callers = await stepped(3)
    batcher.withdraw(callers[1])
    batcher.withdraw(callers[2])
    model.steps.release()
    assert (await callers[0].answer)["y"].tolist() == [0]
    await until(batcher.idle, "never idle")
    assert model.calls == [1, 1]
    model.steps.release()
    assert (await submit(batcher, request(7), 1, 60))["y"].tolist() == [14]
    batcher.close()


async def test_what_the_thread_has_done_is_taken_in_before_anybody_is_refused() -> None:
    """Without a turn of the event loop in between, which may be long in coming under load."""
    model = Doubler(held=True)
    batcher = Batcher(model, Limits(max_rows=1, queue=2, inline=False), Metrics())
    callers = [Caller() for _ in range(4)]
    batcher.enter(callers[0], request(0), 1, 60)
    await until(lambda: model.calls == [1], "not called")
    for n in (1, 2):
        batcher.enter(callers[n], request(n), 1, 60)
    with pytest.raises(Overloaded):
        batcher.enter(Caller(), request(9), 1, 60)
    model.let_go.set()
    no_turn_until_done(batcher)
    batcher.enter(callers[3], request(3), 1, 60)
    assert [(await c.answer)["y"].tolist() for c in callers] == [[0], [2], [4], [6]]
    batcher.close()


async def test_an_answer_that_cannot_be_given_holds_up_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Caller):
        def settle(self, part: Part) -> None:
            raise RuntimeError("no connection")

    batcher = Batcher(Doubler(), Limits(max_rows=8), Metrics())
    good = Caller()
    batcher.enter(Broken(), request(1), 1, 60)
    batcher.enter(good, request(2), 1, 60)
    assert (await good.answer)["y"].tolist() == [4]
    assert batcher.idle()
    assert "no connection" in capsys.readouterr().err
    batcher.close()
