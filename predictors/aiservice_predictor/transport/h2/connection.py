"""HTTP/2 as a server of short requests: streams in, answers out. What a request means is the routes' business."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from aiservice_predictor.failures import Failure, TooSlow
from aiservice_predictor.transport.buffered import BufferedHttp2
from aiservice_predictor.transport.h2 import frames as f
from aiservice_predictor.transport.h2.frames import ConnectionFault, StreamFault
from aiservice_predictor.transport.h2.heads import Head, Heads
from aiservice_predictor.transport.h2.stream import Stream
from aiservice_predictor.transport.h2.wire import CONNECTION_WINDOW, CREDIT, MAX_STREAMS, PER_REQUEST, STREAM_WINDOW, Wire
from aiservice_predictor.transport.host import Host

_LINGER = 2.0
"""Seconds more than for anything else until a client that does not read what it asked for is cut off."""
_REMEMBERED = 256
"""Streams that we ended early, whose peer may not have heard of it yet."""


class Http2(Wire):
    """One client."""

    def __init__(self, host: Host, prepare: Callable[[Head], None]) -> None:
        super().__init__(host)
        self._heads = Heads(prepare)
        self._dropped: dict[int, None] = {}
        self._fresh: list[Stream] = []
        """Opened in this turn."""
        self._partial: dict[Stream, None] = {}
        """Requests whose rest is on its way, oldest first."""
        self._receivable = CONNECTION_WINDOW
        self._direct = False
        self._over = False
        """No further stream is taken."""
        self._told = False
        """The peer knows that the process is ending."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        for id in tuple(self._streams):
            self.cancelled(id, ours=False)
        self.host.left(self)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._out.writable = False
        self._transport.pause_reading()
        self.host.watch(self, self.host.timeout + _LINGER)

    def resume_writing(self) -> None:
        self._out.writable = True
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self.go_on()
            self.rewatch()

    def send(self, stream: Stream, head: bytes, body: bytes, trailers: bytes) -> None:
        """Answer a stream; nothing happens where its client is gone."""
        if self._streams.get(stream.id) is not stream:
            return
        if self._out.answer(stream, head, body, trailers):
            self._sent(stream)
        else:
            self.host.watch(self, self.host.timeout + _LINGER)

    def drain(self) -> None:
        """The process will end: new streams are still answered, but had better be opened elsewhere."""
        if not self._told:
            self._told = True
            self._transport.write(f.goaway(f.LARGEST_WINDOW, f.NO_ERROR))

    def close_if_idle(self) -> None:
        if not self._over:
            self._over = self._told = True
            self._transport.write(f.goaway(self._last, f.NO_ERROR))
        if not self._streams:
            self._transport.close()

    def late(self) -> None:
        """A preface, a header block, a body, or a client that reads did not come in time."""
        if self._out.waiting():
            self._transport.abort()
        elif not self._begun or self._block is not None:
            self._transport.close()
        else:
            old = perf_counter() - self.host.timeout
            for stream in [s for s in self._partial if s.begun <= old]:
                text = f"the request did not come within {self.host.timeout:g} seconds; {stream.size} bytes came"
                self._refuse(stream, TooSlow(text))
            self.rewatch()

    def rewatch(self) -> None:
        if self._out.waiting():
            self.host.watch(self, self.host.timeout + _LINGER)
        elif self._block is not None:
            self.host.watch(self, self.host.timeout)
        elif self._partial:
            self.host.watch(self, max(0.0, next(iter(self._partial)).begun + self.host.timeout - perf_counter()))
        else:
            self.host.unwatch(self)

    def go_on(self) -> None:
        done = self._out.go_on()
        for id in done:
            self._sent(self._streams[id])
        if done:
            self.rewatch()

    def opened(self, id: int, block: bytes, ends: bool) -> None:
        stream = self._streams.get(id)
        if stream is not None or id <= self._last:
            self._trailers(stream, id, block, ends)
            return
        self._last = id
        if self._over or len(self._streams) >= MAX_STREAMS:
            self._heads.skip(block)
            raise StreamFault(id, f.REFUSED_STREAM)
        head = self._heads.get(block, id)
        stream = self._streams[id] = Stream(self, id, head, self._out.initial, STREAM_WINDOW)
        if ends:
            self._whole(stream)
        else:
            self._fresh.append(stream)

    def received(self, flags: int, id: int, payload: f.Payload) -> None:
        length = len(payload) if isinstance(payload, bytes) else payload.nbytes
        self._receivable -= length
        if self._receivable < 0:
            raise ConnectionFault(f.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        if self._receivable <= CONNECTION_WINDOW // 2:
            self._transport.write(f.window_update(0, CONNECTION_WINDOW - self._receivable))
            self._receivable = CONNECTION_WINDOW
        stream = self._streams.get(id)
        if stream is None or stream.ended:
            self._unexpected(stream, id)
            return
        stream.receivable -= length
        if stream.receivable < 0:
            raise StreamFault(id, f.FLOW_CONTROL_ERROR)
        if flags & f.PADDED:
            payload = f.unpadded(flags, f.plain(payload))
            length = len(payload)
        if flags & f.END_STREAM:
            stream.take(payload, length)
            self._whole(stream)
        else:
            self._part(stream, payload, length)

    def _read(self, data: f.Buffer, at: int, size: int) -> None:
        super()._read(data, at, size)
        if self._fresh:
            for stream in self._fresh:
                if not stream.ended and stream.id in self._streams:
                    self._partial[stream] = None
                    self.host.receiving += 1
            self._fresh.clear()
            if self._partial:
                self.rewatch()

    def _part(self, stream: Stream, payload: f.Payload, size: int) -> None:
        """DATA that is not the last."""
        if not size:
            self.spend(1)
        route = stream.head.route
        refusal = route.too_large(stream.size + size) or (None if stream.size else route.refuses()) or self.host.hold(size)
        if refusal is not None:
            self._refuse(stream, refusal)
            return
        stream.held += size
        stream.take(payload, size)
        if stream.receivable <= STREAM_WINDOW // 2:  # even where the rest fits: some senders (BBR) are held up where nothing is sent back
            self._transport.write(f.window_update(stream.id, STREAM_WINDOW - stream.receivable))
            stream.receivable = STREAM_WINDOW
        if stream.large() and not self._direct and self._out.writable:
            self._direct = True
            BufferedHttp2(self).take_place(self._transport)

    def _whole(self, stream: Stream) -> None:
        """All of a request is here."""
        stream.ended = True
        self._release(stream)
        if stream.head.length is not None and stream.head.length != stream.size:
            raise StreamFault(stream.id, f.PROTOCOL_ERROR)
        stream.head.route.handle(stream, stream.taken())

    def _trailers(self, stream: Stream | None, id: int, block: bytes, ends: bool) -> None:
        if stream is None or stream.ended:
            self._heads.skip(block)
            self._unexpected(stream, id)
            return
        self._heads.trailers(block, id)
        if not ends:
            raise StreamFault(id, f.PROTOCOL_ERROR)
        self._whole(stream)

    def _unexpected(self, stream: Stream | None, id: int) -> None:
        """Frames for a stream that takes none (any more)."""
        self.spend(1)
        if stream is not None:
            raise StreamFault(id, f.STREAM_CLOSED)
        if id in self._dropped:
            return
        if self._idle(id):
            raise ConnectionFault(f.PROTOCOL_ERROR, "DATA on a stream that is not open")
        raise ConnectionFault(f.STREAM_CLOSED, "a frame for a stream that is closed")

    def _refuse(self, stream: Stream, failure: Failure) -> None:
        """Answer before all of the request came."""
        self._release(stream)
        stream.drop()
        stream.head.route.fail(stream, failure)

    def _release(self, stream: Stream) -> None:
        if stream.held:
            self.host.release(stream.held)
            stream.held = 0
        if self._partial and stream in self._partial:
            del self._partial[stream]
            self.host.receiving -= 1
            self.rewatch()

    def _sent(self, stream: Stream) -> None:
        """Its answer left in full."""
        del self._streams[stream.id]
        if not stream.ended:
            self._release(stream)
            self._transport.write(f.reset(stream.id, f.NO_ERROR))
            self._drop(stream.id)
        if self._credit < CREDIT:
            self._credit += PER_REQUEST
        if self.host.draining:
            self.drain()
            if self._over and not self._streams:
                self._transport.close()

    def cancelled(self, id: int, ours: bool) -> None:
        if ours:
            self._drop(id)
        stream = self._streams.pop(id, None)
        if stream is not None:
            self._out.forget(id)
            self._release(stream)
            stream.head.route.gone(stream)

    def _drop(self, id: int) -> None:
        self._dropped[id] = None
        if len(self._dropped) > _REMEMBERED:
            del self._dropped[next(iter(self._dropped))]
