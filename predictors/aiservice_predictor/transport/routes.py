"""Which request goes where, and everything over HTTP/1 but inference. A head is resolved once; equal heads share what was found."""

from __future__ import annotations

import asyncio
import hmac
import sys
import traceback
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, TypeAlias

import orjson

from aiservice.api.runtime import REPLAY_HEADER
from aiservice_predictor import VERSION, openapi
from aiservice_predictor.codec.request import Data, Part
from aiservice_predictor.dataplane import DataPlane
from aiservice_predictor.failures import Failure, Forbidden, Invalid, MethodNotAllowed, NotFound, UnsupportedEncoding
from aiservice_predictor.metrics import CONTENT_TYPE
from aiservice_predictor.shared import Shared
from aiservice_predictor.transport.body import LARGE, WORTH, gunzip, gzipped
from aiservice_predictor.transport.exchange import JSON, Exchange
from aiservice_predictor.transport.head import Head
from aiservice_predictor.transport.private import Private

Get: TypeAlias = Callable[[], tuple[int, Any]]

EXTENSIONS = ["binary_tensor_data"]
_METRICS = b"content-type: " + CONTENT_TYPE + b"\r\n"
_GZIPPED = b"content-encoding: gzip\r\nvary: accept-encoding\r\n"
ECHOED = (b"traceparent", b"x-request-id")
"""Whoever joins logs or traces finds its own identifiers on the answer."""


class Route:
    """Answers exchanges; one object for many."""

    takes_views = False
    """Of bodies with binary data."""

    def handle(self, exchange: Exchange, body: Data) -> None:
        """The request is here in full. Must not raise."""
        raise NotImplementedError

    def settle(self, exchange: Exchange, part: Part) -> None:
        """The model's outputs for it are here. Must not raise."""
        raise NotImplementedError

    def fail(self, exchange: Exchange, failure: Failure) -> None:
        """It is not answered otherwise. Must not raise."""
        exchange.respond(failure.status, JSON + _lines(failure), _error(str(failure)))

    def refuses(self) -> Failure | None:
        """The failure of a request whose body need not be waited for, whatever it holds."""
        return None

    def abandoned(self) -> None:
        """The client went before its body was here."""


class Refusal(Route):
    """The head alone says why."""

    def handle(self, exchange: Exchange, body: Data) -> None:
        self.fail(exchange, exchange.head.refusal or Failure())


class Fetch(Route):
    """GET of something that is made at once."""

    def __init__(self, get: Callable[[], tuple[int, bytes]], kind: bytes = JSON) -> None:
        self._get, self._kind = get, kind

    def handle(self, exchange: Exchange, body: Data) -> None:
        try:
            status, content = self._get()
        except Exception as error:
            self.fail(exchange, fault(error))
            return
        send(exchange, status, self._kind, content)


class Slow(Route):
    """Answered by a task, since it may take a while."""

    def __init__(self, answer: Callable[[Head, bytes], Awaitable[bytes]], max_body: int, kind: bytes = JSON) -> None:
        self._get, self._max_body, self._kind = answer, max_body, kind
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, exchange: Exchange, body: Data) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(exchange, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, exchange: Exchange, body: Data) -> None:
        try:
            data = bytes(body)
            if exchange.head.gzip_in:
                data = gunzip(data, self._max_body)
            content = await self._get(exchange.head, data)
        except Failure as failure:
            self.fail(exchange, failure)
        except Exception as error:
            self.fail(exchange, fault(error))
        else:
            send(exchange, 200, self._kind, content)


