"""What is one for the whole predictor, however many workers it has: counters, recorded requests, their labels."""

from __future__ import annotations

from time import time
from typing import Protocol

from aiservice_predictor.dataplane import DataPlane
from aiservice_predictor.reservoir import Entry, Reservoir

MAX_BYTES = 2**24
"""Recorded bytes in one answer; what is asked for beyond is left out. As JSON they are several times as many."""


class Shared(Protocol):
    """As whoever answers a request asks for it."""

    async def metrics(self) -> bytes:
        """Prometheus text."""
        ...

    async def recorded(self, after: int, limit: int) -> tuple[str, dict[str, int], list[Entry]]:
        """The run, rows by decision, and `limit` requests: those labelled after that label sequence; below 0 recent ones, spread over the decisions."""
        ...

    async def label(self, labels: dict[str, str]) -> list[str]:
        """Ids that were found, and carry their label now."""
        ...


class Own:
    """Of the one process that there is."""

    def __init__(self, plane: DataPlane) -> None:
        self._recorder, self._exposition = plane.recorder, plane.exposition

    async def metrics(self) -> bytes:
        return self._exposition.text()

    async def recorded(self, after: int, limit: int) -> tuple[str, dict[str, int], list[Entry]]:
        return self._recorder.run, self._recorder.seen(), choose(self._recorder.reservoir, after, limit)

    async def label(self, labels: dict[str, str]) -> list[str]:
        self._recorder.fold()
        return give(self._recorder.reservoir, labels)


def choose(kept: Reservoir, after: int, limit: int) -> list[Entry]:
    """At most `limit` entries and MAX_BYTES."""

    def some(limit: int) -> list[Entry]:
        return kept.labelled_after(after, limit) if after >= 0 else kept.spread(limit)

    entries = some(limit)
    while len(entries) > 1 and sum(e.size for e in entries) > MAX_BYTES:
        entries = some(len(entries) // 2)
    return entries


def give(kept: Reservoir, labels: dict[str, str]) -> list[str]:
    now = time()
    return [id for id, text in labels.items() if kept.label(id, text, now)]
