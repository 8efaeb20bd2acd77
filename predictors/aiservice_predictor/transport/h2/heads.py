"""The head of an HTTP/2 request: a header block -> Head, checked as RFC 9113 asks. Equal blocks share what was found."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from aiservice_predictor.failures import Failure
from aiservice_predictor.transport.h2.frames import PROTOCOL_ERROR, StreamFault
from aiservice_predictor.transport.h2.hpack_in import Decoder

_REMEMBERED = 64
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_CONNECTION = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"[^\x00\r\n]*")


class Head:
    """One request's headers. `route` and what follows it is set by the routes."""

    __slots__ = ("echo", "fields", "gzip", "length", "refusal", "route", "seconds")

    def __init__(self, fields: dict[bytes, bytes], length: int | None) -> None:
        self.fields = fields
        """Pseudo headers too; values of one that came several times are joined by commas."""
        self.length = length
        """content-length, where it is said."""
        self.route: Any
        """The transport.grpc.Method that answers."""
        self.refusal: Failure | None = None
        """The answer, where the head alone decides that the request is refused."""
        self.echo = b""
        """Header fields of the answer, encoded, that repeat the request's."""
        self.gzip = False
        """The message may come compressed; then its answer is, too."""
        self.seconds: float | None = None
        """How long the client waits."""


class Heads:
    """One connection's: decodes, and remembers while the compression's table stays as it is."""

    def __init__(self, prepare: Callable[[Head], None]) -> None:
        self._prepare = prepare
        self._decoder = Decoder()
        self._known: dict[bytes, Head] = {}

    def get(self, block: bytes, stream: int) -> Head:
        """Raises ConnectionFault, StreamFault."""
        head = self._known.get(block)
        if head is None:
            before = self._decoder.version
            head = parse(self.skip(block), stream)
            self._prepare(head)
            if before == self._decoder.version:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[block] = head
        return head

    def trailers(self, block: bytes, stream: int) -> None:
        """Decode, check and drop them. Raises ConnectionFault, StreamFault."""
        for name, value in self.skip(block):
            if name.startswith(b":") or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise StreamFault(stream, PROTOCOL_ERROR)

    def skip(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """A block that nobody needs may change the table all the same. Raises ConnectionFault."""
        before = self._decoder.version
        try:
            return self._decoder.decode(block)
        finally:
            if before != self._decoder.version:
                self._known.clear()


def parse(fields: list[tuple[bytes, bytes]], stream: int) -> Head:
    """Raises StreamFault."""
    found: dict[bytes, bytes] = {}
    regular = False
    for name, value in fields:
        if name.startswith(b":"):
            if regular or name not in _PSEUDO or name in found:
                raise StreamFault(stream, PROTOCOL_ERROR)
        else:
            regular = True
            if name in _CONNECTION or not _NAME.fullmatch(name) or (name == b"te" and value != b"trailers"):
                raise StreamFault(stream, PROTOCOL_ERROR)
        if not _VALUE.fullmatch(value):
            raise StreamFault(stream, PROTOCOL_ERROR)
        found[name] = found[name] + b", " + value if name in found else value
    if not (found.get(b":method") and found.get(b":scheme") and found.get(b":path")):
        raise StreamFault(stream, PROTOCOL_ERROR)
    length = found.get(b"content-length")
    if length is not None and not (length.isdigit() and len(length) < 16):
        raise StreamFault(stream, PROTOCOL_ERROR)
    return Head(found, None if length is None else int(length))
