"""The process: load, listen, serve, and end without losing a request."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from time import perf_counter
from typing import Any, TypeAlias

import orjson

from aiservice.api.runtime import PredictorConfig
from aiservice_predictor import cgroup
from aiservice_predictor.config import WrongConfig
from aiservice_predictor.dataplane import DataPlane
from aiservice_predictor.load import Loaded, load
from aiservice_predictor.shared import Own, Shared
from aiservice_predictor.startup import calm_collector, release_code
from aiservice_predictor.transport import grpc, infer
from aiservice_predictor.transport.h2.connection import Http2
from aiservice_predictor.transport.head import Heads
from aiservice_predictor.transport.host import Host
from aiservice_predictor.transport.http1 import Http1
from aiservice_predictor.transport.routes import Routes

QUIET = 0.5
"""Seconds without a request after SIGTERM until the listeners close: whoever still sends here has not seen yet that we are not ready."""
LONGEST_QUIET = 5.0
_LAST_WORDS = 50
"""Hundredths of a second in which requests that are cut off get their 503."""
_BACKLOG = 2048


def serve(config: PredictorConfig) -> int:
    """Run until a signal ends it; the exit status. Raises Refused where the model must not serve."""
    import uvloop

    _raise_file_limit()
    tls = [_tls(config, protocol) for protocol in ("http/1.1", "h2")]
    workers = cgroup.workers(config.workers)
    if workers > 1 and config.threads > 1:
        raise WrongConfig(
            f"AISERVICE_THREADS is {config.threads}: each of {workers} workers has one thread; leave it out, or AISERVICE_WORKERS"
        )
    loaded = load(Path(config.model_dir), config.digest, 1 if workers > 1 else cgroup.threads(config.threads))
    calm_collector()
    release_code()
    if workers == 1:
        return uvloop.run(_serve(config, loaded, *tls))
    from aiservice_predictor.workers.parent import Parent

    return Parent(config, loaded, workers, *tls).run()


async def _serve(config: PredictorConfig, loaded: Loaded, http_tls: SSLContext | None, grpc_tls: SSLContext | None) -> int:
    plane = DataPlane(loaded, config)
    host = Host(plane)
    ending = Ending(signal.SIGTERM, signal.SIGINT)
    http, grpc = speakers(plane, host, Own(plane))
    listeners = [await _listen(config, config.http_port, http, http_tls), await _listen(config, config.grpc_port, grpc, grpc_tls)]
    http_port, grpc_port = (listener.sockets[0].getsockname()[1] for listener in listeners)
    print("ready", orjson.dumps({"http": http_port, "grpc": grpc_port}).decode(), flush=True)

    async def close() -> None:
        for listener in listeners:
            listener.close()

    return await attend(plane, host, close, ending, config.drain)


Speaker: TypeAlias = Callable[[], Any]


def speakers(plane: DataPlane, host: Host, shared: Shared) -> tuple[Speaker, Speaker]:
    """What makes an HTTP/1 connection, and what makes a gRPC one."""
    heads, methods = Heads(Routes(plane, infer.routes(plane), shared).prepare), grpc.Methods(plane)
    return lambda: Http1(host, heads), lambda: Http2(host, methods.prepare)


async def attend(plane: DataPlane, host: Host, close: Callable[[], Awaitable[None]], ending: Ending, seconds: float) -> int:
    """Serve until it is to end, and end well: the exit status. `close`: no connection comes after it."""
    await ending.first.wait()
    plane.stop_taking()
    host.drain()
    forced = asyncio.create_task(ending.second.wait())
    drained = asyncio.create_task(_drain(plane, host, close, seconds))
    await asyncio.wait((forced, drained), return_when=asyncio.FIRST_COMPLETED, timeout=seconds)
    cut = plane.open
    if cut:
        print(f"aiservice_predictor: ended with {cut} requests open", file=sys.stderr, flush=True)
    plane.close()
    for _ in range(_LAST_WORDS):
        await asyncio.sleep(0.01)
        if not plane.open:
            break
    return 1 if cut else 0


async def _listen(config: PredictorConfig, port: int, connection: Speaker, tls: SSLContext | None) -> asyncio.Server:
    """Start listening; the kernel chooses the port where it is 0."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((config.host, port))
    return await asyncio.get_running_loop().create_server(connection, sock=sock, backlog=_BACKLOG, ssl=tls)


async def _drain(plane: DataPlane, host: Host, close: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Answer what still comes until it is quiet, close the listeners, finish what is open."""
    start = perf_counter()
    while perf_counter() - start < min(LONGEST_QUIET, seconds / 4):
        if not plane.open and perf_counter() - max(plane.last, start) > min(QUIET, seconds / 8):
            break
        await asyncio.sleep(0.02)
    await close()
    host.end()
    while plane.open or host.receiving:
        await asyncio.sleep(0.01)
        host.end()


class Ending:
    """A signal once: to end well; twice: to end now."""

    def __init__(self, *signals: int) -> None:
        self.first, self.second = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in signals:
            loop.add_signal_handler(number, self._signalled)

    def _signalled(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


def _tls(config: PredictorConfig, protocol: str) -> SSLContext | None:
    """None where none is configured. Raises WrongConfig."""
    if not config.tls_certificate:
        return None
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols([protocol])
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key or None)
    except OSError as error:
        raise WrongConfig(f"AISERVICE_TLS_CERTIFICATE and AISERVICE_TLS_KEY cannot be used: {error}") from None
    return context


def _raise_file_limit() -> None:
    """One descriptor a connection: as many as we may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
