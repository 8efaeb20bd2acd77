"""Counters as plain numbers; prometheus text is made of them only when it is asked for. All are touched by the event loop alone."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from aiservice.api.runtime import LATENCY_BOUNDS

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
PROTOCOLS = ("rest", "grpc", "v1")
OUTCOMES = ("ok", "client_error", "server_error", "rejected", "timeout")
TIMED = frozenset(("ok", "server_error", "timeout"))
"""Outcomes that count in the latency histogram: refused requests are quick and would flatter it."""
QUEUE_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROW_BOUNDS = tuple(float(2**n) for n in range(17))


class Histogram:
    """Counts by upper bound, their number and sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def observe_all(self, values: Sequence[float]) -> None:
        bounds, counts = self.bounds, self.counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self.sum += sum(values)

    def add(self, other: Histogram) -> None:
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def __reduce__(self) -> tuple[Any, ...]:
        return _histogram, (self.bounds, self.counts, self.sum)

    def family(self, name: str, text: str) -> HistogramMetricFamily:
        buckets, total = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else repr(bound), total))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=self.sum)


class Metrics:
    """What the predictor counts."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter({(p, o): 0 for p in PROTOCOLS for o in OUTCOMES})
        self.seconds = Histogram(LATENCY_BOUNDS)
        self.queue = Histogram(QUEUE_BOUNDS)
        self.batch = Histogram(ROW_BOUNDS)
        self.rows = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _metrics, (self.requests, self.seconds, self.queue, self.batch, self.rows)

    def request(self, protocol: str, outcome: str, seconds: float) -> None:
        """One request was answered: `seconds` from its last byte read to the answer written."""
        self.requests[protocol, outcome] += 1
        if outcome in TIMED:
            self.seconds.observe(seconds)

    def add(self, other: Metrics) -> None:
        """What another process of the same predictor counted."""
        self.requests.update(other.requests)
        for mine, theirs in ((self.seconds, other.seconds), (self.queue, other.queue), (self.batch, other.batch)):
            mine.add(theirs)
        self.rows += other.rows


def _histogram(bounds: Sequence[float], counts: list[int], sum: float) -> Histogram:
    found = Histogram(bounds)
    found.counts, found.sum = counts, sum
    return found


def _metrics(requests: Counter[tuple[str, str]], seconds: Histogram, queue: Histogram, batch: Histogram, rows: int) -> Metrics:
    found = Metrics()
    found.requests, found.seconds, found.queue, found.batch, found.rows = requests, seconds, queue, batch, rows
    return found


class Recording(Protocol):
    """What the exposition asks of whoever records."""

    def seen(self) -> dict[str, int]:
        """Decision -> rows answered so."""
        ...

    def held(self) -> tuple[int, int]:
        """Bytes and requests in the reservoir."""
        ...


class Exposition(Collector):
    """Folds the counters, and what the recorder knows, into prometheus text."""

    def __init__(self, metrics: Metrics, info: dict[str, str], recorder: Recording) -> None:
        self._metrics, self._info, self._recorder = metrics, info, recorder
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        m, recorder = self._metrics, self._recorder
        requests = CounterMetricFamily("aiservice_requests", "Inference requests answered", labels=["protocol", "outcome"])
        for (protocol, outcome), count in sorted(m.requests.items()):
            requests.add_metric([protocol, outcome], count)
        yield requests
        yield m.seconds.family(
            "aiservice_request_seconds", "From a request's last byte read to its answer written; outcomes ok, server_error, timeout"
        )
        yield m.queue.family("aiservice_queue_seconds", "From a request decoded to its call of the model")
        yield m.batch.family("aiservice_batch_rows", "Rows in one call of the model")
        yield CounterMetricFamily("aiservice_rows", "Rows answered", value=m.rows)
        decisions = CounterMetricFamily("aiservice_decisions", "Rows answered, by decision (number: its tenth)", labels=["decision"])
        for decision, count in sorted(recorder.seen().items()):
            decisions.add_metric([decision], count)
        yield decisions
        info = GaugeMetricFamily("aiservice_model_info", "The model that is served", labels=list(self._info))
        info.add_metric(list(self._info.values()), 1)
        yield info
        size, entries = recorder.held()
        yield GaugeMetricFamily("aiservice_reservoir_bytes", "Memory of recorded requests", value=size)
        yield GaugeMetricFamily("aiservice_reservoir_requests", "Recorded requests", value=entries)
