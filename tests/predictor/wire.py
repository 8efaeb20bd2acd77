"""Connections by hand: bytes out, answers in."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from predictor.served import Served


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Raw:
    """One HTTP/1 connection; reads answers in order."""

    def __init__(self, served: Served, timeout: float = 10) -> None:
        self.sock = socket.create_connection(("127.0.0.1", served.http), timeout=timeout)
        self._buffer = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> Raw:
        self.sock.sendall(data)
        return self

    def answer(self, head_only: bool = False) -> Answer:
        """The next one. Raises EOFError where the connection ends before."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
        size = 0 if head_only else int(headers.get("content-length", "0"))
        while len(self._buffer) < size:
            self._more()
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return Answer(int(lines[0].split()[1]), headers, body)

    def ended(self) -> bool:
        """Whether nothing more comes and the other side closes."""
        if self._buffer:
            return False
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def _more(self) -> None:
        data = self.sock.recv(2**16)
        if not data:
            raise EOFError(self._buffer)
        self._buffer += data
