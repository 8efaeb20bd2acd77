"""HTTP/1 on a transport: bytes in, exchanges out, answers in order. What a request means is the routes' business."""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter

import orjson

from aiservice_predictor.failures import Failure, TooSlow
from aiservice_predictor.transport.body import too_large
from aiservice_predictor.transport.buffered import BufferedHttp1
from aiservice_predictor.transport.exchange import JSON, Exchange
from aiservice_predictor.transport.head import MAX_HEAD, BadHead, Head, Heads
from aiservice_predictor.transport.host import Host
from aiservice_predictor.transport.incoming import Incoming

MAX_OPEN = 64
"""Requests of one connection that are not answered yet; more are left in the socket."""
_LINGER = 2.0
"""Seconds in which what a refused client still sends is dropped, so that it gets to read its answer before the connection is reset."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Http1:
    """One client."""

    def __init__(self, host: Host, heads: Heads) -> None:
        self.host = host
        self._heads = heads
        self._rest = b""
        """Bytes that were not looked at yet: a part of a head, or requests that must wait for answers."""
        self.body: Incoming | None = None
        """The one that is on its way."""
        self._open: deque[Exchange] = deque()
        self._writable = True
        self._held = False
        """Nothing is read until answers are written."""
        self._over = False
        """No further request is taken from this connection."""
        self._eof = False
        self._watched = False
        self._direct = False
        self.used = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.used = perf_counter()
        self.host.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """What the model works on is still counted: whoever went because it took too long must not flatter it."""
        self._over = True
        self.host.left(self)
        self._abandon()
        self._rest = b""
        self._open.clear()

    def data_received(self, data: bytes) -> None:
        try:
            if self.body is not None:
                data = self._feed(self.body, data)
            elif self._over:
                return
            elif self._rest:
                data, self._rest = self._rest + data, b""
            if data:
                self._read(data)
        except BadHead as bad:
            self._refuse(bad)

    def eof_received(self) -> bool:
        """True keeps our half open: whoever asked and then closed its half still gets its answers."""
        self._eof = True
        self._abandon()
        return bool(self._open)

    def pause_writing(self) -> None:
        self._writable = False
        self._watch(self.host.timeout + _LINGER)

    def resume_writing(self) -> None:
        self._writable = True
        if self.body is None and not self._rest:
            self._unwatch()
        else:
            self._watch(self.host.timeout)
        self._go_on()

    def last(self) -> bool:
        """Whether a single request is open, with whose answer a process that ends closes the connection."""
        return len(self._open) == 1

    def answered(self, exchange: Exchange) -> None:
        """Write it, and those that waited for it, in order; out of turn, it waits."""
        waiting = self._open
        if not waiting or waiting[0] is not exchange:
            return
        waiting.popleft()
        data = exchange.answer or b""
        while waiting and waiting[0].answer is not None and not exchange.close:
            exchange = waiting.popleft()
            data += exchange.answer or b""
        self._transport.write(data)
        if exchange.close:
            self._finish()
        elif self._held:
            self._go_on()
        elif self._eof and not waiting:
            self._transport.close()

    def drain(self) -> None:
        """Each answer says so."""

    def close_if_idle(self) -> None:
        if not self._open:
            self._over = True
            self._transport.close()

    def late(self) -> None:
        """A head, a body, or a client that reads did not come in time."""
        self._watched = False
        body = self.body
        if not self._writable:
            self._transport.abort()
        elif body is None or body.exchange is None:
            self._transport.close()
        else:
            text = f"the body did not come within {self.host.timeout:g} seconds"
            body.exchange.close = True
            self._drop(body, TooSlow(f"{text}; {body.size} bytes came" if body.size else text))

    def _read(self, data: bytes) -> None:
        """Heads, and bodies that came whole. Raises BadHead."""
        at, size = 0, len(data)
        heads, waiting, most = self._heads, self._open, self.host.max_body
        while at < size and not self._over:
            if len(waiting) >= MAX_OPEN or not self._writable:
                self._hold(data[at:])
                return
            end = data.find(b"\r\n\r\n", at)
            if end < 0 or end - at > MAX_HEAD:
                self._part_of_head(data[at:])
                return
            head = heads.get(data[at:end])
            if self._watched:
                self._unwatch()
            at = end + 4
            exchange = Exchange(self, head)
            self._over = exchange.close
            waiting.append(exchange)
            if head.plain and size - at >= head.length <= most:
                body = data[at : at + head.length]
                at += head.length
                head.route.handle(exchange, body)
            else:
                data = self._begin(exchange, memoryview(data)[at:])
                at, size = 0, len(data)
        self.used = perf_counter()

    def _part_of_head(self, data: bytes) -> None:
        if len(data) > MAX_HEAD:
            raise BadHead(f"the request head has more than {MAX_HEAD} bytes", 431)
        if data.count(b"\n") != data.count(b"\r\n"):
            raise BadHead("a line of the head ends without CR")
        if not self._watched:
            self._watch(self.host.timeout)
        self._rest = data

    def _begin(self, exchange: Exchange, data: memoryview) -> bytes:
        """A body that is not whole yet, or comes in chunks, or is not wanted; -> what comes after it."""
        body = self.body = Incoming(self.host, exchange)
        head = exchange.head
        self._watch(self.host.timeout)
        refusal = head.refusal or head.route.refuses()
        if not self._awaits(body):
            return b""  # asking took in an answer that ends the connection
        if refusal is not None:
            self._drop(body, refusal)
        elif head.length > self.host.max_body:
            self._drop(body, too_large(f"{head.length} bytes", self.host.max_body))
        else:
            if head.continues and not data:
                self._transport.write(_CONTINUE)
            room = body.direct() if head.direct and len(data) < head.length else None
            if room is not None:
                room[: len(data)] = data
                self._be_direct()
                self.arrived(len(data))
                return b""
        return self._feed(body, bytes(data)) if data and self._awaits(body) else b""

    def _awaits(self, body: Incoming) -> bool:
        """Whether it still does. A function, since mypyc believes that an attribute stays what was last assigned to it, whatever is called."""
        return self.body is body

    def _feed(self, body: Incoming, data: bytes) -> bytes:
        """-> what comes after the body. Raises BadHead."""
        parts, rest, ends = body.split(data)
        if body.exchange is not None:
            refusal = body.keep(parts)
            if refusal is not None:
                self._drop(body, refusal)
        if ends and self._awaits(body):
            self._end(body)
        return rest if ends and not self._over else b""

    def arrived(self, size: int) -> None:
        """More of a body that is received directly."""
        body = self.body
        if body is None:
            return
        refusal = body.arrived(size)
        if refusal is not None:
            self._drop(body, refusal)
        if not body.left:
            self._end(body)

    def _end(self, body: Incoming) -> None:
        self.body = None
        self.used = perf_counter()
        self._unwatch()
        if body.exchange is not None:
            body.exchange.head.route.handle(body.exchange, body.whole())

    def _drop(self, body: Incoming, failure: Failure) -> None:
        """Answer now; the rest of the body is read and forgotten."""
        exchange = body.exchange
        body.release()
        body.exchange = None
        if exchange is not None:
            exchange.close = exchange.close or exchange.head.continues
            exchange.head.route.fail(exchange, failure)

    def _be_direct(self) -> None:
        if not self._direct:
            self._direct = True
            BufferedHttp1(self).take_place(self._transport)

    def _abandon(self) -> None:
        """The rest of a body will never come."""
        body, self.body = self.body, None
        if body is not None and body.exchange is not None:
            body.release()
            if body.exchange in self._open:
                self._open.remove(body.exchange)
            body.exchange.head.route.abandoned()

    def _refuse(self, bad: BadHead) -> None:
        """The connection cannot be read on: say why, after what was asked before, and close."""
        self._abandon()
        self._over = True
        self._unwatch()
        exchange = Exchange(self, Head("GET", "", b"", {}, old=False))
        exchange.close = True
        self._open.append(exchange)
        exchange.respond(bad.status, JSON, orjson.dumps({"error": str(bad)}))

    def _hold(self, rest: bytes) -> None:
        self._rest = rest
        if not self._held:
            self._held = True
            self._transport.pause_reading()

    def _go_on(self) -> None:
        """Room again: what was left unread is read on, in a turn of its own."""
        if self._held and self._writable and len(self._open) <= MAX_OPEN // 2 and not self._transport.is_closing():
            self._held = False
            self._transport.resume_reading()
            self.host.soon(self._resume)

    def _resume(self) -> None:
        if self._rest and not self._held:
            self.data_received(b"")
        if self._eof and not self._open and not self._held:
            self._transport.close()

    def _finish(self) -> None:
        """Nothing more is written. What the client still sends is dropped for a while, or its answer might be lost to a reset."""
        self._over = True
        self._rest = b""
        self._abandon()
        self._open.clear()
        if self._eof or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._watch(_LINGER)
        if self._held:
            self._held = False
            self._transport.resume_reading()

    def _watch(self, seconds: float) -> None:
        self._watched = True
        self.host.watch(self, seconds)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self.host.unwatch(self)
