"""What only this machine can show of a rollout; the rest is in tests/contract."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Any

from aiservice.api.status import DecisionKind, Phase
from local.machine import Machine, decided, said, until
from sending import request_id


async def first(box: Machine, **how: Any) -> str:
    box.bundle("v1")
    revision = box.ask("v1", **how)
    await asyncio.to_thread(box.up)
    return revision


async def test_a_candidate_that_crashes_again_and_again_is_rejected_at_its_deadline(box: Machine) -> None:
    one = await first(box, deadline="3s")
    box.bundle("v2", bias=0.001)
    async with box.traffic() as counts:
        known = set(box.predictors())
        two = box.ask("v2", deadline="3s")
        while not decided(two, DecisionKind.REJECTED)(box.status()):
            kill(set(box.predictors()) - known)
            await asyncio.sleep(0.05)
    end = said(box.status(), two, DecisionKind.REJECTED)
    assert end.reason in ("NeverReady", "LostReadiness")
    assert "signal 9" in end.message
    assert box.status().rollout.stable == one
    assert counts.failed == 0, counts.errors[:5]


async def test_commands_say_what_they_did_and_what_to_do_next(box: Machine) -> None:
    how: dict[str, Any] = {"replay": {"requests": 0}, "gates": {"errors": {"margin": "2%"}}, "steps": [{"weight": 50, "hold": "1s"}]}
    one = await first(box, **how)
    assert (await run(box, "promote", "svc")).returncode == 1
    box.bundle("v2", bias=0.001)
    box.ask("v2", **how)
    await box.wait(lambda s: s.rollout.phase is Phase.HOLDING)
    shown = await run(box, "status", "svc")
    assert (shown.returncode, "aiservice promote svc" in shown.stdout) == (0, True), shown
    async with box.traffic() as counts:
        await until(lambda: counts.good > 20, "no answers")
    late = await run(box, "label", "svc", f"{request_id(counts.answered[0])}=yes", "nobody=no")
    assert (late.returncode, "1 labels joined" in late.stdout, "1 of unknown" in late.stdout) == (0, True, True), late
    said_of_it = await run(box, "abort", "svc")
    assert (said_of_it.returncode, one in said_of_it.stdout) == (0, True), said_of_it


def kill(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def run(box: Machine, *words: str) -> Any:
    return await asyncio.to_thread(box.cli, *words)
