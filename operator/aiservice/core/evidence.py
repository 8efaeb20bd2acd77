"""Evidence from two arms: Pass, Fail or Undecided from counts alone, valid under continuous peeking.

One tool, the *two-armed bet*. While a share w of the requests reaches the candidate, bet for every request on its outcome y (1 = bad):

    candidate   1 + (l / w)     * (y - (q + d))
    stable      1 - (l / (1-w)) * (y - q)

If the candidate's rate is at most d above the stable's (l > 0), or at least d above it (l < 0), nobody gains by this bet on average,
whatever the rates are and however they drift, so the capital E is an e-process: P(E ever reaches 1/alpha) <= alpha (Ville 1939).
The guess q of the stable's rate moves the power only. The product over requests depends on four counts for each step, so nothing but
counts is kept. With q the null rate nearest to the data it is the growth-optimal test of Turner, Ly, Grunwald 2021 (2x2 tables, blocks);
with d = 0 and rare events it is the conditional binomial test of Lindon, Malek 2022; the form is Waudby-Smith, Ramdas 2023 (betting).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, exp, inf, lgamma, log, log1p, sqrt

from aiservice.api.status import Arms, Verdict

WORSE = (1.05, 1.1, 1.2, 1.4, 1.8, 2.5, 4.0, 8.0, 20.0, 100.0)
"""Relative risks that the mixture bets on, equal weights."""
BETTER = (0.98, 0.95, 0.9, 0.8, 0.67, 0.55, 0.4, 0.25, 0.1, 0.0)
LOOKS_TO_FAIL = 3
"""Fail needs failures of the candidate in so many separate looks."""
HALVINGS, ASKED, SECANTS = 30, 8, 6
"""How an interval's end is found, see `edge`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the counts say of one gate. Shares are fractions of 1."""

    verdict: Verdict
    estimate: float
    """Candidate - stable."""
    low: float
    high: float
    allowed: float
    needed: int
    """Candidate requests (pairs) still needed to pass if both revisions are equal."""


def incident(step: Arms, bad_stable: float, stable: float) -> bool:
    """The stable itself fails far more than before: the whole service is unwell, this look says nothing about the candidate."""
    return step.stable >= 500 and bad_stable > 10 + 4 * stable * step.bad_stable / step.stable


def look(step: Arms, bad_candidate: float, candidate: float, bad_stable: float, stable: float) -> Arms:
    """The step after one look: the increase of each count since the last one. An incident's looks are set aside."""
    bad, n = bad_candidate + bad_stable, candidate + stable
    if not n or incident(step, bad_stable, stable):
        return step
    nc, ns = step.candidate + candidate, step.stable + stable
    surprise = expected = 0.0
    if bad and candidate and stable and step.bad_candidate + step.bad_stable:  # the first failures tell the share, they cannot surprise
        w = nc / (nc + ns)
        failing = (step.bad_candidate + w) / (step.bad_candidate + step.bad_stable + 1)  # share of all failures, before this look
        odds = failing / (1 - failing) * (1 - w) / w * candidate / stable
        failing = odds / (1 + odds)
        surprise = (bad_candidate - bad * failing) ** 2
        expected = failing * (1 - failing) * bad * (n - bad) / max(n - 1, 1)  # given the look's total: hypergeometric
    in_candidate = _jump(bad_candidate, candidate, *step.last[:2])
    in_stable = _jump(bad_stable, stable, *step.last[2:])
    return Arms(
        bad_candidate=step.bad_candidate + bad_candidate,
        candidate=nc,
        bad_stable=step.bad_stable + bad_stable,
        stable=ns,
        hits=step.hits + (bad_candidate > 0),
        surprise=step.surprise + surprise,
        expected=step.expected + expected,
        jumps=step.jumps + in_candidate[0] + in_stable[0],
        calm=step.calm + in_candidate[1] + in_stable[1],
        last=(bad_candidate, candidate, bad_stable, stable),
    )


def _jump(bad: float, n: float, last_bad: float, last: float) -> tuple[float, float]:
    """One arm's failures in this look against the look before: (squared surprise, its variance if requests are independent)."""
    if not n or not last:
        return 0.0, 0.0
    both, total = bad + last_bad, n + last
    part = n / total
    return (bad - both * part) ** 2, part * (1 - part) * both * (total - both) / max(total - 1, 1)


