"""What a person types: exit statuses, help, formats, and what comes out where there is no terminal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local import bundles
from local.machine import Machine, infer, machine

COMMANDS = [
    "up",
    "validate",
    "render",
    "crd",
    "runtime",
    "status",
    "why",
    "promote",
    "abort",
    "retry",
    "predict",
    "label",
    "down",
    "bundle",
]


@pytest.fixture(scope="module")
def box() -> Iterator[Machine]:
    """One that serves `svc`."""
    with machine() as made:
        made.bundle("v1")
        made.ask("v1")
        made.up()
        yield made


@pytest.fixture(scope="module")
def bare() -> Iterator[Machine]:
    """One on which nothing ever ran."""
    with machine() as made:
        made.bundle("v1")
        yield made


@pytest.mark.parametrize("words", [[], *[[c] for c in COMMANDS], ["bundle", "inspect"], ["bundle", "verify"]], ids=" ".join)
def test_help(bare: Machine, words: list[str]) -> None:
    for option in ("--help", "-h"):
        done = bare.cli(*words, option)
        assert done.returncode == 0
        assert "Usage: " in done.stdout
        assert "\x1b[" not in done.stdout
    if not words:
        assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["status"], 3, "there is no service here; start one: aiservice up -f service.yaml"),
        (["status", "nobody"], 3, "there is no service 'nobody' here"),
        (["why", "nobody"], 3, "there is no service 'nobody' here"),
        (["promote", "nobody"], 3, "there is no service 'nobody' here"),
        (["predict", "nobody", "-d", "{}"], 3, "there is no service 'nobody' here"),
        (["label", "nobody", "a=b"], 3, "there is no service 'nobody' here"),
        (["down", "nobody"], 3, "there is no service 'nobody' here"),
        (["status", "../../etc"], 3, "there is no service '../../etc' here"),
        (["label", "nobody", "ab"], 2, "'ab' given, expected ID=DECISION"),
        (["label", "nobody"], 2, "no labels given"),
        (["predict", "nobody", "-d", "@/nowhere"], 2, "/nowhere: cannot be read"),
        (["validate", "-f", "/nowhere.yaml"], 2, "/nowhere.yaml: there is no such file"),
        (["render", "-f", "/nowhere.yaml"], 2, "/nowhere.yaml: there is no such file"),
        (["up", "-f", "/nowhere.yaml"], 2, "/nowhere.yaml: there is no such file"),
        (["up"], 2, "Missing option"),
        (["up", "-f", "x", "--port", "0"], 2, "--port"),
        (["status", "-o", "xml"], 2, "'xml' is not one of"),
        (["status", "--watch", "-o", "json"], 2, "leave out -o json"),
        (["nonsense"], 2, "No such command"),
        (["bundle", "verify", "/nowhere"], 2, "/nowhere"),
        (["bundle", "inspect", "/nowhere"], 2, "/nowhere"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_exit_statuses(bare: Machine, words: list[str], status: int, said: str) -> None:
    done = bare.cli(*words)
    assert (done.returncode, said in done.stderr) == (status, True), done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_version_and_completion(bare: Machine) -> None:
    import aiservice

    assert bare.cli("--version").stdout.strip() == aiservice.__version__
    for shell in ("bash", "zsh", "fish"):
        env = bare.env | {"_AISERVICE_COMPLETE": f"source_{shell}"}
        done = subprocess.run([Path(sys.executable).with_name("aiservice")], env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, "_AISERVICE_COMPLETE" in done.stdout) == (0, True), done


def test_help_does_not_load_the_machinery(bare: Machine) -> None:
    code = (
        "import sys, aiservice.cli; print(sorted({m.partition('.')[0] for m in sys.modules} & {'aiohttp', 'pydantic', 'yaml', 'obstore'}))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], env=bare.env, text=True).strip() == "[]"


def test_status_in_every_format(box: Machine) -> None:
    table, wide = box.cli("status"), box.cli("status", "svc", "-o", "wide")
    assert table.stdout.splitlines()[0].split() == ["NAME", "READY", "STABLE", "CANARY", "WEIGHT", "PHASE", "URL"]
    assert f"http://localhost:{box.port}/v2/models/svc" in table.stdout
    assert f"file://{box.folder}/v1" in wide.stdout
    as_json, as_yaml = box.cli("status", "svc", "-o", "json"), box.cli("status", "svc", "-o", "yaml")
    assert json.loads(as_json.stdout) == yaml.safe_load(as_yaml.stdout) == box.status().wire()
    many = json.loads(box.cli("status", "-o", "json").stdout)
    assert (many["kind"], [s["metadata"]["name"] for s in many["items"]]) == ("List", ["svc"])
    for done in (table, wide, as_json, as_yaml):
        assert done.returncode == 0
        assert "\x1b[" not in done.stdout
        assert "…" not in done.stdout.replace("sha256", "").split("MODEL")[0]


def test_why(box: Machine) -> None:
    done = box.cli("why", "svc")
    assert done.returncode == 0
    assert "it answered its golden requests" in done.stdout


def test_long_words_are_not_cut_in_a_pipe(box: Machine) -> None:
    done = box.cli("status", "svc", COLUMNS="40")
    assert f"file://{box.folder}/v1 " in done.stdout
    assert "it answered its golden requests and there was no revision before it" in done.stdout


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, None], ids=["SIGTERM", "SIGINT", "closed pipe"])
def test_status_is_followed_in_a_pipe(box: Machine, end: signal.Signals | None) -> None:
    command = [sys.executable, "-m", "aiservice.cli", "status", "svc", "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=box.env, text=True) as follower:
        assert follower.stdout is not None
        assert "svc  Ready" in follower.stdout.readline()
        if end:
            follower.send_signal(end)
        else:
            follower.stdout.close()
            deadline = time.monotonic() + 60
            number = 0
            while follower.poll() is None and time.monotonic() < deadline:
                number += 1
                box.ask("v1", standby=f"{number + 60}s")
                box.write(box.manifest().read_text() + "x" * (number % 2))
                time.sleep(1)
        status = follower.wait(60)
        assert follower.stderr is not None
        assert "Traceback" not in follower.stderr.read()
    assert status in ((0,) if end else (1, 141))
    box.ask("v1")


def test_predict_and_label(box: Machine, tmp_path: Path) -> None:
    request = {"id": "mine", "inputs": bundles.row(0.75)}
    file = tmp_path / "request.json"
    file.write_text(json.dumps(request))
    for given, stdin in ((f"@{file}", None), ("@-", json.dumps(request)), (json.dumps(request), None)):
        done = box.cli("predict", "svc", "-d", given, stdin=stdin, http_proxy="http://127.0.0.1:9")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["outputs"][0]["data"] == [0.75]
    wrong = box.cli("predict", "svc", "-d", "{}")
    assert (wrong.returncode, "error: 400" in wrong.stderr) == (2, True), wrong
    labels = tmp_path / "labels.json"
    labels.write_text('{"labels": {"mine": 1, "nobody": 0}}')
    done = box.cli("label", "svc", "-d", f"@{labels}")
    assert done.stdout.split(" labels")[0] == "1", done
    assert "1 of unknown" in done.stdout
    wrong = box.cli("label", "svc", "-d", '{"labels": 1}')
    assert (wrong.returncode, "expected" in wrong.stderr) == (2, True), wrong


def test_commands_that_cannot_be_done_now_say_why(box: Machine) -> None:
    for verb, why in (("promote", "no rollout is in progress"), ("abort", "no rollout is in progress"), ("retry", "was not rejected")):
        done = box.cli(verb, "svc")
        assert (done.returncode, why in done.stderr) == (1, True), done
    busy = box.cli("down", "svc")
    assert (busy.returncode, "looks after svc" in busy.stderr) == (1, True), busy


def test_the_control_server_wants_the_token(box: Machine) -> None:
    import httpx

    url = box.store().kept("control")["url"]
    with httpx.Client(base_url=url, trust_env=False) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": b"Bearer \xff\xfe"}):
            assert client.post("/v1/services/svc/promote", headers=headers).status_code == 401  # type: ignore[arg-type]
        good = {"Authorization": f"Bearer {box.store().token()}"}
        assert client.post("/v1/services/svc/dance", headers=good).status_code == 404
        assert client.post("/v1/services/nobody/promote", headers=good).status_code == 404
        assert client.post("/v1/services/svc/promote", headers=good).status_code == 409
    assert box.store().folder.joinpath("token").stat().st_mode & 0o777 == 0o600


def kinds(text: str) -> list[str]:
    return [o["kind"] for o in yaml.safe_load_all(text)]


def test_render(box: Machine) -> None:
    first, again = box.cli("render", "-f", str(box.manifest())), box.cli("render", "-f", str(box.manifest()))
    assert first.returncode == 0
    assert first.stdout == again.stdout
    assert kinds(first.stdout) == ["NetworkPolicy", "InferenceService", "Service", "HorizontalPodAutoscaler", "HTTPRoute", "GRPCRoute"]
    assert box.store().token() not in first.stdout
    assert json.loads(box.cli("render", "-f", str(box.manifest()), "-o", "json").stdout) == list(yaml.safe_load_all(first.stdout))
    box.ask("v1", "two", real_time={"replicas": {"min": 2, "max": 4}})
    assert "PodDisruptionBudget" in kinds(box.cli("render", "-f", str(box.manifest("two"))).stdout)
    for command in ("crd", "runtime"):
        assert yaml.safe_load(box.cli(command).stdout)["metadata"]["name"]


def test_validate(bare: Machine) -> None:
    revision = bare.ask("v1")
    bare.write("kind: Service\napiVersion: aiservice.dev/v1alpha1", "wrong")
    good = bare.cli("validate", "-f", str(bare.manifest()))
    assert (good.returncode, revision in good.stdout) == (0, True)
    both = bare.cli("validate", "-f", str(bare.manifest()), "-f", str(bare.manifest("wrong")))
    assert (both.returncode, revision in both.stdout, "'Service' given" in both.stderr) == (2, True, True)


def test_bundles(bare: Machine) -> None:
    digest = bare.bundle("good", bias=0.25)
    place = bare.folder / "good"
    shown: dict[str, Any] = json.loads(bare.cli("bundle", "inspect", str(place)).stdout)
    assert digest in json.dumps(shown)
    assert digest in bare.cli("bundle", "verify", str(place)).stdout
    assert bare.cli("bundle", "verify", str(place), "--digest", digest).returncode == 0
    wrong = bare.cli("bundle", "verify", str(place), "--digest", "sha256:" + "0" * 64)
    assert (wrong.returncode, "DigestMismatch" in wrong.stderr) == (2, True), wrong
    model = place / "model.onnx"
    raw = bytearray(model.read_bytes())
    raw[-1] ^= 1
    model.write_bytes(raw)
    for command in ("verify", "inspect"):
        damaged = bare.cli("bundle", command, str(place))
        assert (damaged.returncode, "DamagedBundle" in damaged.stderr or "DigestMismatch" in damaged.stderr) == (2, True), damaged
        assert damaged.stdout == ""


def test_down_ends_what_a_killed_up_left_and_nothing_else() -> None:
    with machine() as made:
        made.bundle("v1")
        made.ask("v1")
        made.ask("v1", "other")
        made.up("svc", "other").kill()
        shown = made.cli("status", "svc")
        assert (shown.returncode, "aiservice down svc" in shown.stdout) == (1, True)
        one = made.cli("down", "svc")
        assert (one.returncode, one.stdout) == (0, "svc: ended 1 processes\n"), one
        assert len(made.envoys()) == 1, "it serves the other one"
        assert infer(f"http://127.0.0.1:{made.port}", name="other")["outputs"]
        two = made.cli("down", "other")
        assert two.returncode == 0
        assert made.predictors() == []
        assert made.cli("down", "svc").stdout in ("svc: nothing was running\n", "svc: ended 1 processes\n")
        up = made.up("svc", "other")
        assert up.end() == 0
        assert made.processes() == []
