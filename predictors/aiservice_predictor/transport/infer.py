"""Inference over HTTP/1: bodies -> requests for the plane, outputs -> answers. Every request is counted once, whatever becomes of it."""

from __future__ import annotations

from time import perf_counter
from typing import Generic, TypeVar

from aiservice_predictor.codec import v1
from aiservice_predictor.codec.request import Data, Part, Request
from aiservice_predictor.codec.rest import RestRequest
from aiservice_predictor.codec.rest_codec import RestCodec
from aiservice_predictor.dataplane import DataPlane
from aiservice_predictor.failures import Failure
from aiservice_predictor.transport.body import gunzip
from aiservice_predictor.transport.exchange import BINARY, JSON, Exchange
from aiservice_predictor.transport.head import Head
from aiservice_predictor.transport.routes import Route, fault, send

R = TypeVar("R", bound=Request)


class Inference(Route, Generic[R]):
    """What both protocols share."""

    protocol: str

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._max_body = plane.config.max_body
        self._max_rows = plane.config.max_rows

    def decode(self, head: Head, body: Data) -> R:
        """Raises Failure."""
        raise NotImplementedError

    def encode(self, request: R, part: Part, replay: bool) -> tuple[bytes, bytes]:
        """-> header lines, body. Raises Failure."""
        raise NotImplementedError

    def handle(self, exchange: Exchange, body: Data) -> None:
        plane, head = self._plane, exchange.head
        plane.open += 1
        exchange.start = perf_counter()
        try:
            refusal = head.refusal or plane.full()
            if refusal is not None:
                self._close(exchange, refusal)
                return
            if head.gzip_in:
                body = gunzip(bytes(body), self._max_body)
            request = exchange.request = self.decode(head, body)
            plane.enter(exchange, request)
        except Failure as failure:
            self._close(exchange, failure)
        except Exception as error:
            self._close(exchange, fault(error))

    def refuses(self) -> Failure | None:
        return self._plane.full()

    def settle(self, exchange: Exchange, part: Part) -> None:
        plane, request, replay = self._plane, exchange.request, exchange.head.replay
        try:
            fields, content = self.encode(request, part, replay)
            if not replay:
                plane.answered(request, part)
        except Failure as failure:
            self._close(exchange, failure)
            return
        except Exception as error:
            self._close(exchange, fault(error))
            return
        send(exchange, 200, fields, content)
        plane.open -= 1
        plane.last = now = perf_counter()
        if not replay:
            plane.metrics.request(self.protocol, "ok", now - exchange.start)

    def fail(self, exchange: Exchange, failure: Failure) -> None:
        if exchange.start:
            self._close(exchange, failure)
            return
        super().fail(exchange, failure)
        self._count(exchange, failure)

    def abandoned(self) -> None:
        self._plane.metrics.request(self.protocol, "client_error", 0.0)

    def _close(self, exchange: Exchange, failure: Failure) -> None:
        super().fail(exchange, failure)
        self._plane.open -= 1
        self._count(exchange, failure)

    def _count(self, exchange: Exchange, failure: Failure) -> None:
        plane = self._plane
        plane.last = now = perf_counter()
        if not exchange.head.replay:
            plane.metrics.request(self.protocol, failure.outcome, now - (exchange.start or now))


class RestInference(Inference[RestRequest]):
    """V2, JSON with or without the binary tensor extension."""

    protocol = "rest"
    takes_views = True

    def __init__(self, plane: DataPlane) -> None:
        super().__init__(plane)
        self._codec = RestCodec(plane.name, plane.signature, self._max_rows)

    def decode(self, head: Head, body: Data) -> RestRequest:
        return self._codec.decode(body, head.json_size)

    def encode(self, request: RestRequest, part: Part, replay: bool) -> tuple[bytes, bytes]:
        decisions = self._plane.decisions(part.tensors()) if replay else None
        content, size = self._codec.encode(request, part, decisions)
        return (JSON, content) if size is None else (b"%sinference-header-content-length: %d\r\n" % (BINARY, size), content)


class V1Inference(Inference[Request]):
    """KServe V1 `:predict`."""

    protocol = "v1"

    def decode(self, head: Head, body: Data) -> Request:
        return v1.decode(self._plane.signature, self._max_rows, bytes(body))

    def encode(self, request: Request, part: Part, replay: bool) -> tuple[bytes, bytes]:
        return JSON, v1.encode(self._plane.signature, request, part.tensors())


def routes(plane: DataPlane) -> dict[str, Route]:
    """Path -> what answers a POST there."""
    return {f"/v2/models/{plane.name}/infer": RestInference(plane), f"/v1/models/{plane.name}:predict": V1Inference(plane)}
