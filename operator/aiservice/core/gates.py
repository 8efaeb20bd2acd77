"""The gates of a rollout: counts in, one verdict and, where `worded`, one sentence each out."""

from __future__ import annotations

from aiservice.api.base import share
from aiservice.api.spec import Quality, QualityMetric, Rollout
from aiservice.api.status import Arms, GateStatus, Pairs, ReplayStatus, RolloutStatus, Stage, Verdict
from aiservice.core import evidence, pairs
from aiservice.core.evidence import Finding

DEFAULT_AGREEMENT = 0.5


def tests(spec: Rollout) -> int:
    """How many tests may stop the rollout: its alpha is spread over them."""
    each = 2 if spec.replay.requests else 1
    return each * (1 + (spec.gates.latency is not None)) + (spec.replay.requests > 0) + (spec.gates.quality is not None)


def now(spec: Rollout, state: RolloutStatus, *, worded: bool = True) -> list[GateStatus]:
    """All gates of the stage that the rollout is in."""
    if state.weight:
        return live_gates(spec, state, worded=worded)
    if state.replay is None:
        return []
    found = replay_gates(spec, state, worded=worded)
    if spec.gates.quality:
        found.append(quality_gate(spec, state, spec.gates.quality, next_weight(spec, 0), worded=worded))
    return found


def next_weight(spec: Rollout, step: int) -> float:
    """The candidate's share of the service after the next move: a step's weight, or 1 for promotion."""
    return spec.steps[step].weight / 100 if step < len(spec.steps) else 1.0


def percent(value: float) -> str:
    """0.0123 -> `1.23 %`."""
    return f"{value * 100:.3g} %"


def _status(name: str, stage: Stage, found: Finding, message: str, *, interval: bool = True) -> GateStatus:
    return GateStatus(
        name=name,
        stage=stage,
        verdict=found.verdict,
        message=message,
        estimate=found.estimate,
        low=found.low if interval else None,
        high=found.high if interval else None,
        allowed=found.allowed,
        needed=found.needed or None,
    )


def _tail(found: Finding, confidence: str, unit: str) -> str:
    gap = f"difference {percent(found.low)} to {percent(found.high)}, allowed {percent(found.allowed)}"
    if found.verdict is Verdict.FAIL:
        return f"worse with {confidence.replace('%', ' %')} confidence ({gap})"
    if found.verdict is Verdict.PASS:
        return f"within the margin ({gap})"
    return f"undecided ({gap}); about {found.needed:,} more {unit} needed"


def _arms_sentence(what: str, steps: list[Arms], found: Finding, confidence: str, unit: str = "requests to the candidate") -> str:
    bad_c, n_c = sum(s.bad_candidate for s in steps), sum(s.candidate for s in steps)
    bad_s, n_s = sum(s.bad_stable for s in steps), sum(s.stable for s in steps)
    if not n_c or not n_s:
        return f"{n_c:,.0f} {unit} and {n_s:,.0f} to the stable so far: undecided; about {found.needed:,} needed"
    return f"candidate {what} {percent(bad_c / n_c)} of {n_c:,.0f} against {percent(bad_s / n_s)} of {n_s:,.0f}: {_tail(found, confidence, unit)}"


def _pairs_sentence(what: str, seen: Pairs, found: Finding, confidence: str, unit: str) -> str:
    bad_c, bad_s = seen.both + seen.candidate_only, seen.both + seen.stable_only
    total = max(seen.total, 1)
    return (
        f"candidate {what} {percent(bad_c / total)} against {percent(bad_s / total)} of the same {seen.total:,}: "
        f"{_tail(found, confidence, unit)}"
    )


def replay_gates(spec: Rollout, state: RolloutStatus, *, worded: bool = True) -> list[GateStatus]:
    """What the recorded requests say: agreement, errors, latency. Quality is judged over replay and live together, see `quality_gate`."""
    seen = state.replay or ReplayStatus()
    level, spread, nxt = share(spec.confidence), tests(spec), next_weight(spec, 0)
    least = share(spec.gates.agreement.min) if spec.gates.agreement else DEFAULT_AGREEMENT
    found, decision = pairs.agreement(seen.strata, numeric=seen.numeric, least=least, confidence=level, tests=spread)
    rows = sum(s.replayed for s in seen.strata)
    about = f" on {decision!r}" if decision else ""
    said = {Verdict.PASS: "enough", Verdict.FAIL: f"too little with {spec.confidence.replace('%', ' %')} confidence"}.get(
        found.verdict, "undecided"
    )
    out = [
        _status(
            "agreement",
            Stage.REPLAY,
            found,
            f"agreement{about} {found.estimate:.2f} over {rows:,} replayed rows, at least {least:.2f} asked: {said}",
            interval=False,
        )
    ]
    margins = [("errors", "failed", seen.errors, share(spec.gates.errors.margin))]
    if spec.gates.latency:
        margins.append(("latency", f"slower than {spec.gates.latency.slo}", seen.latency, share(spec.gates.latency.margin)))
    for name, what, counts, margin in margins:
        found = pairs.judge(counts, margin, next_weight=nxt, confidence=level, tests=spread, interval=worded)
        out.append(_status(name, Stage.REPLAY, found, _pairs_sentence(what, counts, found, spec.confidence, "replayed requests")))
    return out


def quality_gate(spec: Rollout, state: RolloutStatus, gate: Quality, nxt: float, *, worded: bool = True) -> GateStatus:
    """Right or wrong, once the label came: the stable's reference sample in replay, then the labels of client requests, on the same rows."""
    level, spread, margin = share(spec.confidence), tests(spec), share(gate.margin)
    sample = state.replay or ReplayStatus()
    if gate.metric is QualityMetric.PRECISION:
        steps = [a for a in (sample.reference_arms, state.quality_arms) if a.candidate or a.stable]
        found = evidence.judge(steps, margin, next_weight=nxt, confidence=level, tests=spread, planned=2, interval=worded)
        return _status("quality", Stage.LIVE, found, _arms_sentence("false alarms", steps, found, spec.confidence, "labelled alarms"))
    both = pairs.together(sample.reference, state.quality)
    found = pairs.judge(both, margin, next_weight=nxt, confidence=level, tests=spread, interval=worded)
    what = "missed" if gate.metric is QualityMetric.RECALL else "wrong on"
    text = _pairs_sentence(what, both, found, spec.confidence, "labels")
    return _status("quality", Stage.LIVE, found, f"{text} ({sample.reference.total:,} reference rows, {state.quality.total:,} labels)")


def live_gates(spec: Rollout, state: RolloutStatus, *, worded: bool = True) -> list[GateStatus]:
    """What the clients' requests say at the current step: errors, latency, quality."""
    level, spread, planned = share(spec.confidence), tests(spec), len(spec.steps)
    nxt = next_weight(spec, state.step + 1)
    gates = [("errors", "failed", state.errors, share(spec.gates.errors.margin))]
    if spec.gates.latency:
        gates.append(("latency", f"slower than {spec.gates.latency.slo}", state.latency, share(spec.gates.latency.margin)))
    out = []
    for name, what, steps, margin in gates:
        found = evidence.judge(steps, margin, next_weight=nxt, confidence=level, tests=spread, planned=planned, interval=worded)
        out.append(_status(name, Stage.LIVE, found, _arms_sentence(what, steps, found, spec.confidence)))
    if spec.gates.quality:
        out.append(quality_gate(spec, state, spec.gates.quality, nxt, worded=worded))
    return out
