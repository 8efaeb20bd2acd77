"""Bodies that are received where the model reads them, among others that are not."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import trustme

from aiservice_predictor.codec.tensors import Array
from aiservice_predictor.proto import messages
from aiservice_predictor.transport.h2 import frames as f
from predictor import models
from predictor.h2client import Peer, grpc_message, head
from predictor.served import PATIENCE, Served, serving
from predictor.wire import Answer, Raw

ROW = 3000


def request(values: Array, more: bytes = b"", data: int | None = None) -> bytes:
    """A row a thousandth of whose values say which it is; `data`: the bytes of it that are sent, if not all."""
    size = values.nbytes
    head = {"inputs": [{"name": "x", "shape": list(values.shape), "datatype": "FP32", "parameters": {"binary_data_size": size}}]}
    text = json.dumps(head | {"parameters": {"binary_data_output": True}}).encode()
    lines = b"Content-Length: %d\r\nInference-Header-Content-Length: %d\r\n" % (len(text) + size, len(text))
    return b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n" + lines + more + b"\r\n" + text + values.tobytes()[:data]


def values(seed: int, rows: int) -> Array:
    return np.random.default_rng(seed).random((rows, ROW), dtype=np.float32)


def right(answer: Answer, expected: Array) -> None:
    assert answer.status == 200, answer
    raw = answer.body[int(answer.headers["inference-header-content-length"]) :]
    assert raw == expected.tobytes()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = tmp_path_factory.mktemp("large") / "model.onnx"
    path.write_bytes(models.identity("FP32", "n", ROW))
    with serving(path, timeout=2) as served:
        yield served


def pieces(data: bytes, seed: int) -> Iterator[bytes]:
    sizes = np.random.default_rng(seed).choice([1, 100, 16_384, 70_000, 300_000], size=len(data))
    at = 0
    for size in map(int, sizes):
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size


def talk(sock: socket.socket, raw: Raw, seed: int) -> None:
    """Large and small ones in a row, cut anywhere, each answered with its own values."""
    rows = [30, 1, 9, 30, 2, 50, 1, 6]
    sent = [values(seed * 100 + n, r) for n, r in enumerate(rows)]
    data = b"".join(request(v, b"Expect: 100-continue\r\n" if n == 3 else b"") for n, v in enumerate(sent))

    def send() -> None:
        for number, piece in enumerate(pieces(data, seed)):
            sock.sendall(piece)
            if number % 7 == 0:
                time.sleep(0.001)

    thread = threading.Thread(target=send)
    thread.start()
    for number, expected in enumerate(sent):
        answer = raw.answer()
        if answer.status == 100:
            assert number == 3
            answer = raw.answer()
        right(answer, expected)
    thread.join(PATIENCE)


@pytest.mark.parametrize("seed", range(6))
def test_large_and_small_bodies_in_any_pieces(served: Served, seed: int) -> None:
    with Raw(served) as raw:
        talk(raw.sock, raw, seed)


def test_over_tls(tmp_path: Path) -> None:
    ca = trustme.CA()
    pair = ca.issue_cert("localhost")
    certificate, key, model = tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "model.onnx"
    certificate.write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    pair.private_key_pem.write_to_path(str(key))
    model.write_bytes(models.identity("FP32", "n", ROW))
    context = ssl.create_default_context()
    ca.configure_trust(context)
    with serving(model, tls_certificate=certificate, tls_key=key) as served:
        for seed in range(3):
            raw = Raw(served)
            with closing(context.wrap_socket(raw.sock, server_hostname="localhost")) as sock:
                raw.sock = sock
                talk(sock, raw, seed)


def test_a_client_that_goes_in_the_middle_is_counted_and_leaves_nothing(served: Served) -> None:
    gone = 'aiservice_requests_total{outcome="client_error",protocol="rest"}'
    before = served.metric(gone) if gone in served.client.get("/metrics").text else 0
    for _ in range(20):
        with Raw(served) as raw:
            raw.send(request(values(1, 30), data=200_000))
            time.sleep(0.01)
    served.until(lambda: served.metric(gone) == before + 20, "clients that went were not counted")
    with Raw(served) as raw:
        right(raw.send(request(values(2, 30))).answer(), values(2, 30))


def test_one_that_stops_is_told_and_its_rest_is_not_taken_for_a_request(served: Served) -> None:
    with Raw(served) as raw:
        right(raw.send(request(values(3, 30))).answer(), values(3, 30))
        whole = request(values(4, 30))
        raw.send(whole[:250_000])
        answer = raw.answer()
        assert answer.status == 408
        assert " bytes came" in json.loads(answer.body)["error"]
        assert raw.ended()


def test_what_is_on_its_way_is_bounded_and_the_rest_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.identity("FP32", "n", ROW))
    large = values(5, 1300)
    with serving(path, timeout=20, max_body=2**24, max_rows=2000) as served:
        before = served.memory()
        waiting = [Raw(served).send(request(large, data=large.nbytes - 1)) for _ in range(4)]
        time.sleep(0.5)
        with Raw(served) as raw:
            raw.send(request(large)[: large.nbytes // 2])
            assert raw.answer().status == 503
        assert served.memory() - before < 70 * 2**20
        for one in waiting:
            right(one.send(large.tobytes()[-1:]).answer(), large)
            one.sock.close()
        with Raw(served) as raw:
            right(raw.send(request(large)).answer(), large)


def message(sent: Array) -> bytes:
    request = messages.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=sent.shape)
    request.raw_input_contents.append(sent.tobytes())
    return grpc_message(request.SerializeToString())


def frames(id: int, data: bytes, draw: np.random.Generator) -> Iterator[bytes]:
    """HEADERS, then DATA of any sizes, some of them padded, several alike in a row, some empty."""
    yield f.frame(f.HEADERS, f.END_HEADERS, id, head())
    at = 0
    while at < len(data):
        size = int(draw.choice([0, 1, 4, 5, 100, 5000, f.FRAME, f.FRAME]))
        for _ in range(int(draw.integers(1, 6))):
            piece = data[at : at + size]
            at += len(piece)
            padded = size < f.FRAME and draw.random() < 0.3
            yield f.frame(f.DATA, f.PADDED, id, b"\2" + piece + b"\0\0") if padded else f.frame(f.DATA, 0, id, piece)
    yield f.frame(f.DATA, f.END_STREAM, id)


@pytest.mark.parametrize("seed", range(6))
def test_grpc_messages_in_any_frames_and_pieces(served: Served, seed: int) -> None:
    draw = np.random.default_rng(seed)
    with Peer(served, {f.INITIAL_WINDOW_SIZE: 2**24}) as peer:
        peer.send(f.window_update(0, 2**24))
        for turn in range(3):
            sent = {
                turn * 4 + id: values(seed * 10 + turn + id, int(rows))
                for id, rows in ((1, draw.integers(6, 50)), (3, draw.integers(1, 50)))
            }
            streams = [frames(id, message(v), draw) for id, v in sent.items()]
            mixed = b"".join(next(streams[0]) + next(streams[1]) for _ in range(1))
            while streams:
                stream = streams[int(draw.integers(len(streams)))]
                for _ in range(int(draw.integers(1, 9))):
                    frame = next(stream, None)
                    if frame is None:
                        streams.remove(stream)
                        break
                    mixed += frame
            for piece in pieces(mixed, seed):
                peer.send(piece)
            answers = peer.answers(2)
            for id, expected in sent.items():
                answer = messages.ModelInferResponse.FromString(answers[id][5:])
                assert answer.raw_output_contents[0] == expected.tobytes()


@pytest.mark.parametrize("wrong", [-70_000, -1, 1, 70_000, 2**31])
def test_a_large_message_with_another_size_than_it_says(served: Served, wrong: int) -> None:
    data = message(values(7, 30))
    said = (len(data) - 5 + wrong).to_bytes(4, "big")
    with Peer(served) as peer:
        peer.send(b"".join(frames(1, data[:1] + said + data[5:], np.random.default_rng(0))))
        block = peer.until(f.HEADERS)[2]
        assert b"exactly one message" in block, block
        peer.send(b"".join(frames(3, message(values(8, 1)), np.random.default_rng(0))))
        assert len(peer.answers(1)[3]) > ROW * 4
