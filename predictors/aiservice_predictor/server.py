"""The process: load, listen, serve, and end without losing a request."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aiservice.api.runtime import PredictorConfig
from aiservice_predictor.dataplane import DataPlane
from aiservice_predictor.load import Loaded, load
from aiservice_predictor.transport import grpc
from aiservice_predictor.transport.http import HttpApp

QUIET = 0.5
"""Seconds without a request after SIGTERM until the listeners close: whoever still sends here has not seen yet that we are not ready."""
LONGEST_QUIET = 5.0
KEEP_ALIVE = 620
"""Seconds: longer than any proxy before us keeps a connection, so that it is never us who closes one that is being used."""
_LAST_WORDS = 50
"""Hundredths of a second in which requests that are cut off get their 503."""
MAX_HEAD = 2**16
"""Bytes of a request's first line and headers."""


def serve(config: PredictorConfig) -> int:
    """Run until a signal ends it; the exit status. Raises Refused where the model must not serve."""
    import uvloop

    _raise_file_limit()
    loaded = load(Path(config.model_dir), config.digest, config.threads)
    _calm_collector()
    return uvloop.run(_serve(config, loaded))


async def _serve(config: PredictorConfig, loaded: Loaded) -> int:
    plane = DataPlane(loaded, config)
    ending = _Ending()
    http = _Http(plane, config)
    sock = _listen(config.host, config.http_port)
    grpc_server, grpc_port = await grpc.serve(plane, config.host, config.grpc_port)
    http_task = asyncio.create_task(http.serve([sock]))
    await http.listening.wait()
    print("ready", orjson.dumps({"http": sock.getsockname()[1], "grpc": grpc_port}).decode(), flush=True)
    await ending.first.wait()
    plane.stop_taking()
    forced = asyncio.create_task(ending.second.wait())
    drained = asyncio.create_task(_drain(plane, http, http_task, grpc_server, config.drain))
    await asyncio.wait((forced, drained), return_when=asyncio.FIRST_COMPLETED, timeout=config.drain)
    cut = plane.open
    if cut:
        print(f"aiservice_predictor: ended with {cut} requests open", file=sys.stderr, flush=True)
    plane.close()
    for _ in range(_LAST_WORDS):
        if not plane.open:
            break
        await asyncio.sleep(0.01)
    return 1 if cut else 0


async def _drain(plane: DataPlane, http: _Http, http_task: asyncio.Task[None], grpc_server: Any, seconds: float) -> None:
    """Answer what still comes until it is quiet, close the listeners, finish what is open."""
    start = perf_counter()
    while perf_counter() - start < min(LONGEST_QUIET, seconds / 4):
        if not plane.open and perf_counter() - max(plane.last, start) > min(QUIET, seconds / 8):
            break
        await asyncio.sleep(0.02)
    http.should_exit = True
    stopping = asyncio.create_task(grpc_server.stop(seconds))
    await http_task
    await stopping


class _Ending:
    """SIGTERM or SIGINT: once to end well, twice to end now."""

    def __init__(self) -> None:
        self.first, self.second = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)

    def _signalled(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with a bound on the time and size of a request's head, which it does not have."""

    _head = 0
    _timer: asyncio.TimerHandle | None = None
    head_timeout = 10.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer = self.loop.call_later(KEEP_ALIVE, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        self._stop_timer()
        self._timer = self.loop.call_later(self.head_timeout, self.transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._timer is not None:
            self._head += len(data)
            if self._head > MAX_HEAD and not self.transport.is_closing():
                self.send_400_response(f"The request head has more than {MAX_HEAD} bytes.")

    def on_headers_complete(self) -> None:
        self._stop_timer()
        super().on_headers_complete()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Http(uvicorn.Server):
    """uvicorn without its own signal handlers."""

    def __init__(self, plane: DataPlane, config: PredictorConfig) -> None:
        self.listening = asyncio.Event()
        protocol: Any = type("Protocol", (_Protocol,), {"head_timeout": config.timeout})
        super().__init__(
            uvicorn.Config(
                HttpApp(plane),
                http=protocol,
                ws="none",
                lifespan="off",
                access_log=False,
                log_level="error",
                proxy_headers=False,
                log_config=None,
                server_header=False,
                date_header=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=None,
                backlog=2048,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    return sock


def _calm_collector() -> None:
    """Full collections would walk the whole reservoir, 50 ms at 64 MiB, and find nothing: no cycle is made by an answered request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 100)


def _raise_file_limit() -> None:
    """One descriptor a connection: as many as we may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
