"""An autoscaler that does nothing is seen, and whose it is."""

from __future__ import annotations

from typing import Any

import pytest

from aiservice.core import names
from aiservice.kube.autoscalers import idle

R = "r00000001"


def one(kind: str, *conditions: dict[str, str], revision: str | None = R) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"labels": names.labels("svc", revision)}, "status": {"conditions": list(conditions)}}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (one("HorizontalPodAutoscaler"), {}),
        (one("HorizontalPodAutoscaler", {"type": "ScalingActive", "status": "True"}), {}),
        (
            one(
                "HorizontalPodAutoscaler",
                {"type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric", "message": "no metrics"},
            ),
            {R: "HorizontalPodAutoscaler: no metrics"},
        ),
        (one("HorizontalPodAutoscaler", {"type": "ScalingActive", "status": "False", "reason": "ScalingDisabled"}), {}),
        (one("HorizontalPodAutoscaler", {"type": "AbleToScale", "status": "False", "message": "x"}), {}),
        (one("ScaledObject", {"type": "Ready", "status": "Unknown"}), {}),
        (
            one("ScaledObject", {"type": "Ready", "status": "False", "reason": "ScaledObjectCheckFailed"}),
            {R: "ScaledObject: ScaledObjectCheckFailed"},
        ),
        (one("ScaledObject", {"type": "Ready", "status": "False", "message": "x"}, revision=None), {}),
        ({"kind": "ScaledObject", "metadata": {}}, {}),
    ],
)
def test_what_an_autoscaler_says(found: dict[str, Any], said: dict[str, str]) -> None:
    assert idle([found]) == said
