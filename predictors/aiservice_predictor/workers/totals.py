"""What the workers told, added up; nothing is lost with a worker but what it had not told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from uuid import uuid4

from aiservice.api.runtime import PredictorConfig
from aiservice_predictor.load import Loaded
from aiservice_predictor.metrics import Exposition, Metrics
from aiservice_predictor.record import Record
from aiservice_predictor.recorder import waiting
from aiservice_predictor.reservoir import MAX_STRATA, OTHER, Reservoir
from aiservice_predictor.workers.child import Told

_RESTARTS = (
    b"# HELP aiservice_worker_restarts_total Workers that crashed or hung, and were started again\n"
    b"# TYPE aiservice_worker_restarts_total counter\naiservice_worker_restarts_total %d\n"
)


class Totals:
    """Counters of workers that are gone, and everybody's recorded requests."""

    def __init__(self, loaded: Loaded, config: PredictorConfig) -> None:
        self.run = uuid4().hex
        self.reservoir = Reservoir(config.reservoir_bytes - waiting(config.reservoir_bytes))  # the rest waits in the workers
        self._info = {"name": config.model_name, "revision": config.revision, "digest": loaded.digest}
        self._metrics = Metrics()
        self._seen: Counter[str] = Counter()
        self._strata: set[str] = set()
        self.restarts = 0
        """Workers that were started again."""

    def keep(self, record: Record, stratum: str, drawn: bool) -> None:
        self.reservoir.add(record, self._stratum(stratum), drawn)

    def gone(self, last: Told) -> None:
        self._metrics.add(last.metrics)
        self._seen.update(self._named(last.seen))

    def seen(self, told: Iterable[Told]) -> dict[str, int]:
        found = self._seen.copy()
        for each in told:
            found.update(self._named(each.seen))
        return dict(found)

    def text(self, told: Iterable[Told]) -> bytes:
        everybody, whole = list(told), Metrics()
        for metrics in (self._metrics, *(each.metrics for each in everybody)):
            whole.add(metrics)
        return Exposition(whole, self._info, _Recorded(self.seen(everybody), self.reservoir)).text() + _RESTARTS % self.restarts

    def _named(self, seen: dict[str, int]) -> Counter[str]:
        found: Counter[str] = Counter()
        for stratum, rows in seen.items():
            found[self._stratum(stratum)] += rows
        return found

    def _stratum(self, name: str) -> str:
        """As many as one process would tell apart; a name that is known stays known, so that no counter goes back."""
        if name not in self._strata:
            if len(self._strata) >= MAX_STRATA:
                return OTHER
            self._strata.add(name)
        return name


class _Recorded:
    def __init__(self, seen: dict[str, int], reservoir: Reservoir) -> None:
        self._seen, self._reservoir = seen, reservoir

    def seen(self) -> dict[str, int]:
        return self._seen

    def held(self) -> tuple[int, int]:
        return self._reservoir.size, len(self._reservoir)
