"""Requests that meet a full queue, or a connection that ends, without sockets: what comes when is said by the test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiservice.api.runtime import PredictorConfig
from aiservice_predictor.codec.tensors import Tensors
from aiservice_predictor.dataplane import DataPlane
from aiservice_predictor.load import load
from aiservice_predictor.proto import messages
from aiservice_predictor.shared import Own
from aiservice_predictor.transport import infer
from aiservice_predictor.transport.buffered import BufferedHttp2
from aiservice_predictor.transport.grpc import Methods
from aiservice_predictor.transport.h2 import frames as f
from aiservice_predictor.transport.h2.connection import Http2
from aiservice_predictor.transport.head import Heads
from aiservice_predictor.transport.host import Host
from aiservice_predictor.transport.http1 import Http1
from aiservice_predictor.transport.routes import Routes
from local.machine import until
from predictor import h2client, models
from predictor.turns import no_turn_until_done

JSON = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [1]}]}'
POST = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n"


class Nobody:
    """A transport whose other side is not looked at."""

    def __init__(self) -> None:
        self.ended, self.reads = False, True
        self.protocol: object = None

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def set_protocol(self, protocol: object) -> None:
        assert not self.reads
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        assert not self.ended

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True


def post(more: bytes = b"") -> bytes:
    return POST % (more, len(JSON)) + JSON


def infer_message() -> bytes:
    message = messages.ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="INT64", shape=[1])
    message.raw_input_contents.append(np.array([1], dtype=np.int64).tobytes())
    return bytes(message.SerializeToString())


def connected(connection: Any) -> Any:
    connection.connection_made(Nobody())
    return connection


class Served:
    """A model that is always called in the thread, with one place in its queue. Its calls end once it is let go."""

    def __init__(self, path: Path) -> None:
        loaded, self._let_go = load(path), threading.Event()

        def held(inputs: Tensors) -> Tensors:
            assert self._let_go.wait(60)
            return loaded.model.run(inputs)

        self.plane = DataPlane(loaded, PredictorConfig(model_name="m", queue=1))
        self.plane._batcher._calls.run = held
        self.host = Host(self.plane)
        self._heads = Heads(Routes(self.plane, infer.routes(self.plane), Own(self.plane)).prepare)
        self._methods = Methods(self.plane)

    def http1(self) -> Any:
        return connected(Http1(self.host, self._heads))

    def grpc(self) -> Any:
        connection = connected(Http2(self.host, self._methods.prepare))
        connection.data_received(f.PREFACE + f.settings({}))
        return connection

    async def called(self) -> None:
        """Return once the model is called, in the thread."""
        await until(lambda: self.plane._batcher._call is not None, "not called")

    def through(self) -> None:
        """Let it go, and return once the thread is through with it; no turn of the event loop passes."""
        self._let_go.set()
        no_turn_until_done(self.plane._batcher)

    async def counted(self) -> dict[str, int]:
        """Outcome -> requests, once all are answered."""
        await until(lambda: self.plane.open == 0, "not answered")
        return {outcome: n for (_, outcome), n in self.plane.metrics.requests.items() if n}

    def close(self) -> None:
        self.host.close()
        self.plane.close()


@pytest.fixture
def path(onnx: Callable[[bytes], Path]) -> Path:
    return onnx(models.slow(4))


@pytest.mark.parametrize("protocol", ["http1", "grpc"])
@pytest.mark.parametrize("left", [0, 5], ids=["whole", "in two pieces"])
async def test_what_the_thread_has_done_is_taken_in_before_a_request_is_refused(path: Path, protocol: str, left: int) -> None:
    served = Served(path)
    data = post() if protocol == "http1" else h2client.request(1, infer_message())
    if protocol == "grpc" and left:
        content = h2client.grpc_message(infer_message())
        data = f.frame(f.HEADERS, f.END_HEADERS, 1, h2client.head()) + f.frame(f.DATA, 0, 1, content[:-left])
        data += f.frame(f.DATA, f.END_STREAM, 1, content[-left:])
        left += 9
    connections = [getattr(served, protocol)() for _ in range(3)]
    connections[0].data_received(data)
    await served.called()
    connections[1].data_received(data)
    assert served.plane._batcher._line.items
    served.through()
    connections[2].data_received(data[: len(data) - left])
    if left:
        connections[2].data_received(data[-left:])
    assert await served.counted() == {"ok": 3}
    served.close()


async def test_a_body_on_its_way_leaves_nothing_where_an_answer_before_it_ends_the_connection(path: Path) -> None:
    served = Served(path)
    connection = served.http1()
    refused = b"expect: 100-continue\r\ncontent-encoding: br\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    connection.data_received(post() + post().partition(b"content-length")[0] + refused + post()[:-5])
    assert served.host.receiving == 1
    await served.called()
    served.through()
    assert await served.counted() == {"ok": 1, "client_error": 2}
    assert (served.host.receiving, served.host._held) == (0, 0)
    served.close()


async def test_an_answer_that_is_taken_in_may_end_the_connection_that_asks(path: Path) -> None:
    served = Served(path)
    waits = post(b"expect: 100-continue\r\n")
    first, second = served.http1(), served.http1()
    first.data_received(post())
    await served.called()
    second.data_received(post())
    first.data_received(waits)
    served.through()
    first.data_received(waits[: -len(JSON)])
    assert first._transport.ended
    assert await served.counted() == {"ok": 2, "rejected": 1, "client_error": 1}
    assert (served.host.receiving, served.host._held) == (0, 0)
    served.close()


async def test_whoever_does_not_take_its_answers_is_not_read_on_for_a_large_message(path: Path) -> None:
    served = Served(path)
    connection = served.grpc()
    transport, part = connection._transport, f.frame(f.DATA, 0, 1, h2client.grpc_message(bytes(2**17))[: f.FRAME])
    connection.pause_writing()
    connection.data_received(f.frame(f.HEADERS, f.END_HEADERS, 1, h2client.head()) + part)
    assert (transport.reads, transport.protocol) == (False, None)
    connection.resume_writing()
    assert (transport.reads, transport.protocol) == (True, None)
    connection.data_received(part)
    assert transport.reads
    assert isinstance(transport.protocol, BufferedHttp2)
    connection.connection_lost(None)
    served.close()


async def test_a_refusal_that_ends_the_connection_beside_which_its_body_came(path: Path) -> None:
    served = Served(path)
    connection = served.http1()
    connection.data_received(post(b"expect: 100-continue\r\ncontent-encoding: br\r\n"))
    assert connection._transport.ended
    assert await served.counted() == {"client_error": 1}
    assert (served.host.receiving, served.host._held) == (0, 0)
    served.close()
