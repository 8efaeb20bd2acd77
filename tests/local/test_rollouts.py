"""Rollouts with real predictors behind a real Envoy, under traffic. Every request of every client is counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiservice.api.status import DecisionKind, Phase
from local.machine import Machine, decided, ready, said, stable, until

NO_REPLAY: dict[str, Any] = {"replay": {"requests": 0}, "gates": {"errors": {"margin": "2%"}}}


async def first(box: Machine, **how: Any) -> str:
    box.bundle("v1")
    revision = box.ask("v1", **how)
    await asyncio.to_thread(box.up)
    return revision


async def test_a_good_candidate_goes_through_every_step_and_rollback_to_the_standby_is_immediate(box: Machine) -> None:
    one = await first(box)
    box.bundle("v2", bias=0.001)
    async with box.traffic() as counts:
        await asyncio.sleep(1)
        two = box.ask("v2")
        seen = await box.wait(stable(two))
        steps = [d.message.split(":")[0] for d in seen.rollout.decisions if d.revision == two and d.kind is DecisionKind.ADVANCED]
        assert steps == ["step 1 of 2, 20 %", "step 2 of 2, 50 %"]
        assert said(seen, two, DecisionKind.PROMOTED).requests > 0
        back = box.ask("v1")
        seen = await box.wait(stable(back))
        assert back == one
        assert said(seen, one, DecisionKind.RESTORED).reason == "OnStandby"
        good = counts.good
        await until(lambda: counts.good >= good + 50, "no answers")
    assert counts.failed == 0, counts.errors[:5]


async def test_a_candidate_that_decides_otherwise_is_rejected_before_any_client_meets_it(box: Machine) -> None:
    one = await first(box)
    box.bundle("v2", scale=-1.0, bias=1.0)
    async with box.traffic() as counts:
        await asyncio.sleep(1)
        two = box.ask("v2")
        seen = await box.wait(decided(two, DecisionKind.REJECTED))
    assert said(seen, two, DecisionKind.REJECTED).gate == "agreement"
    assert said(seen, two, DecisionKind.REJECTED).requests == 0
    assert seen.rollout.stable == one
    assert counts.failed == 0, counts.errors[:5]


async def test_a_candidate_that_fails_is_rolled_back_live_and_only_its_own_requests_fail(box: Machine) -> None:
    one = await first(box, **NO_REPLAY)
    box.bundle("v2", fails=5)
    async with box.traffic() as counts:
        two = box.ask("v2", **NO_REPLAY)
        seen = await box.wait(decided(two, DecisionKind.ROLLED_BACK))
        await box.wait(stable(one))
        failed = counts.failed
        good = counts.good
        await until(lambda: counts.good >= good + 50, "no answers")
    end = said(seen, two, DecisionKind.ROLLED_BACK)
    assert end.gate == "errors"
    assert 0 < failed <= end.requests
    assert set(counts.answers) == {200, 500}, counts.errors[:5]


async def test_a_slow_candidate_is_rejected_in_replay(box: Machine) -> None:
    gates = {"errors": {"margin": "20%"}, "latency": {"slo": "150ms", "margin": "5%"}}
    one = await first(box, gates=gates)
    box.bundle("v2", always=300)
    async with box.traffic() as counts:
        await asyncio.sleep(1)
        two = box.ask("v2", gates=gates)
        seen = await box.wait(decided(two, DecisionKind.REJECTED))
    assert said(seen, two, DecisionKind.REJECTED).gate == "latency"
    assert seen.rollout.stable == one
    assert counts.failed == 0, counts.errors[:5]


@pytest.mark.parametrize("how", ["flipped byte", "wrong pin"])
async def test_a_model_that_is_not_what_it_says_is_refused(box: Machine, how: str) -> None:
    one = await first(box)
    box.bundle("v2", bias=0.001)
    if how == "flipped byte":
        place = box.folder / "v2" / "model.onnx"
        raw = bytearray(place.read_bytes())
        raw[len(raw) // 2] ^= 1
        place.write_bytes(raw)
    async with box.traffic() as counts:
        two = box.ask("v2", digest="sha256:" + "0" * 64 if how == "wrong pin" else None)
        seen = await box.wait(decided(two, DecisionKind.REFUSED))
    assert said(seen, two, DecisionKind.REFUSED).reason in ("DigestMismatch", "DamagedBundle")
    assert seen.rollout.stable == one
    assert counts.failed == 0, counts.errors[:5]
    assert box.cli("status", "svc").returncode == 0


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


async def test_the_manifest_changes_in_the_middle(box: Machine) -> None:
    await first(box)
    box.bundle("v2", bias=0.001)
    box.bundle("v3", bias=0.002)
    async with box.traffic() as counts:
        await asyncio.sleep(1)
        two = box.ask("v2", steps=[{"weight": 30, "hold": "1h"}])
        await box.wait(lambda s: s.rollout.candidate == two and s.rollout.weight == 30)
        three = box.ask("v3")
        seen = await box.wait(stable(three))
    assert said(seen, two, DecisionKind.SUPERSEDED)
    assert counts.failed == 0, counts.errors[:5]


async def test_a_person_promotes_aborts_and_tries_again(box: Machine) -> None:
    one = await first(box)
    box.bundle("v2", bias=0.001)
    how: dict[str, Any] = {"promotion": "Manual", "steps": [{"weight": 50, "hold": "1s"}]}
    async with box.traffic() as counts:
        await asyncio.sleep(1)
        assert (await run(box, "promote", "svc")).returncode == 1
        two = box.ask("v2", **how)
        await box.wait(lambda s: s.rollout.phase is Phase.PAUSED)
        said_of_it = await run(box, "abort", "svc")
        assert (said_of_it.returncode, one in said_of_it.stdout) == (0, True), said_of_it
        assert said(box.status(), two, DecisionKind.ROLLED_BACK).reason == "Aborted"
        again = await run(box, "retry", "svc")
        assert again.returncode == 0, again.stderr
        await box.wait(lambda s: s.rollout.phase is Phase.PAUSED)
        given = await run(box, "promote", "svc")
        assert given.returncode == 0, given.stderr
        seen = await box.wait(stable(two))
    assert said(seen, two, DecisionKind.PROMOTED).reason == "ByHand"
    assert counts.failed == 0, counts.errors[:5]


async def test_late_labels_decide_about_quality(box: Machine) -> None:
    how: dict[str, Any] = {
        "replay": {"requests": 0},
        "gates": {"errors": {"margin": "20%"}, "quality": {"metric": "Accuracy", "margin": "5%"}},
        "steps": [{"weight": 50, "hold": "1s"}],
    }
    one = await first(box, **how)
    box.bundle("v2", bias=-0.3)
    async with box.traffic() as counts:
        two = box.ask("v2", **how)
        await box.wait(lambda s: s.rollout.weight == 50)
        sent = 0
        while not decided(two, DecisionKind.ROLLED_BACK)(box.status()):
            now = counts.good
            truth = {f"svc-{n}": (n * 7 % 20) / 20 >= 0.5 for n in range(sent, now)}
            sent = now
            if truth:
                await post_labels(box, truth)
            await asyncio.sleep(0.3)
    end = said(box.status(), two, DecisionKind.ROLLED_BACK)
    assert end.gate == "quality"
    assert "labels" in end.message
    assert box.status().rollout.stable == one
    assert counts.failed == 0, counts.errors[:5]
    late = await run(box, "label", "svc", "svc-1=yes", "nobody=no")
    assert (late.returncode, "1 labels joined" in late.stdout, "1 of unknown" in late.stdout) == (0, True, True), late


async def test_without_evidence_it_waits_and_says_so(box: Machine) -> None:
    one = await first(box, **NO_REPLAY)
    box.bundle("v2", bias=0.001)
    two = box.ask("v2", **NO_REPLAY)
    seen = await box.wait(lambda s: s.rollout.phase is Phase.HOLDING)
    assert (seen.rollout.stable, seen.rollout.candidate) == (one, two)
    assert said(seen, two, DecisionKind.INSUFFICIENT_EVIDENCE).gate == "errors"
    assert ready(seen)
    shown = await run(box, "status", "svc")
    assert shown.returncode == 0
    assert "aiservice promote svc" in shown.stdout
    async with box.traffic() as counts:
        await box.wait(stable(two))
    assert counts.failed == 0, counts.errors[:5]


def kill(pids: set[int]) -> None:
    import contextlib
    import os
    import signal

    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def run(box: Machine, *words: str) -> Any:
    return await asyncio.to_thread(box.cli, *words)


async def post_labels(box: Machine, truth: dict[str, bool]) -> None:
    import aiohttp

    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{box.port}/v1/labels", json={"labels": truth}, headers={"Host": "svc.localhost"}) as answer,
    ):
        assert answer.status == 200, await answer.text()
        assert (await answer.json())["matched"] > 0
