"""Whole messages between the parent and one worker, over a stream socket that never blocks either of them."""

from __future__ import annotations

import pickle
import socket
from collections import deque
from typing import Any

_SIZE = 8
_READ = 2**18


class Channel:
    """Its owner waits until the socket can be read, or written while `unsent`, and then calls `receive` or `flush`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.unsent = 0
        """Bytes."""
        self._out: deque[memoryview] = deque()
        self._in = bytearray()
        self.ended = False
        """The other side is gone, and all that it sent was received."""

    def send(self, message: object) -> None:
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self._out.append(memoryview(len(data).to_bytes(_SIZE, "little") + data))
        self.unsent += _SIZE + len(data)
        self.flush()

    def flush(self) -> None:
        """Write what can be written now. Where nobody reads any more, reading says so."""
        while self._out:
            try:
                sent = self.sock.send(self._out[0])
            except BlockingIOError:
                return
            except OSError:
                self._out.clear()
                self.unsent = 0
                return
            self.unsent -= sent
            if sent == len(self._out[0]):
                self._out.popleft()
            else:
                self._out[0] = self._out[0][sent:]

    def receive(self) -> list[Any]:
        """Messages that are here in full, from our own parent or child."""
        while not self.ended:
            try:
                data = self.sock.recv(_READ)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self.ended = not data
            self._in += data
        found, at = [], 0
        while len(self._in) - at >= _SIZE:
            end = at + _SIZE + int.from_bytes(self._in[at : at + _SIZE], "little")
            if len(self._in) < end:
                break
            found.append(pickle.loads(self._in[at + _SIZE : end]))  # noqa: S301
            at = end
        del self._in[:at]
        return found

    def finish(self) -> None:
        """Wait until all is written."""
        self.sock.setblocking(True)
        self.flush()

    def close(self) -> None:
        self.sock.close()
