"""What a person reads first."""

from __future__ import annotations

from datetime import UTC, datetime

from aiservice.api.status import RolloutStatus
from aiservice.core.conditions import conditions
from aiservice.core.world import Observed, Obstacle, Running

NOW = datetime(2026, 1, 1, tzinfo=UTC)
R = "r0000000a"


def said(state: RolloutStatus, seen: Observed) -> dict[str, tuple[str, str, str]]:
    return {c.type: (c.status, c.reason, c.message) for c in conditions(state, R, seen, 1)}


def test_what_the_cluster_lacks_stalls_a_new_service_and_says_why() -> None:
    found = said(RolloutStatus(), Observed(NOW, obstacle=Obstacle("RequirementMissing", "KServe is not installed")))
    for kind, truth in (("Ready", "False"), ("Stalled", "True")):
        assert found[kind] == (truth, "RequirementMissing", "KServe is not installed")


def test_one_that_serves_serves_on() -> None:
    state = RolloutStatus(stable=R)
    found = said(
        state, Observed(NOW, running={R: Running(1, 1)}, routed={R: 100}, obstacle=Obstacle("RequirementMissing", "there is no Gateway"))
    )
    assert (found["Ready"][0], found["Stalled"][1]) == ("True", "RequirementMissing")
