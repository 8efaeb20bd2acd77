"""One worker: serves the connections that it is handed, and hands what is the whole predictor's to the parent."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, NoReturn

from aiservice.api.runtime import PredictorConfig
from aiservice_predictor.dataplane import DataPlane
from aiservice_predictor.load import Loaded
from aiservice_predictor.metrics import Metrics
from aiservice_predictor.record import Record
from aiservice_predictor.recorder import Recorder
from aiservice_predictor.reservoir import Entry, Reservoir
from aiservice_predictor.server import Ending, Speaker, attend, speakers
from aiservice_predictor.transport.host import Host
from aiservice_predictor.workers.channel import Channel

HTTP, GRPC, NO_MORE = b"h", b"g", b"."
"""What comes over the intake: a connection of either kind, or the word that none will come any more."""
_PARENT_DEATH = 1
"""prctl's PR_SET_PDEATHSIG."""
_MOST_UNSENT = 2**26
"""Bytes for a parent that does not read: what is recorded beyond is lost, whatever it is."""

_TOGETHER, _BYTES_TOGETHER = 64, 2**20
"""Recorded requests that are sent at once: one by one would take the parent four times as long."""


@dataclass
class Told:
    """What a worker has counted since it started."""

    metrics: Metrics
    seen: dict[str, int]
    live: bool


@dataclass(frozen=True)
class Place:
    """A worker's ends of what it shares with the parent."""

    channel: socket.socket
    intake: socket.socket
    """SOCK_SEQPACKET: a word and a descriptor at a time."""
    left: Callable[[], None]
    """A connection has ended."""


class Link:
    """The worker's end of the channel; the Shared of a worker."""

    def __init__(self, sock: socket.socket, told: Callable[[], Told], ending: Ending) -> None:
        self._channel = Channel(sock)
        self._told, self._ending = told, ending
        self._loop = asyncio.get_running_loop()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._count = 0
        self._kept: list[tuple[Record, str, bool]] = []
        self._kept_bytes = 0
        self._loop.add_reader(sock, self._read)

    def send(self, *message: object) -> None:
        """After everything that was kept before."""
        self._send_kept()
        self._channel.send(message)
        if self._channel.unsent:
            self._loop.add_writer(self._channel.sock, self._write)

    def keep(self, record: Record, stratum: str, drawn: bool) -> None:
        """Sent with others, before anything else is said; the parent makes us say something every second."""
        if self._channel.unsent > _MOST_UNSENT:
            return
        self._kept.append((record, stratum, drawn))
        self._kept_bytes += record.size
        if len(self._kept) >= _TOGETHER or self._kept_bytes > _BYTES_TOGETHER:
            self._send_kept()

    async def metrics(self) -> bytes:
        found: bytes = await self._ask("metrics")
        return found

    async def recorded(self, after: int, limit: int) -> tuple[str, dict[str, int], list[Entry]]:
        found: tuple[str, dict[str, int], list[Entry]] = await self._ask("recorded", after, limit)
        return found

    async def label(self, labels: dict[str, str]) -> list[str]:
        found: list[str] = await self._ask("label", labels)
        return found

    def _ask(self, what: str, *arguments: object) -> asyncio.Future[Any]:
        self._count += 1
        future = self._asked[self._count] = self._loop.create_future()
        self.send("ask", self._count, what, arguments)
        return future

    def finish(self) -> None:
        """The last word."""
        self.send("told", self._told())
        self._channel.finish()

    def _send_kept(self) -> None:
        if self._kept:
            kept, self._kept, self._kept_bytes = self._kept, [], 0
            self.send("kept", kept)

    def _write(self) -> None:
        self._channel.flush()
        if not self._channel.unsent:
            self._loop.remove_writer(self._channel.sock)

    def _read(self) -> None:
        for word, *rest in self._channel.receive():
            if word == "tell":
                self.send("told", self._told())
            elif word == "answer":
                self._asked.pop(rest[0]).set_result(rest[1])
            else:
                (self._ending.first if word == "end" else self._ending.second).set()
        if self._channel.ended:
            os._exit(1)  # without the parent nobody knows of us


class Forwarded(Reservoir):
    """Keeps nothing: the parent does."""

    def __init__(self) -> None:
        super().__init__(0)
        self.link: Link

    def add(self, record: Record, stratum: str, drawn: bool = True) -> None:
        self.link.keep(record, stratum, drawn)


class Intake:
    """Where connections come from."""

    def __init__(self, place: Place, speak: dict[bytes, tuple[Speaker, SSLContext | None]]) -> None:
        self._sock, self._left, self._speak = place.intake, place.left, speak
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.ended = asyncio.Event()
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock, self._take)

    def _take(self) -> None:
        while True:
            try:
                word, descriptors, _, _ = socket.recv_fds(self._sock, 1, 1)
            except BlockingIOError:
                return
            if word not in self._speak:
                self._loop.remove_reader(self._sock)
                self.ended.set()
                return
            if not descriptors:  # more files than we may have open
                self._left()
                continue
            task = self._loop.create_task(self._begin(socket.socket(fileno=descriptors[0]), *self._speak[word]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _begin(self, connection: socket.socket, speaker: Speaker, tls: SSLContext | None) -> None:
        try:
            await self._loop.connect_accepted_socket(speaker, connection, ssl=tls)
        except OSError:
            connection.close()
            self._left()


def work(config: PredictorConfig, loaded: Loaded, workers: int, place: Place, *tls: SSLContext | None) -> NoReturn:
    import uvloop

    ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL)  # also where we hang and would not notice
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the parent is told as well, and tells us
    os._exit(uvloop.run(_work(config, loaded, workers, place, *tls)))


async def _work(
    config: PredictorConfig, loaded: Loaded, workers: int, place: Place, http_tls: SSLContext | None, grpc_tls: SSLContext | None
) -> int:
    kept = Forwarded()
    recorder = Recorder(loaded.signature.decision, config.reservoir_bytes, kept, workers)
    plane = DataPlane(loaded, config, recorder, workers)
    host = Host(plane, place.left)
    ending = Ending(signal.SIGTERM)
    link = kept.link = Link(place.channel, lambda: Told(plane.metrics, recorder.seen(), plane.live), ending)
    http, grpc = speakers(plane, host, link)
    intake = Intake(place, {HTTP: (http, http_tls), GRPC: (grpc, grpc_tls)})

    async def close() -> None:
        link.send("closed")
        await intake.ended.wait()

    link.send("ready")
    status = await attend(plane, host, close, ending, config.drain)
    link.finish()
    return status
