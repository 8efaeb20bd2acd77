"""100,000 random rollout histories: whatever is asked, fails, dies or lies, the invariants hold at every look."""

from __future__ import annotations

import json
import os
import random
from functools import lru_cache

import pytest

from aiservice.api.spec import AIServiceSpec
from aiservice.api.status import DecisionKind, Phase, Verdict
from aiservice.core.world import Command, Verb
from core.history import Numbers, Truth

HISTORIES = int(os.environ.get("AISERVICE_HISTORIES", "100000"))
PARTS = 20
LOOKS = 8


@lru_cache(400)
def variant(seed: int) -> AIServiceSpec:
    rng = random.Random(seed)
    steps = sorted(rng.sample(range(1, 99), rng.randint(1, 3)))
    spec = {
        "model": {"uri": f"file:///v{rng.randint(1, 4)}"},
        "rollout": {
            "replay": {"requests": rng.choice([0, 200])},
            "steps": [{"weight": w, "hold": rng.choice(["0s", "10s"])} for w in steps],
            "gates": {"errors": {"margin": rng.choice(["0.5%", "5%"])}},
            "insufficientEvidence": rng.choice(["Hold", "Promote"]),
            "promotion": rng.choice(["Automatic", "Automatic", "Manual"]),
            "standby": rng.choice(["10s", "1h"]),
            "deadline": "20s",
        },
    }
    return AIServiceSpec.model_validate_json(json.dumps(spec))


def body(rng: random.Random) -> AIServiceSpec:
    """One of 400."""
    return variant(rng.randrange(400))


def truth(rng: random.Random) -> Truth:
    return Truth(errors=rng.choice([0, 0, 0.001, 0.3]), agrees=rng.choice([0.0, 0.9]), refused=rng.random() < 0.1, ready=rng.random() < 0.9)


def check(world: Numbers, served_before: set[str], ready_at_look: set[str]) -> None:
    state, revisions = world.status.rollout, world.status.revisions
    weights = {r.name: r.weight for r in revisions if r.weight}
    if state.stable:
        assert sum(weights.values()) == 100
        assert any(r.name == state.stable for r in revisions), "the stable always has a revision that runs"
        assert state.stable in weights, "the stable always has requests"
    for name in weights:
        if name != state.stable:
            assert name in ready_at_look, "no weight without readiness"
    assert weights.get(state.candidate or "", 0) in (0, state.weight)
    assert len({r.name for r in revisions}) == len(revisions)
    new = world.last.decisions if world.last else ()
    for d in new:
        if d.kind is DecisionKind.PROMOTED and d.reason == "AllGatesPassed":
            assert all(g.verdict is Verdict.PASS for g in state.gates), "a failed or undecided gate never ends in promotion"
        if d.kind in (DecisionKind.REJECTED, DecisionKind.ROLLED_BACK) and d.reason == "GateFailed":
            failed = next(g for g in state.gates if g.name == d.gate)
            assert failed.verdict is Verdict.FAIL
            assert failed.message, "no verdict without its numbers"
        if d.kind is DecisionKind.REJECTED:
            assert d.requests == 0, "rejected means: before any client"
        if d.kind is DecisionKind.PROMOTED and state.stable in served_before:
            assert d.revision == state.stable
    rejected = {r.revision for r in state.rejected}
    assert state.candidate not in rejected
    if state.phase in (Phase.REJECTED, Phase.ROLLED_BACK, Phase.REFUSED):
        assert world.wanted in rejected


def one(rng: random.Random, *, bare: bool) -> None:
    world = Numbers(body(rng), rng, bare=bare, rate=rng.choice([0, 2, 40]), seconds=rng.choice([1.0, 5.0, 30.0]))
    served: set[str] = set()
    for look in range(LOOKS):
        if rng.random() < 0.15:
            world.ask(body(rng))
        if rng.random() < 0.2:
            world.truth[rng.choice([world.wanted, world.status.rollout.stable or world.wanted])] = truth(rng)
        if rng.random() < 0.1:
            world.command = Command(f"{look}", rng.choice(list(Verb)))
        if rng.random() < 0.05:
            world.counts.clear()
        if rng.random() < 0.05:
            world.weights = {}
        seen = world.observed()
        ready = {name for name, running in seen.running.items() if running.ready}
        world.turn(seen)
        check(world, served, ready)
        served |= set(world.weights)
    if world.status.rollout.candidate and world.status.rollout.stable:
        stable = world.status.rollout.stable
        world.command = Command("end", Verb.ABORT)
        world.turn()
        assert world.weights == {stable: 100}, "rollback is reachable from everywhere"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_invariants_hold(part: int) -> None:
    rng = random.Random(part)
    for _ in range(HISTORIES // PARTS):
        one(rng, bare=part >= 1)
