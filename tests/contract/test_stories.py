"""What an AIService promises wherever it runs: real predictors behind a real gateway, under traffic. Every request of every client is counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import sending
from aiservice.api.status import DecisionKind, Phase
from contract.stage import Stage
from local.bundles import products
from local.machine import alone, decided, ready, said, stable, until

NO_REPLAY: dict[str, Any] = {"replay": {"requests": 0}, "gates": {"errors": {"margin": "2%"}}}


async def test_a_good_candidate_goes_through_every_step_and_rollback_to_the_standby_is_immediate(stage: Stage) -> None:
    stage.publish("v1")
    stage.publish("v2", bias=0.001)
    one = await stage.serve("v1")
    async with stage.rest() as counts, stage.over_grpc() as calls:
        await asyncio.sleep(1)
        two = stage.ask("v2")
        seen = await stage.wait(stable(two))
        steps = [d.message.split(":")[0] for d in seen.rollout.decisions if d.revision == two and d.kind is DecisionKind.ADVANCED]
        assert steps == ["step 1 of 2, 20 %", "step 2 of 2, 50 %"]
        assert said(seen, two, DecisionKind.PROMOTED).requests > 0
        back = stage.ask("v1")
        seen = await stage.wait(stable(back))
        assert back == one
        assert said(seen, one, DecisionKind.RESTORED).reason == "OnStandby"
        good = counts.good
        await until(lambda: counts.good >= good + 50, "no answers")
    assert {r for r in counts.by_revision if r} == {one, two}
    assert (counts.failed, calls.failed) == (0, 0), (counts.errors[:5], calls.errors[:5])
    assert calls.good > 0


async def test_a_candidate_that_decides_otherwise_is_rejected_before_any_client_meets_it(stage: Stage) -> None:
    stage.publish("v1")
    stage.publish("v2", scale=-1.0, bias=1.0)
    one = await stage.serve("v1")
    async with stage.rest() as counts:
        await asyncio.sleep(1)
        two = stage.ask("v2")
        seen = await stage.wait(decided(two, DecisionKind.REJECTED))
    assert said(seen, two, DecisionKind.REJECTED).gate == "agreement"
    assert said(seen, two, DecisionKind.REJECTED).requests == 0
    assert seen.rollout.stable == one
    assert set(counts.by_revision) == {one}
    assert counts.failed == 0, counts.errors[:5]


async def test_a_candidate_that_fails_is_rolled_back_live_and_only_its_own_requests_fail(stage: Stage) -> None:
    stage.publish("v1")
    stage.publish("v2", fails=5)
    one = await stage.serve("v1", **NO_REPLAY)
    async with stage.rest() as counts:
        two = stage.ask("v2", **NO_REPLAY)
        seen = await stage.wait(decided(two, DecisionKind.ROLLED_BACK))
        await stage.wait(alone(one))
        failed, good = counts.failed, counts.good
        await until(lambda: counts.good >= good + 50, "no answers")
    end = said(seen, two, DecisionKind.ROLLED_BACK)
    assert end.gate == "errors"
    assert 0 < failed == counts.failed
    assert {e.split()[1] for e in counts.errors} == {two}
    assert set(counts.answers) == {200, 500}, counts.errors[:5]


async def test_a_slow_candidate_is_rejected_in_replay(stage: Stage) -> None:
    gates = {"errors": {"margin": "20%"}, "latency": {"slo": "150ms", "margin": "5%"}}
    stage.publish("v1")
    stage.publish("v2", always=products(0.6))  # at least twice the SLO where two cores share it
    one = await stage.serve("v1", gates=gates)
    async with stage.rest() as counts:
        await asyncio.sleep(1)
        two = stage.ask("v2", gates=gates)
        seen = await stage.wait(decided(two, DecisionKind.REJECTED))
    assert said(seen, two, DecisionKind.REJECTED).gate == "latency"
    assert seen.rollout.stable == one
    assert counts.failed == 0, counts.errors[:5]


@pytest.mark.parametrize("how", ["flipped bit", "wrong pin"])
async def test_a_model_that_is_not_what_it_says_is_refused(stage: Stage, how: str) -> None:
    stage.publish("v1")
    stage.publish("v2", bias=0.001)
    one = await stage.serve("v1")
    if how == "flipped bit":
        stage.damage("v2")
    async with stage.rest() as counts:
        two = stage.ask("v2", digest="sha256:" + "0" * 64 if how == "wrong pin" else None)
        seen = await stage.wait(decided(two, DecisionKind.REFUSED))
    assert said(seen, two, DecisionKind.REFUSED).reason in ("DigestMismatch", "DamagedBundle")
    assert seen.rollout.stable == one
    assert ready(stage.status())
    assert counts.failed == 0, counts.errors[:5]


async def test_the_manifest_changes_in_the_middle(stage: Stage) -> None:
    stage.publish("v1")
    stage.publish("v2", bias=0.001)
    stage.publish("v3", bias=0.002)
    await stage.serve("v1")
    async with stage.rest() as counts:
        await asyncio.sleep(1)
        two = stage.ask("v2", steps=[{"weight": 30, "hold": "1h"}])
        await stage.wait(lambda s: s.rollout.candidate == two and s.rollout.weight == 30)
        three = stage.ask("v3")
        seen = await stage.wait(stable(three))
    assert said(seen, two, DecisionKind.SUPERSEDED)
    assert counts.failed == 0, counts.errors[:5]


async def test_a_person_aborts_tries_again_and_promotes(stage: Stage) -> None:
    how: dict[str, Any] = {"promotion": "Manual", "steps": [{"weight": 50, "hold": "1s"}]}
    stage.publish("v1")
    stage.publish("v2", bias=0.001)
    one = await stage.serve("v1")
    async with stage.rest() as counts:
        await asyncio.sleep(1)
        two = stage.ask("v2", **how)
        await stage.wait(lambda s: s.rollout.phase is Phase.PAUSED)
        await stage.command("abort")
        seen = await stage.wait(stable(one))
        assert said(seen, two, DecisionKind.ROLLED_BACK).reason == "Aborted"
        await stage.command("retry")
        await stage.wait(lambda s: s.rollout.phase is Phase.PAUSED)
        await stage.command("promote")
        seen = await stage.wait(stable(two))
    assert said(seen, two, DecisionKind.PROMOTED).reason == "ByHand"
    assert counts.failed == 0, counts.errors[:5]


async def test_late_labels_decide_about_quality(stage: Stage) -> None:
    how: dict[str, Any] = {
        "replay": {"requests": 0},
        "gates": {"errors": {"margin": "20%"}, "quality": {"metric": "Accuracy", "margin": "5%"}},
        "steps": [{"weight": 50, "hold": "1s"}],
    }
    stage.publish("v1")
    stage.publish("v2", bias=-0.3)
    one = await stage.serve("v1", **how)
    matched = 0
    async with stage.rest() as counts:
        two = stage.ask("v2", **how)
        await stage.wait(lambda s: s.rollout.weight == 50)
        while not decided(two, DecisionKind.ROLLED_BACK)(await asyncio.to_thread(stage.status)):
            numbers, counts.answered[:] = counts.answered[:], []
            labels = {sending.request_id(n): sending.truth(n) for n in numbers}
            matched += (await stage.label(labels))["matched"] if labels else 0
            await asyncio.sleep(0.3)
    end = said(stage.status(), two, DecisionKind.ROLLED_BACK)
    assert end.gate == "quality"
    assert "labels" in end.message
    assert matched > 0
    assert stage.status().rollout.stable == one
    assert counts.failed == 0, counts.errors[:5]


async def test_without_evidence_it_waits_and_says_so(stage: Stage) -> None:
    stage.publish("v1")
    stage.publish("v2", bias=0.001)
    one = await stage.serve("v1", **NO_REPLAY)
    two = stage.ask("v2", **NO_REPLAY)
    seen = await stage.wait(lambda s: s.rollout.phase is Phase.HOLDING)
    assert (seen.rollout.stable, seen.rollout.candidate) == (one, two)
    assert said(seen, two, DecisionKind.INSUFFICIENT_EVIDENCE).gate == "errors"
    assert ready(seen)
    async with stage.rest() as counts:
        await stage.wait(stable(two))
    assert counts.failed == 0, counts.errors[:5]
