"""From a manifest to answers: every protocol, every way to name a service, private paths, many services, many replicas."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from aiservice.api.runtime import GOLDEN_PATH, LABELS_PATH, REFERENCE_PATH, REPLAY_HEADER, RESERVOIR_PATH
from aiservice.local.process import cpu_seconds, resident_bytes
from clients import triton
from local import bundles
from local.machine import Machine, condition, free_port, infer, machine, ready


@pytest.fixture(scope="module")
def pair() -> Iterator[Machine]:
    """Two services behind one gateway: `svc` decides from 0.5 on, `other` adds 10 to every score and has two replicas."""
    with machine() as box:
        box.bundle("v1")
        box.bundle("v2", bias=10.0)
        box.ask("v1")
        box.ask("v2", "other", real_time={"replicas": {"min": 2, "max": 2}})
        box.up("svc", "other")
        box.until(lambda s: s.revisions[0].ready == 2, "other")
        yield box


@pytest.fixture
def client(pair: Machine) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{pair.port}", trust_env=False, timeout=20) as made:
        yield made


def score(answer: httpx.Response) -> float:
    assert answer.status_code == 200, answer.text
    return float(answer.json()["outputs"][0]["data"][0])


@pytest.mark.parametrize(
    ("host", "name", "expected"),
    [
        ("127.0.0.1", "svc", 0.75),
        ("127.0.0.1", "other", 10.75),
        ("svc.localhost", "svc", 0.75),
        ("other.localhost", "other", 10.75),
        ("other.default.localhost", "other", 10.75),
        ("svc.localhost:8080", "svc", 0.75),
        ("SVC.localhost", "svc", 0.75),
    ],
)
def test_rest_by_path_and_by_host(client: httpx.Client, host: str, name: str, expected: float) -> None:
    answer = client.post(f"/v2/models/{name}/infer", json={"inputs": bundles.row(0.75)}, headers={"Host": host})
    assert score(answer) == expected


def test_v1_predicts(client: httpx.Client) -> None:
    for headers in ({}, {"Host": "svc.localhost"}):
        answer = client.post("/v1/models/svc:predict", json={"instances": [[0.25, 0.0]]}, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == [[0.25]]
    assert client.get("/v1/models/svc").status_code == 200


@pytest.mark.parametrize(("name", "expected"), [("svc", 0.75), ("other", 10.75)])
def test_grpc_by_host(pair: Machine, name: str, expected: float) -> None:
    import numpy as np

    with triton.InferenceServerClient(
        f"127.0.0.1:{pair.port}", channel_args=[("grpc.default_authority", f"{name}.localhost"), ("grpc.enable_http_proxy", 0)]
    ) as client:
        given = triton.InferInput("x", [1, 2], "FP32")
        given.set_data_from_numpy(np.array([[0.75, 0]], np.float32))
        found = client.infer(name, [given]).as_numpy("y")
        assert found is not None
        assert found.tolist() == [[expected]]
        assert client.is_model_ready(name)


def test_grpc_needs_no_host_name_where_there_is_one_service(box: Machine) -> None:
    import numpy as np

    box.bundle("v1")
    box.ask("v1")
    box.up()
    with triton.InferenceServerClient(f"127.0.0.1:{box.port}", channel_args=[("grpc.enable_http_proxy", 0)]) as client:
        given = triton.InferInput("x", [1, 2], "FP32")
        given.set_data_from_numpy(np.array([[0.25, 0]], np.float32))
        found = client.infer("svc", [given]).as_numpy("y")
        assert found is not None
        assert found.tolist() == [[0.25]]


@pytest.mark.parametrize("host", ["127.0.0.1", "svc.localhost"])
@pytest.mark.parametrize("path", [GOLDEN_PATH, REFERENCE_PATH, RESERVOIR_PATH, LABELS_PATH, "/aiservice/", "/x/../aiservice/v1/golden"])
def test_private_paths_are_closed_even_with_the_token(pair: Machine, client: httpx.Client, host: str, path: str) -> None:
    headers = {"Host": host, "Authorization": f"Bearer {pair.store().token()}"}
    assert client.get(path, headers=headers).status_code == 404
    assert client.post(path, json={"labels": {"a": "b"}}, headers=headers).status_code in (404, 405)


def test_nobody_outside_can_pass_as_a_replay(pair: Machine, client: httpx.Client) -> None:
    headers = {REPLAY_HEADER: pair.store().token()}
    answer = client.post("/v2/models/svc/infer", json={"inputs": bundles.row(0.75)}, headers=headers)
    assert "decisions" not in answer.json().get("parameters", {})


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"nonsense", 400, "not JSON"),
        (b'{"labels": {}}', 400, "expected"),
        (b'{"labels": {"a": null}}', 400, "'a'"),
        (b"[]", 400, "expected"),
        (json.dumps({"labels": {str(i): 1 for i in range(10_001)}}).encode(), 413, "10000"),
        (b'{"labels": {"nobody": true}}', 200, '"unknown": 1'),
    ],
)
def test_labels_over_the_gateway(client: httpx.Client, body: bytes, status: int, words: str) -> None:
    answer = client.post("/v1/labels", content=body)
    assert answer.status_code == status
    assert words in answer.text


def test_status_says_where_to_send_requests(pair: Machine, client: httpx.Client) -> None:
    shown = json.loads(pair.cli("status", "svc", "-o", "json").stdout)
    assert shown == pair.status().wire()
    assert shown["url"] == f"http://localhost:{pair.port}/v2/models/svc"
    assert score(client.post(shown["url"] + "/infer", json={"inputs": bundles.row(0.5)})) == 0.5


def test_an_unknown_model_is_not_found(client: httpx.Client) -> None:
    assert client.post("/v2/models/nobody/infer", json={"inputs": bundles.row(0.5)}).status_code == 404


def test_idle_it_writes_nothing_and_takes_hardly_any_time(pair: Machine) -> None:
    """`up` itself, two services; figures are printed, the bound is generous."""
    (up,) = pair.processes("aiservice.cli")
    files = [f for f in pair.state.rglob("*") if f.is_file() and f.suffix in (".json", "")]
    before = {f: f.stat().st_mtime_ns for f in files}
    began, spent = time.monotonic(), cpu_seconds(up)
    time.sleep(11)
    took = (cpu_seconds(up) or 0) - (spent or 0)
    share = took / (time.monotonic() - began)
    print(f"idle: {share:.2%} of a core, {(resident_bytes(up) or 0) / 2**20:.0f} MiB")
    assert share < 0.2
    assert {f: f.stat().st_mtime_ns for f in files} == before


def test_two_ups_on_two_ports(box: Machine) -> None:
    box.bundle("v1")
    box.ask("v1")
    box.ask("v1", "other")
    here, there = box.up("svc", wait=False), box.up("other", port=(second := free_port()), wait=False)
    box.until(ready, "svc", up=here)
    box.until(ready, "other", up=there)
    assert infer(here.url)["model_name"] == "svc"
    assert infer(there.url, name="other")["model_name"] == "other"
    assert second == there.port
    assert here.end() == 0
    assert infer(there.url, name="other")["outputs"]
    third = box.up("svc", port=second, wait=False)
    assert third.process.wait(60) == 1
    assert "choose another --port" in third.said
    assert there.end() == 0
    assert box.processes() == []


def test_another_port_after_a_kill_takes_the_predictors_along_and_leaves_no_gateway(box: Machine) -> None:
    box.bundle("v1")
    box.ask("v1")
    first = box.up()
    known = box.predictors()
    first.kill()
    second = box.up(port=free_port())
    assert infer(second.url)["outputs"]
    assert box.predictors() == known
    deadline = time.monotonic() + 30
    while len(box.envoys()) != 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(box.envoys()) == 1
    assert "ending the one that an earlier run left" in second.said


def test_another_address_after_a_kill(box: Machine) -> None:
    box.bundle("v1")
    box.ask("v1")
    box.up().kill()
    again = box.up(more=("--listen", "127.0.0.2"))
    assert infer(f"http://127.0.0.2:{box.port}")["outputs"]
    assert len(box.envoys()) == 1
    assert again.end() == 0


@pytest.mark.parametrize(("metric", "target"), [("Cpu", 50), ("Concurrency", 1), ("RequestsPerSecond", 5)])
async def test_more_predictors_come_when_they_are_needed(box: Machine, metric: str, target: int) -> None:
    """A slow model under load drives their number up, up to the most; no request fails."""
    box.bundle("v1", always=10)
    resources = {"requests": {"cpu": "100m", "memory": "64Mi"}}
    how: dict[str, Any] = {"replicas": {"min": 1, "max": 3}, "scaling": {"metric": metric, "target": target}, "resources": resources}
    box.ask("v1", real_time=how)
    await asyncio.to_thread(box.up)
    async with box.traffic(clients=4, pause=0) as counts:
        await box.wait(lambda s: s.revisions[0].ready == 3)
    assert counts.failed == 0, counts.errors[:5]
    assert "Serving" in condition(box.status(), "Ready")


def test_a_query_that_nobody_can_answer_changes_no_number_and_says_so(box: Machine) -> None:
    box.bundle("v1")
    how: dict[str, Any] = {"replicas": {"min": 1, "max": 3}, "scaling": {"metric": "Query", "target": 1, "query": "up"}}
    box.ask("v1", real_time=how)
    first = box.up()
    assert "RequirementMissing: Query cannot be followed: no Prometheus is named" in condition(box.status(), "ScalingReady")
    assert first.end() == 0
    box.env["AISERVICE_PROMETHEUS"] = f"http://127.0.0.1:{free_port()}"
    box.up()
    box.until(lambda s: "NoNumbers" in condition(s, "ScalingReady"))
    assert box.status().revisions[0].replicas == 1


def test_a_manifest_finds_its_model_from_its_own_folder(box: Machine, tmp_path: Path) -> None:
    box.bundle("v1")
    box.ask("v1")
    up = box.up(cwd=tmp_path)
    assert infer(up.url)["outputs"]
