"""HTTP as one bare ASGI callable: routes, errors, counting. What a body means is the codecs' business."""

from __future__ import annotations

import hmac
import sys
import traceback
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, TypeAlias

import orjson

from aiservice.api.runtime import REPLAY_HEADER
from aiservice_predictor import VERSION
from aiservice_predictor.codec import rest, v1
from aiservice_predictor.dataplane import DataPlane
from aiservice_predictor.failures import Failure, Forbidden, Invalid, MethodNotAllowed, NotFound
from aiservice_predictor.metrics import CONTENT_TYPE
from aiservice_predictor.transport import body
from aiservice_predictor.transport.private import Private

Scope: TypeAlias = dict[str, Any]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]
Headers: TypeAlias = dict[bytes, bytes]
Get: TypeAlias = Callable[[], tuple[int, Any]]

EXTENSIONS = ["binary_tensor_data"]
_JSON = b"application/json"
_BINARY = b"application/octet-stream"
_REPLAY = REPLAY_HEADER.encode()
_JSON_SIZE = b"inference-header-content-length"


class HttpApp:
    """The ASGI application."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._token = plane.config.token.encode()
        self._private = Private(plane)
        name = plane.name
        self._infer_paths = {f"/v2/models/{name}/infer": "rest", f"/v1/models/{name}:predict": "v1"}
        self._get_paths: dict[str, Get] = {
            "/healthz": lambda: (200, {"status": "alive"}) if plane.live else (503, {"status": "stuck"}),
            "/v2/health/live": lambda: (200 if plane.live else 503, {"live": plane.live}),
            "/v2/health/ready": lambda: self._readiness({}),
            f"/v2/models/{name}/ready": lambda: self._readiness({"name": name}),
            f"/v1/models/{name}": lambda: self._readiness({"name": name}),
            "/v1/models": lambda: (200, {"models": [name]}),
            "/v2": self._server_metadata,
            f"/v2/models/{name}": self._model_metadata,
        }

    async def __call__(self, scope: Scope, receive: body.Receive, send: Send) -> None:
        path = scope["path"]
        protocol = self._infer_paths.get(path)
        if protocol is not None:
            await self._infer(protocol, scope, receive, send)
            return
        try:
            status, content, kind = await self._other(path, scope, receive)
        except body.Disconnected:
            return
        except Failure as failure:
            await self._fail(send, failure)
            return
        except Exception as error:
            _report(error)
            await self._fail(send, Failure("the predictor failed on this request"))
            return
        await self._send(send, status, content, kind, scope["method"])

    async def _infer(self, protocol: str, scope: Scope, receive: body.Receive, send: Send) -> None:
        """One inference request, whatever becomes of it, is counted once."""
        plane = self._plane
        start, outcome, replay = perf_counter(), "server_error", False
        plane.open += 1
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed(scope["method"], "POST")
            headers: Headers = dict(scope["headers"])
            replay = self._replays(headers)
            data = await body.read(headers, receive, plane.config.max_body, plane.config.timeout)
            start = perf_counter()
            content, json_size = await self._answer(protocol, headers, data, replay)
            extra = ((_JSON_SIZE, b"%d" % json_size),) if json_size is not None else ()
            await self._send(send, 200, content, _JSON if json_size is None else _BINARY, "POST", extra)
            outcome = "ok"
        except body.Disconnected:
            outcome = "client_error"
        except Failure as failure:
            outcome = failure.outcome
            await self._fail(send, failure)
        except Exception as error:
            _report(error)
            await self._fail(send, Failure("the predictor failed on this request"))
        finally:
            plane.open -= 1
            plane.last = perf_counter()
            if not replay:
                plane.metrics.request(protocol, outcome, plane.last - start)

    async def _answer(self, protocol: str, headers: Headers, data: bytes, replay: bool) -> tuple[bytes, int | None]:
        plane = self._plane
        json_size: int | None = None
        if protocol == "rest":
            request = rest.decode(plane.signature, plane.config.max_rows, data, _json_size(headers))
            outputs = await plane.infer(request)
            decisions = plane.decisions(outputs) if replay else None
            content, json_size = rest.encode(plane.name, plane.signature, request, outputs, decisions)
        else:
            plain = v1.decode(plane.signature, plane.config.max_rows, data)
            outputs = await plane.infer(plain)
            content, request = v1.encode(plane.signature, plain, outputs), plain  # type: ignore[assignment]
        if not replay:
            plane.answered(request, outputs)
        return content, json_size

    async def _other(self, path: str, scope: Scope, receive: body.Receive) -> tuple[int, bytes, bytes]:
        """Everything but inference: status, content, content type."""
        method = scope["method"]
        get = self._get_paths.get(path.rstrip("/") or "/")
        if get is not None or path == "/metrics":
            if method not in ("GET", "HEAD"):
                raise MethodNotAllowed(method, "GET")
            if get is None:
                return 200, self._plane.exposition.text(), CONTENT_TYPE
            status, answer = get()
            return status, orjson.dumps(answer), _JSON
        if self._private.owns(path):
            return 200, await self._private.answer(path, method, dict(scope["headers"]), scope["query_string"], receive), _JSON
        parts = path.split("/")
        if len(parts) > 3 and parts[1] in ("v1", "v2") and parts[2] == "models":
            self._plane.serves(parts[3].partition(":")[0])
        raise NotFound(f"nothing is served under {path[:120]}; the model is under /v2/models/{self._plane.name}")

    def _replays(self, headers: Headers) -> bool:
        """Whether this is a replayed request. Raises Forbidden where it says so without the token."""
        said = headers.get(_REPLAY)
        if said is None:
            return False
        if not self._token or not hmac.compare_digest(said, self._token):
            raise Forbidden(f"{REPLAY_HEADER} does not carry this service's token; leave the header out for an ordinary request")
        return True

    def _readiness(self, about: dict[str, Any]) -> tuple[int, Any]:
        ready = self._plane.ready
        return (200 if ready else 503), about | {"ready": ready}

    def _server_metadata(self) -> tuple[int, Any]:
        return 200, {"name": "aiservice-predictor", "version": VERSION, "extensions": EXTENSIONS}

    def _model_metadata(self) -> tuple[int, Any]:
        plane = self._plane
        tensors = (
            [{"name": s.name, "datatype": s.datatype, "shape": list(s.shape)} for s in specs.values()]
            for specs in (plane.signature.inputs, plane.signature.outputs)
        )
        inputs, outputs = tensors
        versions = [plane.config.revision] if plane.config.revision else []
        return 200, {"name": plane.name, "versions": versions, "platform": "onnxruntime_onnx", "inputs": inputs, "outputs": outputs}

    async def _fail(self, send: Send, failure: Failure) -> None:
        await self._send(send, failure.status, orjson.dumps({"error": str(failure)}), _JSON, "POST", failure.headers)

    async def _send(
        self, send: Send, status: int, content: bytes, kind: bytes, method: str, extra: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(content)), *extra]
        if self._plane.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def _json_size(headers: Headers) -> int | None:
    said = headers.get(_JSON_SIZE)
    if said is None:
        return None
    if not said.isdigit() or len(said) > 12:
        raise Invalid(f"Inference-Header-Content-Length must be a number of bytes, got '{said.decode('latin-1')[:40]}'")
    return int(said)


def _report(error: Exception) -> None:
    """A fault of ours: to the log, never to the client."""
    print("".join(traceback.format_exception(error)), file=sys.stderr, flush=True)
