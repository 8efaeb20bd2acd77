"""HTTP/1 as it is on the wire: framing, order, refusals. Each case is what a proxy or an attacker might send."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httptools
import numpy as np
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from aiservice_predictor.transport.chunked import Chunked
from aiservice_predictor.transport.head import BadHead, parse
from predictor import models
from predictor.models import tensor
from predictor.served import PATIENCE, Served, serving
from predictor.wire import Raw

BODY = json.dumps({"id": "i", "inputs": [tensor("x", "FP32", [1, 3, 2], 1, 3)]}).encode()
POST = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n"
READY = b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n"


def post(body: bytes = BODY, more: bytes = b"") -> bytes:
    return POST + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def right(raw: Raw) -> None:
    answer = raw.answer()
    assert answer.status == 200, answer
    assert json.loads(answer.body)["outputs"][0]["data"] == [1]


def test_pipelined_requests_are_answered_in_order(classes: Served) -> None:
    with Raw(classes) as raw:
        ids = [f"r{n}" for n in range(300)]
        bodies = [BODY.replace(b'"i"', b'"%s"' % i.encode()) for i in ids]
        raw.send(b"".join(READY + post(b) if n % 7 == 0 else post(b) for n, b in enumerate(bodies)))
        for n, id in enumerate(ids):
            if n % 7 == 0:
                assert raw.answer().body == b'{"ready":true}'
            assert json.loads(raw.answer().body)["id"] == id


def test_a_request_in_single_bytes(classes: Served) -> None:
    with Raw(classes) as raw:
        raw.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post() + POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(BODY, 7):
            raw.send(bytes((byte,)))
        right(raw)
        right(raw)


@pytest.mark.parametrize("extra", [b"0\r\nTrailer: yes\r\n\r\n", b"0;last=1\r\n\r\n", b"000\r\n\r\n"])
def test_chunked_bodies(classes: Served, extra: bytes) -> None:
    with Raw(classes) as raw:
        head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
        raw.send(head + chunked(BODY, 50).replace(b"0\r\n\r\n", extra) + post())
        right(raw)
        right(raw)


def test_expect_100(classes: Served) -> None:
    with Raw(classes) as raw:
        raw.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert raw.answer(head_only=True).status == 100
        raw.send(BODY)
        right(raw)
    with Raw(classes) as raw:
        raw.send(POST + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
        assert raw.answer().status == 413
        assert raw.ended()
    with Raw(classes) as raw:
        assert raw.send(POST + b"Expect: miracles\r\nContent-Length: 1\r\n\r\n").answer().status == 417


def test_head_has_the_length_and_no_body(classes: Served) -> None:
    with Raw(classes) as raw:
        raw.send(READY.replace(b"GET", b"HEAD") + READY)
        assert raw.answer(head_only=True).headers["content-length"] == str(len('{"ready":true}'))
        assert raw.answer().body == b'{"ready":true}'


def test_http_1_0(classes: Served) -> None:
    old = READY.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: x\r\n", b"")
    with Raw(classes) as raw:
        assert raw.send(old).answer().headers["connection"] == "close"
        assert raw.ended()
    with Raw(classes) as raw:
        raw.send(old.replace(b"\r\n\r\n", b"\r\nConnection: Keep-Alive\r\n\r\n"))
        assert raw.answer().headers["connection"] == "keep-alive"
        raw.send(READY)
        assert raw.answer().status == 200


def test_close_is_said_and_kept(classes: Served) -> None:
    with Raw(classes) as raw:
        raw.send(post(more=b"Connection: close\r\n") + READY)
        answer = raw.answer()
        assert answer.headers["connection"] == "close"
        assert raw.ended(), "what follows is not answered"


def test_half_closed_clients_get_their_answers(classes: Served) -> None:
    with Raw(classes) as raw:
        raw.send(post() * 3)
        raw.sock.shutdown(socket.SHUT_WR)
        for _ in range(3):
            right(raw)
        assert raw.ended()


def test_gzip_out_where_it_is_asked_for_and_worth_it(classes: Served) -> None:
    many = json.dumps({"inputs": [tensor("x", "FP32", [0.125, 3, 2] * 900, 900, 3)]}).encode()
    accept = b"Accept-Encoding: br;q=1, gzip;q=0.5\r\n"
    with Raw(classes) as raw:
        raw.send(post(many, accept) + post(many) + post(many, b"Accept-Encoding: gzip;q=0\r\n") + post(more=accept))
        first, plain, refused, small = (raw.answer() for _ in range(4))
    assert first.headers["content-encoding"] == "gzip"
    outputs = [json.loads(b)["outputs"] for b in (gzip.decompress(first.body), plain.body, refused.body)]
    assert outputs[0] == outputs[1] == outputs[2]
    assert "content-encoding" not in plain.headers | refused.headers | small.headers


def test_identifiers_come_back(classes: Served) -> None:
    with Raw(classes) as raw:
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        raw.send(post(more=b"traceparent: %s\r\nX-Request-Id: r-7\r\n" % trace.encode()) + post(b"{", b"x-request-id: r-8\r\n"))
        answer = raw.answer()
        assert (answer.headers["traceparent"], answer.headers["x-request-id"]) == (trace, "r-7")
        assert raw.answer().headers["x-request-id"] == "r-8"


SMUGGLED = post(b"")
REFUSED = {
    "two lengths": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    "the same length twice": (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    "a list of lengths": (POST + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    "length and chunks": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 400),
    "chunks and length": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED, 400),
    "chunks twice": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "another coding": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "a coding in disguise": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "chunks in HTTP/1.0": (POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a sign": (POST + b"Content-Length: +5\r\n\r\nhello", 400),
    "hexadecimal": (POST + b"Content-Length: 0x5\r\n\r\nhello", 400),
    "a negative length": (POST + b"Content-Length: -5\r\n\r\nhello", 400),
    "an endless length": (POST + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
    "a folded line": (POST + b"X: a\r\n b\r\n\r\n", 400),
    "a folded first line": (POST + b" X: a\r\n\r\n", 400),
    "bare LF": (b"GET /v2/health/ready HTTP/1.1\nHost: x\n\n", 400),
    "bare LF in a value": (POST + b"X: a\nContent-Length: 5\r\n\r\n", 400),
    "bare CR in a value": (POST + b"X: a\rContent-Length: 5\r\n\r\n", 400),
    "NUL in a value": (POST + b"X: a\0b\r\n\r\n", 400),
    "a space before the colon": (POST + b"Content-Length : 5\r\n\r\nhello", 400),
    "no colon": (POST + b"Nonsense\r\n\r\n", 400),
    "an empty name": (POST + b": x\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (READY[:-2] + b"Host: y\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "no version": (b"GET /\r\nHost: x\r\n\r\n", 400),
    "HTTP/2 by mistake": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "a target without a slash": (b"GET v2 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "too many headers": (POST + b"".join(b"X%d: y\r\n" % n for n in range(200)) + b"\r\n", 431),
    "a chunk that is too long": (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n", 400),
    "a chunk size with a sign": (POST + b"Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk size that overflows": (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n", 400),
    "a chunk that ends with LF": (POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 400),
    "a trailer that is none": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nGET / HTTP/1.1\r\n\r\n", 400),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_read_in_two_ways_is_refused_and_ends_the_connection(classes: Served, name: str) -> None:
    sent, status = REFUSED[name]
    with Raw(classes) as raw:
        raw.send(READY + sent + READY)
        assert raw.answer().status == 200, "what came before is answered"
        answer = raw.answer()
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        assert "error" in json.loads(answer.body)
        assert raw.ended(), "what comes after is never looked at"


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["Host", "X-A", "Content-Length", "Transfer-Encoding", "Connection", "x y", ""]),
        st.sampled_from(["x", "5", "chunked", "close", " a b ", "\x01", "a\nb", "é", "5,5", ""]),
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["GET", "POST", "G ET", ""]), st.sampled_from(["/", "/a?b", "*", "a", "http://h/p"]), HEADERS)
def test_what_is_taken_is_read_as_llhttp_reads_it(method: str, target: str, headers: list[tuple[str, str]]) -> None:
    lines = [f"{method} {target} HTTP/1.1", "Host: x", *(f"{k}: {v}" for k, v in headers)]
    raw = "\r\n".join(lines).encode("latin-1")
    try:
        head = parse(raw)
    except BadHead:
        return
    seen: list[tuple[bytes, bytes]] = []
    done: list[bool] = []

    class Events:
        def on_header(self, name: bytes, value: bytes) -> None:
            seen.append((name.lower(), value.strip()))

        def on_headers_complete(self) -> None:
            done.append(parser.should_keep_alive())

    parser = httptools.HttpRequestParser(Events())
    parser.feed_data(raw + b"\r\n\r\n")
    assert parser.get_method().decode() == head.method
    assert {k for k, _ in seen} == set(head.fields)
    assert all(v in head.fields[k] for k, v in seen)
    assert done == [head.keep]


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 60), st.lists(st.integers(1, 40), min_size=1))
def test_chunks_in_any_pieces(body: bytes, size: int, cuts: list[int]) -> None:
    sent = chunked(body, size) + b"rest"
    reader, found, at, turn = Chunked(), b"", 0, 0
    while not reader.done:
        step = cuts[turn % len(cuts)]
        pieces, rest = reader.feed(sent[at : at + step])
        found += b"".join(pieces)
        at, turn = at + step, turn + 1
    assert found == body
    assert (rest + sent[at:]) == b"rest"


def test_chunks_of_one_byte_are_not_taken_forever(classes: Served) -> None:
    with Raw(classes) as raw:
        raw.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1;" + b"x" * 900 + b"\r\n{\r\n")
        try:
            for _ in range(200):
                raw.send((b"1;" + b"x" * 900 + b"\r\n \r\n") * 5)
        except (ConnectionResetError, BrokenPipeError):
            return
        assert raw.answer().status == 400


def test_a_client_that_does_not_read_is_cut_off_and_holds_nobody_up(tmp_path: Path) -> None:
    models.bundle(tmp_path / "bundle")
    with serving(tmp_path / "bundle", timeout=3) as served, socket.create_connection(("127.0.0.1", served.http)) as sock:
        many = json.dumps({"inputs": [tensor("x", "FP32", [0.1, 3, 2] * 5000, 5000, 3)]}).encode()
        before = served.memory()

        def flood() -> None:
            try:
                for _ in range(3000):
                    sock.sendall(post(many))
            except OSError:
                ended.set()

        ended = threading.Event()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        thread = threading.Thread(target=flood, daemon=True)
        thread.start()
        time.sleep(0.5)
        assert served.infer(tensor("x", "FP32", [1, 3, 2], 1, 3)).status_code == 200
        assert ended.wait(PATIENCE)
        assert served.memory() - before < 64 * 2**20
        thread.join(5)


def test_tls(tmp_path: Path) -> None:
    import ssl

    import grpc

    from aiservice_predictor.proto import messages

    ca = trustme.CA()
    pair = ca.issue_cert("localhost")
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    pair.private_key_pem.write_to_path(str(key))
    models.bundle(tmp_path / "bundle")
    context = ssl.create_default_context()
    ca.configure_trust(context)
    with serving(tmp_path / "bundle", tls_certificate=certificate, tls_key=key) as served:
        with socket.create_connection(("127.0.0.1", served.http)) as plain, context.wrap_socket(plain, server_hostname="localhost") as sock:
            sock.sendall(post(more=b"Connection: close\r\n"))
            answer = b""
            while piece := sock.recv(4096):
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 ")
        with grpc.secure_channel(f"localhost:{served.grpc}", grpc.ssl_channel_credentials(ca.cert_pem.bytes())) as channel:
            live = channel.unary_unary(f"/{messages.SERVICE}/ServerLive")(b"", timeout=10)
            assert messages.ServerLiveResponse.FromString(live).live


def test_a_wrong_key_is_said(onnx: Callable[[bytes], Path], tmp_path: Path) -> None:
    from predictor.served import run

    ended = run(onnx(models.classifier()), tls_certificate=tmp_path / "none", tls_key=tmp_path / "none")
    assert ended.returncode == 2
    assert "AISERVICE_TLS_CERTIFICATE" in ended.stderr


def test_answers_hold_what_the_model_says(classes: Served) -> None:
    """The same frame with other numbers, other ids, other layouts: remembered or not, the answer is the model's."""
    rng = np.random.default_rng(0)
    with Raw(classes) as raw:
        for turn in range(60):
            rows = int(rng.integers(1, 4))
            values = np.round(rng.random((rows, 3)), 3)
            data: Any = values.tolist() if turn % 3 else values.ravel().tolist()
            request: dict[str, Any] = {"inputs": [{"name": "x", "shape": [rows, 3], "datatype": "FP32", "data": data}]}
            request = {"id": f"é{turn}" if turn % 5 == 0 else f"t{turn}"} | request if turn % 2 else request | {"id": f"z{turn}"}
            text = json.dumps(request, indent=1 if turn % 7 == 0 else None, separators=(",", ":") if turn % 4 == 0 else None)
            raw.send(post(text.encode()))
            answer = json.loads(raw.answer().body)
            assert answer["id"] == request["id"]
            assert answer["outputs"][0]["data"] == values.argmax(axis=1).tolist()
            np.testing.assert_allclose(answer["outputs"][1]["data"], 2 * values.ravel(), rtol=1e-6)
