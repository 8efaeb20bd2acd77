"""One request over HTTP/1 and the place of its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiservice_predictor.codec.request import Part
from aiservice_predictor.failures import Failure
from aiservice_predictor.transport.head import Head
from aiservice_predictor.waiting import Waiting

if TYPE_CHECKING:
    from aiservice_predictor.transport.http1 import Http1

JSON = b"content-type: application/json\r\n"
BINARY = b"content-type: application/octet-stream\r\n"
CLOSE = b"connection: close\r\n"
_KEEP = b"connection: keep-alive\r\n"
_REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 413: "Content Too Large", 415: "Unsupported Media Type", 417: "Expectation Failed",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented", 503: "Service Unavailable",
    504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip
_LINES = {status: f"HTTP/1.1 {status} {reason}\r\n".encode() for status, reason in _REASONS.items()}


class Exchange(Waiting):
    """Answered exactly once, with `respond`; the connection sends answers in the order of the requests."""

    __slots__ = ("answer", "close", "connection", "head", "request", "start")

    def __init__(self, connection: Http1, head: Head) -> None:
        self.settled = True
        self.connection, self.head = connection, head
        self.answer: bytes | None = None
        self.close = not head.keep
        """The connection ends after this answer."""
        self.start = 0.0
        """perf_counter when its last byte was read."""
        self.request: Any
        """What the route's codec made of it."""

    def respond(self, status: int, fields: bytes, body: bytes) -> None:
        """`fields`: header lines beside the length; the whole answer becomes one write."""
        head, connection = self.head, self.connection
        if self.close or (connection.host.draining and connection.last()):
            self.close = True
            fields += CLOSE
        elif head.old:
            fields += _KEEP
        length = b"content-length: %d\r\n" % len(body)
        if head.method == "HEAD":
            body = b""
        self.answer = b"".join((_LINES[status], fields, length, head.echo, b"\r\n", body))
        connection.answered(self)

    def settle(self, part: Part) -> None:
        self.head.route.settle(self, part)

    def fail(self, failure: Failure) -> None:
        self.head.route.fail(self, failure)
