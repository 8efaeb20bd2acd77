"""Programs in Go, built once from tests/predictor/go into the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

MODULE = Path(__file__).with_name("go")
CACHE = Path.home() / ".cache" / "aiservice-tools"


def program(name: str) -> Path:
    """One of the tools that go.mod names; raises AssertionError with a sentence where it cannot be built."""
    folder = CACHE / f"go-{hashlib.sha256(b''.join((MODULE / f).read_bytes() for f in ('go.mod', 'go.sum'))).hexdigest()[:12]}"
    if not folder.is_dir():
        _build(folder)
    return folder / name


def _build(folder: Path) -> None:
    go = shutil.which("go")
    assert go, (
        "Go is needed to build grpcurl and h2spec: install it (at least the version in tests/predictor/go/go.mod), or run `make test` alone"
    )
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        command = [go, "build", "-trimpath", "-p=2", "-ldflags=-s -w", "-o", f"{scratch}/bin/", "tool"]
        settings = {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly -buildvcs=false"}
        done = subprocess.run(command, cwd=MODULE, env=os.environ | settings, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, f"grpcurl and h2spec cannot be built:\n{done.stderr[-2000:]}"
        if not folder.is_dir():
            Path(scratch, "bin").rename(folder)
