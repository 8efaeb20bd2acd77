"""Reading a request body within its limits."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from aiservice_predictor.failures import Invalid, TooLarge, TooSlow, UnsupportedEncoding

Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
_GZIP = 31
"""zlib's window bits for gzip."""


class Disconnected(Exception):
    """The client is gone; nobody reads an answer."""


async def read(headers: Mapping[bytes, bytes], receive: Receive, limit: int, seconds: float) -> bytes:
    """The body, gzip undone, at most `limit` bytes, within so many seconds. What goes beyond the limit is never held.

    Raises TooLarge, TooSlow, UnsupportedEncoding, Invalid, Disconnected.
    """
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in (b"identity", b"gzip"):
        raise UnsupportedEncoding(f"content-encoding '{encoding.decode('latin-1')[:40]}' is not spoken here; send gzip or none")
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > limit:
        raise _too_large(f"{int(length)} bytes", limit)
    message = await _first(receive, seconds)
    body = message.get("body", b"")
    if message.get("more_body"):
        body = await _rest(body, receive, limit, seconds)
    if len(body) > limit:
        raise _too_large(f"{len(body)} bytes", limit)
    return _gunzip(body, limit) if encoding == b"gzip" else bytes(body)


async def _first(receive: Receive, seconds: float) -> dict[str, Any]:
    try:
        async with asyncio.timeout(seconds):
            message = await receive()
    except TimeoutError:
        raise TooSlow(f"the body did not come within {seconds:g} seconds") from None
    if message["type"] == "http.disconnect":
        raise Disconnected
    return message


async def _rest(first: bytes, receive: Receive, limit: int, seconds: float) -> bytes:
    parts, size = [first], len(first)
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    raise _too_large(f"more than {size - 1} bytes", limit)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise TooSlow(f"the body did not come within {seconds:g} seconds; {size} bytes came") from None


def _gunzip(body: bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while body:
        stream = zlib.decompressobj(_GZIP)
        try:
            part = stream.decompress(body, limit + 1 - size)
        except zlib.error:
            raise Invalid("the body is not gzip, which its content-encoding says") from None
        size += len(part)
        if size > limit:
            raise _too_large(f"more than {limit} bytes after gzip is undone", limit)
        if not stream.eof:
            raise Invalid("the gzip body ends too early")
        parts.append(part)
        body = stream.unused_data
    return b"".join(parts)


def _too_large(got: str, limit: int) -> TooLarge:
    return TooLarge(f"the body has {got}, at most {limit} are taken: send fewer rows in one request")
