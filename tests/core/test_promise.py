"""The rollout's own promise, by simulation: 2,000 A/A rollouts, the evidence looked at after every batch."""

from __future__ import annotations

import pytest

from aiservice.api.status import DecisionKind
from core.history import Truth
from core.simulate import rollout

PARTS = 4
ROLLOUTS = 2000
ALPHA = 0.05
"""1 - the configured confidence."""
BATCH = 10.0
"""Seconds between two looks: 500 requests."""
SAME = Truth(errors=0.005, slow=0.02)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_identical_revisions_are_rolled_back_no_more_often_than_promised(part: int) -> None:
    each = ROLLOUTS // PARTS
    ends = [rollout(SAME, SAME, part * each + i, seconds=BATCH)[0] for i in range(each)]
    assert sum(kind is DecisionKind.ROLLED_BACK for kind in ends) <= ALPHA * each
    assert sum(kind is DecisionKind.PROMOTED for kind in ends) >= 0.9 * each


def test_a_truly_worse_candidate_is_promoted_no_more_often_than_promised() -> None:
    worse = Truth(errors=0.010, slow=0.02)
    ends = [rollout(SAME, worse, 10_000 + i, seconds=BATCH)[0] for i in range(200)]
    assert sum(kind is DecisionKind.PROMOTED for kind in ends) <= ALPHA * len(ends)
