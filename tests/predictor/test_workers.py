"""Several workers are one predictor: whoever answers, everything is whole, and what happens to one is not the others' trouble."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trustme

from aiservice.api.runtime import LABELS_PATH, REPLAY_HEADER, RESERVOIR_PATH, Reservoir
from aiservice_predictor.proto import messages
from predictor import models
from predictor.models import tensor
from predictor.served import TOKEN, Served, run, serving
from predictor.wire import Raw

BEARER = {"Authorization": f"Bearer {TOKEN}"}
LOW, HIGH = tensor("x", "FP32", [3, 2, 1], 1, 3), tensor("x", "FP32", [1, 2, 3], 1, 3)
WORKERS = 3


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    models.bundle(tmp_path / "bundle")
    with serving(tmp_path / "bundle", workers=WORKERS) as found:
        yield found


def workers(served: Served) -> list[int]:
    pid = served.process.pid
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(met: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 20
    while not met():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def connections(pid: int) -> int:
    """Sockets beyond those that every worker has; a worker's connections come and go alone."""
    found = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed in between
            found += os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
    return found


class Clients:
    """One connection each."""

    def __init__(self, served: Served, many: int) -> None:
        self._stack = ExitStack()
        self.all = [self._stack.enter_context(httpx.Client(base_url=served.url, trust_env=False, timeout=20)) for _ in range(many)]

    def __enter__(self) -> list[httpx.Client]:
        return self.all

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def ask(client: httpx.Client, given: dict[str, Any] = HIGH, **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    return client.post("/v2/models/m/infer", json={"inputs": [given]} | more, headers=headers)


def metric(client: httpx.Client, line: str) -> float:
    return next(float(t.rpartition(" ")[2]) for t in client.get("/metrics").text.splitlines() if t.startswith(line + " "))


def test_connections_are_spread_evenly(served: Served) -> None:
    before = {pid: connections(pid) for pid in workers(served)}
    with Clients(served, 4 * WORKERS) as clients:
        for client in clients:
            client.get("/v2/health/live")
        assert [connections(pid) - count for pid, count in before.items()] == [4] * WORKERS
    until(lambda: all(connections(pid) == count for pid, count in before.items()), "connections end")
    with Clients(served, WORKERS) as clients:
        for client in clients:
            client.get("/v2/health/live")
        assert [connections(pid) - count for pid, count in before.items()] == [1] * WORKERS


def test_metrics_are_of_all_whoever_is_asked(served: Served) -> None:
    with Clients(served, 2 * WORKERS) as clients:
        for number, client in enumerate(clients * 3):
            assert ask(client, LOW if number % 6 == 0 else HIGH).status_code == 200
            assert metric(client, "aiservice_rows_total") == number + 1
        ask(clients[0], tensor("x", "FP32", [1], 1))
        ask(clients[1], headers={REPLAY_HEADER: TOKEN})
        for client in clients:
            assert metric(client, 'aiservice_requests_total{outcome="ok",protocol="rest"}') == 18
            assert metric(client, 'aiservice_requests_total{outcome="client_error",protocol="rest"}') == 1
            assert metric(client, "aiservice_request_seconds_count") == 18
            assert metric(client, "aiservice_batch_rows_sum") == 19
            assert metric(client, 'aiservice_decisions_total{decision="low"}') == 3
            assert metric(client, 'aiservice_decisions_total{decision="high"}') == 15
            assert metric(client, "aiservice_reservoir_requests") == 18


def test_recorded_requests_and_their_labels_are_one(served: Served) -> None:
    with Clients(served, 2 * WORKERS) as clients:
        for number, client in enumerate(clients):
            ask(client, id=f"r{number}")
        pages = [Reservoir.model_validate_json(c.get(RESERVOIR_PATH, headers=BEARER).content) for c in clients]
        assert len({page.run for page in pages}) == 1
        for page in pages:
            assert page.seen == {"high": 6}
            assert {r.id for r in page.requests} == {f"r{n}" for n in range(6)}
            assert [r.sequence for r in page.requests] == [1, 2, 3, 4, 5, 6]
            assert page.requests[0].inputs == [HIGH]
        for number, client in enumerate(clients):
            body = {"labels": {f"r{5 - number}": "low", "other": "low"}}
            assert client.post(LABELS_PATH, json=body, headers=BEARER).json() == {"matched": [f"r{5 - number}"]}
        for client in clients:
            page = Reservoir.model_validate_json(client.get(f"{RESERVOIR_PATH}?labelledAfter=2", headers=BEARER).content)
            assert [(r.id, r.label_sequence) for r in page.requests] == [("r3", 3), ("r2", 4), ("r1", 5), ("r0", 6)]


def test_one_that_crashes_takes_nothing_of_the_others_with_it(served: Served) -> None:
    with Clients(served, 2 * WORKERS) as clients:
        for client in clients:
            assert ask(client).status_code == 200
        assert metric(clients[0], "aiservice_rows_total") == 6
        run_before = clients[0].get(RESERVOIR_PATH, headers=BEARER).json()["run"]
        before = workers(served)
        os.kill(before[0], signal.SIGKILL)
        until(lambda: before[0] not in workers(served), "it is gone")
        until(lambda: len(workers(served)) == WORKERS, "another takes its place")
        answered = [n for n, client in enumerate(clients) if _kept_its_connection(client)]
        assert len(answered) >= 4, "those of the others are still open"
    with Clients(served, 2 * WORKERS) as clients:
        for client in clients:
            assert ask(client).status_code == 200
        assert metric(clients[0], "aiservice_rows_total") == 6 + len(answered) + 6
        assert metric(clients[0], "aiservice_worker_restarts_total") == 1
        page = clients[0].get(RESERVOIR_PATH, headers=BEARER).json()
        assert page["run"] == run_before
        assert len(page["requests"]) == 6 + len(answered) + 6


def _kept_its_connection(client: httpx.Client) -> bool:
    """Whether the one that it had is still good; httpx would open another without a word."""
    pool = client._transport._pool  # type: ignore[attr-defined]
    connection = pool.connections[0]
    return not connection.has_expired() and ask(client).status_code == 200 and pool.connections[0] is connection


def test_it_drains(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.slow())
    with serving(path, workers=2) as served, Clients(served, 4) as clients:
        answers: list[int] = []
        given = tensor("x", "INT64", [500])
        threads = [threading.Thread(target=lambda c=c: answers.append(ask(c, given).status_code)) for c in clients]
        for thread in threads:
            thread.start()
        until(lambda: all(connections(pid) > 0 for pid in workers(served)), "all are asked")
        time.sleep(0.2)
        served.signal()
        until(lambda: served.client.get("/v2/health/ready").status_code == 503, "it says that it is not ready, and still answers")
        for thread in threads:
            thread.join()
        assert answers == [200] * 4
        assert served.wait() == 0


def test_a_second_signal_ends_it_now(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.slow())
    with serving(path, workers=2) as served, Raw(served) as raw:
        body = b'{"inputs": [{"name": "x", "datatype": "INT64", "shape": [1], "data": [60000]}]}'
        raw.send(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        time.sleep(0.5)
        served.signal()
        until(lambda: served.client.get("/v2/health/ready").status_code == 503, "it has heard")
        served.signal()
        assert raw.answer().status == 503
        assert served.wait() == 1


def test_workers_do_not_outlive_their_parent(served: Served) -> None:
    before = workers(served)
    os.kill(before[1], signal.SIGSTOP)
    served.signal(signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() and "Z" not in _state(pid) for pid in before), "they end as well")


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_one_that_hangs_is_started_again(tmp_path: Path) -> None:
    models.bundle(tmp_path / "bundle")
    with serving(tmp_path / "bundle", workers=2) as served, Clients(served, 2) as clients:
        for client in clients:
            assert ask(client).status_code == 200
        assert metric(clients[0], "aiservice_rows_total") == 2
        hanging = workers(served)[1]
        os.kill(hanging, signal.SIGSTOP)
        assert metric(clients[0], "aiservice_rows_total") == 2
        until(lambda: hanging not in workers(served) and len(workers(served)) == 2, "it is given up")
        assert metric(clients[0], "aiservice_rows_total") == 2


def test_grpc(served: Served) -> None:
    request = messages.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 3])
    for _ in range(WORKERS):
        with grpc.insecure_channel(f"127.0.0.1:{served.grpc}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.unary_unary(f"/{messages.SERVICE}/ModelInfer")
            answer = messages.ModelInferResponse.FromString(call(request.SerializeToString(), timeout=10))
            assert list(answer.outputs[0].contents.int64_contents) == [2]
    assert served.metric('aiservice_requests_total{outcome="ok",protocol="grpc"}') == WORKERS


def test_tls_and_handshakes_that_fail(tmp_path: Path) -> None:
    authority = trustme.CA()
    pair = authority.issue_cert("localhost")
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    pair.private_key_pem.write_to_path(f"{key}")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    models.bundle(tmp_path / "bundle")
    with serving(tmp_path / "bundle", workers=2, tls_certificate=certificate, tls_key=key) as served:
        before = {pid: connections(pid) for pid in workers(served)}
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", served.http), timeout=10) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                while plain.recv(1024):
                    pass
        until(lambda: all(connections(pid) == count for pid, count in before.items()), "they are gone")
        with ExitStack() as stack:
            for _ in range(4):
                plain = stack.enter_context(socket.create_connection(("127.0.0.1", served.http), timeout=10))
                sock = stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
                sock.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
                assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
            assert [connections(pid) - count for pid, count in before.items()] == [2, 2], "those that failed are not counted"


def test_it_does_not_listen_before_all_are_ready_and_says_where_it_cannot(tmp_path: Path) -> None:
    models.bundle(tmp_path / "bundle")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = run(tmp_path / "bundle", workers=2, http_port=taken.getsockname()[1])
    assert ended.returncode == 1
    assert "cannot listen" in ended.stderr


def test_threads_and_workers_are_not_both_many(tmp_path: Path) -> None:
    models.bundle(tmp_path / "bundle")
    ended = run(tmp_path / "bundle", workers=2, threads=2)
    assert ended.returncode == 2
    assert "AISERVICE_THREADS is 2: each of 2 workers has one thread" in ended.stderr


def test_a_damaged_model_is_refused_once(tmp_path: Path) -> None:
    models.bundle(tmp_path / "bundle", golden_requests=[{"inputs": [HIGH], "outputs": [tensor("label", "INT64", [0], 1)]}])
    ended = run(tmp_path / "bundle", workers=2)
    assert ended.returncode == 78
    assert ended.stderr.count("GoldenMismatch") == 1
