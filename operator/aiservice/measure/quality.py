"""Labelled rows that both revisions decided, as the quality gate counts them."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiservice.api.bundle import Decision
from aiservice.api.spec import QualityMetric
from aiservice.api.status import Arms, Pairs
from aiservice.measure import judge


@dataclass(slots=True)
class PairCount:
    """Requests that both revisions answered: all, bad at the candidate only, at the stable only, at both."""

    counts: list[int] = field(default_factory=lambda: [0, 0, 0, 0])

    def add(self, candidate_bad: bool, stable_bad: bool) -> None:
        self.counts[0] += 1
        if candidate_bad or stable_bad:
            self.counts[3 if candidate_bad and stable_bad else 1 if candidate_bad else 2] += 1

    def pairs(self) -> Pairs:
        total, candidate_only, stable_only, both = self.counts
        return Pairs(total=total, candidate_only=candidate_only, stable_only=stable_only, both=both)


@dataclass(slots=True)
class QualityCount:
    """For one metric. Precision is defined on each arm's own alarms, the others on rows that both share."""

    metric: QualityMetric
    by: Decision
    shared: PairCount = field(default_factory=PairCount)
    own: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    """Candidate's wrong alarms and alarms, the stable's wrong alarms and alarms."""

    def add(self, stable: str | None, candidate: str | None, label: str) -> None:
        """One row's decisions; None: that revision failed to answer, which is wrong."""
        wrong_s = stable is None or not judge.right(stable, label, self.by)
        wrong_c = candidate is None or not judge.right(candidate, label, self.by)
        if self.metric is QualityMetric.PRECISION:
            for place, decided, wrong in ((0, candidate, wrong_c), (2, stable, wrong_s)):
                if decided is not None and judge.relevant(decided, label, self.metric, self.by):
                    self.own[place] += wrong
                    self.own[place + 1] += 1
        elif judge.relevant(stable or "", label, self.metric, self.by):
            self.shared.add(wrong_c, wrong_s)

    def arms(self, *, hits: int = 0) -> Arms:
        bad_candidate, candidate, bad_stable, stable = self.own
        return Arms(bad_candidate=bad_candidate, candidate=candidate, bad_stable=bad_stable, stable=stable, hits=hits)
