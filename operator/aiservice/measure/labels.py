"""Late labels: every labelled request, whichever revision answered it, is put to the other one as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiservice.api.bundle import Decision
from aiservice.api.runtime import Recorded
from aiservice.api.spec import QualityMetric
from aiservice.core.world import Labelled
from aiservice.measure.client import UNREACHABLE, Predictor
from aiservice.measure.quality import QualityCount

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
    quality = QualityCount(metric, decision)
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
                on_stable, on_candidate = (other, mine) if own is candidate else (mine, other)
                quality.add(on_stable, on_candidate, r.label or "")
    return Labelled(quality.shared.pairs(), quality.arms(), moved)
