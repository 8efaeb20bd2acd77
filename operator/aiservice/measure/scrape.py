"""A predictor's /metrics -> the counters that gates use."""

from __future__ import annotations

from bisect import bisect_left

from aiservice.api.runtime import LATENCY_BOUNDS
from aiservice.api.status import Cursor

REQUESTS = "aiservice_requests_total"
SECONDS = "aiservice_request_seconds"
MODEL = "aiservice_model_info"
FAILURES = ("server_error", "timeout", "rejected")


def bound_of(slo: float) -> float:
    """The histogram bound at which requests slower than `slo` seconds are counted: the next one up."""
    return LATENCY_BOUNDS[min(bisect_left(LATENCY_BOUNDS, slo - 1e-12), len(LATENCY_BOUNDS) - 1)]


def counts(text: str, slo: float | None) -> Cursor:
    """Errors: gRPC requests that the server failed (REST is counted at the gateway, where clients stand). Latency: slower than `slo`, all.

    `text` is the Prometheus text format, `slo` in seconds.
    """
    failed = sum(value for labels, value in _requests(text) if 'protocol="grpc"' in labels and _is_failure(labels))
    return Cursor(errors=(failed, 0), latency=_latency(text, slo))


def all_counts(text: str, slo: float | None) -> Cursor:
    """As `counts`, where no gateway counts: failed requests of every protocol, and all."""
    requests = _requests(text)
    failed = sum(value for labels, value in requests if _is_failure(labels))
    return Cursor(errors=(failed, sum(value for _, value in requests)), latency=_latency(text, slo))


def digest(text: str) -> str | None:
    """Of the model that the predictor loaded."""
    line = next((part for part in text.splitlines() if part.startswith(f"{MODEL}{{")), "")
    return line.partition('digest="')[2].partition('"')[0] or None


def _requests(text: str) -> list[tuple[str, int]]:
    lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith(f"{REQUESTS}{{")]
    return [(labels, int(float(value))) for labels, _, value in lines]


def _is_failure(labels: str) -> bool:
    return any(f'outcome="{outcome}"' in labels for outcome in FAILURES)


def _latency(text: str, slo: float | None) -> tuple[int, int]:
    """Slower than the SLO, all."""
    if not slo:
        return 0, 0
    bound, quick, total = bound_of(slo), 0, 0
    for line in text.splitlines():
        if line.startswith(f"{SECONDS}_count"):
            total += int(float(line.rpartition(" ")[2]))
        elif line.startswith(f"{SECONDS}_bucket"):
            edge = line.partition('le="')[2].partition('"')[0]
            if edge != "+Inf" and abs(float(edge) - bound) < bound * 1e-9:
                quick += int(float(line.rpartition(" ")[2]))
    return total - quick, total
