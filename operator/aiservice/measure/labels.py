"""Late labels: every labelled request, whichever revision answered it, is put to the other one as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiservice.api.bundle import Decision
from aiservice.api.runtime import Recorded
from aiservice.api.spec import QualityMetric
from aiservice.api.status import Arms, Pairs
from aiservice.core.world import Labelled
from aiservice.measure import judge
from aiservice.measure.client import UNREACHABLE, Predictor

AT_MOST = 200
"""Labels that are judged in one look."""


def counts(recorded: Recorded, within: float) -> bool:
    """Only requests that were kept whatever was decided, and labels that came in time (`within` seconds), of one row."""
    timely = recorded.labelled is not None and recorded.labelled - recorded.at <= within
    return recorded.fair and timely and recorded.label is not None and len(recorded.decisions) == 1


async def collect(
    stable: Sequence[Predictor],
    candidate: Sequence[Predictor],
    *,
    cursors: Mapping[str, int],
    metric: QualityMetric,
    within: float,
    decision: Decision,
) -> Labelled:
    """Labels that came after `cursors` (run of a predictor -> last label counted), judged on both revisions."""
    moved = dict(cursors)
    pairs, arms = [0, 0, 0, 0], [0, 0, 0, 0]
    for own, others in ((stable, candidate), (candidate, stable)):
        for predictor in own:
            try:
                start = await predictor.reservoir(0, 0)
                page = await predictor.reservoir(AT_MOST, moved.get(start.run, 0))
            except UNREACHABLE:
                continue
            if page.run != start.run:
                continue
            for r in page.requests:
                moved[page.run] = max(moved.get(page.run, 0), r.label_sequence or 0)
                if not counts(r, within) or not others:
                    continue
                answer = await others[0].infer(r.inputs)
                other = answer.decisions[0] if answer.decisions else None
                mine = r.decisions[0]
                _add(pairs, arms, (other, mine) if own is candidate else (mine, other), r.label or "", metric, decision)
    a = Arms(bad_candidate=arms[0], candidate=arms[1], bad_stable=arms[2], stable=arms[3])
    return Labelled(Pairs(total=pairs[0], candidate_only=pairs[1], stable_only=pairs[2], both=pairs[3]), a, moved)


def _add(
    pairs: list[int], arms: list[int], decided: tuple[str | None, str | None], label: str, metric: QualityMetric, by: Decision
) -> None:
    """`decided`: stable, candidate; None: it failed to answer, which is wrong."""
    stable, candidate = decided
    wrong_s = stable is None or not judge.right(stable, label, by)
    wrong_c = candidate is None or not judge.right(candidate, label, by)
    if metric is QualityMetric.PRECISION:
        for place, text, wrong in ((0, candidate, wrong_c), (2, stable, wrong_s)):
            if text is not None and judge.relevant(text, label, metric, by):
                arms[place] += wrong
                arms[place + 1] += 1
    elif judge.relevant(stable or "", label, metric, by):
        pairs[0] += 1
        if wrong_c or wrong_s:
            pairs[3 if wrong_c and wrong_s else 1 if wrong_c else 2] += 1
