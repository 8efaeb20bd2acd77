from __future__ import annotations

import os
from pathlib import Path

import pytest

from aiservice_predictor.cgroup import cpus, threads, workers


@pytest.mark.parametrize(
    ("files", "cores", "count"),
    [
        ({"cpu.max": "250000 100000\n"}, 2.5, 2),
        ({"cpu.max": "50000 100000\n"}, 0.5, 1),
        ({"cpu.max": "max 100000\n"}, None, 1),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, 1),
        ({"cpu.max": "nonsense"}, None, 1),
        ({}, None, 1),
    ],
)
def test_cores_of_either_version(tmp_path: Path, files: dict[str, str], cores: float | None, count: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpus(tmp_path) == cores
    assert threads(0, tmp_path) == count
    assert threads(3, tmp_path) == 3
    assert workers(0, tmp_path) == (count if cores else len(os.sched_getaffinity(0)))
    assert workers(3, tmp_path) == 3
