"""HTTP/2 by hand: frames of any kind out, frames in; heads without a table."""

from __future__ import annotations

import socket

from aiservice_predictor.proto import messages
from aiservice_predictor.transport.h2 import frames as f
from aiservice_predictor.transport.h2.hpack_out import literal
from predictor.served import Served


def head(method: str = "ModelInfer", *more: tuple[bytes, bytes]) -> bytes:
    """A gRPC request's header block."""
    path = f"/{messages.SERVICE}/{method}".encode()
    fields = ((b":path", path), (b":authority", b"x"), (b"content-type", b"application/grpc"), (b"te", b"trailers"), *more)
    return b"\x83\x86" + b"".join(literal(*field) for field in fields)


def grpc_message(content: bytes) -> bytes:
    return b"\0" + len(content).to_bytes(4, "big") + content


def request(id: int, content: bytes) -> bytes:
    """HEADERS and DATA of one ModelInfer, in frames of at most 16 KiB."""
    data, sent = grpc_message(content), f.frame(f.HEADERS, f.END_HEADERS, id, head())
    for at in range(0, len(data), f.FRAME):
        sent += f.frame(f.DATA, f.END_STREAM if at + f.FRAME >= len(data) else 0, id, data[at : at + f.FRAME])
    return sent


class Peer:
    """One connection, its preface sent."""

    def __init__(self, served: Served, settings: dict[int, int] | None = None, timeout: float = 10) -> None:
        self.sock = socket.create_connection(("127.0.0.1", served.grpc), timeout=timeout)
        self._buffer = b""
        self.send(f.PREFACE + f.settings(settings or {}))

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def frame(self) -> tuple[int, int, int, bytes] | None:
        """Type, flags, stream, payload of the next one; None where the connection ended."""
        while len(self._buffer) < 9 or len(self._buffer) < 9 + int.from_bytes(self._buffer[:3], "big"):
            try:
                data = self.sock.recv(2**16)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._buffer += data
        size = int.from_bytes(self._buffer[:3], "big")
        kind, flags, id = self._buffer[3], self._buffer[4], f.number(self._buffer[5:9])
        payload, self._buffer = self._buffer[9 : 9 + size], self._buffer[9 + size :]
        return kind, flags, id, payload

    def until(self, kind: int) -> tuple[int, int, bytes]:
        """Flags, stream, payload of the next frame of a kind. Raises EOFError where none comes."""
        while (found := self.frame()) is not None:
            if found[0] == kind:
                return found[1:]
        raise EOFError

    def ended_with(self) -> int:
        """The error code of GOAWAY."""
        return int.from_bytes(self.until(f.GOAWAY)[2][4:8], "big")

    def answers(self, count: int) -> dict[int, bytes]:
        """Stream -> DATA, once so many streams were ended."""
        found: dict[int, bytes] = {}
        ended = 0
        while ended < count:
            frame = self.frame()
            if frame is None:
                raise EOFError
            kind, flags, id, payload = frame
            if kind == f.DATA:
                found[id] = found.get(id, b"") + payload
            if kind == f.RST_STREAM or (kind in (f.DATA, f.HEADERS) and flags & f.END_STREAM):
                ended += 1
                found.setdefault(id, b"")
        return found
