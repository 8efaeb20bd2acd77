"""Requests at moments of their own, whatever becomes of the others: `python -m benchmarks.serving.openloop URL RATE SECONDS CONNECTIONS BODY [HEADER ...]`.

Gaps are exponential, as of many clients that know nothing of each other; h2load has all its connections ask at the same moment. Each
request takes a connection that is idle, and its time counts from when it was due. Prints JSON: status -> seconds of each.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import uvloop

NOT_SENT = "none"
"""In a status' place, where no connection was idle; it counts as no time."""
_PATIENCE = 15.0
"""Seconds for answers after the last request."""


class _Connection(asyncio.Protocol):
    """Asks one thing at a time."""

    def __init__(self, idle: list[_Connection], found: dict[str, list[float]]) -> None:
        self._idle, self._found = idle, found
        self._rest = b""
        self._due = 0.0
        self._idle.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def ask(self, data: bytes, due: float) -> None:
        self._due = due
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        head, end, body = self._rest.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]):
            self._found[head[9:12].decode()].append(time.perf_counter() - self._due)
            self._rest = b""
            self._idle.append(self)


async def load(url: str, rate: float, seconds: float, connections: int, data: bytes) -> dict[str, list[float]]:
    host, port = urlsplit(url).netloc.split(":")
    idle: list[_Connection] = []
    found: dict[str, list[float]] = defaultdict(list)
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(idle, found), host, int(port))
    draw = random.Random(0)
    start = due = time.perf_counter()
    while due - start < seconds:
        wait = due - time.perf_counter()
        await asyncio.sleep(max(0.0, wait))
        if idle:
            idle.pop().ask(data, due)
        else:
            found[NOT_SENT].append(0.0)
        due += draw.expovariate(rate)
    until = time.perf_counter() + _PATIENCE
    while len(idle) < connections and time.perf_counter() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return found


def main() -> None:
    url, rate, seconds, connections, path, *headers = sys.argv[1:]
    where, body = urlsplit(url), Path(path).read_bytes()
    lines = [f"POST {where.path} HTTP/1.1", f"host: {where.netloc}", f"content-length: {len(body)}", *headers]
    data = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
    print(orjson.dumps(uvloop.run(load(url, float(rate), float(seconds), int(connections), data))).decode())


if __name__ == "__main__":
    main()
