"""CPU microseconds of each stage of a request, best of many: `python -m benchmarks.serving.stages`.

16 connections without sockets ask in turn, so that 16 requests share a call of the model; what is missing is the kernel.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import uvloop

from aiservice.api.runtime import PredictorConfig
from aiservice_predictor.codec.grpc_raw import GrpcCodec
from aiservice_predictor.codec.request import Part, Texts
from aiservice_predictor.codec.rest import decode
from aiservice_predictor.codec.rest_codec import RestCodec
from aiservice_predictor.dataplane import DataPlane
from aiservice_predictor.load import Loaded, load
from aiservice_predictor.recorder import Recorder
from aiservice_predictor.shared import Own
from aiservice_predictor.transport import infer
from aiservice_predictor.transport.head import Heads, parse
from aiservice_predictor.transport.host import Host
from aiservice_predictor.transport.http1 import Http1
from aiservice_predictor.transport.routes import Routes

from .payloads import NAME, Payload, make
from .peers import ROOT

CONNECTIONS = 16


def best(call: Callable[[], Any], times: int = 2000, repeats: int = 15) -> float:
    """CPU microseconds of one call."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        for _ in range(times):
            call()
        found.append((time.process_time() - start) / times * 1e6)
    return min(found)


class _Sink:
    """A transport that swallows answers."""

    def write(self, data: bytes) -> None:
        pass

    def is_closing(self) -> bool:
        return False


async def main() -> None:
    model, payloads = make(ROOT / "build" / "bench")
    loaded = load(model)
    signature = loaded.signature
    plane = DataPlane(loaded, PredictorConfig(model_name=NAME))
    host = Host(plane)
    heads = Heads(Routes(plane, infer.routes(plane), Own(plane)).prepare)
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 100)
    found: dict[str, float] = {}
    for kind in ("json1", "json32", "bin32"):
        found |= {f"{kind}: {stage}": micros for stage, micros in _stages(loaded, heads, payloads[kind]).items()}
        connections = [Http1(host, heads) for _ in range(CONNECTIONS)]
        for connection in connections:
            connection.connection_made(_Sink())  # type: ignore[arg-type]
        data = _head(payloads[kind]) + b"\r\n\r\n" + payloads[kind].path.read_bytes()
        found[f"{kind}: all, without the kernel"] = await _all(plane, connections, data)
    message = payloads["grpc1"].path.read_bytes()[5:]
    grpc = GrpcCodec(NAME, signature, 65536, plane.serves)
    found["grpc1: message, remembered frame"] = best(lambda: grpc.decode(message))
    for name, micros in found.items():
        print(f"| {name} | {micros:.1f} |")


def _stages(loaded: Loaded, heads: Heads, payload: Payload) -> dict[str, float]:
    signature, size = loaded.signature, payload.json_size
    body, head = payload.path.read_bytes(), _head(payload)
    codec = RestCodec(NAME, signature, 65536)
    for _ in range(3):
        request = codec.decode(body, size)
    request.id = "0123456789abcdef-1"
    inputs = {n: np.concatenate([a] * CONNECTIONS) for n, a in request.inputs.items()}
    outputs = loaded.model.run(inputs)
    recorder, clock = Recorder(signature.decision, 2**26), count()
    output = outputs[signature.decision.output][: request.rows]

    def encode() -> None:
        texts: Texts = {}
        for n in range(CONNECTIONS):
            codec.encode(request, Part(outputs, n * request.rows, (n + 1) * request.rows, texts))

    def record() -> None:
        recorder.add(request.id, 1e9 + next(clock) / 20_000, request.inputs, output, len(body))

    return {
        "head, remembered": best(lambda: heads.get(head)),
        "head, new": best(lambda: parse(head)),
        "body, remembered frame": best(lambda: codec.decode(body, size), 500),
        "body, new frame": best(lambda: decode(signature, 65536, body, size), 500),
        "model, its share of a call": best(lambda: loaded.model.run(inputs), 300) / CONNECTIONS,
        "answer": best(encode, 100) / CONNECTIONS,
        "recording, at 20,000 requests/s": best(record),
    }


def _head(payload: Payload) -> bytes:
    extra = "" if payload.json_size is None else f"\r\nInference-Header-Content-Length: {payload.json_size}"
    size = payload.path.stat().st_size
    return f"POST /v2/models/{NAME}/infer HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\nContent-Length: {size}{extra}".encode()


async def _all(plane: DataPlane, connections: list[Http1], data: bytes) -> float:
    found = []
    for _ in range(120):
        start = time.process_time()
        for _ in range(10):
            for connection in connections:
                connection.data_received(data)
            while plane.open:  # noqa: ASYNC110
                await asyncio.sleep(0)
        found.append((time.process_time() - start) / 10 / len(connections) * 1e6)
    return min(found)


if __name__ == "__main__":
    uvloop.run(main())
