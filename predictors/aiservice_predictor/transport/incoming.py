"""A body that did not come together with its head: in pieces, or, where it is large, straight to where the model reads it."""

from __future__ import annotations

from aiservice_predictor.codec.request import Data
from aiservice_predictor.failures import Failure
from aiservice_predictor.transport.body import room, too_large
from aiservice_predictor.transport.chunked import Chunked
from aiservice_predictor.transport.exchange import Exchange
from aiservice_predictor.transport.host import Host


class Incoming:
    """What of the body is here."""

    __slots__ = ("_chunked", "_held", "_host", "_parts", "exchange", "left", "size", "view")

    def __init__(self, host: Host, exchange: Exchange) -> None:
        self.exchange: Exchange | None = exchange
        """None: already answered; the rest of the body is dropped."""
        self.left = exchange.head.length
        self.size = 0
        """Bytes that came."""
        self.view: memoryview | None = None
        """Of all of it, where it is received directly."""
        self._chunked = Chunked() if exchange.head.chunked else None
        self._parts: list[bytes] = []
        self._host = host
        self._held = 0
        host.receiving += 1

    def split(self, data: bytes) -> tuple[list[bytes], bytes, bool]:
        """-> pieces of the body in it, what comes after the body, whether that was its end. Raises BadHead."""
        if self._chunked is not None:
            parts, rest = self._chunked.feed(data)
            return parts, rest, self._chunked.done
        part, rest = data[: self.left], data[self.left :]
        self.left -= len(part)
        return [part], rest, not self.left

    def keep(self, parts: list[bytes]) -> Failure | None:
        """The failure where they are too many bytes."""
        size, most = sum(map(len, parts)), self._host.max_body
        if self.size + size > most:
            return too_large(f"more than {self.size + size - 1} bytes", most)
        self._parts += parts
        return self._account(size)

    def direct(self) -> memoryview | None:
        found = room(self.left)
        self.view = None if found is None else found.data
        return self.view

    def arrived(self, size: int) -> Failure | None:
        """So many bytes more are in the view; the failure where they are too many."""
        self.left -= size
        return self._account(size)

    def _account(self, size: int) -> Failure | None:
        refusal = self._host.hold(size)
        if refusal is None:
            self._held += size
            self.size += size
        return refusal

    def release(self) -> None:
        """It is here, or will not be waited for."""
        self._host.release(self._held)
        self._host.receiving -= 1
        self._held = 0
        self._parts = []
        self.view = None

    def whole(self) -> Data:
        found = b"".join(self._parts) if self.view is None else self.view
        self.release()
        return found
