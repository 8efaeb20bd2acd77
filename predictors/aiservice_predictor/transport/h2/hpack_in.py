"""HPACK (RFC 7541), reading. The `hpack` package gives the tables; its own decoder takes twenty times as long for a client's usual head."""

from __future__ import annotations

from collections import deque

from hpack.exceptions import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from aiservice_predictor.transport.h2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionFault

_STATIC: tuple[tuple[bytes, bytes], ...] = tuple(HeaderTable.STATIC_TABLE)
_OVERHEAD = 32
TABLE = 4096
"""Bytes of the dynamic table, as the standard counts them: the default, which we never change."""
MAX_LIST = 2**16
"""Bytes of all headers of a request, counted so: a few bytes may stand for very many."""
_LONGEST_INT = 2**28


class Decoder:
    """One connection's."""

    def __init__(self) -> None:
        self._dynamic: deque[tuple[bytes, bytes]] = deque()
        """Newest first."""
        self._size = 0
        self._limit = TABLE
        self.version = 0
        """Another number: the dynamic table is another, and the same block may mean something else."""

    def decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """Raises ConnectionFault: after a fault no further block could be read."""
        try:
            return self._decode(block)
        except (IndexError, HPACKError):
            raise ConnectionFault(COMPRESSION_ERROR, "a header block cannot be read") from None

    def _decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        at, end, total = 0, len(block), 0
        while at < end:
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 0x7F)
                field = self._at(index)
            elif first & 0xE0 == 0x20:
                if found:
                    raise HPACKError("a size update within the block")
                at = self._resize(block, at)
                continue
            else:
                added = first & 0x40
                index, at = _integer(block, at, 0x3F if added else 0x0F)
                if index:
                    name = self._at(index)[0]
                else:
                    name, at = _text(block, at)
                value, at = _text(block, at)
                field = (name, value)
                if added:
                    self._add(field)
            total += len(field[0]) + len(field[1]) + _OVERHEAD
            if total > MAX_LIST:
                raise ConnectionFault(ENHANCE_YOUR_CALM, f"the headers of a request have more than {MAX_LIST} bytes")
            found.append(field)
        return found

    def _at(self, index: int) -> tuple[bytes, bytes]:
        if index <= len(_STATIC):
            if not index:
                raise HPACKError("index 0")
            return _STATIC[index - 1]
        return self._dynamic[index - len(_STATIC) - 1]

    def _add(self, field: tuple[bytes, bytes]) -> None:
        self.version += 1
        self._dynamic.appendleft(field)
        self._size += len(field[0]) + len(field[1]) + _OVERHEAD
        self._evict()

    def _resize(self, block: bytes, at: int) -> int:
        limit, at = _integer(block, at, 0x1F)
        if limit > TABLE:
            raise HPACKError("a table larger than allowed")
        self.version += 1
        self._limit = limit
        self._evict()
        return at

    def _evict(self) -> None:
        while self._size > self._limit:
            name, value = self._dynamic.pop()
            self._size -= len(name) + len(value) + _OVERHEAD


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
        if value > _LONGEST_INT or shift > 28:
            raise HPACKError("an integer is too large")


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    coded = block[at] & 0x80
    length, at = _integer(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise HPACKError("a text goes beyond its block")
    raw = block[at:end]
    return (decode_huffman(raw) if coded else raw), end
