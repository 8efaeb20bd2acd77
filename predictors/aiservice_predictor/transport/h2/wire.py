"""The frames of one connection: order, sizes, settings, header blocks, and what a peer may ask of us for nothing.

A peer may not make us work for nothing: frames that bring no request along cost it credit, which requests and time give back.
"""

from __future__ import annotations

import asyncio
from time import perf_counter

from aiservice_predictor.transport.h2 import frames as f
from aiservice_predictor.transport.h2.frames import ConnectionFault, StreamFault
from aiservice_predictor.transport.h2.outgoing import Outgoing
from aiservice_predictor.transport.h2.stream import Stream
from aiservice_predictor.transport.host import Host

MAX_STREAMS = 256
STREAM_WINDOW = 2**20
CONNECTION_WINDOW = 2**24
MAX_BLOCK = 2**16
"""Bytes of a request's header block, and below the frames that they may come in."""
MAX_CONTINUATIONS = 16
CREDIT = 2000.0
PER_REQUEST = 4.0
_PER_SECOND = 200.0
_LONG = 2**12
"""Bytes of a DATA frame that may be one of many in a row."""
RESET_COSTS = 4.0
"""A stream that is opened and reset costs us the most."""


class Wire:
    """Whole frames in; what concerns streams is the subclass's."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._rest = b""
        self._begun = False
        """The preface came."""
        self._settled = False
        """The peer's first SETTINGS came."""
        self._block: list[bytes] | None = None
        """A header block that CONTINUATION goes on with; `_block_of`: whose; `_block_ends`: nothing follows it."""
        self._block_of = 0
        self._block_ends = False
        self._streams: dict[int, Stream] = {}
        self._last = 0
        """Highest stream that the peer opened."""
        self._credit = CREDIT
        self._credited = 0.0
        self.used = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._out = Outgoing(self._transport)
        self.used = self._credited = perf_counter()
        ours = {f.MAX_CONCURRENT_STREAMS: MAX_STREAMS, f.INITIAL_WINDOW_SIZE: STREAM_WINDOW, f.MAX_HEADER_LIST_SIZE: MAX_BLOCK}
        self._transport.write(f.settings(ours) + f.window_update(0, CONNECTION_WINDOW - f.DEFAULT_WINDOW))
        self.host.joined(self)
        self.host.watch(self, self.host.timeout)

    def data_received(self, data: bytes) -> None:
        self.take(data, len(data))

    def take(self, data: f.Buffer, size: int) -> None:
        """So many bytes came, and are still here when this returns; nothing is kept of them but copies."""
        if self._transport.is_closing():
            return
        try:
            at = self._join(bytes(data[: min(size, f.FRAME + f.HEAD.size)]), size) if self._rest else 0
            if at < size:
                self._read(data, at, size)
        except ConnectionFault as fault:
            self._rest = b""
            self._transport.write(f.goaway(self._last, fault.code, str(fault)))
            self._transport.close()
        self.used = perf_counter()

    def late(self) -> None:
        """The time that it was watched for is over."""
        raise NotImplementedError

    def drain(self) -> None:
        """The process will end soon."""
        raise NotImplementedError

    def close_if_idle(self) -> None:
        """Take no further request; end as soon as none is open."""
        raise NotImplementedError

    def rewatch(self) -> None:
        """Something that was waited for has come: watch for what is still to come, if anything."""
        raise NotImplementedError

    def opened(self, id: int, block: bytes, ends: bool) -> None:
        """A header block is whole. Raises ConnectionFault, StreamFault."""
        raise NotImplementedError

    def received(self, flags: int, id: int, payload: f.Payload) -> None:
        """A DATA frame, or several like it. Raises ConnectionFault, StreamFault."""
        raise NotImplementedError

    def cancelled(self, id: int, ours: bool) -> None:
        """A stream, if it is open, is over before it was answered; `ours`: its peer may not have heard of that yet."""
        raise NotImplementedError

    def go_on(self) -> None:
        """The peer takes more, or reads again."""
        raise NotImplementedError

    def spend(self, credit: float) -> None:
        """Raises ConnectionFault where none is left."""
        self._credit -= credit
        if self._credit < 0:
            now = perf_counter()
            self._credit += (now - self._credited) * _PER_SECOND
            self._credited = now
            if self._credit < 0:
                raise ConnectionFault(f.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    def _join(self, first: bytes, size: int) -> int:
        """Read the frame that had begun, and what comes with it, from the first of so many bytes; -> how many of them. Raises ConnectionFault."""
        joined, self._rest = self._rest + first, b""
        self._read(joined, 0, len(joined))
        if len(first) == size or self._transport.is_closing():
            return size
        at, self._rest = len(first) - len(self._rest), b""
        return at

    def _read(self, data: f.Buffer, at: int, size: int) -> None:
        """Frames, as far as they are whole, up to `size`. Raises ConnectionFault."""
        if not self._begun:
            if not f.PREFACE.startswith(bytes(data[: len(f.PREFACE)])):
                raise ConnectionFault(f.PROTOCOL_ERROR, "this port speaks HTTP/2 with prior knowledge (gRPC)")
            if size < len(f.PREFACE):
                self._rest = bytes(data)
                return
            self._begun, at = True, len(f.PREFACE)
            self.rewatch()
        unpack = f.HEAD.unpack_from
        while size - at >= 9:
            high, low, kind, flags, id = unpack(data, at)
            length = high << 16 | low
            if length > f.FRAME:
                raise ConnectionFault(f.FRAME_SIZE_ERROR, "a frame has more than 16384 bytes")
            end = at + 9 + length
            if end > size:
                break
            try:
                if length >= _LONG and kind == f.DATA and self._settled and self._block is None:
                    payload, end = f.run(data, at, size, flags, length)
                    self.received(flags, id & f.LARGEST_WINDOW, payload)
                else:
                    self._frame(kind, flags, id & f.LARGEST_WINDOW, bytes(data[at + 9 : end]))
            except StreamFault as fault:
                self.spend(RESET_COSTS)
                self._transport.write(f.reset(fault.stream, fault.code))
                self.cancelled(fault.stream, ours=True)
            if self._transport.is_closing():
                return
            at = end
        self._rest = bytes(data[at:size])

    def _frame(self, kind: int, flags: int, id: int, payload: bytes) -> None:
        if self._block is not None and (kind != f.CONTINUATION or id != self._block_of):
            raise ConnectionFault(f.PROTOCOL_ERROR, "a header block is not ended")
        if not self._settled and kind != f.SETTINGS:
            raise ConnectionFault(f.PROTOCOL_ERROR, "the first frame must be SETTINGS")
        if kind == f.DATA:
            self.received(flags, id, payload)
        elif kind == f.HEADERS:
            self._headers(flags, id, payload)
        elif kind == f.CONTINUATION:
            self._continuation(flags, id, payload)
        elif kind < len(_CONTROL):
            self.spend(1)
            _CONTROL[kind](self, flags, id, payload)
        else:
            self.spend(1)

    def _headers(self, flags: int, id: int, payload: bytes) -> None:
        if flags & f.PADDED:
            payload = f.unpadded(flags, payload)
        if not id & 1:
            raise ConnectionFault(f.PROTOCOL_ERROR, "a client's streams are odd")
        if flags & f.PRIORITIZED:
            if len(payload) < 5:
                raise ConnectionFault(f.FRAME_SIZE_ERROR, "HEADERS has no room for its priority")
            if f.number(payload) == id:
                raise ConnectionFault(f.PROTOCOL_ERROR, "a stream depends on itself")
            payload = payload[5:]
        ends = bool(flags & f.END_STREAM)
        if flags & f.END_HEADERS:
            self.opened(id, payload, ends)
        else:
            self._block, self._block_of, self._block_ends = [payload], id, ends
            self.host.watch(self, self.host.timeout)

    def _continuation(self, flags: int, id: int, payload: bytes) -> None:
        block = self._block
        if block is None:
            raise ConnectionFault(f.PROTOCOL_ERROR, "CONTINUATION without a header block")
        block.append(payload)
        if len(block) > MAX_CONTINUATIONS or sum(map(len, block)) > MAX_BLOCK:
            raise ConnectionFault(f.ENHANCE_YOUR_CALM, f"a header block has more than {MAX_BLOCK} bytes or {MAX_CONTINUATIONS} frames")
        if flags & f.END_HEADERS:
            self._block = None
            self.rewatch()
            self.opened(id, b"".join(block), self._block_ends)

    def _settings(self, flags: int, id: int, payload: bytes) -> None:
        if id:
            raise ConnectionFault(f.PROTOCOL_ERROR, "SETTINGS belongs to no stream")
        if flags & f.ACK:
            if payload:
                raise ConnectionFault(f.FRAME_SIZE_ERROR, "an acknowledgement has no payload")
            return
        for key, value in f.read_settings(payload):
            self._out.set(key, value, self._streams)
        self._settled = True
        self._transport.write(f.frame(f.SETTINGS, f.ACK, 0))
        self.go_on()

    def _ping(self, flags: int, id: int, payload: bytes) -> None:
        if id:
            raise ConnectionFault(f.PROTOCOL_ERROR, "PING belongs to no stream")
        if len(payload) != 8:
            raise ConnectionFault(f.FRAME_SIZE_ERROR, "PING has 8 bytes")
        if not flags & f.ACK:
            self._transport.write(f.frame(f.PING, f.ACK, 0, payload))

    def _window_update(self, flags: int, id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(f.FRAME_SIZE_ERROR, "WINDOW_UPDATE has 4 bytes")
        size = f.number(payload)
        if id and self._idle(id):
            raise ConnectionFault(f.PROTOCOL_ERROR, "WINDOW_UPDATE on a stream that is not open")
        if not size:
            raise StreamFault(id, f.PROTOCOL_ERROR) if id else ConnectionFault(f.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        if not id:
            self._out.grant(size)
        elif id in self._streams:
            self._out.grant_stream(self._streams[id], size)
        self.go_on()

    def _rst_stream(self, flags: int, id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(f.FRAME_SIZE_ERROR, "RST_STREAM has 4 bytes")
        if self._idle(id):
            raise ConnectionFault(f.PROTOCOL_ERROR, "RST_STREAM on a stream that is not open")
        self.spend(RESET_COSTS - 1)
        self.cancelled(id, ours=False)

    def _priority(self, flags: int, id: int, payload: bytes) -> None:
        if not id:
            raise ConnectionFault(f.PROTOCOL_ERROR, "PRIORITY belongs to a stream")
        if len(payload) != 5:
            raise StreamFault(id, f.FRAME_SIZE_ERROR)
        if f.number(payload) == id:
            raise StreamFault(id, f.PROTOCOL_ERROR)

    def _push_promise(self, flags: int, id: int, payload: bytes) -> None:
        raise ConnectionFault(f.PROTOCOL_ERROR, "a client does not push")

    def _goaway(self, flags: int, id: int, payload: bytes) -> None:
        if id or len(payload) < 8:
            raise ConnectionFault(f.PROTOCOL_ERROR if id else f.FRAME_SIZE_ERROR, "GOAWAY is wrong")

    def _idle(self, id: int) -> bool:
        """Whether nobody ever opened this stream."""
        return not id & 1 or id > self._last

    def _nothing(self, flags: int, id: int, payload: bytes) -> None:
        raise AssertionError


_CONTROL = (
    Wire._nothing, Wire._nothing, Wire._priority, Wire._rst_stream, Wire._settings, Wire._push_promise, Wire._ping, Wire._goaway,
    Wire._window_update,
)  # fmt: skip
