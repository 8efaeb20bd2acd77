"""gRPC over our own HTTP/2: the unary methods of inference.GRPCInferenceService."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from time import perf_counter
from typing import Any
from urllib.parse import quote

import orjson

from aiservice_predictor import VERSION
from aiservice_predictor.codec import grpc as codec
from aiservice_predictor.codec.grpc_raw import GrpcCodec
from aiservice_predictor.codec.request import Data, Part
from aiservice_predictor.dataplane import DataPlane
from aiservice_predictor.failures import CODES, Failure, Invalid, MessageTooLarge, UnknownMethod, UnsupportedEncoding
from aiservice_predictor.proto import messages
from aiservice_predictor.transport.body import gunzip, gzipped
from aiservice_predictor.transport.h2.heads import Head
from aiservice_predictor.transport.h2.hpack_out import literal
from aiservice_predictor.transport.h2.stream import Stream
from aiservice_predictor.transport.routes import ECHOED, EXTENSIONS, fault

_OVERHEAD = 2**16
"""Bytes that a message may have beyond a body's limit."""
_LONGEST_TEXT = 4096
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_NEARLY = 0.02
"""Seconds before its deadline from which on a client that goes is one whose deadline has passed."""


_STATUS_200 = b"\x88"
_HEAD = _STATUS_200 + literal(b"content-type", b"application/grpc") + literal(b"grpc-accept-encoding", b"identity,gzip")
_GZIP_HEAD = _HEAD + literal(b"grpc-encoding", b"gzip")
_DONE = literal(b"grpc-status", b"0")


class Method:
    """Answers streams; one object for many."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._most = plane.config.max_body + _OVERHEAD

    def answer(self, stream: Stream, message: Data) -> None:
        """Raises Failure."""
        raise NotImplementedError

    def handle(self, stream: Stream, body: Data) -> None:
        """The request is here in full. Must not raise."""
        stream.start = perf_counter()
        try:
            if stream.head.refusal is not None:
                self.fail(stream, stream.head.refusal)
                return
            self.answer(stream, self._message(stream.head, body))
        except Failure as failure:
            self.fail(stream, failure)
        except Exception as error:
            self.fail(stream, fault(error))

    def settle(self, stream: Stream, part: Part) -> None:
        """The model's outputs for it are here. Must not raise."""
        raise NotImplementedError

    def fail(self, stream: Stream, failure: Failure) -> None:
        """It is not answered otherwise. Must not raise."""
        stream.respond(_HEAD + stream.head.echo + _status(failure.code, str(failure)), b"", b"")

    def refuses(self) -> Failure | None:
        """The failure of a request whose message need not be waited for, whatever it holds."""
        return None

    def gone(self, stream: Stream) -> None:
        """Nobody waits for it any more."""

    def too_large(self, size: int) -> Failure | None:
        """The failure where a message must not have so many bytes."""
        if size <= self._most:
            return None
        return MessageTooLarge(f"the message has more than {self._most} bytes: send fewer rows in one request")

    def _message(self, head: Head, body: Data) -> Data:
        """The one message of a unary request. Raises Failure."""
        if len(body) < 5 or int.from_bytes(body[1:5], "big") != len(body) - 5 or body[0] > 1:
            raise Invalid("the request must be exactly one message after its prefix of five bytes")
        too_large = self.too_large(len(body))
        if too_large is not None:
            raise too_large
        if not body[0]:
            return body[5:]
        if not head.gzip:
            raise Invalid("the message is compressed, but grpc-encoding says nothing of it")
        return gunzip(bytes(body[5:]), self._most)


class Plain(Method):
    """Answered at once."""

    def __init__(self, plane: DataPlane, request: Any, make: Callable[[Any], Any]) -> None:
        super().__init__(plane)
        self._request, self._make = request, make

    def answer(self, stream: Stream, message: Data) -> None:
        reply(stream, bytes(self._make(codec.parse(self._request, bytes(message))).SerializeToString()))


class Infer(Method):
    """ModelInfer. Every request is counted once, whatever becomes of it."""

    def __init__(self, plane: DataPlane) -> None:
        super().__init__(plane)
        self._codec = GrpcCodec(plane.name, plane.signature, plane.config.max_rows, plane.serves)

    def handle(self, stream: Stream, body: Data) -> None:
        self._plane.open += 1
        super().handle(stream, body)

    def answer(self, stream: Stream, message: Data) -> None:
        plane, seconds = self._plane, stream.head.seconds
        full = plane.full()
        if full is not None:
            self.fail(stream, full)
            return
        request = stream.request = self._codec.decode(message)
        plane.enter(stream, request, None if seconds is None else seconds - (stream.start - stream.begun))

    def refuses(self) -> Failure | None:
        return self._plane.full()

    def settle(self, stream: Stream, part: Part) -> None:
        plane, request = self._plane, stream.request
        try:
            content = self._codec.encode(request, part)
            plane.answered(request, part)
        except Exception as error:
            self.fail(stream, error if isinstance(error, Failure) else fault(error))
            return
        reply(stream, content)
        self._count(stream, "ok")

    def fail(self, stream: Stream, failure: Failure) -> None:
        super().fail(stream, failure)
        self._count(stream, failure.outcome)

    def gone(self, stream: Stream) -> None:
        plane = self._plane
        if stream.start and stream.settled:
            return
        plane.withdraw(stream)
        seconds = stream.head.seconds
        late = seconds is not None and perf_counter() - stream.begun >= seconds - _NEARLY
        self._count(stream, "timeout" if late else "client_error")

    def _count(self, stream: Stream, outcome: str) -> None:
        plane = self._plane
        plane.last = now = perf_counter()
        if stream.start:
            plane.open -= 1
        plane.metrics.request("grpc", outcome, now - (stream.start or now))


