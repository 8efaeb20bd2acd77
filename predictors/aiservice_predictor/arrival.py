"""A model that comes after its predictor: KServe's modelcar links an oci:// image into our file system once its own container runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

MODE = "MODEL_INIT_MODE"
"""KServe's variable; `async` says that the model may come later."""
PATIENCE = 60.0
"""Seconds. The image is there already: an init container of it has run."""


def arrived(path: Path, env: Mapping[str, str], patience: float = PATIENCE) -> bool:
    """Wait for what may come later. False: it did not come, and opening it will say so."""
    if env.get(MODE) != "async":
        return path.exists()
    end = time.monotonic() + patience
    if not path.exists():
        print(f"aiservice_predictor: waiting for the model at {path}", file=sys.stderr, flush=True)
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
