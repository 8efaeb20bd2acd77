"""kubectl aiservice: what it prints, what it writes, and a sentence for each thing that can be wrong. tests/cluster has it on a real cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from typer.testing import CliRunner

from aiservice.api.status import AIServiceStatus
from aiservice.cli.kubectl import app
from cli.api import Api, api, candidate, service, status, write

PROGRAM = Path(sys.executable).with_name("kubectl-aiservice")


@dataclass
class Done:
    """As of a process."""

    returncode: int
    stdout: str
    stderr: str


def run(of: Path, *words: str) -> Done:
    """In this process: a new one takes a second to begin."""
    result = CliRunner().invoke(app, [*words, "--kubeconfig", str(of)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def start(*words: str, **env: str) -> CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "FORCE_COLOR", "KUBECONFIG")}
    return subprocess.run([PROGRAM, *words], env=clean | env, capture_output=True, text=True, check=False, timeout=90)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Api]:
    with api(tmp_path) as made:
        yield made


def test_status_of_one_of_all_and_everywhere(server: Api) -> None:
    server.add(service(), service("other"), service("far", "away"))
    here = run(server.kubeconfig, "status")
    lines = [line.split() for line in here.stdout.splitlines()]
    assert lines[0] == ["NAME", "READY", "STABLE", "CANARY", "WEIGHT", "PHASE", "URL"]
    assert [line[0] for line in lines[1:]] == ["svc", "other"]
    assert here.returncode == 0
    everywhere = run(server.kubeconfig, "status", "-A").stdout.splitlines()
    assert [line.split()[:2] for line in everywhere] == [["NAMESPACE", "NAME"], ["shop", "svc"], ["shop", "other"], ["away", "far"]]
    for words in (
        ["-n", "away"],
        ["--namespace=away"],
        ["--context", "there", "-n", "away"],
        ["--kubeconfig", str(server.kubeconfig), "-n", "away"],
    ):
        assert run(server.kubeconfig, "status", "far", *words).stdout.startswith("far  Ready  Stable")
    shown = AIServiceStatus.model_validate_json(run(server.kubeconfig, "status", "svc", "-o", "json").stdout)
    assert shown == service().status


def test_a_context_without_a_namespace_means_default(server: Api) -> None:
    server.add(service("svc", "default"))
    assert run(server.kubeconfig, "status", "--context", "there").returncode == 0


def test_why_tells_the_reason_and_the_whole_journal(server: Api) -> None:
    made = service("svc", "shop", "s3://m/v1", "s3://m/v2")
    server.add(made)
    shown = run(server.kubeconfig, "why", "svc").stdout
    assert f"{candidate(made)} answers recorded requests" in shown
    assert shown.count("Started") == 2
    run(server.kubeconfig, "abort", "svc")
    shown = run(server.kubeconfig, "why", "svc").stdout
    assert "aborted by a person" in shown
    assert "kubectl aiservice retry svc" in shown


def test_a_service_that_no_operator_has_seen_says_so(server: Api) -> None:
    server.add(service().model_copy(update={"status": AIServiceStatus()}))
    done = run(server.kubeconfig, "status", "svc")
    assert (done.returncode, "No operator has looked at svc yet" in done.stdout) == (1, True)


@pytest.mark.parametrize(("verb", "said"), [("promote", "promoted by a person"), ("abort", "aborted by a person")])
def test_a_command_is_written_waited_for_and_told(server: Api, verb: str, said: str) -> None:
    made = service("svc", "shop", "s3://m/v1", "s3://m/v2")
    server.add(made)
    done = run(server.kubeconfig, verb, "svc")
    after = server.services["shop", "svc"].status.rollout
    assert done.returncode == 0, done
    assert done.stdout.startswith(f"svc: {after.phase.value}, {after.stable} is stable. {said}")
    assert (after.stable == candidate(made)) is (verb == "promote")
    assert after.handled.startswith(f"{verb}:")


def test_retry_follows_abort(server: Api) -> None:
    server.add(service("svc", "shop", "s3://m/v1", "s3://m/v2"))
    assert run(server.kubeconfig, "abort", "svc").returncode == 0
    done = run(server.kubeconfig, "retry", "svc")
    assert (done.returncode, "asked to try it again" in done.stdout) == (0, True), done


@pytest.mark.parametrize(
    ("verb", "why"), [("promote", "no rollout is in progress"), ("abort", "no rollout is in progress"), ("retry", "was not rejected")]
)
def test_what_cannot_be_done_is_refused_and_not_written(server: Api, verb: str, why: str) -> None:
    server.add(service())
    done = run(server.kubeconfig, verb, "svc")
    assert (done.returncode, why in done.stderr) == (1, True), done
    assert not [a for a in server.asked if a.startswith("PATCH")]


NO_CRD = (404, b"404 page not found\n")
FORBIDDEN = (403, status(403, 'aiservices.aiservice.dev is forbidden: User "u" cannot list resource "aiservices"'))


@pytest.mark.parametrize(
    ("answer", "words", "code", "said"),
    [
        (None, ["status"], 3, "there is no AIService in namespace shop; make one"),
        (None, ["status", "-A"], 3, "there is no AIService in any namespace"),
        (None, ["status", "nobody"], 3, "there is no AIService 'nobody' in namespace shop"),
        (None, ["why", "../../x"], 3, "there is no AIService '../../x' in namespace shop"),
        (None, ["promote", "nobody", "-n", "away"], 3, "there is no AIService 'nobody' in namespace away"),
        (None, ["predict", "nobody", "-d", "{}"], 3, "there is no AIService 'nobody' in namespace shop"),
        (None, ["status", "svc", "-A"], 2, "say which with -n"),
        (None, ["status", "--context", "nowhere"], 1, "kubectl config get-contexts"),
        (NO_CRD, ["status"], 1, "this cluster has no AIService resource: install it: helm install"),
        (NO_CRD, ["status", "svc"], 1, "this cluster has no AIService resource"),
        (FORBIDDEN, ["status"], 1, "the API server refuses: 403: aiservices.aiservice.dev is forbidden"),
        (FORBIDDEN, ["promote", "svc"], 1, "the API server refuses: 403"),
        ((401, status(401, "Unauthorized")), ["status"], 1, "does not know you: log in again"),
        ((500, b"oops"), ["status"], 1, "the API server refuses: 500: oops"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_what_is_wrong_is_a_sentence(server: Api, answer: tuple[int, Any] | None, words: list[str], code: int, said: str) -> None:
    server.answer = answer
    done = run(server.kubeconfig, *words)
    assert (done.returncode, said in done.stderr) == (code, True), done
    assert done.stdout == ""


def test_a_wrong_name_is_told_the_right_ones(server: Api) -> None:
    server.add(service(), service("other"))
    assert "there are: svc, other" in run(server.kubeconfig, "status", "scv").stderr


def test_a_status_of_another_version_is_not_guessed(server: Api) -> None:
    server.answer = (200, {"items": [{"metadata": {"name": "svc"}, "spec": service().spec.wire(), "status": {"aura": "blue"}}]})
    done = run(server.kubeconfig, "status")
    assert (done.returncode, "svc cannot be read: status.aura" in done.stderr) == (2, True), done


def test_no_cluster_is_said_at_once(tmp_path: Path) -> None:
    nobody = start("status", KUBECONFIG=str(write(tmp_path / "k", "http://127.0.0.1:9")))
    assert (nobody.returncode, "http://127.0.0.1:9 does not answer" in nobody.stderr) == (1, True), nobody
    nothing = start("status", HOME=str(tmp_path))
    assert (nothing.returncode, "no cluster to ask" in nothing.stderr) == (1, True), nothing
    for done in (nobody, nothing):
        assert "Traceback" not in done.stderr


def test_predict_connects_where_it_is_told_and_keeps_the_host(server: Api) -> None:
    server.add(service())
    unreachable = run(server.kubeconfig, "predict", "svc", "-d", "{}")
    assert unreachable.returncode == 1
    assert "http://127.0.0.1:1/v2/models/svc/infer: no answer" in unreachable.stderr, "names under .localhost are this machine"
    assert "--resolve ADDRESS[:PORT]" in unreachable.stderr


@pytest.mark.parametrize(("words", "token"), [([], "Bearer t"), (["--account", "robot"], "Bearer of-robot")])
def test_labels_go_to_the_operator_with_a_token_that_it_can_check(server: Api, words: list[str], token: str) -> None:
    done = run(server.kubeconfig, "label", "svc", "a=fraud", "b=fine", *words)
    assert (done.returncode, done.stdout) == (0, "1 labels joined with their requests, 1 of unknown or forgotten requests\n"), done
    home = "/api/v1/namespaces/aiservice-system/services/aiservice-operator:http/proxy"
    assert server.asked[-1] == f"POST {home}/v1/namespaces/shop/services/svc/labels"
    assert server.tokens[-1] == token


def test_labels_that_cannot_be_sent_say_why(server: Api) -> None:
    for words, code, said in (
        (["a=b", "--operator", "x"], 2, "expected NAMESPACE/SERVICE"),
        (["-d", "{"], 2, "not JSON"),
        ([], 2, "no labels given"),
    ):
        done = run(server.kubeconfig, "label", "svc", *words)
        assert (done.returncode, said in done.stderr) == (code, True), done
    server.answer = (403, {"error": "robot may not create aiservices/labels in namespace shop"})
    done = run(server.kubeconfig, "label", "svc", "a=b")
    assert (done.returncode, "403: robot may not" in done.stderr) == (1, True), done


def test_a_certificate_is_no_token(server: Api) -> None:
    server.kubeconfig.write_text(server.kubeconfig.read_text().replace("token: t", "username: u"))
    done = run(server.kubeconfig, "label", "svc", "a=b")
    assert (done.returncode, "give --account SERVICEACCOUNT" in done.stderr) == (2, True), done


def test_help_asks_no_cluster_and_loads_no_client() -> None:
    for words in ([], ["status"], ["why"], ["promote"], ["abort"], ["retry"], ["predict"], ["label"]):
        done = CliRunner().invoke(app, [*words, "--help"])
        assert (done.exit_code, "Usage: " in done.stdout) == (0, True), done
    code = "import sys, aiservice.cli.kubectl; print(sorted({m.partition('.')[0] for m in sys.modules} & {'aiohttp', 'kubernetes', 'pydantic'}))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_watch_follows_until_it_is_told_to_stop(server: Api) -> None:
    server.add(service("svc", "shop", "s3://m/v1", "s3://m/v2"))
    with subprocess.Popen(
        [PROGRAM, "status", "svc", "-w"], env=os.environ | {"KUBECONFIG": str(server.kubeconfig)}, stdout=subprocess.PIPE, text=True
    ) as follower:
        assert follower.stdout is not None
        try:
            assert "Replaying" in follower.stdout.readline()
            run(server.kubeconfig, "promote", "svc")
            assert any("svc  Ready  Stable" in line for line in follower.stdout)
            follower.terminate()
            assert follower.wait(30) == 0
        finally:
            follower.kill()


def test_json_of_all_is_a_list(server: Api) -> None:
    server.add(service(), service("other"))
    many = json.loads(run(server.kubeconfig, "status", "-o", "json").stdout)
    assert [s["metadata"]["name"] for s in many["items"]] == ["svc", "other"]
