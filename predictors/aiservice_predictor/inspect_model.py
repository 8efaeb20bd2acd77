"""What a model says of itself, without serving it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiservice_predictor.load import load


def inspect(path: Path, digest: str | None = None) -> dict[str, Any]:
    """Digest, signature, decision and sizes, ready for JSON. Verifies and loads it as serving would; raises Refused."""
    loaded = load(path, digest)
    signature = loaded.signature
    return {
        "digest": loaded.digest,
        "bundle": loaded.manifest.wire() if loaded.manifest else None,
        "inputs": [{"name": s.name, "datatype": s.datatype, "shape": list(s.shape)} for s in signature.inputs.values()],
        "outputs": [{"name": s.name, "datatype": s.datatype, "shape": list(s.shape)} for s in signature.outputs.values()],
        "decision": signature.decision.wire(),
        "batching": loaded.by_row,
        "goldenRequests": len(loaded.golden),
        "referenceRows": len(loaded.reference),
        "bytes": loaded.size,
    }
