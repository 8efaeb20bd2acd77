"""What goes wrong around a predictor: floods, slow and broken clients, full queues, deadlines, signals."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiservice_predictor.transport.h2 import frames as f
from predictor import models
from predictor.h2client import Peer, head, request
from predictor.models import tensor
from predictor.served import Served, serving
from predictor.test_grpc import call, message
from predictor.wire import Raw

Write = Callable[[bytes], Path]
LONG = 3_600_000
"""Milliseconds, roughly, that models.slow takes for this x: whatever is answered did not wait for it."""


def x(value: int) -> dict[str, object]:
    return tensor("x", "INT64", [value])


def connect(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.http), timeout=10)


@pytest.fixture
def slow(onnx: Write) -> Iterator[Served]:
    with serving(onnx(models.slow()), timeout=0.4, queue=2, batch_max_size=1, drain=5) as served:
        yield served


def test_a_huge_body_is_refused_and_never_held(classes: Served) -> None:
    before = classes.memory()
    for framing in (b"Content-Length: 104857600\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"):
        with connect(classes) as sock:
            sock.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n" + framing)
            piece = bytes(2**20)
            if b"chunked" in framing:
                piece = b"100000\r\n" + piece + b"\r\n"
            for _ in range(100):
                sock.sendall(piece)
            assert sock.recv(2**16).startswith(b"HTTP/1.1 413 ")
    assert classes.memory() - before < 24 * 2**20


def test_gigabytes_in_gzip(classes: Served) -> None:
    import gzip

    bomb = gzip.compress(bytes(2**20)) * 900
    before = classes.memory()
    answer = classes.client.post("/v2/models/m/infer", content=bomb, headers={"content-encoding": "gzip"})
    assert answer.status_code == 413
    assert classes.memory() - before < 24 * 2**20


async def test_a_thousand_slow_clients(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    models.bundle(tmp_path / "bundle")
    with serving(tmp_path / "bundle", timeout=2) as served:
        request = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{"
        ends = [len(request), len(request) - 3, 20, 0]
        clients = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", served.http) for _ in range(1000)))
        for number, (_, writer) in enumerate(clients):
            writer.write(request[: ends[number % 4]])
        good = tensor("x", "FP32", [1, 2, 3], 1, 3)
        worst = 0.0
        for _ in range(20):
            start = time.perf_counter()
            assert (await asyncio.to_thread(served.infer, good)).status_code == 200
            worst = max(worst, time.perf_counter() - start)
            for _, writer in clients[::4]:
                writer.write(b" ")
        assert worst < 2
        answers = await asyncio.gather(*(reader.read() for reader, _ in (clients[0], clients[1], clients[2])))
        assert answers[0].startswith(b"HTTP/1.1 408 ")
        assert answers[1:] == [b"", b""], "a head that does not come is not waited for"
        for _, writer in clients:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in clients), return_exceptions=True)
        assert served.client.get("/v2/health/ready").status_code == 200


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=300), st.booleans(), st.booleans())
def test_garbage_on_the_ports(classes: Served, garbage: bytes, as_body: bool, to_grpc: bool) -> None:
    if as_body:
        answer = classes.client.post("/v2/models/m/infer", content=garbage)
        assert 400 <= answer.status_code < 500
        return
    with socket.create_connection(("127.0.0.1", classes.grpc if to_grpc else classes.http), timeout=10) as sock:
        sock.sendall(garbage)
    assert classes.process.poll() is None


def test_a_head_without_end(classes: Served) -> None:
    with connect(classes) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        answer = b""
        try:
            for number in range(200):
                sock.sendall(b"X-%d: %s\r\n" % (number, b"x" * 1000))
            answer = sock.recv(1000)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
    assert classes.client.get("/v2/health/ready").status_code == 200


def test_a_deadline_passes(slow: Served) -> None:
    answer = slow.infer(x(LONG))
    assert answer.status_code == 504
    assert "not answered within 0.4 seconds" in answer.json()["error"]
    assert slow.client.get("/v2/health/live").status_code == 200, "the model still runs, and the loop is free"
    assert slow.metric('aiservice_requests_total{outcome="timeout",protocol="rest"}') == 1


def test_a_body_is_not_waited_for_where_the_queue_is_full(onnx: Write) -> None:
    content = message("INT64", [1], int64_contents=[1]).SerializeToString()
    with serving(onnx(models.slow()), timeout=3600, queue=1, batch_max_size=1) as served, Peer(served) as peer, Raw(served) as raw:
        peer.send(request(1, message("INT64", [1], int64_contents=[LONG]).SerializeToString()))
        served.until_called()
        peer.send(request(3, content) + f.frame(f.PING, 0, 0, bytes(8)))
        peer.until(f.PING)
        raw.send(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{")
        answer = raw.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        peer.send(f.frame(f.HEADERS, f.END_HEADERS, 5, head()) + f.frame(f.DATA, 0, 5, b"\0"))
        flags, stream, block = peer.until(f.HEADERS)
        assert (flags & f.END_STREAM, stream) == (f.END_STREAM, 5)
        assert b"1 requests wait already" in block
        for protocol in ("rest", "grpc"):
            assert served.metric(f'aiservice_requests_total{{outcome="rejected",protocol="{protocol}"}}') == 1
        served.process.kill()


def test_a_grpc_clients_deadline_and_a_full_queue(onnx: Write) -> None:
    request = message("INT64", [1], int64_contents=[LONG]).SerializeToString()
    with serving(onnx(models.slow()), timeout=3600, queue=2, batch_max_size=1) as served, ThreadPoolExecutor(6) as pool:
        with pytest.raises(grpc.RpcError) as late:
            call(served, "ModelInfer", request, timeout=0.2)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        line = 'aiservice_requests_total{outcome="timeout",protocol="grpc"}'
        served.until(lambda: served.metric(line) == 1, "the client's deadline did not end the request here")
        asked = [pool.submit(served.infer, x(1)) for _ in range(6)]
        served.until(lambda: sum(a.done() for a in asked) == 4, "two wait for the model")
        rejected = [a.result() for a in asked if a.done()]
        assert all(a.status_code == 503 and a.headers["retry-after"] == "1" and "wait already" in a.json()["error"] for a in rejected)
        with pytest.raises(grpc.RpcError) as full:
            call(served, "ModelInfer", request)
        assert full.value.code() is grpc.StatusCode.UNAVAILABLE
        served.process.kill()


def test_one_bad_row_does_not_fail_its_neighbours(onnx: Write) -> None:
    with serving(onnx(models.table()), batch_max_delay=0.1, batch_max_size=16) as served, ThreadPoolExecutor(12) as pool:
        values = [0, 1, 2, 9, 1, 0, 2, 7, 0, 1]
        answers = list(pool.map(lambda v: httpx.post(f"{served.url}/v2/models/m/infer", json={"inputs": [x(v)]}, timeout=10), values))
        assert [a.status_code for a in answers] == [500 if v > 2 else 200 for v in values]
        assert [a.json()["outputs"][0]["data"] for a in answers if a.status_code == 200] == [[10.0 * (v + 1)] for v in values if v < 3]
        assert served.metric("aiservice_batch_rows_count") < len(values), "they were stacked"


def test_sigterm_finishes_what_is_open_and_takes_what_still_comes(onnx: Write) -> None:
    with serving(onnx(models.slow()), drain=15, batch_max_size=1) as served, ThreadPoolExecutor(3) as pool:
        opened = [pool.submit(httpx.post, f"{served.url}/v2/models/m/infer", json={"inputs": [x(800)]}, timeout=30) for _ in range(2)]
        served.until_called()
        served.signal()
        served.until(lambda: httpx.get(f"{served.url}/v2/health/ready").status_code == 503, "it goes on")
        late = httpx.get(f"{served.url}/v2/health/ready")
        assert late.status_code == 503
        assert late.json() == {"ready": False}
        assert late.headers["connection"] == "close"
        assert httpx.get(f"{served.url}/v2/health/live").status_code == 200
        assert served.infer(x(1)).status_code == 200, "whoever has not seen it yet is still served"
        assert [f.result().status_code for f in opened] == [200, 200]
        assert served.wait() == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{served.url}/v2/health/live")


def test_no_request_is_lost_while_it_ends(onnx: Write) -> None:
    """Clients that go on until the port is closed get only answers."""
    with serving(onnx(models.classifier()), drain=4) as served, ThreadPoolExecutor(4) as pool:
        body = json.dumps({"inputs": [tensor("x", "FP32", [1, 2, 3], 1, 3)]}).encode()
        answered = [0] * 4

        def ask(number: int) -> str:
            with httpx.Client(base_url=served.url, timeout=10) as client:
                while True:
                    try:
                        assert client.post("/v2/models/m/infer", content=body).status_code == 200
                        answered[number] += 1
                    except httpx.ConnectError:
                        return ""
                    except httpx.HTTPError as error:
                        return repr(error)

        clients = [pool.submit(ask, n) for n in range(4)]
        served.until(lambda: min(answered) > 10, "no answers")
        served.signal()
        lost = [error for c in clients if (error := c.result())]
        assert served.wait() == 0
        assert not [e for e in lost if "RemoteProtocolError" not in e and "ReadError" not in e], lost
        assert len(lost) <= len(clients), "at most the connection that was made as the port closed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_predictor_ends_at_once(onnx: Write, number: int) -> None:
    with serving(onnx(models.classifier()), drain=3600) as served:
        served.signal(number)
        assert served.wait() == 0


def test_the_second_signal_and_the_end_of_the_drain(onnx: Write) -> None:
    for drain, twice in ((3600, True), (0.3, False)):
        with serving(onnx(models.slow()), drain=drain, timeout=3600) as served, ThreadPoolExecutor(1) as pool:
            task = pool.submit(httpx.post, f"{served.url}/v2/models/m/infer", json={"inputs": [x(LONG)]}, timeout=30)
            served.until_called()
            served.signal()
            if twice:
                served.until(lambda: httpx.get(f"{served.url}/v2/health/ready").status_code == 503, "it goes on")
                served.signal()
            assert served.wait() == 1
            answer = task.result()
            assert answer.status_code == 503
            assert "is ending" in answer.json()["error"]


def test_health_answers_while_the_model_runs(onnx: Write) -> None:
    with serving(onnx(models.slow()), timeout=3600) as served, ThreadPoolExecutor(1) as pool:
        task = pool.submit(httpx.post, f"{served.url}/v2/models/m/infer", json={"inputs": [x(LONG)]}, timeout=60)
        served.until_called()
        assert httpx.get(f"{served.url}/v2/health/ready").status_code == 200
        assert not task.done()
        served.process.kill()


def test_a_port_that_is_taken(classes: Served, tmp_path: Path) -> None:
    from predictor.served import run

    models.bundle(tmp_path / "bundle")
    for port in ({"http_port": classes.http}, {"grpc_port": classes.grpc}):
        ended = run(tmp_path / "bundle", **port)
        assert ended.returncode == 1
        assert "cannot listen" in ended.stderr
        assert "Traceback" not in ended.stderr
    assert os.path.exists(f"/proc/{classes.process.pid}")
