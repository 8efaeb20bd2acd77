"""What the operator tells of a service, and that it stops telling when the service is gone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from prometheus_client import generate_latest

from aiservice.api.status import AIServiceStatus, Condition, Phase, RolloutStatus
from aiservice.kube.telemetry import Telemetry

MINE = {"exported_namespace": "shop", "service": "fraud"}


def status(ready: Literal["True", "False"]) -> AIServiceStatus:
    condition = Condition(
        type="Ready", status=ready, reason="Why", message="", last_transition_time=datetime(2026, 1, 1, tzinfo=UTC), observed_generation=1
    )
    return AIServiceStatus(conditions=[condition], rollout=RolloutStatus(phase=Phase.PROGRESSING, weight=20))


def test_a_service_is_told_of_until_it_is_gone() -> None:
    telemetry = Telemetry()

    def value(name: str, **labels: str) -> float | None:
        return telemetry.registry.get_sample_value(f"aiservice_operator_{name}", MINE | labels)

    telemetry.state("shop", "fraud", status("True"))
    assert (value("ready"), value("candidate_weight")) == (1, 20)
    assert (value("phase", phase="Progressing"), value("phase", phase="Stable")) == (1, 0)
    telemetry.state("shop", "fraud", status("False"))
    assert value("ready") == 0
    telemetry.forget("shop", "fraud")
    assert b"fraud" not in generate_latest(telemetry.registry)
