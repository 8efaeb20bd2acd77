"""Whole rollouts through the real state machine, in simulated time: what tests promise and benchmarks/evidence.py tables."""

from __future__ import annotations

import json
import random

from aiservice.api.spec import AIServiceSpec
from aiservice.api.status import DecisionKind
from core.history import Numbers, Truth

LONGEST = 3 * 3600.0


def spec(version: int) -> AIServiceSpec:
    steps = [{"weight": 5, "hold": "2m"}, {"weight": 25, "hold": "5m"}, {"weight": 50, "hold": "5m"}]
    gates = {"errors": {"margin": "0.5%"}, "latency": {"slo": "100ms", "margin": "1%"}}
    body = {"model": {"uri": f"file:///v{version}"}, "rollout": {"replay": {"requests": 0}, "steps": steps, "gates": gates}}
    return AIServiceSpec.model_validate_json(json.dumps(body))


def rollout(
    stable: Truth, candidate: Truth, seed: int, *, rate: float = 50.0, seconds: float = 5.0
) -> tuple[DecisionKind | None, float, int]:
    """One rollout at `rate` requests a second, a look every `seconds`. -> how it ended, after how many seconds, candidate requests."""
    world = Numbers(spec(1), random.Random(seed), rate=rate, seconds=seconds, bare=True)
    world.truth[world.wanted] = stable
    for _ in range(3):
        world.turn()
    world.ask(spec(2), candidate)
    ends = (DecisionKind.PROMOTED, DecisionKind.ROLLED_BACK)
    for _ in range(int(LONGEST / seconds)):
        world.turn()
        last = world.status.rollout.decisions[-1]
        if last.kind in ends and last.revision == world.wanted:
            return last.kind, last.seconds, last.requests
    return None, LONGEST, world.status.rollout.requests
