"""One request over HTTP/2 and the place of its answer."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from aiservice_predictor.codec.request import Part
from aiservice_predictor.failures import Failure
from aiservice_predictor.transport.h2.heads import Head
from aiservice_predictor.waiting import Waiting

if TYPE_CHECKING:
    from aiservice_predictor.transport.h2.connection import Http2


class Stream(Waiting):
    """Answered at most once, with `respond`."""

    __slots__ = ("begun", "connection", "ended", "head", "held", "id", "parts", "receivable", "request", "sendable", "size", "start")

    def __init__(self, connection: Http2, id: int, head: Head, sendable: int, receivable: int) -> None:
        self.settled = True
        self.connection, self.id, self.head = connection, id, head
        self.sendable, self.receivable = sendable, receivable
        """Bytes that each side may still send: windows."""
        self.parts: list[bytes] = []
        self.size = 0
        """Bytes of the message that came so far."""
        self.held = 0
        """Those that the host accounts for."""
        self.ended = False
        """The client has sent all."""
        self.begun = perf_counter()
        self.start = 0.0
        """perf_counter when all was here; 0 before."""
        self.request: Any
        """What the route's codec made of it."""

    def respond(self, head: bytes, body: bytes, trailers: bytes) -> None:
        """Header blocks and body; no trailers: an empty block."""
        self.connection.send(self, head, body, trailers)

    def settle(self, part: Part) -> None:
        self.head.route.settle(self, part)

    def fail(self, failure: Failure) -> None:
        self.head.route.fail(self, failure)
