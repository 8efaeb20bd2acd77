"""Fetch the data, train, and write build/demo: bundles/v1 ... v7 and traffic.npz. What is there and current is left as it is.

Run it with the project's Python: .venv/bin/python examples/fraud-detection/prepare.py
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

import data
import models as models

import aiservice_pipeline
from aiservice.api import bundle
from aiservice.bundle.read import Refused, load

DEMO = data.BUILD / "demo"
BUNDLES = DEMO / "bundles"
TRAFFIC = DEMO / "traffic.npz"
_RECORD = DEMO / "prepared.json"


def prepare(console: Console) -> dict[str, Any]:
    """Make what is missing; a second process waits for the first. -> {"digests": {v: "sha256:..."}, "figures": {v: training.Figures}}."""
    DEMO.mkdir(parents=True, exist_ok=True)
    with (DEMO / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _prepare(console)


def _prepare(console: Console) -> dict[str, Any]:
    stamp = _stamp()
    record = _record()
    if record.get("stamp") == stamp and _current(record["digests"]):
        return record
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        if not data.installed():
            fetching = progress.add_task("Fetching 76 MB of card transactions", total=None)
            data.install()
            progress.update(fetching, total=1, completed=1)
        steps = progress.add_task("Reading the transactions", total=len(models.NAMES) + 2)
        splits = data.load()
        progress.update(steps, advance=1, description="Writing the traffic")
        _write_traffic(splits.traffic)
        progress.update(steps, advance=1, description=f"Making {models.NAMES[0]}: {models.WHAT['v1']}")
        import training  # takes seconds: scikit-learn and the ONNX converters

        for name in models.NAMES:
            shutil.rmtree(BUNDLES / name, ignore_errors=True)
        digests, figures = {}, {}
        for i, (name, digest, found) in enumerate(training.make(splits, BUNDLES)):
            digests[name], figures[name] = digest, asdict(found)
            following = models.NAMES[i + 1] if i + 1 < len(models.NAMES) else ""
            progress.update(steps, advance=1, description=f"Making {following}: {models.WHAT[following]}" if following else "Done")
    record = {"stamp": stamp, "digests": digests, "figures": figures}
    _RECORD.write_text(json.dumps(record, indent=1))
    return record


def show(record: dict[str, Any], console: Console) -> None:
    """How each version does on the traffic, and how far it agrees with the one that it meets."""
    table = Table(title="On the traffic: the last 40 % of the transactions")
    for heading in ("version", "what", "AP", "recall", "precision", "alerts/10k", "Dice with"):
        table.add_column(heading, justify="left" if heading in ("version", "what") else "right")
    for name, f in record["figures"].items():
        dice = "" if f["dice"] is None else f"{f['dice']:.2f} {models.STABLE[name]}"
        table.add_row(
            name,
            models.WHAT[name],
            f"{f['average_precision']:.3f}",
            f"{f['recall']:.2f}",
            f"{f['precision']:.2f}",
            f"{f['alerts']:.1f}",
            dice,
        )
    console.print(table)


def _write_traffic(traffic: data.Rows) -> None:
    temporary = TRAFFIC.with_suffix(".part.npz")
    np.savez_compressed(temporary, inputs=traffic.inputs, labels=traffic.labels)
    temporary.replace(TRAFFIC)


def _stamp() -> str:
    """Changes whenever anything changes that the bundles are made from."""
    pipeline = Path(str(aiservice_pipeline.__file__)).parent
    here = [data.HERE / name for name in ("data.py", "faults.py", "models.py", "training.py", data.REQUIREMENTS.name)]
    found = hashlib.sha256()
    for path in (*here, *sorted(pipeline.glob("*.py")), Path(str(bundle.__file__))):
        found.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    for package in ("numpy", "onnx", "scikit-learn", "skl2onnx"):
        found.update(f"{package} {version(package)}\n".encode())
    return found.hexdigest()


def _record() -> dict[str, Any]:
    try:
        return dict(json.loads(_RECORD.read_text()))
    except (OSError, ValueError):
        return {}


def _current(digests: dict[str, str]) -> bool:
    """Every bundle is whole, but v6, which must be damaged."""
    for name in models.NAMES:
        try:
            load(BUNDLES / name, digests.get(name))
            damaged = False
        except Refused as e:
            damaged = e.reason == "DamagedBundle"
            if not damaged:
                return False
        if damaged != (name == "v6"):
            return False
    return TRAFFIC.is_file()


if __name__ == "__main__":
    screen = Console()
    show(prepare(screen), screen)
