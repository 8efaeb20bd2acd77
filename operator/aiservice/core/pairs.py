"""Evidence from requests that both revisions answered, and from decisions that should agree: bets on one mean.

An outcome z is bounded and its mean is in question. The capital prod(1 + l z) with l > 0 cannot grow on average if the mean is at most 0,
so it is an e-process against "the mean is at most 0"; with l < 0 against "at least 0" (Waudby-Smith, Ramdas 2023). Like the two-armed bet
it depends on counts alone and may be looked at after every request. For pairs with d = 0 only the discordant ones count, which makes it
the sequential form of McNemar's test (1947).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log, log1p

from aiservice.api.status import Pairs, Stratum, Verdict
from aiservice.core.evidence import LOOKS_TO_FAIL, Finding, edge, log_mean

BETS = (0.01, 0.03, 0.1, 0.3, 0.6, 0.97)
"""Parts of the largest bet that survives every outcome; equal weights."""
LEAST_ROWS = 10
"""A decision that the stable took less often among the replayed rows is not judged: nothing could be said of it."""

Outcomes = Sequence[tuple[float, float]]
"""(value, how often)."""


def log_e(outcomes: Outcomes, side: int) -> float:
    """Log evidence against "the mean is at most 0" (side=+1) or "at least 0" (side=-1).

    `outcomes` lists every value that z can take, also those that were not seen: the bet must survive them all.
    """
    worst = max(-side * z for z, _ in outcomes)
    if worst <= 0:
        return 0.0
    return log_mean([sum(count * log1p(side * part / worst * z) for z, count in outcomes if count) for part in BETS])


def together(a: Pairs, b: Pairs) -> Pairs:
    """Both counted as one."""
    return Pairs(
        total=a.total + b.total,
        candidate_only=a.candidate_only + b.candidate_only,
        stable_only=a.stable_only + b.stable_only,
        both=a.both + b.both,
    )


def difference(pairs: Pairs, d: float) -> Outcomes:
    """Candidate's badness - stable's - d, for every pair."""
    same = pairs.total - pairs.candidate_only - pairs.stable_only
    return ((1 - d, pairs.candidate_only), (-1 - d, pairs.stable_only), (-d, same))


def bound(pairs: Pairs, alpha: float, side: int) -> float:
    """The difference nearest to the estimate that the evidence rejects (side=+1: lower bound, -1: upper bound)."""
    inner = (pairs.candidate_only - pairs.stable_only) / pairs.total if pairs.total else 0.0
    return edge(lambda d: log_e(difference(pairs, d), side), log(1 / alpha), inner, -0.9999 * side, -1.0 * side)


def judge(
    pairs: Pairs, margin: float, *, next_weight: float = 1.0, confidence: float = 0.95, tests: int = 1, interval: bool = True
) -> Finding:
    """One gate on pairs; the arguments are those of `evidence.judge`."""
    alpha, allowed = 1 - confidence, min(margin / next_weight, 0.9999)
    middle = (pairs.candidate_only - pairs.stable_only) / pairs.total if pairs.total else 0.0
    said, left = Verdict.UNDECIDED, 0
    if pairs.candidate_only >= LOOKS_TO_FAIL and middle > margin and log_e(difference(pairs, 0.0), +1) >= log(tests / alpha):
        said = Verdict.FAIL
    elif pairs.total and middle <= allowed and log_e(difference(pairs, allowed), -1) >= log(1 / alpha):
        said = Verdict.PASS
    if not interval:
        return Finding(said, middle, -1, 1, allowed, 0)
    if said is Verdict.UNDECIDED:
        disagree = (pairs.candidate_only + pairs.stable_only + 1) / (pairs.total + 2)
        total = 2 * (log(1 / alpha) + 1) * max(disagree, allowed) / max(allowed, 1e-4) ** 2
        left = ceil(max(total - pairs.total, 0.05 * total))
    return Finding(said, middle, bound(pairs, alpha / tests, +1), bound(pairs, alpha, -1), allowed, left)


def dice(strata: Sequence[Stratum], decision: str) -> float:
    """Dice coefficient of one decision at natural frequencies: 2 P(both say it) / (P(stable says it) + P(candidate says it))."""
    mass = sum(s.mass for s in strata if s.replayed)
    both = said = answered = 0.0
    for s in strata:
        if s.replayed:
            part = s.answers.get(decision, 0) / s.replayed * s.mass / mass
            answered += part
            if s.decision == decision:
                both, said = part, s.mass / mass
    return 2 * both / (said + answered) if said + answered else 1.0


def same_share(strata: Sequence[Stratum]) -> float:
    """Numbers: the share of natural traffic on which both answers are within the tolerance of each other."""
    mass = sum(s.mass for s in strata if s.replayed)
    return sum(s.answers.get("same", 0) / s.replayed * s.mass for s in strata if s.replayed) / mass if mass else 1.0


def weights(strata: Sequence[Stratum]) -> list[float]:
    """How much a replayed row of each stratum counts, so that their mean is that of natural traffic."""
    mass, rows = sum(s.mass for s in strata if s.replayed), sum(s.replayed for s in strata)
    return [s.mass / mass / (s.replayed / rows) if s.replayed and mass else 0.0 for s in strata]


def agreement(strata: Sequence[Stratum], *, numeric: bool, least: float, confidence: float, tests: int) -> tuple[Finding, str]:
    """The agreement gate and the decision that it is about (the worst; numbers: "").

    Replayed rows are stratified by the stable's decision, so that rare decisions are there; each stratum counts with its natural mass.

    Fail: with confidence the coefficient of some decision is below `least`. Pass: for every decision the candidate repeats the stable's
    with confidence often enough that the coefficient can reach `least`, and its estimate does. The two differ on purpose: how rarely a
    candidate takes a rare decision elsewhere cannot be bounded tightly by a sample, so the estimate must do there; the live gates follow.
    """
    alpha = 1 - confidence
    need_pass = log(1 / alpha)
    weight = weights(strata)
    if numeric:
        share = same_share(strata)
        outcomes = [
            (w * (hit - least), count)
            for s, w in zip(strata, weight, strict=True)
            for hit, count in ((1, s.answers.get("same", 0)), (0, s.replayed - s.answers.get("same", 0)))
        ]
        if log_e(outcomes, -1) >= log(tests / alpha) and share < least:
            return Finding(Verdict.FAIL, share, 0, 0, least, 0), ""
        passed = share >= least and log_e(outcomes, +1) >= need_pass
        return Finding(Verdict.PASS if passed else Verdict.UNDECIDED, share, 0, 0, least, 0 if passed else LEAST_ROWS), ""
    judged = [s for s in strata if s.replayed >= LEAST_ROWS]
    if not judged:
        return Finding(Verdict.UNDECIDED, 1.0, 0, 0, least, LEAST_ROWS), ""
    findings = []
    for own in judged:
        coefficient = dice(strata, own.decision)
        outcomes = []
        for s, w in zip(strata, weight, strict=True):
            hits = s.answers.get(own.decision, 0)
            outcomes.append((-least * w, s.replayed - hits) if s is own else (-least * w, hits))
            if s is own:
                outcomes.append(((2 - least) * w, hits))
        repeats, bar = own.answers.get(own.decision, 0), least / (2 - least)
        repeated = ((1 - bar, repeats), (-bar, own.replayed - repeats))  # the coefficient is at most 2 a / (1 + a), a the share repeated
        below = log_mean((log_e(outcomes, -1), log_e(repeated, -1)))
        if coefficient < least and below >= log(tests * len(judged) / alpha):
            said = Verdict.FAIL
        elif coefficient >= least and log_e(repeated, +1) >= need_pass:
            said = Verdict.PASS
        else:
            said = Verdict.UNDECIDED
        findings.append((Finding(said, coefficient, 0, 0, least, 0 if said is Verdict.PASS else LEAST_ROWS), own.decision))
    order = {Verdict.FAIL: 0, Verdict.UNDECIDED: 1, Verdict.PASS: 2}
    return min(findings, key=lambda f: (order[f[0].verdict], f[0].estimate))
