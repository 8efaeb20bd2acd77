"""What a connection sends: answers within the windows that the peer grants, one write where they fit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiservice_predictor.transport.h2.frames import (
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME,
    HEAD,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    MAX_FRAME_SIZE,
    ConnectionFault,
    StreamFault,
    frame,
)  # fmt: skip
from aiservice_predictor.transport.h2.stream import Stream

_MOST_PER_FRAME = 2**17
"""Bytes: larger frames gain nothing, and hold up other streams."""


class _Left:
    """An answer that is not sent in full."""

    __slots__ = ("body", "stream", "trailers")

    def __init__(self, stream: Stream, body: memoryview, trailers: bytes) -> None:
        self.stream, self.body, self.trailers = stream, body, trailers


class Outgoing:
    """One connection's."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._window = DEFAULT_WINDOW
        self._initial = DEFAULT_WINDOW
        self._frame = FRAME
        self._left: dict[int, _Left] = {}
        self.writable = True

    @property
    def initial(self) -> int:
        """Window of a new stream."""
        return self._initial

    def waiting(self) -> bool:
        """Whether an answer waits for the peer to grant more, or to read."""
        return bool(self._left) or not self.writable

    def answer(self, stream: Stream, head: bytes, body: bytes, trailers: bytes) -> bool:
        """True: sent in full. Otherwise `go_on` sends the rest."""
        size = len(body)
        if size > self._window or size > stream.sendable or size > self._frame or not self.writable:
            end = END_STREAM if not body and not trailers else 0
            self._transport.write(frame(HEADERS, END_HEADERS | end, stream.id, head))
            self._left[stream.id] = _Left(stream, memoryview(body), trailers)
            return bool(self.go_on([stream.id]))
        pack, id = HEAD.pack, stream.id
        self._window -= size
        parts = [pack(0, len(head), HEADERS, END_HEADERS if size or trailers else END_HEADERS | END_STREAM, id), head]
        if size:
            parts += (pack(size >> 16, size & 0xFFFF, DATA, 0 if trailers else END_STREAM, id), body)
        if trailers:
            parts += (pack(0, len(trailers), HEADERS, END_HEADERS | END_STREAM, id), trailers)
        self._transport.write(b"".join(parts))
        return True

    def go_on(self, ids: Iterable[int] | None = None) -> list[int]:
        """Send what may be sent, of these streams or of all; -> those whose answers are now sent in full."""
        done = [id for id in (tuple(self._left) if ids is None else ids) if id in self._left and self._send(self._left[id])]
        for id in done:
            del self._left[id]
        return done

    def forget(self, id: int) -> None:
        self._left.pop(id, None)

    def grant(self, size: int) -> None:
        """The peer takes more on the whole connection. Raises ConnectionFault."""
        self._window += size
        if self._window > LARGEST_WINDOW:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "the connection's window is too large")

    def grant_stream(self, stream: Stream, size: int) -> None:
        """The peer takes more on one stream. Raises StreamFault."""
        stream.sendable += size
        if stream.sendable > LARGEST_WINDOW:
            raise StreamFault(stream.id, FLOW_CONTROL_ERROR)

    def set(self, key: int, value: int, streams: dict[int, Stream]) -> None:
        """One of the peer's settings. Raises ConnectionFault."""
        if key == MAX_FRAME_SIZE:
            self._frame = min(value, _MOST_PER_FRAME)
        elif key == INITIAL_WINDOW_SIZE:
            change, self._initial = value - self._initial, value
            for stream in streams.values():
                stream.sendable += change
                if stream.sendable > LARGEST_WINDOW:
                    raise ConnectionFault(FLOW_CONTROL_ERROR, "a stream's window is too large")

    def _send(self, left: _Left) -> bool:
        stream = left.stream
        parts: list[bytes | memoryview] = []
        while len(left.body):
            size = min(len(left.body), self._window, stream.sendable, self._frame)
            if size <= 0 or not self.writable:
                break
            piece, left.body = left.body[:size], left.body[size:]
            self._window -= size
            stream.sendable -= size
            end = 0 if left.trailers or len(left.body) else END_STREAM
            parts += [HEAD.pack(size >> 16, size & 0xFFFF, DATA, end, stream.id), piece]
        done = not len(left.body)
        if done and left.trailers:
            parts.append(frame(HEADERS, END_HEADERS | END_STREAM, stream.id, left.trailers))
        if parts:
            self._transport.write(b"".join(parts))
        return done
