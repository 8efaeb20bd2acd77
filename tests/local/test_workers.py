"""A predictor of several processes is one predictor: in a rollout, to whoever finds it again, and when one of them ends."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aiservice.api.status import DecisionKind
from local.machine import Machine, decided, stable, until
from local.test_kills import found

WORKERS = {"workers": 2}
STEPS: dict[str, Any] = {"replay": {"requests": 200}, "steps": [{"weight": 50, "hold": "2s"}]}


def workers(box: Machine) -> dict[int, list[int]]:
    """Predictor -> its workers."""
    everybody = set(box.predictors())
    family = {pid: [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] for pid in everybody}
    return {pid: members for pid, members in family.items() if members}


@pytest.mark.timeout(240)
async def test_a_rollout_of_predictors_with_workers(box: Machine) -> None:
    box.bundle("v1")
    one = box.ask("v1", real_time=WORKERS, **STEPS)
    up = await asyncio.to_thread(box.up)
    async with box.traffic() as counts:
        await until(lambda: [len(w) for w in workers(box).values()] == [2], "two workers")
        before = workers(box)
        up.kill()
        up = await asyncio.to_thread(box.up, wait=False)
        await until(partial(found, up), up.said)
        await asyncio.sleep(2)
        assert workers(box) == before, "the same, and nobody ended the workers as strangers"
        ((predictor, (worker, _)),) = before.items()
        os.kill(worker, signal.SIGKILL)
        await until(lambda: len(workers(box)[predictor]) == 2 and worker not in workers(box)[predictor], "another worker")
        box.bundle("v2", bias=0.001)
        two = box.ask("v2", real_time=WORKERS, **STEPS)
        seen = await box.wait(stable(two))
        assert decided(two, DecisionKind.PROMOTED)(seen)
        assert seen.rollout.decisions, "replayed and compared"
    assert counts.failed == 0, counts.errors[:5]
    assert one != two
    assert up.end() == 0
    assert box.predictors() == []