class Foreign(Method):
    """Requests that are not gRPC."""

    def handle(self, stream: Stream, body: Data) -> None:
        self.fail(stream, UnsupportedEncoding("this port speaks gRPC (content-type: application/grpc); REST is on the other one"))

    def fail(self, stream: Stream, failure: Failure) -> None:
        head = b"\x08\x03%d" % failure.status + literal(b"content-type", b"application/json")
        stream.respond(head + stream.head.echo, orjson.dumps({"error": str(failure)}), b"")


class Methods:
    """Which stream goes where."""

    def __init__(self, plane: DataPlane) -> None:
        m = messages
        plain = {
            "ServerLive": (m.ServerLiveRequest, lambda _: m.ServerLiveResponse(live=plane.live)),
            "ServerReady": (m.ServerReadyRequest, lambda _: m.ServerReadyResponse(ready=plane.ready)),
            "ModelReady": (m.ModelReadyRequest, lambda r: _of(plane, r, m.ModelReadyResponse(ready=plane.ready))),
            "ServerMetadata": (m.ServerMetadataRequest, lambda _: _server()),
            "ModelMetadata": (m.ModelMetadataRequest, lambda r: _of(plane, r, _model(plane))),
        }
        self._methods: dict[bytes, Method] = {f"/{m.SERVICE}/{n}".encode(): Plain(plane, *p) for n, p in plain.items()}
        self._methods[f"/{m.SERVICE}/ModelInfer".encode()] = Infer(plane)
        self._unknown = Plain(plane, None, lambda _: None)
        self._foreign = Foreign(plane)

    def prepare(self, head: Head) -> None:
        """Sets the route and what it needs to know of the head."""
        fields = head.fields
        head.echo = b"".join(literal(name, fields[name]) for name in ECHOED if name in fields)
        if fields[b":method"] != b"POST" or not fields.get(b"content-type", b"").startswith(b"application/grpc"):
            head.route = self._foreign
            return
        path = fields[b":path"]
        head.route = self._methods.get(path, self._unknown)
        encoding = fields.get(b"grpc-encoding", b"identity")
        head.gzip = encoding == b"gzip"
        timeout = fields.get(b"grpc-timeout")
        if path not in self._methods:
            head.refusal = UnknownMethod(f"no method {path.decode('latin-1')[:120]} here")
        elif not head.gzip and encoding != b"identity":
            head.refusal = UnsupportedEncoding(f"grpc-encoding '{encoding.decode('latin-1')[:40]}' is not spoken here; send gzip or none")
        elif timeout is not None:
            match = _TIMEOUT.fullmatch(timeout)
            if match is None:
                head.refusal = Invalid(f"grpc-timeout '{timeout.decode('latin-1')[:40]}' is not one")
            else:
                head.seconds = int(match[1]) * _UNITS[match[2]]


@lru_cache(64)
def _status(code: str, text: str) -> bytes:
    """Trailers of a failure: the same few are sent again and again, in a hurry."""
    message = quote(text[:_LONGEST_TEXT], safe=_PRINTABLE).encode()
    return literal(b"grpc-status", b"%d" % CODES[code]) + literal(b"grpc-message", message)


def reply(stream: Stream, content: bytes) -> None:
    """Respond with one message; compressed where the request was allowed to be."""
    head = stream.head
    if head.gzip:
        content = gzipped(content)
        stream.respond(_GZIP_HEAD + head.echo, b"\1" + len(content).to_bytes(4, "big") + content, _DONE)
    else:
        stream.respond(_HEAD + head.echo, b"\0" + len(content).to_bytes(4, "big") + content, _DONE)


def _of(plane: DataPlane, request: Any, answer: Any) -> Any:
    plane.serves(request.name)
    return answer


def _server() -> Any:
    return messages.ServerMetadataResponse(name="aiservice-predictor", version=VERSION, extensions=EXTENSIONS)


def _model(plane: DataPlane) -> Any:
    versions = [plane.config.revision] if plane.config.revision else []
    answer = messages.ModelMetadataResponse(name=plane.name, versions=versions, platform="onnxruntime_onnx")
    for specs, tensors in ((plane.signature.inputs, answer.inputs), (plane.signature.outputs, answer.outputs)):
        for spec in specs.values():
            tensors.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
    return answer
