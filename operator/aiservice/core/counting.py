"""From counters that only grow to evidence: increases since the last look, each once, in the step in which they happened."""

from __future__ import annotations

from aiservice.api.spec import QualityMetric, Rollout
from aiservice.api.status import Arms, Cursor, Pairs, RolloutStatus
from aiservice.core import evidence, pairs
from aiservice.core.world import Observed

MOST_SOURCES = 4096


def cursors(state: RolloutStatus, seen: Observed) -> dict[str, Cursor]:
    """Where every counter stands now. A source that says nothing this time stands where it stood."""
    return dict([*(state.cursors | {source: total.counts for source, total in seen.totals.items()}).items()][-MOST_SOURCES:])


def open_step(state: RolloutStatus, seen: Observed, step: int) -> RolloutStatus:
    """Fresh evidence for a step; what was counted before it began does not belong to it."""
    return state.model_copy(
        update={
            "errors": [*state.errors, Arms()][: step + 1],
            "latency": [*state.latency, Arms()][: step + 1],
            "cursors": cursors(state, seen),
        }
    )


def in_step(state: RolloutStatus, seen: Observed) -> bool:
    """The gateway does what was asked, and the observed split agrees with it: only then the clock runs."""
    assert state.candidate
    return seen.routed.get(state.candidate) == state.weight and evidence.split_agrees(*state.split, state.weight / 100)


def _grown(now: tuple[int, int], before: tuple[int, int]) -> tuple[int, int]:
    """A source that began anew counts from nothing."""
    if now[0] < before[0] or now[1] < before[1]:
        return now
    return now[0] - before[0], now[1] - before[1]


def count(state: RolloutStatus, spec: Rollout, seen: Observed) -> RolloutStatus:
    """Take in what was measured since the last look."""
    state = _labels(state, spec, seen)
    if seen.replay is not None and state.replay is not None and not state.weight:
        state = state.model_copy(update={"replay": seen.replay})
    if not state.weight or not state.errors:
        return state
    grown = {source: _pair(t.counts, state.cursors.get(source, Cursor())) for source, t in seen.totals.items()}
    arrived = {True: 0, False: 0}
    sums = {(who, kind): [0, 0] for who in (True, False) for kind in ("errors", "latency")}
    for source, (errors, latency) in grown.items():
        total = seen.totals[source]
        if total.revision not in (state.candidate, state.stable):
            continue
        who = total.revision == state.candidate
        arrived[who] += errors[1] if total.arrivals else 0
        for kind, (bad, n) in (("errors", errors), ("latency", latency)):
            sums[who, kind][0] += bad
            sums[who, kind][1] += n
    moved = {"cursors": cursors(state, seen), "requests": state.requests + arrived[True]}
    if seen.routed.get(state.candidate or "") != state.weight:
        return state.model_copy(update=moved) if moved["cursors"] != state.cursors else state
    moved["split"] = (state.split[0] + arrived[True], state.split[1] + arrived[False])
    for kind, steps in (("errors", state.errors), ("latency", state.latency)):
        (bad_c, n_c), (bad_s, n_s) = sums[True, kind], sums[False, kind]
        if n_c or n_s:
            moved[kind] = [*steps[:-1], evidence.look(steps[-1], min(bad_c, n_c), n_c, min(bad_s, n_s), n_s)]
    return state if moved["cursors"] == state.cursors else state.model_copy(update=moved)


def _pair(now: Cursor, before: Cursor) -> tuple[tuple[int, int], tuple[int, int]]:
    return _grown(now.errors, before.errors), _grown(now.latency, before.latency)


def _labels(state: RolloutStatus, spec: Rollout, seen: Observed) -> RolloutStatus:
    metric = spec.gates.quality.metric if spec.gates.quality else None
    if state.metric is not metric:  # counted for another question
        return state.model_copy(update={"metric": metric, "quality": Pairs(), "quality_arms": Arms(), "labels": {}})
    new = seen.labelled
    if new is None or new.cursors == state.labels:
        return state
    update: dict[str, object] = {"labels": dict(new.cursors)}
    if metric is QualityMetric.PRECISION:
        a, b = state.quality_arms, new.arms
        update["quality_arms"] = evidence.look(a, b.bad_candidate, b.candidate, b.bad_stable, b.stable)
    else:
        update["quality"] = pairs.together(state.quality, new.pairs)
    return state.model_copy(update=update)
