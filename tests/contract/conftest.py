"""Every story is played twice: on this machine, and on the cluster where its tests are run."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.conftest import kube
from contract.stage import Here, Stage, There
from local.conftest import box

__all__ = ["box", "kube", "stage"]


@pytest.fixture(params=["here", pytest.param("there", marks=[pytest.mark.cluster, pytest.mark.timeout(600)])])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    if request.param == "here":
        return Here(request.getfixturevalue("box"))
    return There(request.getfixturevalue("kube"), tmp_path)
