"""What a rollout promises, whatever happens: random histories, and the stories that users tell."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import Any

import pytest

from aiservice.api.spec import AIServiceSpec
from aiservice.api.status import DecisionKind, Phase, Role
from aiservice.core.rollout import possible
from aiservice.core.world import Command, Verb
from core.history import Numbers, Truth

STEPS = [{"weight": 5, "hold": "20s"}, {"weight": 25, "hold": "20s"}, {"weight": 50, "hold": "20s"}]


def asked(uri: str, **rollout: object) -> AIServiceSpec:
    body = {"model": {"uri": f"file:///{uri}"}, "rollout": {"steps": STEPS, "gates": {"errors": {"margin": "2%"}}} | rollout}
    return AIServiceSpec.model_validate_json(json.dumps(body))


def started(rate: float = 200.0, **rollout: object) -> Numbers:
    """A service whose first revision serves."""
    world = Numbers(asked("v1", **rollout), random.Random(1), rate=rate)
    for _ in range(3):
        world.turn()
    assert world.status.rollout.phase is Phase.STABLE
    return world


def until_done(world: Numbers, most: int = 400) -> None:
    for _ in range(most):
        world.turn()
        if world.status.rollout.candidate is None:
            return
    pytest.fail(f"no end after {most} looks: {world.status.rollout}")


def kinds(world: Numbers) -> list[DecisionKind]:
    return [d.kind for d in world.status.rollout.decisions]


def test_a_good_candidate_is_promoted_step_by_step_and_the_old_one_stays_warm() -> None:
    world = started()
    first = world.wanted
    world.ask(asked("v2"), Truth())
    weights = []
    for _ in range(60):
        world.turn()
        weights.append(world.weights.get(world.wanted, 0))
    assert [w for i, w in enumerate(weights) if i == 0 or weights[i - 1] != w] == [0, 5, 25, 50, 100]
    assert world.status.rollout.stable == world.wanted
    assert {r.name: r.role for r in world.status.revisions}[first] is Role.STANDBY


@pytest.mark.parametrize(
    ("truth", "kind", "gate"),
    [
        (Truth(agrees=0.05), DecisionKind.REJECTED, "agreement"),
        (Truth(errors=0.6), DecisionKind.REJECTED, "errors"),
        (Truth(errors=0.08), DecisionKind.ROLLED_BACK, "errors"),
    ],
)
def test_a_worse_candidate_is_stopped_by_its_gate(truth: Truth, kind: DecisionKind, gate: str) -> None:
    rollout: dict[str, Any] = {"replay": {"requests": 0}} if kind is DecisionKind.ROLLED_BACK else {}
    world = started(**rollout)
    stable = world.wanted
    world.ask(asked("v2", **rollout), truth)
    until_done(world)
    last = world.status.rollout.decisions[-1]
    assert (last.kind, last.gate) == (kind, gate)
    assert world.status.rollout.stable == stable
    assert (last.requests == 0) == (kind is DecisionKind.REJECTED)
    assert world.weights == {stable: 100}


def test_a_rejected_revision_is_not_tried_again_until_a_person_says_so() -> None:
    world = started()
    world.ask(asked("v2"), Truth(agrees=0.0))
    until_done(world)
    decisions = len(kinds(world))
    for _ in range(20):
        world.turn()
    assert len(kinds(world)) == decisions
    world.of(world.wanted).agrees = 0.9
    world.command = Command("1", Verb.RETRY)
    until_done(world)
    assert world.status.rollout.stable == world.wanted
    assert DecisionKind.RETRIED in kinds(world)


def test_a_refused_model_never_gets_a_weight_and_its_reason_is_told() -> None:
    world = started()
    world.ask(asked("v2"), Truth(refused=True))
    until_done(world)
    assert kinds(world)[-1] is DecisionKind.REFUSED
    stalled = next(c for c in world.status.conditions if c.type == "Stalled")
    assert (stalled.status, stalled.reason) == ("True", "DigestMismatch")


def test_without_traffic_it_holds_and_goes_on_when_traffic_comes() -> None:
    off: dict[str, Any] = {"replay": {"requests": 0}}
    world = started(rate=0, **off)
    world.ask(asked("v2", **off), Truth())
    for _ in range(200):
        world.turn()
    assert world.status.rollout.phase is Phase.HOLDING
    assert kinds(world).count(DecisionKind.INSUFFICIENT_EVIDENCE) == 1
    world.rate = 500
    until_done(world)
    assert world.status.rollout.stable == world.wanted


def test_insufficient_evidence_can_be_told_to_promote() -> None:
    off: dict[str, Any] = {"replay": {"requests": 0}, "insufficientEvidence": "Promote"}
    world = started(rate=0, **off)
    world.ask(asked("v2", **off), Truth())
    until_done(world)
    assert world.status.rollout.decisions[-1].reason == "InsufficientEvidence"
    assert world.status.rollout.stable == world.wanted


def test_a_new_manifest_in_the_middle_replaces_the_candidate_and_the_stable_stays() -> None:
    world = started()
    stable = world.wanted
    world.ask(asked("v2"), Truth())
    while not world.weights.get(world.wanted):
        world.turn()
    second = world.wanted
    world.ask(asked("v3"), Truth())
    world.turn()
    assert world.status.rollout.candidate == world.wanted
    assert world.weights == {stable: 100}
    assert {r.name: r.role for r in world.status.revisions}[second] is Role.DRAINING
    until_done(world)
    assert world.status.rollout.stable == world.wanted
    assert second not in {r.name for r in world.status.revisions}


def test_going_back_to_a_warm_standby_is_immediate() -> None:
    world = started()
    old = world.body
    world.ask(asked("v2"), Truth())
    until_done(world)
    world.ask(old)
    world.turn()
    assert world.weights == {world.wanted: 100}
    assert kinds(world)[-1] is DecisionKind.RESTORED


def test_after_the_standby_time_going_back_is_a_rollout() -> None:
    world = started(standby="1m")
    old = world.body
    world.ask(asked("v2", standby="1m"), Truth())
    until_done(world)
    world.now += timedelta(minutes=2)
    world.turn()
    world.ask(old)
    world.turn()
    assert world.status.rollout.phase is Phase.PREPARING


def test_manual_promotion_waits_for_a_person() -> None:
    world = started(promotion="Manual")
    world.ask(asked("v2", promotion="Manual"), Truth())
    for _ in range(200):
        world.turn()
    assert world.status.rollout.phase is Phase.PAUSED
    assert world.weights[world.wanted] == 50
    world.command = Command("1", Verb.PROMOTE)
    world.turn()
    assert world.weights == {world.wanted: 100}


def test_abort_takes_the_requests_back_at_once_and_is_carried_out_once() -> None:
    world = started()
    stable = world.wanted
    world.ask(asked("v2"), Truth())
    while not world.weights.get(world.wanted):
        world.turn()
    world.command = Command("1", Verb.ABORT)
    world.turn()
    assert world.weights == {stable: 100}
    for _ in range(10):
        world.turn()
    assert kinds(world).count(DecisionKind.ROLLED_BACK) == 1


def test_a_command_that_makes_no_sense_is_refused_with_the_reason() -> None:
    world = started()
    running = world.observed().running
    for verb in (Verb.PROMOTE, Verb.ABORT):
        assert "no rollout is in progress" in possible(world.status.rollout, world.wanted, running, verb)
    assert "was not rejected" in possible(world.status.rollout, world.wanted, running, Verb.RETRY)


def test_a_candidate_that_never_becomes_ready_is_rejected_after_the_deadline() -> None:
    world = started(deadline="1m")
    world.ask(asked("v2", deadline="1m"), Truth(ready=False))
    until_done(world)
    assert world.status.rollout.decisions[-1].reason == "NeverReady"


def test_a_candidate_that_is_lost_gets_no_requests_and_the_clock_stands() -> None:
    world = started(deadline="1m")
    stable = world.wanted
    world.ask(asked("v2", deadline="1m"), Truth())
    while not world.weights.get(world.wanted):
        world.turn()
    world.of(world.wanted).ready = False
    world.turn()
    assert world.weights == {stable: 100}
    world.of(world.wanted).ready = True
    world.turn()
    assert world.weights[world.wanted] == 5
    world.of(world.wanted).ready = False
    until_done(world)
    assert world.status.rollout.decisions[-1].reason == "LostReadiness"


def test_a_gateway_that_does_not_obey_stops_the_clock() -> None:
    world = started()
    world.ask(asked("v2"), Truth())
    while not world.weights.get(world.wanted):
        world.turn()
    for _ in range(30):
        world.weights = {world.status.rollout.stable or "": 100}
        world.turn()
        world.weights = {world.status.rollout.stable or "": 100}
    assert world.status.rollout.weight == 5
    healthy = next(c for c in world.status.conditions if c.type == "RolloutHealthy")
    assert (healthy.status, healthy.reason) == ("Unknown", "WeightNotObserved")


def test_a_look_at_an_unchanged_world_changes_nothing() -> None:
    world = started(rate=0)
    world.turn()
    before = world.status
    world.turn()
    assert world.status == before


def test_counters_that_begin_anew_count_from_nothing() -> None:
    world = started()
    world.ask(asked("v2"), Truth())
    while not world.weights.get(world.wanted):
        world.turn()
    world.turn()
    seen = world.status.rollout.errors[-1].candidate
    for counts in world.counts.values():
        counts[:] = [0, 3, 0]
    world.turn()
    assert world.status.rollout.errors[-1].candidate == seen + 3


def test_a_source_that_says_nothing_for_a_look_is_not_counted_twice() -> None:
    long: dict[str, Any] = {"steps": [{"weight": 50, "hold": "1h"}]}
    world = started(**long)
    world.ask(asked("v2", **long), Truth())
    while not world.weights.get(world.wanted):
        world.turn()
    for _ in range(3):
        world.turn()
    world.rate = 0
    world.turn()
    seen, kept = world.status.rollout.errors[-1].candidate, dict(world.counts)
    world.counts = {}
    world.turn()
    world.counts = kept
    world.turn()
    assert world.status.rollout.errors[-1].candidate == seen


def test_the_onset_of_trouble_is_no_clump() -> None:
    """From no traffic to traffic, half of it failing: a few looks must do."""
    off: dict[str, Any] = {"replay": {"requests": 0}, "steps": [{"weight": 50, "hold": "1h"}]}
    world = started(rate=500, **off)
    world.seconds = 1.0
    world.ask(asked("v2", **off), Truth(errors=0.49))
    while not world.weights.get(world.wanted):
        world.turn()
    looks = 0
    while world.status.rollout.candidate and looks < 50:
        world.turn()
        looks += 1
    assert looks <= 8
