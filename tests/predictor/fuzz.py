"""Damaged inputs for everything that reads bytes: bodies, HTTP/1, HTTP/2. `PYTHONPATH=tests python tests/predictor/fuzz.py INPUTS [SEED]` runs many.

Beside "no exception but the declared ones" each target has something to be compared with: remembered frames with the codec that reads in
full, the reading of single bytes with the reading of all at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson

from aiservice.api.bundle import Decision, DecisionKind
from aiservice.api.runtime import PredictorConfig
from aiservice_predictor.codec import grpc as slow
from aiservice_predictor.codec import rest, v1
from aiservice_predictor.codec.grpc_raw import GrpcCodec
from aiservice_predictor.codec.numbers import Numbers
from aiservice_predictor.codec.request import Part, Request
from aiservice_predictor.codec.rest_codec import RestCodec
from aiservice_predictor.codec.tensors import Spec, from_json
from aiservice_predictor.dataplane import DataPlane
from aiservice_predictor.failures import Failure
from aiservice_predictor.load import load
from aiservice_predictor.proto import messages
from aiservice_predictor.signature import Signature
from aiservice_predictor.transport.h2.connection import Http2
from aiservice_predictor.transport.head import Heads
from aiservice_predictor.transport.host import Host
from aiservice_predictor.transport.http1 import Http1
from predictor import models

CORPUS = Path(__file__).with_name("corpus")
SPECS = {"x": Spec("x", "FP32", (-1, 2))}
SIGNATURE = Signature(SPECS, SPECS, Decision(kind=DecisionKind.CLASS, output="x"))
REST = RestCodec("m", SIGNATURE, 100)
NUMBERS = Numbers()
GRPC = GrpcCodec("m", SIGNATURE, 100, lambda _: None)
TOKENS = (
    b"\r\n", b"\n", b"\r\n\r\n", b":", b" ", b"\0", b"\xff", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"[", b"]",
    b"{", b"}", b'"', b'"id": "a"', b'"data": [1, 2]', b",", b"1e999", b"null", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"\x01", b"\x3a\x08",
    b"\x80\x80\x80\x80\x01", b"HTTP/1.0", b"Expect: 100-continue\r\n", b"Connection: close\r\n",
)  # fmt: skip


def outcome(call: Callable[[], Request]) -> Any:
    """What a codec makes of an input, in a form that can be compared."""
    try:
        request = call()
    except Failure as failure:
        return type(failure), str(failure)
    arrays = {n: (a.dtype, a.shape, np.nan_to_num(a).tolist()) for n, a in request.inputs.items()}
    return arrays, request.rows, request.id, request.outputs


def codec_json(data: bytes) -> None:
    found = outcome(lambda: REST.decode(data))
    assert found == outcome(lambda: rest.decode(SIGNATURE, 100, data))
    if isinstance(found[0], dict):
        request = REST.decode(data)
        with contextlib.suppress(Failure):
            REST.encode(request, Part(request.inputs))


def codec_binary(data: bytes) -> None:
    size = data.find(b"}\n") + 1
    if size:
        data = data[:size] + data[size + 1 :]
        assert outcome(lambda: REST.decode(data, size)) == outcome(lambda: rest.decode(SIGNATURE, 100, data, size))


def codec_v1(data: bytes) -> None:
    outcome(lambda: v1.decode(SIGNATURE, 100, data))


def codec_grpc(data: bytes) -> None:
    found = outcome(lambda: GRPC.decode(data))
    full = outcome(lambda: slow.decode(SIGNATURE, 100, slow.parse(messages.ModelInferRequest, data)))
    assert found == full, (found, full)


def codec_numbers(data: bytes) -> None:
    """What is read without a Python object for each number is what is read with one."""
    if not data.startswith(b"["):
        return
    for datatype in ("FP32", "FP64", "INT64"):
        spec = Spec("x", datatype, (-1,))
        for length in (data.count(b",") + 1, 0, 1):
            fast = NUMBERS.read(spec, (length,), data)
            if fast is not None:
                full = from_json(spec, (length,), orjson.loads(data))
                assert fast.dtype == full.dtype
                assert fast.tobytes() == full.tobytes(), (fast, full)


class _Transport:
    def __init__(self) -> None:
        self.out = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.out += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    pause_reading = resume_reading = write_eof


class _Route:
    """Answers each request at once with what it was."""

    def handle(self, exchange: Any, body: bytes) -> None:
        if hasattr(exchange, "sendable"):
            exchange.respond(b"\x88", b"%d" % len(body), b"\x88")
        else:
            exchange.respond(200, b"", b"%s %s %s" % (exchange.head.method.encode(), exchange.head.path.encode(errors="replace"), body))

    def fail(self, exchange: Any, failure: Failure) -> None:
        self.handle(exchange, str(failure).encode())

    def too_large(self, size: int) -> Failure | None:
        return Failure("too large") if size > 4096 else None

    def refuses(self) -> Failure | None:
        return None

    def abandoned(self) -> None:
        pass

    def gone(self, stream: Any) -> None:
        pass


@cache
def host() -> Host:
    """One for all connections, in an event loop that does not run."""

    async def made() -> Host:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(models.classifier())
            return Host(DataPlane(load(path), PredictorConfig(model_name="m", max_body=4096, timeout=1)))

    return asyncio.new_event_loop().run_until_complete(made())


def prepare(head: Any) -> None:
    head.route = _Route()


def talk(make: Callable[[Any], Any], data: bytes, cuts: list[int]) -> tuple[bytes, bool]:
    """-> what a new connection writes for these bytes, in these pieces, and whether it ended."""
    transport = _Transport()
    connection = make(host())
    connection.connection_made(transport)
    start = 0
    for cut in [*cuts, len(data)]:
        if cut > start and not transport.closed:
            connection.data_received(data[start:cut])
            while getattr(connection, "_rest", b"") and getattr(connection, "_held", False):
                connection._held = False
                connection._resume()
            start = cut
    connection.connection_lost(None)
    return transport.out, transport.closed


_REFUSED = re.compile(rb'HTTP/1.1 100 Continue\r\n\r\n|HTTP/1.1 [45][^{]*\{"error":.*\Z', re.DOTALL)
"""A line may be refused for one reason before its end is here and for another afterwards; 100 depends on what is here."""


def pieces(data: bytes) -> list[int]:
    return list(range(1, len(data))) if len(data) < 200 else list(range(7, len(data), 37))


def http1(data: bytes) -> None:
    make: Callable[[Any], Any] = lambda h: Http1(h, Heads(prepare))  # noqa: E731
    whole, split = talk(make, data, []), talk(make, data, pieces(data))
    assert _REFUSED.sub(b"", whole[0]) == _REFUSED.sub(b"", split[0]), (whole, split)


def http2(data: bytes) -> None:
    make: Callable[[Any], Any] = lambda h: Http2(h, prepare)  # noqa: E731
    whole, split = talk(make, data, []), talk(make, data, pieces(data))
    assert whole == split, (whole, split)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "json": codec_json, "numbers": codec_numbers, "binary": codec_binary, "v1": codec_v1, "grpc": codec_grpc, "http1": http1, "http2": http2,
}  # fmt: skip


def damaged(rng: random.Random, corpus: list[bytes]) -> bytes:
    """One of the corpus with up to four bytes, pieces or tokens changed, doubled, cut or taken from another."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.randint(0, 4)):
        at = rng.randint(0, len(data))
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 1:
            data[at:at] = rng.choice(TOKENS)
        elif kind == 2:
            del data[at : at + rng.randint(1, 8)]
        elif kind == 3:
            data[at:at] = data[at : at + rng.randint(1, 40)]
        elif kind == 4:
            other = rng.choice(corpus)
            data[at:] = other[rng.randint(0, len(other)) :]
        elif data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
    return bytes(data)


def corpus(target: str) -> list[bytes]:
    return [p.read_bytes() for p in sorted((CORPUS / target).iterdir())]


def run(target: str, inputs: int, seed: int) -> None:
    """Raises whatever the target does wrong, with the input in a note."""
    rng, known, check = random.Random(seed), corpus(target), TARGETS[target]
    for _ in range(inputs):
        data = damaged(rng, known)
        try:
            check(data)
        except BaseException as error:
            error.add_note(f"{target}: {data!r}")
            raise


def main() -> None:
    inputs = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    for target in TARGETS:
        start = time.perf_counter()
        run(target, inputs // len(TARGETS), seed)
        print(f"{target}: {inputs // len(TARGETS):,} inputs in {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
