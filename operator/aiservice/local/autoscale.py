"""What the HorizontalPodAutoscaler does, for processes: the same formula, tolerance and patience."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

TOLERANCE = 0.1
PATIENCE = 300.0
"""Seconds that a smaller number must have been enough before anything is ended."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """From the rendered HorizontalPodAutoscaler."""

    least: int
    most: int
    metric: str = "cpu"
    target: int = 80
    """Percent of the request."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What was advised at one moment."""

    at: float
    replicas: int


def advise(current: int, use: float | None, bounds: Bounds) -> int:
    """How many there should be: `use` is the mean use of those that are ready, as a share of what they request."""
    if use is None or current == 0:
        return max(current, bounds.least)
    ratio = use * 100 / bounds.target
    wanted = current if abs(ratio - 1) <= TOLERANCE else ceil(current * ratio)
    return min(max(wanted, bounds.least), bounds.most)


def settle(current: int, advice: Sequence[Advice], now: float, bounds: Bounds) -> int:
    """Up at once, down to the most that was advised in the last PATIENCE seconds. `advice` begins with the number that there was."""
    recent = [a.replicas for a in advice if now - a.at <= PATIENCE]
    latest = recent[-1] if recent else current
    wanted = latest if latest >= current else min(max(recent), current)
    return min(max(wanted, bounds.least), bounds.most)
