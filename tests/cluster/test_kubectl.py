"""kubectl aiservice on a real cluster: found by kubectl, reads, commands, predicts, labels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from aiservice.api.status import Phase
from cluster.kube import ENV, PORT, Kube, ready
from local import bundles

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

BIN = Path(sys.executable).parent
MANUAL: dict[str, Any] = {"promotion": "Manual", "replay": {"requests": 0}, "gates": {"errors": {"margin": "50%"}}}


def ask(kube: Kube, *words: str, **env: str) -> CompletedProcess[str]:
    path = {"PATH": f"{BIN}{os.pathsep}{ENV['PATH']}"}
    return subprocess.run(
        ["kubectl", "aiservice", *words, "-n", kube.namespace],
        env=ENV | path | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


async def test_status_why_predict_and_label(kube: Kube, tmp_path: Path) -> None:
    kube.publish(tmp_path, "v1")
    kube.apply(kube.service("v1"))
    kube.apply(kube.service("v1", name="other"))
    await kube.until(ready, "ready")
    await kube.until(ready, "ready", name="other")
    table = ask(kube, "status")
    assert (table.returncode, [line.split()[0] for line in table.stdout.splitlines()]) == (0, ["NAME", "other", "svc"]), table
    assert [kube.namespace, "svc"] in [line.split()[:2] for line in ask(kube, "status", "-A").stdout.splitlines()]
    assert json.loads(ask(kube, "status", "svc", "-o", "json").stdout) == kube.status().wire()
    assert "it answered its golden requests" in ask(kube, "why", "svc").stdout
    body = json.dumps({"id": "mine", "inputs": bundles.row(0.75)})
    for words in ((), ("--resolve", f"127.0.0.1:{PORT}")):
        done = ask(kube, "predict", "svc", "-d", body, *words)
        assert done.returncode == 0, done
        assert json.loads(done.stdout)["outputs"][0]["data"] == [0.75]
    wrong = ask(kube, "predict", "svc", "-d", "{}")
    assert (wrong.returncode, "error: 400" in wrong.stderr) == (2, True), wrong
    kube.robot("friend")
    kube.robot("stranger", may=False)
    good = ask(kube, "label", "svc", "mine=1", "nobody=0", "--account", "friend")
    assert (good.returncode, "1 of unknown" in good.stdout) == (0, True), good
    barred = ask(kube, "label", "svc", "mine=1", "--account", "stranger")
    assert (barred.returncode, "stranger may not create aiservices/labels" in barred.stderr) == (1, True), barred


async def test_a_person_promotes_aborts_and_tries_again(kube: Kube, tmp_path: Path) -> None:
    for name, bias in (("v1", 0.0), ("v2", 0.001), ("v3", 0.002)):
        kube.publish(tmp_path, name, bias=bias)
    kube.apply(kube.service("v1", **MANUAL))
    await kube.until(ready, "ready")
    refused = ask(kube, "promote", "svc")
    assert (refused.returncode, "no rollout is in progress" in refused.stderr) == (1, True), refused
    async with kube.traffic() as counts:
        kube.apply(kube.service("v2", **MANUAL))
        await kube.until(lambda s: s.rollout.weight, "a client met it")
        promoted = ask(kube, "promote", "svc")
        assert (promoted.returncode, "promoted by a person" in promoted.stdout) == (0, True), promoted
        kube.apply(kube.service("v3", **MANUAL))
        await kube.until(lambda s: s.rollout.weight, "a client met it")
        aborted = ask(kube, "abort", "svc")
        assert (aborted.returncode, "aborted by a person" in aborted.stdout) == (0, True), aborted
        again = ask(kube, "retry", "svc")
        assert (again.returncode, "asked to try it again" in again.stdout) == (0, True), again
        await kube.until(lambda s: s.rollout.phase in (Phase.PREPARING, Phase.PROGRESSING), "tried again")
    assert counts.failed == 0, counts.errors[:3]


def test_what_is_not_there_and_what_is_not_allowed_is_a_sentence(kube: Kube) -> None:
    none = ask(kube, "status")
    assert (none.returncode, f"there is no AIService in namespace {kube.namespace}" in none.stderr) == (3, True), none
    wrong = ask(kube, "why", "nobody")
    assert (wrong.returncode, "there is no AIService 'nobody'" in wrong.stderr) == (3, True), wrong
    config = json.loads(kube.ctl("config", "view", "--raw", "--flatten", "-o", "json"))
    for user in config["users"]:
        user["user"] = {"token": kube.robot("guest", may=False)}
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"{kube.namespace}.json"
    path.write_text(json.dumps(config))
    try:
        barred = ask(kube, "status", KUBECONFIG=str(path))
        assert (barred.returncode, 'cannot list resource "aiservices"' in barred.stderr) == (1, True), barred
    finally:
        path.unlink()
