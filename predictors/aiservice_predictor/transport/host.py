"""What all connections of the process share: the plane, clocks that cost nothing per request, memory for bodies that are on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from aiservice_predictor.dataplane import DataPlane
from aiservice_predictor.failures import Overloaded

_TICK = 0.25
"""Seconds between two looks at what is late."""
_IDLE_TICKS = 40
KEEP_ALIVE = 620.0
"""Seconds: longer than any proxy before us keeps a connection, so that it is never us who closes one that is being used."""
_LEAST_BUFFER = 2**26


class Client(Protocol):
    """A connection, whatever it speaks."""

    used: float
    """perf_counter when it was last more than idle."""

    def late(self) -> None:
        """The time that it was watched for is over."""
        ...

    def drain(self) -> None:
        """The process will end soon: tell the peer, where the protocol has a word for it."""
        ...

    def close_if_idle(self) -> None:
        """Take no further request; end as soon as none is open."""
        ...


class Host:
    """Belongs to one event loop."""

    def __init__(self, plane: DataPlane, gone: Callable[[], None] = lambda: None) -> None:
        """`gone`: told of each connection that ends."""
        self.plane = plane
        self.max_body = plane.config.max_body
        self.timeout = plane.config.timeout
        self.draining = False
        """Answers say that the connection ends."""
        self.receiving = 0
        """Requests whose body is on its way."""
        self._held = 0
        self._most_held = max(_LEAST_BUFFER, 2 * self.max_body)
        self._clients: set[Client] = set()
        self._due: dict[Client, float] = {}
        self._ticks = 0
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_TICK, self._tick)

    def joined(self, client: Client) -> None:
        self._clients.add(client)

    def left(self, client: Client) -> None:
        self._clients.discard(client)
        self._due.pop(client, None)
        self._gone()

    def watch(self, client: Client, seconds: float) -> None:
        """Call its `late` after so many seconds, give or take a tick, unless it is unwatched or watched anew before."""
        self._due[client] = perf_counter() + seconds

    def unwatch(self, client: Client) -> None:
        self._due.pop(client, None)

    def soon(self, call: Callable[[], None]) -> None:
        self._loop.call_soon(call)

    def hold(self, size: int) -> Overloaded | None:
        """Account for bytes of bodies that are on their way; the failure where they are too many."""
        if self._held + size > self._most_held:
            return Overloaded(f"bodies that are on their way hold {self._held} bytes already; try again in a second")
        self._held += size
        return None

    def release(self, size: int) -> None:
        self._held -= size

    def drain(self) -> None:
        """From now on answers say that the connection ends."""
        self.draining = True
        for client in tuple(self._clients):
            client.drain()

    def end(self) -> None:
        """Idle connections end now, the others with their last answer."""
        for client in tuple(self._clients):
            client.close_if_idle()

    def close(self) -> None:
        self._timer.cancel()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_TICK, self._tick)
        now = perf_counter()
        if self._due:
            for client in [c for c, due in self._due.items() if due <= now]:
                del self._due[client]
                client.late()
        self._ticks += 1
        if self._ticks % _IDLE_TICKS == 0:
            for client in [c for c in self._clients if c.used + KEEP_ALIVE < now]:
                client.close_if_idle()
