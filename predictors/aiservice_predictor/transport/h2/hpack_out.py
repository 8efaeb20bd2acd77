"""HPACK (RFC 7541), writing: as little as it takes. No table is used, so that a header block is the same for every client."""

from __future__ import annotations


def literal(name: bytes, value: bytes) -> bytes:
    """A header field, encoded so that no table changes."""
    return b"\x00" + _sized(name) + _sized(value)


def _sized(text: bytes) -> bytes:
    size = len(text)
    if size < 0x7F:
        return bytes((size,)) + text
    size -= 0x7F
    length = bytearray(b"\x7f")
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes(length) + text