def clumping(steps: Sequence[Arms]) -> float:
    """How many requests fail as one: all counts are divided by it. Quasi-likelihood (Wedderburn 1974), the larger of two ratios.

    How much the candidate's share of the failures jumps from look to look, and how much each arm's failures do, against what
    independent requests would give. Slow drift of the base rate counts in neither; one pseudo-failure steadies both.
    """
    portion = (sum(s.surprise for s in steps) + 1) / (sum(s.expected for s in steps) + 1)
    burst = (sum(s.jumps for s in steps) + 1) / (sum(s.calm for s in steps) + 1)
    return max(1.0, portion, burst)


def wealth(step: Arms, d: float, side: int, shrink: float = 1.0) -> list[float]:
    """Log capital of every bet in the grid after one step. side=+1: against "at most d worse"; -1: against "at least d worse"."""
    xc, nc, xs, ns = step.bad_candidate / shrink, step.candidate / shrink, step.bad_stable / shrink, step.stable / shrink
    if not nc or not ns:
        return [0.0] * len(WORSE)
    w = nc / (nc + ns)
    q = min(max((xc + xs) / (nc + ns) - w * d, 0.0, -d), 1.0, 1 - d)  # the stable's rate if the difference is d
    p = q + d
    # A bet must survive every outcome.
    v, good_p, good_q, good_c, good_s = 1 - w, 1 - p, 1 - q, nc - xc, ns - xs
    most = 0.99 * min(w / p if p > 0 else inf, v / good_q if q < 1 else inf)
    least = -0.9999 * min(w / good_p if p < 1 else inf, v / q if q > 0 else inf)
    scale, floor = w * v, max(good_q, 1e-9)
    out = []
    for rho in WORSE if side > 0 else BETTER:
        bet = scale * (rho - 1) / (w * rho + 1 - w) / floor
        bet = least if bet < least else most if bet > most else bet
        a, b = bet / w, bet / v
        out.append(xc * log1p(a * good_p) + good_c * log1p(-a * p) + xs * log1p(-b * good_q) + good_s * log1p(b * q))
    return out


def log_mean(values: Sequence[float]) -> float:
    """Log of the mean of exp(values)."""
    top = max(values)
    if top == -inf:
        return -inf
    return top + log(sum([exp(v - top) for v in values]) / len(values))


def log_e(steps: Sequence[Arms], d: float, side: int, planned: int = 1, shrink: float = 1.0) -> float:
    """Log evidence over all steps, each compared within itself (no Simpson's paradox).

    Against "no worse", trouble may start at any step: the mean over the starts, later ones counted as 1 until they come.
    """
    each = [wealth(s, d, side, shrink) for s in steps]
    if not each:
        return 0.0
    if side < 0:
        return log_mean(list(map(sum, zip(*each, strict=True))))
    starts = [log_mean(list(map(sum, zip(*each[i:], strict=True)))) for i in range(len(each))]
    return log_mean(starts + [0.0] * max(planned - len(each), 0))


def estimate(steps: Sequence[Arms]) -> float:
    """Mantel-Haenszel risk difference: the mean of the steps' differences, weighted by nc * ns / (nc + ns)."""
    top = bottom = 0.0
    for s in steps:
        if s.candidate and s.stable:
            n = s.candidate + s.stable
            top += (s.bad_candidate * s.stable - s.bad_stable * s.candidate) / n
            bottom += s.candidate * s.stable / n
    return top / bottom if bottom else 0.0


def bound(steps: Sequence[Arms], alpha: float, side: int, planned: int, shrink: float) -> float:
    """The difference nearest to the estimate that the evidence rejects (side=+1: lower bound, -1: upper bound)."""
    outer = -1.0 if side > 0 else 1.0
    return edge(lambda d: log_e(steps, d, side, planned, shrink), log(1 / alpha), estimate(steps), outer, outer)


def edge(evidence: Callable[[float], float], need: float, inner: float, outer: float, none: float) -> float:
    """The value nearest to `inner` at which the evidence reaches what is needed, by halving the way to `outer`; `none`: not even there.

    Evidence grows about as the square of the way. So after the first halvings a few secants of its root (Illinois) close in on the place,
    and the other halvings ask only between the two values that are left: half as many questions for the same answer.
    """
    far, root, way = evidence(outer), sqrt(need), outer - inner
    if far < need:
        return none
    no, yes, below, above, last = inner, outer, -root, sqrt(far) - root, 0

    def ask(middle: float) -> bool:
        nonlocal no, yes, below, above
        found = evidence(middle)
        if found >= need:
            yes, above = middle, sqrt(found) - root
        else:
            no, below = middle, sqrt(max(found, 0.0)) - root
        return found >= need

    for halving in range(HALVINGS):
        if halving == ASKED:
            for _ in range(SECANTS):
                if above == below:
                    break
                reached = ask(yes - above * (yes - no) / (above - below))
                below, above = (below / 2 if reached and last > 0 else below), (above / 2 if not reached and last < 0 else above)
                last = 1 if reached else -1
        middle = (inner + outer) / 2
        if (no - middle) * (yes - middle) < 0:
            ask(middle)
        if (middle - yes) * way >= 0:
            outer = middle
        else:
            inner = middle
    return outer


