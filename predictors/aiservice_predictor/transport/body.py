"""The limits of a request body, and gzip on both sides."""

from __future__ import annotations

import zlib

import numpy as np

from aiservice_predictor.codec.tensors import Array
from aiservice_predictor.failures import Invalid, TooLarge

_GZIP = 31
"""zlib's window bits for gzip."""
_QUICK = 1
"""zlib's level: higher ones take several times as long for a tenth less."""
MAX_MEMBERS = 100
"""Gzip streams one after the other in one body: each costs a copy of what is left."""
LARGE = 2**16
"""Bytes of a body from which on receiving it where it will be read is worth a buffer of its own."""
WORTH = 8192
"""Bytes of an answer from which on compressing it saves more than it costs."""


def room(size: int) -> Array | None:
    """To receive so many bytes in: it takes memory only as it is filled. None where there is none."""
    try:
        return np.empty(size, dtype=np.uint8)
    except MemoryError:
        return None


def gunzip(body: bytes, limit: int) -> bytes:
    """At most `limit` bytes; what goes beyond is never held. Raises TooLarge, Invalid."""
    parts: list[bytes] = []
    size = 0
    while body:
        if len(parts) == MAX_MEMBERS:
            raise Invalid(f"the gzip body has more than {MAX_MEMBERS} members")
        stream = zlib.decompressobj(_GZIP)
        try:
            part = stream.decompress(body, limit + 1 - size)
        except zlib.error:
            raise Invalid("the body is not gzip, which its content-encoding says") from None
        size += len(part)
        if size > limit:
            raise TooLarge(f"the body has more than {limit} bytes after gzip is undone, {_advice(limit)}")
        if not stream.eof:
            raise Invalid("the gzip body ends too early")
        parts.append(part)
        body = stream.unused_data
    return b"".join(parts)


def gzipped(body: bytes) -> bytes:
    return zlib.compress(body, _QUICK, _GZIP)


def too_large(got: str, limit: int) -> TooLarge:
    return TooLarge(f"the body has {got}, {_advice(limit)}")


def _advice(limit: int) -> str:
    return f"at most {limit} are taken: send fewer rows in one request"
