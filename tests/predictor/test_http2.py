"""HTTP/2 as it is on the wire: windows, floods, headers, the end. (h2spec's 145 cases pass as well: docs/performance.md says how.)"""

from __future__ import annotations

import contextlib
import gzip
import socket
from collections.abc import Callable
from pathlib import Path

import grpc
import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiservice_predictor.proto import messages
from aiservice_predictor.transport.h2 import frames as f
from aiservice_predictor.transport.h2 import wire
from aiservice_predictor.transport.h2.frames import ConnectionFault
from aiservice_predictor.transport.h2.hpack_in import Decoder
from aiservice_predictor.transport.h2.hpack_out import literal
from predictor import models
from predictor.h2client import Peer, grpc_message, head, request
from predictor.served import Served, serving
from predictor.test_grpc import call, message

GOOD = message("FP32", [1, 3], fp32_contents=[1, 3, 2]).SerializeToString()


def labels(data: bytes) -> list[int]:
    assert len(data) - 5 == int.from_bytes(data[1:5], "big")
    return list(messages.ModelInferResponse.FromString(data[5:]).outputs[0].contents.int64_contents)


def ready(served: Served) -> bool:
    return served.client.get("/v2/health/ready").status_code == 200


def test_many_streams_and_headers_in_pieces(classes: Served) -> None:
    with Peer(classes) as peer:
        block = head()
        first = (
            f.frame(f.HEADERS, 0, 1, block[:20]) + f.frame(f.CONTINUATION, 0, 1, block[20:30]) + f.frame(f.CONTINUATION, 4, 1, block[30:])
        )
        data = grpc_message(GOOD)
        peer.send(first + f.frame(f.DATA, f.PADDED, 1, b"\3" + data[:7] + bytes(3)) + b"".join(request(i, GOOD) for i in range(3, 200, 2)))
        peer.send(f.frame(f.DATA, 1, 1, data[7:]))
        answers = peer.answers(100)
        assert sorted(answers) == list(range(1, 200, 2))
        assert all(labels(a) == [1] for a in answers.values())


def test_an_answer_waits_for_windows(classes: Served) -> None:
    """A window of one byte: the answer comes byte by byte, and other streams are not held up."""
    with Peer(classes, {f.INITIAL_WINDOW_SIZE: 1}) as peer:
        peer.send(request(1, GOOD))
        found = b""
        while not (found and len(found) == 5 + int.from_bytes(found[1:5].ljust(4, b"\xff"), "big")):
            _, id, payload = peer.until(f.DATA)
            assert (id, len(payload)) == (1, 1)
            found += payload
            peer.send(f.window_update(1, 1))
        assert labels(found) == [1]
        peer.send(request(3, GOOD) + f.settings({f.INITIAL_WINDOW_SIZE: 0}) + request(5, GOOD))
        peer.send(f.settings({f.INITIAL_WINDOW_SIZE: 1000}))
        assert all(labels(a) == [1] for a in peer.answers(2).values() if a)


def test_messages_larger_than_every_window(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.identity("FP32", "N", 100))
    with serving(path, max_rows=100_000) as served:
        options = [("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{served.grpc}", options=options) as channel:
            sent = messages.ModelInferRequest(model_name="m")
            sent.inputs.add(name="x", datatype="FP32", shape=[25_600, 100])
            sent.raw_input_contents.append(bytes(range(256)) * 40_000)
            for _ in range(2):
                got = channel.unary_unary(f"/{messages.SERVICE}/ModelInfer")(sent.SerializeToString(), timeout=20)
                assert messages.ModelInferResponse.FromString(got).raw_output_contents[0] == sent.raw_input_contents[0]


def test_gzip_both_ways(classes: Served) -> None:
    with Peer(classes) as peer:
        small = gzip.compress(GOOD)
        block = head("ModelInfer", (b"grpc-encoding", b"gzip"))
        peer.send(f.frame(f.HEADERS, 4, 1, block) + f.frame(f.DATA, 1, 1, b"\1" + len(small).to_bytes(4, "big") + small))
        data = peer.until(f.DATA)[2]
        assert data[0] == 1
        assert messages.ModelInferResponse.FromString(gzip.decompress(data[5:])).outputs[0].contents.int64_contents == [1]
    compressed = {"compression": grpc.Compression.Gzip, "timeout": 5}
    assert call(classes, "ModelInfer", GOOD, **compressed)
    with pytest.raises(grpc.RpcError) as bomb:
        call(classes, "ModelInfer", bytes(3 * 2**20), **compressed)
    assert bomb.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)


