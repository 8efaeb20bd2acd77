"""Frames of HTTP/2 (RFC 9113): numbers, packing, and the two ways in which a peer can be wrong."""

from __future__ import annotations

import struct
from typing import TypeAlias

import numpy as np

from aiservice_predictor.codec.tensors import Array

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 1
END_HEADERS = 4
PADDED = 8
PRIORITIZED = 32

(
    NO_ERROR,
    PROTOCOL_ERROR,
    INTERNAL_ERROR,
    FLOW_CONTROL_ERROR,
    _,
    STREAM_CLOSED,
    FRAME_SIZE_ERROR,
    REFUSED_STREAM,
    CANCEL,
    COMPRESSION_ERROR,
) = range(10)
ENHANCE_YOUR_CALM = 11

ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 2, 3, 4, 5, 6
DEFAULT_WINDOW = 65535
LARGEST_WINDOW = 2**31 - 1
FRAME = 2**14
"""Bytes of a frame's payload that every peer takes."""

HEAD = struct.Struct(">BHBBI")
"""Length (high byte, low bytes), type, flags, stream."""
_SETTING = struct.Struct(">HI")
_LONG = struct.Struct(">I")


Buffer: TypeAlias = bytes | bytearray
Payload: TypeAlias = bytes | Array
"""Of DATA: as it came, or a row of bytes for each of several frames."""


class ConnectionFault(Exception):
    """The peer broke a rule that ends the connection."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class StreamFault(Exception):
    """The peer broke a rule that ends one stream."""

    def __init__(self, stream: int, code: int) -> None:
        super().__init__(f"stream {stream}: {code}")
        self.stream, self.code = stream, code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Raises ConnectionFault where a value is not allowed. A setting may come twice: the last one counts."""
    if len(payload) % 6:
        raise ConnectionFault(FRAME_SIZE_ERROR, "SETTINGS are not a multiple of 6 bytes")
    found = list(_SETTING.iter_unpack(payload))
    for key, value in found:
        if key == ENABLE_PUSH and value > 1:
            raise ConnectionFault(PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        if key == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
        if key == MAX_FRAME_SIZE and not FRAME <= value < 2**24:
            raise ConnectionFault(PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of its range")
    return found


def reset(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, _LONG.pack(code))


def goaway(last: int, code: int, text: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + text.encode()[:200])


def window_update(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, _LONG.pack(size))


def run(data: Buffer, at: int, size: int, flags: int, length: int) -> tuple[Array, int]:
    """The payload of a DATA frame that is here in full, and of those that follow it with the very same head, as if they were one frame:
    whoever sends a lot sends frames of one size. `size`: bytes of the data. -> (a row a frame, where they end)."""
    head, step = data[at : at + HEAD.size], HEAD.size + length
    frames, end = 1, at + step
    if not flags:
        while end + step <= size and data.startswith(head, end):
            frames, end = frames + 1, end + step
    rows: Array = np.frombuffer(data, np.uint8, frames * step, at).reshape(frames, step)
    return rows[:, HEAD.size :], end


def array(payload: Payload) -> Array:
    """A row a frame."""
    return np.frombuffer(payload, np.uint8).reshape(1, -1) if isinstance(payload, bytes) else payload


def plain(payload: Payload) -> bytes:
    return payload if isinstance(payload, bytes) else payload.tobytes()


def first(payload: Payload, size: int) -> bytes:
    """So many of its first bytes, at most those of a frame."""
    return payload[:size] if isinstance(payload, bytes) else payload[0, :size].tobytes()


def number(payload: bytes) -> int:
    """The 31 bits of a stream or a window."""
    return int.from_bytes(payload[:4], "big") & LARGEST_WINDOW


def unpadded(flags: int, payload: bytes) -> bytes:
    """Raises ConnectionFault where the padding is longer than the payload."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(PROTOCOL_ERROR, "the padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]
