"""Losing the lead: an operator begins anew in the same process, which no kubelet makes wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster import node
from cluster.kube import Kube, Refused

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

LEASE = "aiservice-operator"


def holder(kube: Kube) -> str:
    try:
        return str(kube.get("lease", LEASE)["spec"].get("holderIdentity", ""))
    except Refused:
        return ""


def test_one_that_lost_the_lead_waits_for_it_again(kube: Kube, tmp_path: Path) -> None:
    env = os.environ | {
        "KUBECONFIG": str(node.kubeconfig(tmp_path)),
        "POD_NAME": "lone",
        "POD_NAMESPACE": kube.namespace,
        "AISERVICE_WATCH_NAMESPACE": kube.namespace,
        "AISERVICE_OPERATOR_PORT": "18081",
    }
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([*node.network(), sys.executable, "-m", "aiservice.kube.main"], env=env, stdout=out, stderr=out)
    try:
        until(lambda: holder(kube) == "lone", log)
        kube.ctl("patch", "lease", LEASE, "--type=merge", "-p", json.dumps({"spec": {"holderIdentity": "a stranger"}}))
        until(lambda: "lone lost the lead" in log.read_text(), log)
        until(lambda: holder(kube) == "lone", log)
        until(lambda: log.read_text().count("lone leads") == 2, log)
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()[-3000:]


def until(holds: Callable[[], bool], log: Path) -> None:
    for _ in range(120):
        if holds():
            return
        time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])
