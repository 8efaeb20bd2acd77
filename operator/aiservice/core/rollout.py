"""The rollout as a pure state machine: what was, what is wanted, what is seen -> what is.

One look is one call of `advance`. It may be called as often and as rarely as anybody likes; nothing here counts calls.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import datetime, timedelta

from aiservice.api.base import seconds
from aiservice.api.spec import AIServiceSpec, InsufficientEvidence, Promotion
from aiservice.api.status import (
    DecisionKind,
    GateStatus,
    Phase,
    ReplayStatus,
    RolloutStatus,
    Verdict,
)
from aiservice.core import counting, ends, gates
from aiservice.core.ends import Look
from aiservice.core.world import Observed, Running, Verb


def advance(state: RolloutStatus, wanted: str, spec: AIServiceSpec, seen: Observed) -> RolloutStatus:
    """The rollout after one look. `wanted` is the revision that the manifest asks for."""
    look = Look(wanted, spec, seen)
    state = ends.forget_retired(state, look)
    if state.candidate and state.candidate != wanted:
        state = ends.supersede(state, look)
    if seen.command and seen.command.id != state.handled:
        state = _command(state, look, seen.command.verb).model_copy(update={"handled": seen.command.id})
    if state.candidate is None:
        state = _begin(state, look)
    if state.candidate is None:
        return state
    if state.phase is Phase.PENDING:
        return _first(state, look)
    if state.phase is Phase.PREPARING:
        return _prepare(state, look)
    state = counting.count(state, spec.rollout, seen)
    state = _watch_readiness(state, look)
    if state.candidate is None:
        return state
    if state.replay is not None and state.step == 0 and state.weight == 0:
        return _replay(state, look)
    return _progress(state, look)


def _begin(state: RolloutStatus, look: Look) -> RolloutStatus:
    """Nothing is on its way: is there a reason to start something?"""
    if look.wanted == state.stable:
        return state if state.phase is Phase.STABLE else state.model_copy(update={"phase": Phase.STABLE})
    known = next((r for r in state.rejected if r.revision == look.wanted), None)
    if known:
        return state if state.phase is known.phase else state.model_copy(update={"phase": known.phase})
    warm = next((r for r in state.retired if r.revision == look.wanted and r.warm), None)
    if warm and state.stable and look.ready(look.wanted):
        old = state.stable
        state = state.model_copy(update={"began": look.now, "requests": 0})
        state = ends.decide(state, look, DecisionKind.RESTORED, "OnStandby", f"{look.wanted} was still warm and has all requests again")
        until = look.now + timedelta(seconds=seconds(look.spec.rollout.standby))
        kept = [r for r in state.retired if r.revision != look.wanted]
        state = state.model_copy(update={"stable": look.wanted, "retired": kept, "gates": []})
        return ends.without_candidate(state.model_copy(update={"retired": ends.retire(state, old, until, warm=True)}), Phase.STABLE)
    first = state.stable is None
    state = state.model_copy(
        update={
            "candidate": look.wanted,
            "phase": Phase.PENDING if first else Phase.PREPARING,
            "began": look.now,
            "since": look.now,
            "steps": len(look.spec.rollout.steps),
            "gates": [],
            "retired": [r for r in state.retired if r.revision != look.wanted],
        }
    )
    text = "the first revision" if first else f"a candidate to replace {state.stable}"
    return ends.decide(state, look, DecisionKind.STARTED, "NewRevision", f"{look.wanted} is {text}")


def _first(state: RolloutStatus, look: Look) -> RolloutStatus:
    """There is nothing to compare the first revision with: the golden requests are its test."""
    running = look.running(state.candidate)
    if running.refused:
        return ends.fail(state, look, Phase.REFUSED, running.refused.reason, running.refused.message)
    if not running.ready:
        return state
    return _promoted(state, look, "FirstRevision", "it answered its golden requests and there was no revision before it")


def _promoted(state: RolloutStatus, look: Look, reason: str, message: str) -> RolloutStatus:
    assert state.candidate
    state = ends.decide(state, look, DecisionKind.PROMOTED, reason, message)
    if state.stable:
        until = look.now + timedelta(seconds=seconds(look.spec.rollout.standby))
        state = state.model_copy(update={"retired": ends.retire(state, state.stable, max(until, look.now + ends.DRAIN), warm=True)})
    return ends.without_candidate(state.model_copy(update={"stable": state.candidate}), Phase.STABLE)


def _late(state: RolloutStatus, look: Look, since: datetime | None) -> bool:
    return since is not None and look.now - since >= timedelta(seconds=seconds(look.spec.rollout.deadline))


def _prepare(state: RolloutStatus, look: Look) -> RolloutStatus:
    running = look.running(state.candidate)
    if running.refused:
        return ends.fail(state, look, Phase.REFUSED, running.refused.reason, running.refused.message)
    enough = min(look.spec.real_time.replicas.min, max(1, look.running(state.stable).ready))
    if running.ready >= enough:
        if look.spec.rollout.replay.requests:
            return state.model_copy(update={"phase": Phase.REPLAYING, "since": look.now, "replay": ReplayStatus()})
        return _enter(state, look, 0, "ReplayOff", "replay is off")
    if _late(state, look, state.since):
        text = f"not ready for {look.spec.rollout.deadline}: {running.message or 'no predictor of it came up'}"
        return ends.fail(state, look, Phase.REJECTED, "NeverReady", text)
    return state


def _watch_readiness(state: RolloutStatus, look: Look) -> RolloutStatus:
    """A candidate that is lost gets no requests (its weight is not rendered) and, after the deadline, no second chance."""
    running = look.running(state.candidate)
    phase = Phase.ROLLED_BACK if state.weight else Phase.REJECTED
    if running.refused:
        return ends.fail(state, look, phase, running.refused.reason, running.refused.message)
    if running.ready:
        return state if state.stalled is None else state.model_copy(update={"stalled": None, "since": look.now})
    if state.stalled is None:
        return state.model_copy(update={"stalled": look.now})
    if _late(state, look, state.stalled):
        text = f"lost its readiness for {look.spec.rollout.deadline}: {running.message or 'no predictor of it answers'}"
        return ends.fail(state, look, phase, "LostReadiness", text)
    return state


def _failed(found: list[GateStatus]) -> str:
    return next((g.name for g in found if g.verdict is Verdict.FAIL), "")


def _undecided(found: list[GateStatus]) -> set[str]:
    return {g.name for g in found if g.verdict is Verdict.UNDECIDED}


def _words(found: list[GateStatus], names: Container[str] | None = None) -> str:
    return "; ".join(f"{g.name}: {g.message}" for g in found if names is None or g.name in names)


def _gate_failed(state: RolloutStatus, look: Look, phase: Phase, gate: str) -> RolloutStatus:
    found = gates.now(look.spec.rollout, state)
    message = next(g.message for g in found if g.name == gate)
    return ends.fail(state.model_copy(update={"gates": found}), look, phase, "GateFailed", message, gate=gate)


def _hold(state: RolloutStatus, look: Look, waiting: set[str], where: str) -> RolloutStatus:
    """Said once; the rollout goes on by itself when the evidence comes."""
    if state.phase is Phase.HOLDING:
        return state
    text = f"{where}: {_words(gates.now(look.spec.rollout, state), waiting)}"
    state = ends.decide(state, look, DecisionKind.INSUFFICIENT_EVIDENCE, "Undecided", text, gate=min(waiting))
    return state.model_copy(update={"phase": Phase.HOLDING})


def _replay(state: RolloutStatus, look: Look) -> RolloutStatus:
    """No client has met the candidate. Any Fail ends it; quality is judged once the replay is complete, and may stay undecided: labels come later."""
    complete = state.replay is not None and state.replay.complete
    found = [g for g in gates.now(look.spec.rollout, state, worded=False) if complete or g.name != "quality"]
    if state.stalled:
        return state
    failed = _failed(found)
    if failed:
        return _gate_failed(state, look, Phase.REJECTED, failed)
    if not complete:
        return state
    waiting = _undecided(found) - {"quality"}
    if waiting and look.spec.rollout.insufficient_evidence is InsufficientEvidence.HOLD:
        return _hold(state, look, waiting, "replay")
    words = _words(gates.now(look.spec.rollout, state), waiting or None)
    return _enter(state, look, 0, "InsufficientEvidence" if waiting else "ReplayPassed", words)


def _enter(state: RolloutStatus, look: Look, step: int, reason: str, message: str) -> RolloutStatus:
    """The candidate gets the weight of this step; counting begins anew for it."""
    share = look.spec.rollout.steps[step].weight
    state = state.model_copy(update={"step": step, "weight": share, "phase": Phase.PROGRESSING, "since": look.now, "split": (0, 0)})
    state = counting.open_step(state, look.seen, step)
    return ends.decide(
        state, look, DecisionKind.ADVANCED, reason, f"step {step + 1} of {len(look.spec.rollout.steps)}, {share} %: {message}"
    )


def _progress(state: RolloutStatus, look: Look) -> RolloutStatus:
    steps = look.spec.rollout.steps
    if state.step >= len(steps):
        return _enter(state, look, len(steps) - 1, "StepsChanged", "the manifest has fewer steps now")
    if state.weight != steps[state.step].weight:
        state = state.model_copy(update={"weight": steps[state.step].weight, "steps": len(steps), "since": look.now, "split": (0, 0)})
    found = gates.now(look.spec.rollout, state, worded=False)
    failed = _failed(found)
    if failed:
        return _gate_failed(state, look, Phase.ROLLED_BACK, failed)
    if state.stalled or not counting.in_step(state, look.seen):
        return state.model_copy(update={"since": look.now})
    assert state.since
    if look.now - state.since < timedelta(seconds=seconds(steps[state.step].hold)):
        return state
    waiting = _undecided(found)
    if waiting and look.spec.rollout.insufficient_evidence is InsufficientEvidence.HOLD:
        return _hold(state, look, waiting, f"step {state.step + 1} of {len(steps)}, {state.weight} %")
    reason = "InsufficientEvidence" if waiting else "AllGatesPassed"
    if state.step + 1 == len(steps) and look.spec.rollout.promotion is Promotion.MANUAL:
        return state if state.phase is Phase.PAUSED else state.model_copy(update={"phase": Phase.PAUSED})
    found = gates.now(look.spec.rollout, state)
    words = _words(found, waiting or None)
    if state.step + 1 < len(steps):
        return _enter(state, look, state.step + 1, reason, words)
    return _promoted(state.model_copy(update={"gates": found}), look, reason, words)


def _command(state: RolloutStatus, look: Look, verb: Verb) -> RolloutStatus:
    """What cannot be done now changes nothing: the one who asks is told by the shell, which checks with `possible`."""
    if possible(state, look.wanted, look.seen.running, verb):
        return state
    if verb is Verb.PROMOTE:
        return _promoted(state, look, "ByHand", "promoted by a person before its gates had all passed")
    if verb is Verb.ABORT:
        phase = Phase.ROLLED_BACK if state.weight else Phase.REJECTED
        return ends.fail(state, look, phase, "Aborted", "aborted by a person")
    text = "a person asked to try it again"
    state = ends.decide(state, look, DecisionKind.RETRIED, "ByHand", text, revision=look.wanted)
    return state.model_copy(update={"rejected": [r for r in state.rejected if r.revision != look.wanted], "phase": Phase.STABLE})


def possible(state: RolloutStatus, wanted: str, running: Mapping[str, Running], verb: Verb) -> str:
    """Why a command cannot be carried out now; empty if it can."""
    if verb is Verb.RETRY:
        rejected = any(r.revision == wanted for r in state.rejected)
        return "" if rejected else f"nothing to retry: {wanted} was not rejected"
    if state.candidate is None or state.stable is None:
        return f"nothing to {verb}: no rollout is in progress"
    if verb is Verb.PROMOTE and not running.get(state.candidate, Running()).ready:
        return f"cannot promote: no predictor of {state.candidate} is ready"
    return ""
