"""One request over HTTP/2 and the place of its answer."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from aiservice_predictor.codec.request import Data, Part
from aiservice_predictor.codec.tensors import Array
from aiservice_predictor.failures import Failure
from aiservice_predictor.transport.body import LARGE, room
from aiservice_predictor.transport.h2.frames import Payload, array, first, plain
from aiservice_predictor.transport.h2.heads import Head
from aiservice_predictor.waiting import Waiting

if TYPE_CHECKING:
    from aiservice_predictor.transport.h2.connection import Http2


_PREFIX = 5
"""Bytes before a message of gRPC: whether it is compressed, and how many bytes it has."""


class Stream(Waiting):
    """Answered at most once, with `respond`."""

    __slots__ = (
        "_parts", "_room", "begun", "connection", "ended", "head", "held", "id", "receivable", "request", "sendable", "size", "start",
    )  # fmt: skip

    def __init__(self, connection: Http2, id: int, head: Head, sendable: int, receivable: int) -> None:
        self.settled = True
        self.connection, self.id, self.head = connection, id, head
        self.sendable, self.receivable = sendable, receivable
        """Bytes that each side may still send: windows."""
        self._parts: list[bytes] = []
        self._room: Array | None = None
        """For a large message, in its parts' stead."""
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

    def take(self, payload: Payload, size: int) -> None:
        """So many bytes more of the request."""
        start, end = self.size, self.size + size
        self.size = end
        if not start and size >= _PREFIX:
            self._make_room(first(payload, _PREFIX))
        space = self._room
        if space is None:
            self._parts.append(plain(payload))
        elif end <= len(space):
            rows = array(payload)
            space[start:end].reshape(rows.shape)[:] = rows
        else:
            self._parts, self._room = [space[:start].tobytes(), plain(payload)], None

    def large(self) -> bool:
        """Whether its message is received where it will be read."""
        return self._room is not None

    def _make_room(self, prefix: bytes) -> None:
        size = _PREFIX + int.from_bytes(prefix[1:], "big")
        if size >= LARGE and self.head.route.too_large(size) is None:
            self._room = room(size)

    def taken(self) -> Data:
        """All of it, once."""
        parts, space = self._parts, self._room
        self.drop()
        if space is not None:
            return space[: self.size].data
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def drop(self) -> None:
        self._parts, self._room = [], None

    def respond(self, head: bytes, body: bytes, trailers: bytes) -> None:
        """Header blocks and body; no trailers: an empty block."""
        self.connection.send(self, head, body, trailers)

    def settle(self, part: Part) -> None:
        self.head.route.settle(self, part)

    def fail(self, failure: Failure) -> None:
        self.head.route.fail(self, failure)
