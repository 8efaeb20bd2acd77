"""An interval's ends are where halving ends, though few of the halvings ask."""

from __future__ import annotations

from collections.abc import Callable
from math import log

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aiservice.api.status import Arms, Pairs
from aiservice.core import evidence, pairs

COUNTS = st.integers(0, 20_000) | st.integers(0, 30)
SIDES = st.sampled_from([+1, -1])
ALPHAS = st.sampled_from([0.5, 0.05, 0.01, 0.00025])


@st.composite
def arms(draw: st.DrawFn) -> Arms:
    candidate, stable = draw(COUNTS), draw(COUNTS)
    bad = draw(st.integers(0, candidate)), draw(st.integers(0, stable))
    return Arms(bad_candidate=bad[0], candidate=candidate, bad_stable=bad[1], stable=stable)


@st.composite
def answered(draw: st.DrawFn) -> Pairs:
    total = draw(COUNTS)
    mine = draw(st.integers(0, total))
    return Pairs(total=total, candidate_only=mine, stable_only=draw(st.integers(0, total - mine)))


def halved(log_e: Callable[[float], float], need: float, inner: float, outer: float, none: float) -> float:
    """What `edge` promises, with every question asked."""
    if log_e(outer) < need:
        return none
    for _ in range(evidence.HALVINGS):
        middle = (inner + outer) / 2
        inner, outer = (inner, middle) if log_e(middle) >= need else (middle, outer)
    return outer


def only_grows(log_e: Callable[[float], float], inner: float, outer: float) -> bool:
    """With a handful of requests it may not, and then there are several edges."""
    found = [log_e(inner + (outer - inner) * part / 64) for part in range(65)]
    return found == sorted(found)


@settings(max_examples=200)
@given(st.lists(arms(), min_size=1, max_size=3), st.floats(1, 5), SIDES, ALPHAS)
def test_the_edge_of_arms_is_where_halving_ends(steps: list[Arms], shrink: float, side: int, alpha: float) -> None:
    def log_e(d: float) -> float:
        return evidence.log_e(steps, d, side, 3, shrink)

    inner, outer = evidence.estimate(steps), -1.0 * side
    assume(only_grows(log_e, inner, outer))
    assert evidence.edge(log_e, log(1 / alpha), inner, outer, outer) == halved(log_e, log(1 / alpha), inner, outer, outer)


@settings(max_examples=200)
@given(answered(), SIDES, ALPHAS)
def test_the_edge_of_pairs_is_where_halving_ends(seen: Pairs, side: int, alpha: float) -> None:
    def log_e(d: float) -> float:
        return pairs.log_e(pairs.difference(seen, d), side)

    place = log(1 / alpha), (seen.candidate_only - seen.stable_only) / max(seen.total, 1), -0.9999 * side, -1.0 * side
    assert evidence.edge(log_e, *place) == halved(log_e, *place)
