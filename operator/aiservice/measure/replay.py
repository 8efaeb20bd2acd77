"""Replay: the stable's recorded requests, answered by the candidate and, side by side, by the stable."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, zip_longest
from typing import Any

from aiservice.api.bundle import Decision, DecisionKind, ReferenceRow
from aiservice.api.spec import QualityMetric
from aiservice.api.status import Arms, Pairs, ReplayStatus, Stratum
from aiservice.measure import judge
from aiservice.measure.client import UNREACHABLE, Answer, Predictor
from aiservice.measure.quality import PairCount, QualityCount

AT_ONCE = 2
"""Requests under way at each revision: enough to be quick, few enough to leave the stable to its clients."""
FEW = 50
"""A decision with fewer recorded rows is filled up from the reference sample."""
MOST_STRATA = 64


@dataclass(frozen=True, slots=True)
class Item:
    """One request to be replayed."""

    inputs: list[dict[str, Any]]
    label: str | None = None
    """Of a reference row; its quality is judged."""
    compared: bool = True
    """Agreement, errors and latency are judged on it."""
    weight: float = 1.0
    """How many natural rows it stands for."""


@dataclass(slots=True)
class Tally:
    """What has been seen so far."""

    decision: Decision
    metric: QualityMetric | None
    slo: float | None
    planned: int
    seen: dict[str, float]
    """Decision -> rows of the stable's traffic; empty before its first client."""
    weights: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    done: int = 0
    complete: bool = False
    strata: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    errors: PairCount = field(default_factory=PairCount)
    latency: PairCount = field(default_factory=PairCount)
    quality: QualityCount | None = field(init=False)

    def __post_init__(self) -> None:
        self.quality = QualityCount(self.metric, self.decision) if self.metric else None

    def add(self, item: Item, stable: tuple[Answer, float], candidate: tuple[Answer, float]) -> None:
        """One request, both answers and their seconds. What the stable itself fails says nothing of agreement."""
        self.done += 1
        (s, s_time), (c, c_time) = stable, candidate
        if item.compared:
            self.errors.add(not c.ok, not s.ok)
            if self.slo:
                self.latency.add(c_time > self.slo, s_time > self.slo)
            if s.ok:
                for a, b in zip_longest(s.decisions, c.decisions[: len(s.decisions)], fillvalue="(failed)"):
                    of = judge.stratum(a, self.decision)
                    self.strata[of][judge.answered(a, b, self.decision)] += 1
                    self.weights[of] += item.weight
        if item.label is not None and self.quality and s.ok and s.decisions:
            self.quality.add(s.decisions[0], c.decisions[0] if c.ok and c.decisions else None, item.label)

    def status(self) -> ReplayStatus:
        common = sorted(self.strata, key=lambda d: -sum(self.strata[d].values()))[:MOST_STRATA]
        strata = []
        mass = self.seen or self.weights
        for d in sorted(common):
            rows = sum(self.strata[d].values())
            most = sorted(self.strata[d].items(), key=lambda kv: (kv[0] != d, -kv[1]))[: MOST_STRATA - 1]
            strata.append(Stratum(decision=d[:256], mass=mass.get(d, 0.0) or float(rows), replayed=rows, answers=dict(most)))
        quality = self.quality
        return ReplayStatus(
            planned=self.planned,
            done=self.done,
            complete=self.complete,
            numeric=self.decision.kind is DecisionKind.TOLERANCE,
            strata=strata,
            errors=self.errors.pairs(),
            latency=self.latency.pairs(),
            reference=quality.shared.pairs() if quality else Pairs(),
            reference_arms=quality.arms(hits=quality.own[0]) if quality else Arms(),
        )


async def run(
    stable: Sequence[Predictor],
    candidate: Sequence[Predictor],
    *,
    requests: int,
    metric: QualityMetric | None,
    slo: float | None,
    progress: Callable[[ReplayStatus], None],
    beat: float = 0.25,
) -> ReplayStatus:
    """Replay up to `requests` recorded requests (and, where quality is judged, as many reference rows). `progress` hears every `beat` seconds.

    `slo` in seconds. Raises client errors only if the stable cannot be asked for its records.
    """
    items, tally = await _gather(stable, requests, metric, slo)
    queue = iter(items)
    told = time.monotonic()
    turns_s, turns_c = cycle(stable), cycle(candidate)

    async def worker(first_candidate: bool) -> None:
        nonlocal told
        for item in queue:
            pair = [(next(turns_s), False), (next(turns_c), True)]
            if first_candidate:
                pair.reverse()
            answers = {who: await _timed(predictor, item) for predictor, who in pair}
            tally.add(item, answers[False], answers[True])
            if time.monotonic() - told > beat:
                told = time.monotonic()
                progress(tally.status())

    await asyncio.gather(*(worker(bool(i % 2)) for i in range(AT_ONCE)))
    tally.complete = True
    return tally.status()


async def _timed(predictor: Predictor, item: Item) -> tuple[Answer, float]:
    began = time.monotonic()
    answer = await predictor.infer(item.inputs)
    return answer, time.monotonic() - began


async def _gather(stable: Sequence[Predictor], requests: int, metric: QualityMetric | None, slo: float | None) -> tuple[list[Item], Tally]:
    seen: dict[str, float] = defaultdict(float)
    by_decision: dict[str, list[Item]] = defaultdict(list)
    rows, decision = await stable[0].reference()
    for predictor in stable:
        try:
            reservoir = await predictor.reservoir(max(1, requests // len(stable)))
        except UNREACHABLE:
            continue
        for name, count in reservoir.seen.items():
            seen[name] += count
        for r in reservoir.requests:
            rare = min((judge.stratum(d, decision) for d in r.decisions), key=lambda d: seen.get(d, 0), default="")
            by_decision[rare].append(Item(r.inputs))
    reference = _reference(rows, decision, by_decision, metric, requests)
    items = interleave(list(by_decision.values()))[:requests] + reference
    return items, Tally(decision, metric, slo, len(items), dict(seen))


def _reference(
    rows: Sequence[ReferenceRow], decision: Decision, recorded: dict[str, list[Item]], metric: QualityMetric | None, most: int
) -> list[Item]:
    """Reference rows: all of them for quality, and for agreement those whose label is a decision that was hardly recorded."""
    out = []
    for row in rows[:most]:
        label = judge.truth(row.label, decision)
        scarce = len(recorded.get(judge.stratum(label, decision), ())) < FEW
        if metric or scarce:
            out.append(Item(row.inputs, row.label if metric else None, scarce, row.weight))
    return out


def interleave(groups: list[list[Item]]) -> list[Item]:
    """One of each group in turn, so that an early look has seen every decision."""
    out: list[Item] = []
    queues = [iter(g) for g in groups]
    while queues:
        for q in list(queues):
            item = next(q, None)
            if item is None:
                queues.remove(q)
            else:
                out.append(item)
    return out
