"""Autoscalers -> why one does not act. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from aiservice.core import names
from aiservice.core.world import Manifest

SIGNS = {"HorizontalPodAutoscaler": "ScalingActive", "ScaledObject": "Ready"}
"""Kind -> the condition that says whether it acts. It is not there at first: then nothing is wrong yet."""
ON_PURPOSE = "ScalingDisabled"


def idle(found: Iterable[Manifest]) -> dict[str, str]:
    """Revision -> what its autoscaler says of why it does nothing. KEDA hands a ScaledObject's labels on to the autoscaler that it makes."""
    out: dict[str, str] = {}
    for autoscaler in found:
        revision = autoscaler["metadata"].get("labels", {}).get(names.REVISION_LABEL)
        for c in autoscaler.get("status", {}).get("conditions") or ():
            if revision and c["type"] == SIGNS[autoscaler["kind"]] and c["status"] == "False" and c.get("reason") != ON_PURPOSE:
                out[revision] = f"{autoscaler['kind']}: {c.get('message') or c.get('reason', '')}"
    return out
