"""Conditions: set, keep their transition time, order. kstatus reads Ready, Reconciling and Stalled."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from aiservice.api.spec import RealTime
from aiservice.api.status import Condition, Phase, RolloutStatus
from aiservice.core import scaling
from aiservice.core.world import Observed, Running

Truth = Literal["True", "False", "Unknown"]


def keep_times(new: Sequence[Condition], old: Sequence[Condition]) -> list[Condition]:
    """The transition time moves only when the truth does."""
    before = {c.type: c for c in old}
    out = []
    for c in new:
        was = before.get(c.type)
        out.append(c.model_copy(update={"last_transition_time": was.last_transition_time}) if was and was.status == c.status else c)
    return out


def conditions(state: RolloutStatus, wanted: str, seen: Observed, generation: int, asked: RealTime) -> list[Condition]:
    """All of them, for one look."""

    def said(kind: str, truth: bool | None, reason: str, message: str) -> Condition:
        text: Truth = "Unknown" if truth is None else "True" if truth else "False"
        return Condition(
            type=kind,
            status=text,
            reason=reason,
            message=message[:2048],
            last_transition_time=_second(seen.now),
            observed_generation=generation,
        )

    stable = seen.running.get(state.stable or "", Running())
    candidate = seen.running.get(state.candidate or "", Running())
    routed = state.stable in seen.routed and sum(seen.routed.values()) == 100
    rejected = next((r for r in state.rejected if r.revision == wanted), None)
    busy = state.candidate is not None
    serving = stable.ready > 0 and routed

    if serving:
        ready = said("Ready", True, "Serving", f"{state.stable} serves with {stable.ready} of {stable.replicas} predictors ready")
    elif state.stable is None and rejected:
        ready = said("Ready", False, rejected.reason, rejected.message)
    elif state.stable is None and seen.obstacle:
        ready = said("Ready", False, seen.obstacle.reason, seen.obstacle.message)
    elif state.stable is None:
        ready = said("Ready", False, "Starting", f"waiting for the first revision {wanted}: {candidate.message or 'it is being loaded'}")
    elif not stable.ready:
        ready = said(
            "Ready", False, "NoReadyPredictor", f"no predictor of {state.stable} is ready: {stable.message or 'they are starting'}"
        )
    else:
        ready = said("Ready", False, "RouteNotReady", "the gateway does not route requests yet")

    stalled: Condition
    if rejected:
        stalled = said("Stalled", True, rejected.reason, f"{wanted} was {_worded(rejected.phase)}, {_serves(state)}: {rejected.message}")
    elif seen.obstacle:
        stalled = said("Stalled", True, seen.obstacle.reason, seen.obstacle.message)
    else:
        stalled = said("Stalled", False, "NoObstacle", "nothing waits for a person")
    where = {
        Phase.PENDING: "the first revision is being loaded",
        Phase.PREPARING: f"{state.candidate} is being loaded{f': {candidate.message}' if candidate.message and not candidate.ready else ''}",
        Phase.REPLAYING: f"{state.candidate} answers recorded requests",
        Phase.PROGRESSING: f"{state.candidate} has {state.weight} % of the requests",
        Phase.HOLDING: f"{state.candidate} waits for evidence at {state.weight} %",
        Phase.PAUSED: f"{state.candidate} passed all gates and waits for `aiservice promote`",
    }.get(state.phase, f"{state.stable} serves alone")
    reconciling = said("Reconciling", busy, state.phase.value, where)

    verified = (
        said("ModelVerified", True, "DigestMatches", f"{state.stable} loaded {stable.digest}")
        if stable.digest
        else said("ModelVerified", None, "NotLoaded", "no predictor has said which model it loaded")
    )
    route = said(
        "RouteReady",
        routed,
        "Accepted" if routed else "NotAccepted",
        ", ".join(f"{name} {share} %" for name, share in sorted(seen.routed.items())) or "no route yet",
    )
    scaled = said("ScalingReady", *scaling.words(asked, seen.place, seen.unscaled, state.stable))
    worst = next((g for g in state.gates if g.verdict.value == "Fail"), None)
    split = not busy or not state.weight or seen.routed.get(state.candidate or "") == state.weight
    if rejected or (worst and busy):
        text = rejected.message if rejected else worst.message if worst else ""
        healthy = said("RolloutHealthy", False, rejected.reason if rejected else "GateFailed", text)
    elif busy and state.weight and not split:
        healthy = said("RolloutHealthy", None, "WeightNotObserved", f"asked {state.weight} %, the gateway has {dict(seen.routed)}")
    elif state.phase is Phase.HOLDING:
        text = "; ".join(f"{g.name}: {g.message}" for g in state.gates if g.verdict.value == "Undecided")
        healthy = said("RolloutHealthy", None, "InsufficientEvidence", text or "waiting for evidence")
    else:
        healthy = said("RolloutHealthy", True, "NoFailedGate", where)
    return [ready, reconciling, stalled, verified, route, scaled, healthy]


def _second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _worded(phase: Phase) -> str:
    return {Phase.REJECTED: "rejected", Phase.ROLLED_BACK: "rolled back", Phase.REFUSED: "refused"}[phase]


def _serves(state: RolloutStatus) -> str:
    return f"{state.stable} serves" if state.stable else "nothing serves"
