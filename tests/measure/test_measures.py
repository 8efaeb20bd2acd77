"""When a replay runs, runs again, and is dropped; with a stand-in for the replay itself."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import pytest

from aiservice.api.service import AIService
from aiservice.api.status import ReplayStatus
from aiservice.core.world import ReplayTask
from aiservice.measure.client import Predictor
from aiservice.measure.measures import Measures
from local.machine import until

A, B, C = "raaaaaaaa", "rbbbbbbbb", "rcccccccc"


def service(**rollout: Any) -> AIService:
    return AIService.model_validate_json(
        json.dumps({"metadata": {"name": "svc"}, "spec": {"model": {"uri": "file:///v1"}, "rollout": rollout}})
    )


class Runs:
    """Stands in for replay.run: each call is kept, and ends when it is told to."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.ends: list[asyncio.Future[ReplayStatus]] = []

    async def __call__(self, stable: Sequence[Any], candidate: Sequence[Any], **how: Any) -> ReplayStatus:
        self.calls.append(how | {"candidate": candidate[0].revision})
        self.ends.append(asyncio.get_running_loop().create_future())
        return await self.ends[-1]


@pytest.fixture
async def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr("aiservice.measure.replay.run", made)
    monkeypatch.setattr("aiservice.measure.measures.AGAIN", 0.05)
    return made


@pytest.fixture
async def measures() -> AsyncIterator[Measures]:
    async with aiohttp.ClientSession() as session:
        made = Measures(lambda revision: [Predictor(revision, "http://127.0.0.1:1", "svc", "", session)])
        yield made
        await made.close()


COMPLETE = ReplayStatus(planned=1, done=1, complete=True)


async def test_a_replay_runs_once_and_again_when_it_was_undecided(measures: Measures, runs: Runs) -> None:
    task = ReplayTask(A, B, 10)
    for _ in range(3):
        measures.want(service(), task)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(runs.calls) == 1
    runs.ends[0].set_result(COMPLETE)
    await until(lambda: measures.replayed == COMPLETE, "no result")
    measures.want(service(), task)
    await asyncio.sleep(0.1)
    assert len(runs.calls) == 1, "it was complete"
    measures.want(service(), ReplayTask(A, B, 10, again=True))
    await until(lambda: len(runs.calls) == 2, "not again")
    runs.calls[1]["progress"](ReplayStatus(planned=5))
    assert measures.replayed == COMPLETE, "what was complete stands until the next is"
    more = ReplayStatus(planned=2, done=2, complete=True)
    runs.ends[1].set_result(more)
    await until(lambda: measures.replayed == more, "no result")


async def test_a_candidate_that_is_replaced_leaves_no_replay_behind(measures: Measures, runs: Runs) -> None:
    measures.want(service(), ReplayTask(A, B, 10))
    await until(lambda: len(runs.calls) == 1, "no replay")
    runs.calls[0]["progress"](ReplayStatus(planned=3))
    measures.want(service(), None)
    assert measures.replayed is None
    measures.want(service(), ReplayTask(A, C, 10))
    await until(lambda: len(runs.calls) == 2, "no replay")
    assert runs.calls[1]["candidate"] == C
    await until(runs.ends[0].cancelled, "the first one runs on")
    assert measures.replayed is None


async def test_another_question_is_another_replay(measures: Measures, runs: Runs) -> None:
    task = ReplayTask(A, B, 10)
    measures.want(service(), task)
    await until(lambda: len(runs.calls) == 1, "no replay")
    measures.want(service(gates={"latency": {"slo": "1s"}}), task)
    await until(lambda: len(runs.calls) == 2, "no replay")
    assert [c["slo"] for c in runs.calls] == [None, 1.0]


@pytest.mark.parametrize("error", [aiohttp.ClientError("gone"), KeyError("odd")])
async def test_a_replay_that_fails_says_so_and_is_tried_again(
    measures: Measures, runs: Runs, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    task = ReplayTask(A, B, 10)
    measures.want(service(), task)
    await until(lambda: len(runs.calls) == 1, "no replay")
    with caplog.at_level(logging.ERROR):
        runs.ends[0].set_exception(error)
        await until(lambda: measures.replayed is not None, "nothing said")
    assert measures.replayed
    assert "cannot be read" in measures.replayed.message
    assert bool(caplog.records) == isinstance(error, KeyError)

    def again() -> bool:
        measures.want(service(), task)
        return len(runs.calls) == 2

    await until(again, "not tried again")
