"""Whatever is killed, and whenever: no client sees it, no rollout is lost, nothing runs twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from functools import partial
from typing import Any

import pytest

from aiservice.api.status import DecisionKind, Phase
from local.machine import PATIENCE, Machine, Running, decided, infer, ready, stable, until

SLOWLY: dict[str, Any] = {
    "replay": {"requests": 400},
    "steps": [{"weight": 20, "hold": "2s"}, {"weight": 50, "hold": "2s"}],
}


def found(up: Running) -> bool:
    return "found the one" in up.said


async def test_up_is_killed_in_every_phase_of_a_rollout(box: Machine) -> None:
    """The phases are waited for, the moments within them are random."""
    dice = random.Random(os.environ.get("AISERVICE_TEST_SEED", "7"))
    box.bundle("v1")
    one = box.ask("v1", **SLOWLY)
    up = await asyncio.to_thread(box.up)
    box.bundle("v2", bias=0.001)
    met: list[str] = []
    most = (0, 0.0)
    async with box.traffic() as counts:
        await asyncio.sleep(1)
        two = box.ask("v2", **SLOWLY)
        for _ in range(10):
            await asyncio.sleep(dice.uniform(0.0, 1.2))
            up.kill()
            before = box.status().rollout
            met.append(before.phase.value)
            if before.candidate:
                reached = (before.step, sum(a.candidate for a in before.errors))
                assert reached >= most, "evidence was lost"
                most = reached
            up = await asyncio.to_thread(box.up, wait=False)
            await until(partial(found, up), up.said)
        seen = await box.wait(stable(two))
        assert decided(two, DecisionKind.PROMOTED)(seen)
        started = [d for d in seen.rollout.decisions if d.kind is DecisionKind.STARTED and d.revision == two]
        assert len(started) == 1, "the rollout began anew"
        await until(lambda: len(box.predictors()) == 2, f"{len(box.predictors())} predictors")
        assert len(box.envoys()) == 1
    assert counts.failed == 0, counts.errors[:5]
    assert len(set(met)) >= 2, met
    assert one != two
    assert up.end() == 0
    assert box.processes() == []


async def test_up_is_killed_while_it_starts(box: Machine) -> None:
    """From nothing: what a killed start left is found, nothing is there twice."""
    dice = random.Random(os.environ.get("AISERVICE_TEST_SEED", "8"))
    box.bundle("v1")
    box.ask("v1", real_time={"replicas": {"min": 2, "max": 2}})
    for _ in range(8):
        up = box.up(wait=False)
        await asyncio.sleep(dice.uniform(0.2, 2.0))
        up.kill()
    up = await asyncio.to_thread(box.up)
    await box.wait(lambda s: s.revisions[0].ready == 2)
    await until(lambda: len(box.predictors()) == 2 and len(box.envoys()) == 1, f"{box.predictors()} {box.envoys()}")
    assert infer(up.url)["outputs"]
    assert up.end() == 0
    assert box.processes() == []


async def test_a_killed_replica_is_not_noticed_by_clients_and_comes_back(box: Machine) -> None:
    box.bundle("v1")
    box.ask("v1", real_time={"replicas": {"min": 2, "max": 2}})
    await asyncio.to_thread(box.up)
    await box.wait(lambda s: s.revisions[0].ready == 2)
    async with box.traffic(clients=8, pause=0.0) as counts:
        for _ in range(2):
            await asyncio.sleep(0.5)
            os.kill(box.predictors()[0], signal.SIGKILL)
            await box.wait(lambda s: s.revisions[0].ready == 1)
            await box.wait(lambda s: s.revisions[0].ready == 2)
    begun = [e for e in counts.errors if "payload is not completed" in e]
    assert begun == counts.errors, counts.errors[:5]
    assert len(begun) <= 2, "only an answer that had begun: its head was out, its body was not"
    assert len(box.predictors()) == 2


async def test_a_hanging_replica_gets_no_requests_until_it_answers_again(box: Machine) -> None:
    box.bundle("v1")
    box.ask("v1", real_time={"replicas": {"min": 2, "max": 2}})
    await asyncio.to_thread(box.up)
    await box.wait(lambda s: s.revisions[0].ready == 2)
    hanging = box.predictors()[0]
    os.kill(hanging, signal.SIGSTOP)
    seen = await box.wait(lambda s: s.revisions[0].ready == 1)
    assert "readiness" in seen.revisions[0].message
    async with box.traffic() as counts:
        await until(lambda: counts.good > 100, "no answers")
    assert counts.failed == 0, counts.errors[:5]
    os.kill(hanging, signal.SIGCONT)
    await box.wait(lambda s: s.revisions[0].ready == 2)
    assert hanging in box.predictors()


async def test_envoy_comes_back(box: Machine) -> None:
    box.bundle("v1")
    box.ask("v1")
    up = await asyncio.to_thread(box.up)
    (envoy,) = box.envoys()
    os.kill(envoy, signal.SIGKILL)
    await until(lambda: box.envoys() not in ([], [envoy]), "no new envoy")
    await box.wait(ready)

    def answers() -> bool:
        try:
            return bool(infer(up.url)["outputs"])
        except OSError:
            return False

    await until(answers, up.said)
    assert "envoy ended; starting it again" in up.said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_everything_and_open_requests_are_answered(box: Machine, number: signal.Signals) -> None:
    box.bundle("v1", slow=400)
    box.ask("v1")
    up = await asyncio.to_thread(box.up)
    async with box.traffic(clients=2, pause=0) as counts:
        await until(lambda: counts.good > 20, "no answers")
        up.process.send_signal(number)
        assert await asyncio.to_thread(up.process.wait, PATIENCE) == 0
        assert box.processes() == []
    assert set(counts.answers) <= {0, 200}
    cut = [e for e in counts.errors if "ConnectionRefused" not in e]
    assert all("reset by peer" in e for e in cut), cut[:5]
    assert len(cut) <= 2, "only who was still waiting to be let in"


@pytest.mark.parametrize("after", [0.0, 0.5])
async def test_two_signals_end_everything_at_once(box: Machine, after: float) -> None:
    box.bundle("v1", slow=3000)
    box.ask("v1", real_time={"replicas": {"min": 2, "max": 2}})
    up = await asyncio.to_thread(box.up)
    async with box.traffic(clients=3) as counts:
        await until(lambda: counts.good > 5, "no answers")
        up.process.send_signal(signal.SIGINT)
        await asyncio.sleep(after)
        up.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(up.process.wait, PATIENCE) == 0
        assert box.processes() == []


async def test_a_signal_while_it_starts_leaves_nothing(box: Machine) -> None:
    box.bundle("v1")
    box.ask("v1", real_time={"replicas": {"min": 2, "max": 2}})
    for delay in (0.3, 0.8, 1.0, 1.3, 1.8):
        up = box.up(wait=False)
        await asyncio.sleep(delay)
        assert await asyncio.to_thread(up.end, signal.SIGINT) in (0, 130, -2), up.said
        assert box.processes() == []
        assert "Traceback" not in up.said or "KeyboardInterrupt" in up.said


async def test_a_signal_during_a_replay(box: Machine) -> None:
    box.bundle("v1", always=5)
    box.ask("v1")
    up = await asyncio.to_thread(box.up)
    box.bundle("v2", always=5, bias=0.001)
    async with box.traffic():
        await asyncio.sleep(2)
    two = box.ask("v2", replay={"requests": 1000})
    await box.wait(lambda s: s.rollout.phase is Phase.REPLAYING and bool(s.rollout.replay and s.rollout.replay.done))
    assert await asyncio.to_thread(up.end, signal.SIGINT) == 0
    assert box.processes() == []
    assert box.status().rollout.candidate == two
    assert "Traceback" not in up.said
    up = await asyncio.to_thread(box.up)
    await box.wait(lambda s: (s.rollout.replay is not None and s.rollout.replay.complete) or s.rollout.weight > 0)
