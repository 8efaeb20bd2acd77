"""How much CPU the container may use."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def cpus(root: Path = ROOT) -> float | None:
    """Cores of the limit, of cgroup v2 or v1; None where there is none or it cannot be read."""
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if quota != "max" and int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def workers(configured: int, root: Path = ROOT) -> int:
    """As configured; where that is 0, one for each whole core that may be used."""
    return configured or max(1, int(cpus(root) or len(os.sched_getaffinity(0))))


def threads(configured: int, root: Path = ROOT) -> int:
    """As configured; where that is 0, as many as whole cores may be used, and one without a limit."""
    return configured or max(1, int(cpus(root) or 1))
