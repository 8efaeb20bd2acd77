"""Connections that received something large: from then on they say where the next bytes go, and nothing is made of them first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from aiservice_predictor.transport.body import LARGE

if TYPE_CHECKING:
    from aiservice_predictor.transport.h2.connection import Http2
    from aiservice_predictor.transport.http1 import Http1

_HEAD = 2**14
"""Bytes that are read where the head of a request is expected, so that hardly more of its body is."""
_SCRATCH = bytearray(2**18)
"""Of all connections: what is read is copied at once."""
_VIEW = memoryview(_SCRATCH)


class _Connection(Protocol):
    def eof_received(self) -> bool: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class _Buffered(asyncio.BufferedProtocol):
    """Has a connection's place as its transport's protocol."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def take_place(self, transport: asyncio.Transport) -> None:
        """While the connection reads."""
        transport.pause_reading()  # which kind of protocol it has, a transport looks at when it begins to read
        transport.set_protocol(self)
        transport.resume_reading()

    def eof_received(self) -> bool:
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()


class BufferedHttp1(_Buffered):
    """A large body is received where it will be read."""

    _connection: Http1
    _view: memoryview | None = None
    """Where the next bytes of a body go."""

    def get_buffer(self, sizehint: int) -> memoryview:
        body = self._connection.body
        self._view = None if body is None else body.view
        if body is None:
            return _VIEW[:_HEAD]
        return _VIEW if body.view is None else body.view[body.size :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._view is None:
            self._connection.data_received(bytes(_VIEW[:nbytes]))
        else:
            self._connection.arrived(nbytes)


class BufferedHttp2(_Buffered):
    """The frames of a large message are read where they were received, and copied once, to where it is put together."""

    _connection: Http2

    def get_buffer(self, sizehint: int) -> memoryview:
        return _VIEW

    def buffer_updated(self, nbytes: int) -> None:
        if nbytes < LARGE:
            self._connection.data_received(bytes(_VIEW[:nbytes]))
        else:
            self._connection.take(_SCRATCH, nbytes)
