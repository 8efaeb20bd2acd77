"""How rollouts end, and what is remembered of them: the journal, rejections, revisions that still run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from aiservice.api.spec import AIServiceSpec
from aiservice.api.status import Decision, DecisionKind, Phase, Rejection, Retired, RolloutStatus
from aiservice.core.world import Observed, Running

DRAIN = timedelta(seconds=10)
"""A revision that lost its requests runs on for so long: open requests end, every gateway hears of it."""
JOURNAL = 20
REMEMBERED = 20
FAILED: dict[Phase, DecisionKind] = {
    Phase.REJECTED: DecisionKind.REJECTED,
    Phase.ROLLED_BACK: DecisionKind.ROLLED_BACK,
    Phase.REFUSED: DecisionKind.REFUSED,
}


@dataclass(frozen=True, slots=True)
class Look:
    """One call's surroundings."""

    wanted: str
    spec: AIServiceSpec
    seen: Observed

    @property
    def now(self) -> datetime:
        return self.seen.now

    def running(self, revision: str | None) -> Running:
        return self.seen.running.get(revision or "", Running())

    def ready(self, revision: str | None) -> bool:
        return self.running(revision).ready > 0


def decide(
    state: RolloutStatus, look: Look, kind: DecisionKind, reason: str, message: str, *, revision: str = "", gate: str = ""
) -> RolloutStatus:
    """One more line in the journal."""
    line = Decision(
        at=look.now,
        kind=kind,
        revision=revision or state.candidate or look.wanted,
        gate=gate,
        reason=reason,
        message=message[:2048],
        requests=state.requests,
        seconds=max(0.0, (look.now - state.began).total_seconds()) if state.began else 0.0,
    )
    return state.model_copy(update={"decisions": [*state.decisions, line][-JOURNAL:]})


def journalled(state: RolloutStatus, before: RolloutStatus) -> tuple[Decision, ...]:
    """The lines that the journal has gained."""
    last = before.decisions[-1] if before.decisions else None
    return tuple(takewhile(lambda line: line is not last, reversed(state.decisions)))[::-1]


def retire(state: RolloutStatus, revision: str, until: datetime, *, warm: bool = False) -> list[Retired]:
    """Those that still run without requests, and this one until then; warm: going back to it is immediate."""
    others = [r for r in state.retired if r.revision != revision]
    return [*others, Retired(revision=revision, until=until, warm=warm)][-16:]


def forget_retired(state: RolloutStatus, look: Look) -> RolloutStatus:
    """Without those whose time is over."""
    kept = [r for r in state.retired if r.until > look.now]
    return state if len(kept) == len(state.retired) else state.model_copy(update={"retired": kept})


def without_candidate(state: RolloutStatus, phase: Phase) -> RolloutStatus:
    """The end of a rollout: what was promised to be remembered stays, evidence goes; the gates' last words stay to be read."""
    return RolloutStatus(
        phase=phase,
        stable=state.stable,
        gates=state.gates,
        retired=state.retired,
        rejected=state.rejected,
        decisions=state.decisions,
        handled=state.handled,
    )


def fail(state: RolloutStatus, look: Look, phase: Phase, reason: str, message: str, *, gate: str = "") -> RolloutStatus:
    """The candidate is out, and stays out until its content changes or a person says retry. The stable has all requests again."""
    assert state.candidate
    candidate: str = state.candidate
    state = decide(state, look, FAILED[phase], reason, message, gate=gate)
    rejection = Rejection(revision=candidate, phase=phase, reason=reason, message=message[:2048])  # type: ignore[arg-type]
    others = [r for r in state.rejected if r.revision != candidate]
    state = state.model_copy(
        update={
            "rejected": [*others, rejection][-REMEMBERED:],
            "retired": retire(state, candidate, look.now + DRAIN) if state.weight else state.retired,
        }
    )
    return without_candidate(state, phase)


def supersede(state: RolloutStatus, look: Look) -> RolloutStatus:
    """The manifest asks for another revision than the candidate: that one is dropped, the stable stays."""
    assert state.candidate
    candidate: str = state.candidate
    state = decide(state, look, DecisionKind.SUPERSEDED, "ManifestChanged", f"the manifest now asks for {look.wanted}")
    if state.weight:
        state = state.model_copy(update={"retired": retire(state, candidate, look.now + DRAIN)})
    return without_candidate(state, Phase.STABLE if state.stable else Phase.PENDING)