class Routes:
    """Every path of one predictor."""

    def __init__(self, plane: DataPlane, inference: dict[str, Route], shared: Shared) -> None:
        """`inference`: path -> what answers a POST there."""
        self._plane = plane
        self._token = plane.config.token.encode()
        self._inference = inference
        self._refusal = Refusal()
        self._private = Private(plane, shared)
        self._closed = Slow(self._private.answer, plane.config.max_body)
        name = plane.name
        gets: dict[str, Get] = {
            "/healthz": lambda: (200, {"status": "alive"}) if plane.live else (503, {"status": "stuck"}),
            "/v2/health/live": lambda: (200 if plane.live else 503, {"live": plane.live}),
            "/v2/health/ready": lambda: self._readiness({}),
            f"/v2/models/{name}/ready": lambda: self._readiness({"name": name}),
            f"/v1/models/{name}": lambda: self._readiness({"name": name}),
            "/v1/models": lambda: (200, {"models": [name]}),
            "/v2": lambda: (200, {"name": "aiservice-predictor", "version": VERSION, "extensions": EXTENSIONS}),
            f"/v2/models/{name}": self._model_metadata,
        }
        self._fetches: dict[str, Route] = {path: Fetch(_json(get)) for path, get in gets.items()}
        description = openapi.document(plane.config, plane.signature)
        self._fetches[openapi.PATH] = Fetch(lambda: (200, description))
        self._fetches["/metrics"] = Slow(lambda *_: shared.metrics(), plane.config.max_body, _METRICS)

    def prepare(self, head: Head) -> None:
        """Sets the route and what it needs to know of the head."""
        fields = head.fields
        head.echo = b"".join(b"%s: %s\r\n" % (name, fields[name]) for name in ECHOED if name in fields)
        head.gzip_out = _accepts_gzip(fields.get(b"accept-encoding", b""))
        inference = self._inference.get(head.path)
        try:
            head.route = inference or self._other(head)
            if inference is not None:
                if head.method != "POST":
                    raise MethodNotAllowed(head.method, "POST")
                head.replay = self._replays(fields)
                head.json_size = _json_size(fields)
            head.gzip_in = _gzipped(fields)
            head.direct = head.route.takes_views and head.json_size is not None and head.length >= LARGE and not head.gzip_in
        except Failure as failure:
            head.refusal = failure
            head.route = inference or self._refusal

    def _other(self, head: Head) -> Route:
        path, method = head.path, head.method
        fetch = self._fetches.get(path.rstrip("/") or "/")
        if fetch is not None:
            if method not in ("GET", "HEAD"):
                raise MethodNotAllowed(method, "GET")
            return fetch
        if self._private.owns(path):
            return self._closed
        parts = path.split("/")
        if len(parts) > 3 and parts[1] in ("v1", "v2") and parts[2] == "models":
            self._plane.serves(parts[3].partition(":")[0])
        raise NotFound(f"nothing is served under {path[:120]}; the model is under /v2/models/{self._plane.name}")

    def _replays(self, fields: dict[bytes, bytes]) -> bool:
        """Whether this is a replayed request. Raises Forbidden where it says so without the token."""
        said = fields.get(REPLAY_HEADER.encode())
        if said is None:
            return False
        if not self._token or not hmac.compare_digest(said, self._token):
            raise Forbidden(f"{REPLAY_HEADER} does not carry this service's token; leave the header out for an ordinary request")
        return True

    def _readiness(self, about: dict[str, Any]) -> tuple[int, Any]:
        ready = self._plane.ready
        return (200 if ready else 503), about | {"ready": ready}

    def _model_metadata(self) -> tuple[int, Any]:
        plane = self._plane
        inputs, outputs = (
            [{"name": s.name, "datatype": s.datatype, "shape": list(s.shape)} for s in specs.values()]
            for specs in (plane.signature.inputs, plane.signature.outputs)
        )
        versions = [plane.config.revision] if plane.config.revision else []
        return 200, {"name": plane.name, "versions": versions, "platform": "onnxruntime_onnx", "inputs": inputs, "outputs": outputs}


def send(exchange: Exchange, status: int, fields: bytes, content: bytes) -> None:
    """Respond; compressed where the client asks for it and it is worth it."""
    if exchange.head.gzip_out and len(content) >= WORTH:
        exchange.respond(status, fields + _GZIPPED, gzipped(content))
    else:
        exchange.respond(status, fields, content)


def fault(error: Exception) -> Failure:
    """A fault of ours: to the log, never to the client."""
    print("".join(traceback.format_exception(error)), file=sys.stderr, flush=True)
    return Failure("the predictor failed on this request")


def _json(get: Get) -> Callable[[], tuple[int, bytes]]:
    def fetch() -> tuple[int, bytes]:
        status, found = get()
        return status, orjson.dumps(found)

    return fetch


@lru_cache(64)
def _error(text: str) -> bytes:
    """The same few texts are sent again and again, in a hurry."""
    return orjson.dumps({"error": text})


def _lines(failure: Failure) -> bytes:
    return b"".join(b"%s: %s\r\n" % field for field in failure.headers)


def _json_size(fields: dict[bytes, bytes]) -> int | None:
    said = fields.get(b"inference-header-content-length")
    if said is None:
        return None
    if not said.isdigit() or len(said) > 12:
        raise Invalid(f"Inference-Header-Content-Length must be a number of bytes, got '{said.decode('latin-1')[:40]}'")
    return int(said)


def _gzipped(fields: dict[bytes, bytes]) -> bool:
    encoding = fields.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in (b"identity", b"gzip"):
        raise UnsupportedEncoding(f"content-encoding '{encoding.decode('latin-1')[:40]}' is not spoken here; send gzip or none")
    return encoding == b"gzip"


def _accepts_gzip(said: bytes) -> bool:
    for choice in said.lower().split(b","):
        coding, _, parameters = choice.partition(b";")
        if coding.strip() in (b"gzip", b"*"):
            return parameters.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return False
