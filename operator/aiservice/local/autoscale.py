"""What the HorizontalPodAutoscaler does, for processes: the same formula, tolerance and patience."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

TOLERANCE = 0.1
PATIENCE = 300.0
"""Seconds that a smaller number must have been enough before anything is ended."""


class Metric(StrEnum):
    CPU = "cpu"
    MEMORY = "memory"
    CONCURRENCY = "concurrency"
    REQUESTS_PER_SECOND = "requestsPerSecond"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class Bounds:
    """From the rendered HorizontalPodAutoscaler or ScaledObject."""

    least: int
    most: int
    metric: Metric = Metric.CPU
    target: int = 80
    """Of one predictor: percent of the request, or as much of the metric."""
    query: str = ""
    server: str = ""
    """The Prometheus that the query is asked of."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What was advised at one moment."""

    at: float
    replicas: int


def advise(current: int, use: float | None, bounds: Bounds) -> int:
    """How many there should be: `use` is the mean of those that are ready, in the target's unit."""
    if use is None or current == 0:
        return max(current, bounds.least)
    ratio = use / bounds.target
    wanted = current if abs(ratio - 1) <= TOLERANCE else ceil(current * ratio)
    return min(max(wanted, bounds.least), bounds.most)


def settle(current: int, advice: Sequence[Advice], now: float, bounds: Bounds) -> int:
    """Up at once, down to the most that was advised in the last PATIENCE seconds. `advice` begins with the number that there was."""
    recent = [a.replicas for a in advice if now - a.at <= PATIENCE]
    latest = recent[-1] if recent else current
    wanted = latest if latest >= current else min(max(recent), current)
    return min(max(wanted, bounds.least), bounds.most)
