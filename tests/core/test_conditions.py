"""What a person reads first."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from aiservice.api.spec import RealTime
from aiservice.api.status import RolloutStatus
from aiservice.core.conditions import conditions
from aiservice.core.world import Observed, Obstacle, Place, Running

NOW = datetime(2026, 1, 1, tzinfo=UTC)
R = "r0000000a"


def said(state: RolloutStatus, seen: Observed) -> dict[str, tuple[str, str, str]]:
    return {c.type: (c.status, c.reason, c.message) for c in conditions(state, R, seen, 1, RealTime())}


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


def scaling(place: Place = Place(), unscaled: dict[str, str] | None = None, **asked: Any) -> tuple[str, str, str]:  # noqa: B008 (frozen)
    real_time = RealTime.model_validate_json(json.dumps({"replicas": {"min": 1, "max": 4}} | asked))
    seen = Observed(NOW, place=place, unscaled=unscaled or {})
    found = conditions(RolloutStatus(stable=R), R, seen, 1, real_time)
    return next((c.status, c.reason, c.message) for c in found if c.type == "ScalingReady")


CONCURRENCY: dict[str, Any] = {"scaling": {"metric": "Concurrency", "target": 8}}


@pytest.mark.parametrize(
    ("said", "reason", "words"),
    [
        (scaling(), "Following", "1 to 4 predictors follow 80 % of the requested CPU"),
        (scaling(**CONCURRENCY), "Following", "8 requests at a time for each"),
        (scaling(replicas={"min": 2, "max": 2}, **CONCURRENCY), "Fixed", "always 2"),
        (scaling(Place(keda=False), **CONCURRENCY), "RequirementMissing", "KEDA is not installed"),
        (scaling(scaling={"metric": "Query", "target": 1, "query": "up"}), "RequirementMissing", "prometheus.url"),
        (scaling(unscaled={R: "no metrics returned"}), "NoNumbers", "no metrics returned"),
    ],
)
def test_what_the_number_of_predictors_follows_is_said(said: tuple[str, str, str], reason: str, words: str) -> None:
    truth, found, message = said
    assert (truth, found) == ("True" if reason in ("Following", "Fixed") else "False", reason)
    assert words in message
