"""Every way in which a request is not answered: one class each, with what it is over HTTP, over gRPC and in the metrics."""

from __future__ import annotations

from typing import ClassVar

CODES = {
    "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5, "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "UNIMPLEMENTED": 12,
    "INTERNAL": 13, "UNAVAILABLE": 14, "UNAUTHENTICATED": 16,
}  # fmt: skip
"""gRPC's status codes, as far as they are used."""


class Failure(Exception):
    """Its text goes to the client: what was wrong, what was expected, what to do."""

    status: ClassVar[int] = 500
    """HTTP status."""
    code: ClassVar[str] = "INTERNAL"
    """Name of the gRPC status code."""
    outcome: ClassVar[str] = "server_error"
    """Label of aiservice_requests_total."""
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Invalid(Failure):
    """The request is wrong."""

    status = 400
    code = "INVALID_ARGUMENT"
    outcome = "client_error"


class NotFound(Invalid):
    status = 404
    code = "NOT_FOUND"


class UnknownMethod(NotFound):
    """As gRPC says it."""

    code = "UNIMPLEMENTED"


class MethodNotAllowed(Invalid):
    status = 405
    code = "UNIMPLEMENTED"

    def __init__(self, got: str, allowed: str) -> None:
        super().__init__(f"{got} is not taken here; {allowed} it")
        self.headers = ((b"allow", allowed.encode()),)


class TooSlow(Invalid):
    """The body did not come within the timeout."""

    status = 408
    code = "DEADLINE_EXCEEDED"
    headers = ((b"connection", b"close"),)


class TooLarge(Invalid):
    status = 413


class MessageTooLarge(TooLarge):
    """As gRPC says it."""

    code = "RESOURCE_EXHAUSTED"


class UnsupportedEncoding(Invalid):
    status = 415
    code = "UNIMPLEMENTED"


class Unauthorized(Invalid):
    status = 401
    code = "UNAUTHENTICATED"
    headers = ((b"www-authenticate", b"Bearer"),)


class Forbidden(Invalid):
    status = 403
    code = "PERMISSION_DENIED"


class Overloaded(Failure):
    """The queue is full, or the predictor is ending."""

    status = 503
    code = "UNAVAILABLE"
    outcome = "rejected"
    headers = ((b"retry-after", b"1"),)


class Late(Failure):
    """The deadline passed."""

    status = 504
    code = "DEADLINE_EXCEEDED"
    outcome = "timeout"


class ModelFailed(Failure):
    """The graph failed on this request."""