def test_identifiers_come_back_and_others_are_sent_away(classes: Served) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{classes.grpc}") as channel:
        method = channel.unary_unary(f"/{messages.SERVICE}/ServerLive")
        _, done = method.with_call(b"", metadata=(("x-request-id", "r-7"), ("traceparent", "00-a-b-01")), timeout=5)
        assert {("x-request-id", "r-7"), ("traceparent", "00-a-b-01")} <= set(done.initial_metadata())
    with Peer(classes) as peer:
        peer.send(f.frame(f.HEADERS, 5, 1, b"\x82\x86\x84" + literal(b":authority", b"x")))
        assert b"415" in peer.until(f.HEADERS)[2]
        assert b"REST is on the other one" in peer.until(f.DATA)[2]


def flood(served: Served, what: bytes, times: int = 6000, settings: dict[int, int] | None = None) -> int:
    """Send it again and again; the error code that ends the connection."""
    before = served.memory()
    with Peer(served, settings, timeout=20) as peer:
        try:
            for _ in range(times // 100):
                peer.send(what * 100)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            code = peer.ended_with()
        except (EOFError, TimeoutError):
            code = -1
    assert ready(served)
    assert served.memory() - before < 32 * 2**20
    return code


@pytest.mark.parametrize(
    "what",
    [
        f.settings({}),
        f.settings({f.INITIAL_WINDOW_SIZE: 7}),
        f.frame(f.PING, 0, 0, bytes(8)),
        f.frame(f.PRIORITY, 0, 1, bytes(4) + b"\1"),
        f.window_update(0, 1),
        f.frame(99, 0, 0, b"x"),
    ],
)
def test_floods_of_frames_that_ask_for_nothing(classes: Served, what: bytes) -> None:
    assert flood(classes, what) in (f.ENHANCE_YOUR_CALM, -1)


def test_empty_data_and_endless_headers(classes: Served) -> None:
    assert flood(classes, f.frame(f.DATA, 0, 1)) in (f.PROTOCOL_ERROR, -1)
    with Peer(classes) as peer:
        peer.send(f.frame(f.HEADERS, 4, 1, head()) + f.frame(f.DATA, 0, 1) * 3000)
        assert peer.ended_with() == f.ENHANCE_YOUR_CALM
    with Peer(classes) as peer:
        peer.send(f.frame(f.HEADERS, 0, 1, head()) + f.frame(f.CONTINUATION, 0, 1) * 40)
        assert peer.ended_with() == f.ENHANCE_YOUR_CALM
    with Peer(classes) as peer:
        peer.send(f.frame(f.HEADERS, 4, 1, literal(b"a", bytes(4000)).replace(b"\0", b"\x40", 1) + b"\xbe" * 12_000))
        assert peer.ended_with() in (f.ENHANCE_YOUR_CALM, f.COMPRESSION_ERROR)


def test_rapid_reset(classes: Served) -> None:
    with Peer(classes) as peer:
        sent = b"".join(request(i, GOOD) + f.reset(i, f.CANCEL) for i in range(1, 4001, 2))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            peer.send(sent)
        with contextlib.suppress(EOFError):
            assert peer.ended_with() == f.ENHANCE_YOUR_CALM
    assert ready(classes)


def test_more_streams_than_allowed(classes: Served) -> None:
    with Peer(classes) as peer:
        peer.send(b"".join(f.frame(f.HEADERS, 4, i, head()) for i in range(1, 2 * wire.MAX_STREAMS + 3, 2)))
        _, id, code = peer.until(f.RST_STREAM)
        assert (id, int.from_bytes(code, "big")) == (2 * wire.MAX_STREAMS + 1, f.REFUSED_STREAM)
        peer.send(f.frame(f.DATA, 1, 1, grpc_message(GOOD)))
        assert labels(peer.until(f.DATA)[2]) == [1]


def test_a_window_that_is_never_opened_ends(onnx: Callable[[bytes], Path]) -> None:
    with serving(onnx(models.classifier()), timeout=0.5) as served, Peer(served, {f.INITIAL_WINDOW_SIZE: 0}, timeout=20) as peer:
        peer.send(request(1, message("FP32", [1, 3], fp32_contents=[1, 3, 2]).SerializeToString()))
        with pytest.raises(EOFError):
            peer.until(f.DATA)


def test_requests_that_never_end_are_ended(onnx: Callable[[bytes], Path]) -> None:
    with serving(onnx(models.classifier()), timeout=0.5) as served:
        with Peer(served) as peer:
            peer.send(f.frame(f.HEADERS, 4, 1, head()) + f.frame(f.DATA, 0, 1, b"\0\0"))
            assert b"did not come within" in peer.until(f.HEADERS)[2]
            peer.send(request(3, GOOD))
            assert labels(peer.until(f.DATA)[2]) == [1], "the connection lives on"
        with Peer(served) as peer:
            peer.send(f.frame(f.HEADERS, 0, 1, head()))
            with pytest.raises(EOFError):
                peer.until(f.DATA)
        line = 'aiservice_requests_total{outcome="client_error",protocol="grpc"}'
        assert served.metric(line) == 1


def test_goaway_on_sigterm_and_open_streams_are_answered(onnx: Callable[[bytes], Path]) -> None:
    with serving(onnx(models.slow()), drain=20, batch_max_size=1) as served, Peer(served) as peer:
        peer.send(request(1, message("INT64", [1], int64_contents=[1000]).SerializeToString()))
        served.until_called()
        served.signal()
        assert peer.ended_with() == f.NO_ERROR
        peer.send(request(3, message("INT64", [1], int64_contents=[1]).SerializeToString()))
        answers = peer.answers(2)
        assert all(len(a) > 5 for a in answers.values()), "what still comes is answered"
        assert served.wait() == 0


def test_another_protocol_on_the_port(classes: Served) -> None:
    with socket.create_connection(("127.0.0.1", classes.grpc), timeout=5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while piece := sock.recv(4096):
            answer += piece
    assert b"prior knowledge" in answer


FIELD = st.tuples(
    st.sampled_from([b":path", b"a", b"grpc-timeout", b"content-type", b"x" * 200]), st.sampled_from([b"", b"1", b"/x", b"v" * 300])
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.lists(FIELD, max_size=8), st.booleans(), st.sampled_from([None, 0, 60, 500, 4096])), max_size=8))
def test_header_blocks_are_read_as_hpack_reads_them(blocks: list[tuple[list[tuple[bytes, bytes]], bool, int | None]]) -> None:
    encoder, decoder = hpack.Encoder(), Decoder()
    for fields, huffman, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        assert decoder.decode(encoder.encode(fields, huffman=huffman)) == fields


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=4))
def test_any_block_is_read_as_hpack_reads_it_or_refused(blocks: list[bytes]) -> None:
    theirs, ours = hpack.Decoder(), Decoder()
    for block in blocks:
        try:
            found = ours.decode(block)
        except ConnectionFault:
            return
        assert found == [(bytes(k), bytes(v)) for k, v in theirs.decode(block, raw=True)]
