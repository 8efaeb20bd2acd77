"""Parts of the local world with a stand-in for what they ask: replays, counters that do not answer, ports that somebody took."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from aiservice.api.service import AIService
from aiservice.api.status import Cursor, ReplayStatus
from aiservice.core.world import ReplayTask
from aiservice.local import manifest, process, replica, world
from aiservice.local.fleet import Fleet
from aiservice.local.gateway import Gateway
from aiservice.local.process import Process
from aiservice.local.replica import Recipe, Replica
from aiservice.local.store import Store
from aiservice.local.world import LocalWorld
from local.machine import Machine, until
from local.test_bad_input import GOOD

A, B, C = "raaaaaaaa", "rbbbbbbbb", "rcccccccc"


def service(**rollout: Any) -> AIService:
    return manifest.parse(yaml.safe_dump(GOOD | {"spec": {"model": {"uri": "file:///v1"}, "rollout": rollout}}), Path("/x/y.yaml"))


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
    monkeypatch.setattr(world, "AGAIN", 0.05)
    return made


@pytest.fixture
async def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalWorld]:
    async with aiohttp.ClientSession() as session:
        fleet = Fleet(tmp_path, tmp_path, session, lambda: None)

        def ready(self: Fleet, revision: str | None) -> list[Replica]:
            recipe = Recipe("svc", str(revision), "file:///v1", None, (), {}, "")
            return [Replica(recipe, 0, tmp_path, tmp_path, session, lambda: None, Process(1, "x"))]

        monkeypatch.setattr(Fleet, "ready", ready)
        made = LocalWorld(Store(tmp_path), Gateway(tmp_path, "127.0.0.1", 1), fleet, lambda: None)
        yield made
        await made.close()


COMPLETE = ReplayStatus(planned=1, done=1, complete=True)


async def test_a_replay_runs_once_and_again_when_it_was_undecided(local: LocalWorld, runs: Runs) -> None:
    task = ReplayTask(A, B, 10)
    for _ in range(3):
        local._replays(service(), task)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(runs.calls) == 1
    runs.ends[0].set_result(COMPLETE)
    await until(lambda: local._replayed == COMPLETE, "no result")
    local._replays(service(), task)
    await asyncio.sleep(0.1)
    assert len(runs.calls) == 1, "it was complete"
    local._replays(service(), ReplayTask(A, B, 10, again=True))
    await until(lambda: len(runs.calls) == 2, "not again")
    runs.calls[1]["progress"](ReplayStatus(planned=5))
    assert local._replayed == COMPLETE, "what was complete stands until the next is"
    more = ReplayStatus(planned=2, done=2, complete=True)
    runs.ends[1].set_result(more)
    await until(lambda: local._replayed == more, "no result")


async def test_a_candidate_that_is_replaced_leaves_no_replay_behind(local: LocalWorld, runs: Runs) -> None:
    local._replays(service(), ReplayTask(A, B, 10))
    await until(lambda: len(runs.calls) == 1, "no replay")
    runs.calls[0]["progress"](ReplayStatus(planned=3))
    local._replays(service(), None)
    assert local._replayed is None
    local._replays(service(), ReplayTask(A, C, 10))
    await until(lambda: len(runs.calls) == 2, "no replay")
    assert runs.calls[1]["candidate"] == C
    await until(runs.ends[0].cancelled, "the first one runs on")
    assert local._replayed is None


async def test_another_question_is_another_replay(local: LocalWorld, runs: Runs) -> None:
    task = ReplayTask(A, B, 10)
    local._replays(service(), task)
    await until(lambda: len(runs.calls) == 1, "no replay")
    local._replays(service(gates={"latency": {"slo": "1s"}}), task)
    await until(lambda: len(runs.calls) == 2, "no replay")
    assert [c["slo"] for c in runs.calls] == [None, 1.0]


@pytest.mark.parametrize("error", [aiohttp.ClientError("gone"), KeyError("odd")])
async def test_a_replay_that_fails_says_so_and_is_tried_again(
    local: LocalWorld, runs: Runs, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    task = ReplayTask(A, B, 10)
    local._replays(service(), task)
    await until(lambda: len(runs.calls) == 1, "no replay")
    with caplog.at_level(logging.ERROR):
        runs.ends[0].set_exception(error)
        await until(lambda: local._replayed is not None, "nothing said")
    assert local._replayed
    assert "cannot be read" in local._replayed.message
    assert bool(caplog.records) == isinstance(error, KeyError)

    def again() -> bool:
        local._replays(service(), task)
        return len(runs.calls) == 2

    await until(again, "not tried again")


async def test_a_source_that_does_not_answer_stands_where_it_stood(local: LocalWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[dict[str, tuple[int, int]]] = [{f"svc-{A}-predictor": (1, 100)}, {}, {f"svc-{A}-predictor": (1, 110)}]

    async def counters(self: Gateway) -> dict[str, tuple[int, int]]:
        return answers.pop(0)

    monkeypatch.setattr(Gateway, "counters", counters)
    seen = [(await local._totals(service(), (A, B)))[f"gateway./svc-{A}-predictor"].counts for _ in range(3)]
    assert seen == [Cursor(errors=(1, 100)), Cursor(errors=(1, 100)), Cursor(errors=(1, 110))]
    answers.append({})
    assert f"gateway./svc-{A}-predictor" not in await local._totals(service(), (B, C)), "of a revision that is no longer asked for"


async def test_a_port_that_somebody_took_is_tried_no_more(box: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking for a free port and binding it."""
    box.bundle("v1")
    for name, value in box.env.items():
        monkeypatch.setenv(name, value)
    ports = replica.free_ports
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        first = [int(taken.getsockname()[1]), ports(1)[0]]
        given = [first]
        monkeypatch.setattr(replica, "free_ports", lambda n: given.pop() if given else ports(n))
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            recipe = Recipe(
                "svc", A, f"file://{box.folder}/v1", None, ("python", "-m", "aiservice_predictor"), {"AISERVICE_MODEL_NAME": "svc"}, "t"
            )
            made = Replica(recipe, 0, box.folder / "p", box.folder / "c", session, lambda: None)
            made.start()
            await until(lambda: made.ready, made.message)
            assert made.http not in first
            assert made.message == "ready after 1 restarts"
            assert len(list(process.marked(replica.MARK, box.folder / "p"))) == 1
            await made.stop()
    assert box.processes() == []
