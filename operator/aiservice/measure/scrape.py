"""A predictor's /metrics -> the counters that gates use."""

from __future__ import annotations

from bisect import bisect_left

from aiservice.api.runtime import LATENCY_BOUNDS
from aiservice.api.status import Cursor

REQUESTS = "aiservice_requests_total"
SECONDS = "aiservice_request_seconds"


def bound_of(slo: float) -> float:
    """The histogram bound at which requests slower than `slo` seconds are counted: the next one up."""
    return LATENCY_BOUNDS[min(bisect_left(LATENCY_BOUNDS, slo - 1e-12), len(LATENCY_BOUNDS) - 1)]


def counts(text: str, slo: float | None) -> Cursor:
    """Errors: gRPC requests that the server failed (REST is counted at the gateway, where clients stand). Latency: slower than `slo`, all.

    `text` is the Prometheus text format.
    """
    grpc_failed = total = quick = 0
    bound = bound_of(slo) if slo else None
    for line in text.splitlines():
        if (
            line.startswith(REQUESTS)
            and 'protocol="grpc"' in line
            and any(f'outcome="{o}"' in line for o in ("server_error", "timeout", "rejected"))
        ):
            grpc_failed += int(float(line.rpartition(" ")[2]))
        elif line.startswith(f"{SECONDS}_count"):
            total += int(float(line.rpartition(" ")[2]))
        elif bound is not None and line.startswith(f"{SECONDS}_bucket"):
            edge = line.partition('le="')[2].partition('"')[0]
            if edge != "+Inf" and abs(float(edge) - bound) < bound * 1e-9:
                quick += int(float(line.rpartition(" ")[2]))
    return Cursor(errors=(grpc_failed, 0), latency=(total - quick, total) if bound is not None else (0, 0))
