"""Every answer belongs to its request: thousands of them over pipelined HTTP/1 and multiplexed HTTP/2 connections, stacked into batches."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from aiservice_predictor.proto import messages
from aiservice_predictor.transport.h2 import frames as f
from predictor import models
from predictor.h2client import request
from predictor.models import tensor
from predictor.served import Served, serving

REQUESTS = 300
"""A connection."""


@pytest.fixture
def served(onnx: Callable[[bytes], Path]) -> Iterator[Served]:
    with serving(onnx(models.classifier()), queue=4096) as found:
        yield found


def rows(number: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """One to three rows that tell which request they are of."""
    return np.array([[number, number + row, -number] for row in range(1 + number % 3)], dtype=np.float32)


async def http1(port: int, first: int, seed: int) -> int:
    """Pipelines requests, JSON and binary in turn, in pieces of any size."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    rng, sent = random.Random(seed), b""
    for number in range(first, first + REQUESTS):
        values = rows(number)
        given = tensor("x", "FP32", [], len(values), 3)
        if number % 2:
            body = json.dumps({"id": f"i{number}", "inputs": [given | {"data": values.ravel().tolist()}]}).encode()
            extra = b""
        else:
            del given["data"]
            head = json.dumps({"id": f"i{number}", "inputs": [given | {"parameters": {"binary_data_size": values.nbytes}}]}).encode()
            body, extra = head + values.tobytes(), b"Inference-Header-Content-Length: %d\r\n" % len(head)
        sent += b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (extra, len(body), body)

    async def send() -> None:
        at = 0
        while at < len(sent):
            size = rng.choice((1, 40, 700, 20_000))
            writer.write(sent[at : at + size])
            at += size
            await asyncio.sleep(0)
        await writer.drain()

    sending = asyncio.create_task(send())
    for number in range(first, first + REQUESTS):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        answer = json.loads(await reader.readexactly(size))
        assert answer["id"] == f"i{number}"
        assert answer["outputs"][1]["data"] == (2 * rows(number)).ravel().tolist()
    await sending
    writer.close()
    return REQUESTS


async def http2(port: int, first: int, seed: int) -> int:
    """Has many streams open at once; answers come in any order."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f.PREFACE + f.settings({f.INITIAL_WINDOW_SIZE: 2**20}) + f.window_update(0, 2**28))
    rng, got = random.Random(seed), bytearray()
    ids: dict[int, int] = {}
    data: dict[int, bytes] = {}
    waiting = list(range(first, first + REQUESTS))
    rng.shuffle(waiting)
    done, stream = 0, 1
    while done < REQUESTS:
        for _ in range(rng.randint(1, 60)):
            if waiting and len(ids) - done < 200:
                number = waiting.pop()
                values = rows(number)
                message = messages.ModelInferRequest(model_name="m", id=f"i{number}")
                message.inputs.add(name="x", datatype="FP32", shape=values.shape)
                message.raw_input_contents.append(values.tobytes())
                writer.write(request(stream, message.SerializeToString()))
                ids[stream] = number
                stream += 2
        got += await reader.read(2**16)
        while len(got) >= 9 and len(got) >= 9 + int.from_bytes(got[:3], "big"):
            size, kind, flags, id = int.from_bytes(got[:3], "big"), got[3], got[4], f.number(bytes(got[5:9]))
            payload = bytes(got[9 : 9 + size])
            del got[: 9 + size]
            assert kind not in (f.GOAWAY, f.RST_STREAM)
            if kind == f.DATA:
                data[id] = data.get(id, b"") + payload
            if id and flags & f.END_STREAM and kind in (f.DATA, f.HEADERS):
                answer = messages.ModelInferResponse.FromString(data.pop(id)[5:])
                assert answer.id == f"i{ids[id]}"
                assert answer.raw_output_contents[1] == (2 * rows(ids[id])).tobytes()
                done += 1
    writer.close()
    return done


async def test_every_answer_belongs_to_its_request(served: Served) -> None:
    clients = [http1(served.http, 1000 * n, n) for n in range(8)] + [http2(served.grpc, 1000 * (n + 8), n) for n in range(8)]
    assert sum(await asyncio.gather(*clients)) == 16 * REQUESTS
    assert served.metric("aiservice_rows_total") == sum(len(rows(1000 * n + k)) for n in range(16) for k in range(REQUESTS))
    assert served.metric("aiservice_batch_rows_count") < 16 * REQUESTS, "they were stacked"


def test_ten_thousand_idle_connections(onnx: Callable[[bytes], Path]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 11_000:
        pytest.skip(f"only {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sockets: list[socket.socket] = []
    try:
        with serving(onnx(models.classifier())) as served:
            before = served.memory()
            for number in range(10_000):
                sock = socket.socket()
                sock.bind((f"127.0.0.{2 + number % 5}", 0))
                sock.connect(("127.0.0.1", served.http if number % 2 else served.grpc))
                sockets.append(sock)
            assert served.infer(tensor("x", "FP32", [1, 3, 2], 1, 3)).json()["outputs"][0]["data"] == [1]
            assert (served.memory() - before) / 10_000 < 16 * 1024, "bytes a connection"
    finally:
        for sock in sockets:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
