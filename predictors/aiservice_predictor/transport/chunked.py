"""A chunked request body, piece by piece, strictly."""

from __future__ import annotations

import re

from aiservice_predictor.transport.head import BadHead

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\x20-\x7e\x80-\xff\t]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\x20-\x7e\x80-\xff\t]*")
MAX_LINE = 1024
"""Bytes of a line with a chunk's size, and of a trailer."""
MAX_TRAILERS = 32
MAX_FRAMING = 2**16
"""Bytes of framing beside the data, plus as many as there are data: chunks of one byte cost far more to read than to send."""


class Chunked:
    """Feed it what comes; `done` once the last chunk and its trailers were read."""

    __slots__ = ("_data", "_framing", "_left", "_rest", "_trailers", "done")

    def __init__(self) -> None:
        self.done = False
        self._rest = b""
        self._left = 0
        """Bytes of the chunk that are still to come, with its line end."""
        self._trailers = -1
        """How many were read; -1 before the last chunk."""
        self._framing = 0
        self._data = 0

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """-> pieces of the body in it, and what comes after the body. Raises BadHead."""
        pieces: list[bytes] = []
        if self._rest:
            data, self._rest = self._rest + data, b""
        at = 0
        while not self.done:
            if self._left:
                at = self._take(data, at, pieces)
                if self._left:
                    break
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            self._line(data[at:end])
            at = end + 2
        rest = data[at:]
        if self.done:
            return pieces, rest
        if not self._left and (len(rest) > MAX_LINE or b"\n" in rest):
            raise BadHead("a line of the chunked body is too long, or ends without CR")
        self._rest = rest
        return pieces, b""

    def _take(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Data of the chunk, then its line end."""
        size = min(self._left - 2, len(data) - at)
        if size > 0:
            pieces.append(data[at : at + size])
            self._left -= size
            self._data += size
            at += size
        if self._left == 2 and len(data) - at >= 2:
            if data[at : at + 2] != b"\r\n":
                raise BadHead("a chunk is longer than its size says")
            self._left = 0
            at += 2
        return at

    def _line(self, line: bytes) -> None:
        self._framing += len(line) + 4
        if self._framing > MAX_FRAMING + self._data or len(line) > MAX_LINE:
            raise BadHead("the chunked body has more framing than data")
        if self._trailers >= 0:
            if not line:
                self.done = True
            elif self._trailers >= MAX_TRAILERS or not _TRAILER.fullmatch(line):
                raise BadHead("the trailers of the chunked body are wrong, or too many")
            self._trailers += 1
            return
        size = _SIZE.fullmatch(line)
        if size is None:
            raise BadHead(f"'{line[:40].decode('latin-1')}' is not the size of a chunk")
        length = int(size[1], 16)
        if length:
            self._left = length + 2
        else:
            self._trailers = 0
