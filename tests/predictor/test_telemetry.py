"""Nothing that we start reports to anybody: onnxruntime's own telemetry leaves a device identifier behind when it is on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

STARTS = {
    "predictor": ["-m", "aiservice_predictor", "inspect", "/nonexistent"],
    "pipeline": ["-c", "import aiservice_pipeline.parity"],
}


@pytest.mark.parametrize("start", STARTS)
def test_no_trace_of_telemetry(start: str, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}  # nothing else: it keeps quiet where it sees a CI's variables
    subprocess.run([sys.executable, *STARTS[start]], env=env, capture_output=True, timeout=60, check=False)
    assert [p for p in tmp_path.rglob("*") if "onnxruntime" in p.name] == []
    subprocess.run([sys.executable, "-c", "import onnxruntime, time; time.sleep(1)"], env=env, capture_output=True, timeout=60, check=True)
    assert [p for p in tmp_path.rglob("*") if "onnxruntime" in p.name] != [], "if this fails, the test above has nothing to find any more"