def needed(rate: float, margin: float, weight: float, alpha: float) -> float:
    """Candidate requests to Pass, median, if both arms are equal: 2 (ln 1/alpha + 1) V / margin^2 (normal approximation of the growth)."""
    p = min(rate + margin / 2, 0.5)
    return 2 * (log(1 / alpha) + 1) * (p * (1 - p) + weight / (1 - weight) * rate * (1 - rate)) / margin**2


def verdict(steps: Sequence[Arms], allowed: float, margin: float, alpha: float, tests: int, planned: int, shrink: float) -> Verdict:
    """The verdict alone; see `judge`."""
    middle, now = estimate(steps), estimate(steps[-1:])
    if (
        sum(s.hits for s in steps) >= LOOKS_TO_FAIL
        and max(middle, now) > margin
        and log_e(steps, 0.0, +1, planned, shrink) >= log(tests / alpha)
    ):
        return Verdict.FAIL
    if now <= allowed and middle <= allowed and allowed < 1 and log_e(steps, allowed, -1, planned, shrink) >= log(1 / alpha):
        return Verdict.PASS
    return Verdict.UNDECIDED


def judge(
    steps: Sequence[Arms],
    margin: float,
    *,
    next_weight: float = 1.0,
    confidence: float = 0.95,
    tests: int = 1,
    planned: int = 1,
    interval: bool = True,
) -> Finding:
    """One gate on two arms. `steps` are the rollout's so far, the current one last; `planned` is how many the rollout has.

    The margin is what the rollout may add to the whole service: at the next weight w' the candidate may be worse by margin / w'; for
    promotion w' = 1. So early steps, which risk little, ask for little.

    Fail: worse than the stable with the rollout's confidence (its alpha divided by the number of tests), and by more than the margin as
    estimated. Pass: within what is allowed with the same confidence, and the current step's own estimate does not contradict it. All
    gates must pass, so a worse candidate is promoted with probability alpha at most, without dividing (intersection-union test, Berger 1982).
    Without `interval` the verdict alone is worked out, in a tenth of the time.
    """
    alpha = 1 - confidence
    allowed = min(margin / next_weight, 0.9999)
    shrink = clumping(steps)
    said = verdict(steps, allowed, margin, alpha, tests, planned, shrink)
    if not interval:
        return Finding(said, estimate(steps), -1, 1, allowed, 0)
    left = 0
    if said is Verdict.UNDECIDED:
        nc, ns = sum(s.candidate for s in steps), sum(s.stable for s in steps)
        rate = (sum(s.bad_candidate + s.bad_stable for s in steps)) / max(nc + ns, 1)
        last = steps[-1] if steps else Arms()
        weight = last.candidate / (last.candidate + last.stable) if last.candidate and last.stable else 0.5
        have = max(log_e(steps, allowed, -1, planned, shrink), 0.0) / log(1 / alpha)
        left = ceil(shrink * needed(rate, max(allowed, 1e-4), weight, alpha) * max(1 - have, 0.05))
    low, high = bound(steps, alpha / tests, +1, planned, shrink), bound(steps, alpha, -1, planned, shrink)
    return Finding(said, estimate(steps), low, high, allowed, left)


def split_log_e(candidate: float, stable: float, weight: float, strength: float = 1000.0) -> float:
    """Evidence that the candidate's share is not `weight` (sample ratio mismatch): Beta-binomial mixture, Lindon, Malek 2022."""
    a, b = strength * weight, strength * (1 - weight)
    return (
        lgamma(candidate + a)
        + lgamma(stable + b)
        - lgamma(candidate + stable + a + b)
        - lgamma(a)
        - lgamma(b)
        + lgamma(a + b)
        - candidate * log(weight)
        - stable * log(1 - weight)
    )


def split_agrees(candidate: float, stable: float, weight: float, tolerance: float = 0.25) -> bool:
    """False stops the clock. Clients that stick to an arm make any share look improbable, so the gap must also be a quarter of the weight."""
    n = candidate + stable
    if n == 0 or abs(candidate / n - weight) <= tolerance * min(weight, 1 - weight):
        return True
    return split_log_e(candidate, stable, weight) < log(1000)
