"""One row's decision against another's, and against its label."""

from __future__ import annotations

from bisect import bisect_right

from aiservice.api.bundle import Decision, DecisionKind
from aiservice.api.spec import QualityMetric

YES, NO = {"1", "1.0", "true"}, {"0", "0.0", "false"}


def stratum(decision: str, by: Decision) -> str:
    """Which stratum of the reservoir a decision belongs to: itself, or the tenth that a number is in."""
    if by.kind is not DecisionKind.TOLERANCE:
        return decision
    number = _number(decision)
    return str(bisect_right(by.edges, number)) if by.edges and number is not None else "0"


def answered(stable: str, candidate: str, by: Decision) -> str:
    """What a stratum counts: the candidate's decision; for numbers whether it is the same within the tolerance."""
    if by.kind is not DecisionKind.TOLERANCE:
        return candidate
    a, b = _number(stable), _number(candidate)
    return "same" if a is not None and b is not None and abs(a - b) <= (by.tolerance or 0.0) else "other"


def right(decision: str, label: str, by: Decision) -> bool:
    """Whether the decision is what the label says. 1 and true stand for the positive decision, 0 and false for the negative."""
    if by.kind is DecisionKind.TOLERANCE:
        return answered(label, decision, by) == "same"
    return decision == truth(label, by)


def truth(label: str, by: Decision) -> str:
    if by.kind is DecisionKind.THRESHOLD and by.positive is not None and label.lower() in YES:
        return by.positive
    if by.kind is DecisionKind.THRESHOLD and by.negative is not None and label.lower() in NO:
        return by.negative
    return label


def relevant(decision: str, label: str, metric: QualityMetric, by: Decision) -> bool:
    """Whether a labelled row counts for the metric: all, the truly positive ones, or those that were decided positive."""
    if metric is QualityMetric.RECALL:
        return by.positive is not None and truth(label, by) == by.positive
    if metric is QualityMetric.PRECISION:
        return by.positive is not None and decision == by.positive
    return True


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
