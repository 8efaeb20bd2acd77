"""Write a bundle folder: all of it or nothing, the same bytes for the same content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx import ModelProto

from aiservice.api.bundle import (
    GOLDEN,
    MANIFEST,
    MODEL,
    REFERENCE,
    Bundle,
    Decision,
    Distribution,
    Feature,
    File,
    Golden,
    GoldenRequest,
    Lineage,
    ReferenceRow,
)  # fmt: skip
from aiservice.bundle.read import Refused, decision_fault, load
from aiservice_pipeline.tensors import opset, signature


@dataclass(frozen=True)
class Draft:
    """Everything that a bundle holds, before it has a digest."""

    name: str
    model: ModelProto
    decision: Decision
    golden: list[GoldenRequest]
    tolerance: Golden = field(default_factory=Golden)
    reference: list[ReferenceRow] = field(default_factory=list)
    features: list[Feature] = field(default_factory=list)
    distributions: list[Distribution] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    lineage: Lineage = field(default_factory=Lineage)


def write(folder: Path, draft: Draft) -> str:
    """-> digest of bundle.json, `sha256:...`. The folder appears by rename once its files are on disk.

    Where it already holds the same bundle nothing is written. Raises FileExistsError if it holds anything else, and ValueError if the
    draft has no golden request or a decision that cannot be read off the model's outputs.
    """
    inputs, outputs = signature(draft.model)
    if not draft.golden:
        raise ValueError("a bundle needs at least one golden request")
    if fault := decision_fault(draft.decision, {o.name for o in outputs}):
        raise ValueError(fault)
    contents = {
        MODEL: draft.model.SerializeToString(deterministic=True),
        GOLDEN: _rows([g.wire() for g in draft.golden]),
    }
    if draft.reference:
        contents[REFERENCE] = _rows([r.wire() for r in draft.reference])
    manifest = Bundle(
        name=draft.name,
        opset=opset(draft.model),
        inputs=inputs,
        outputs=outputs,
        decision=draft.decision,
        golden=draft.tolerance,
        features=draft.features,
        distributions=draft.distributions,
        metrics=draft.metrics,
        lineage=draft.lineage,
        files={name: File(sha256=hashlib.sha256(data).hexdigest(), size=len(data)) for name, data in contents.items()},
    )
    contents[MANIFEST] = _fields(manifest.wire())
    digest = "sha256:" + hashlib.sha256(contents[MANIFEST]).hexdigest()
    _publish(folder, contents, digest)
    return digest


def _publish(folder: Path, contents: dict[str, bytes], digest: str) -> None:
    if _holds(folder, digest):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, data in contents.items():
            with (temporary / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(0o755)
        load(temporary, digest)
        try:
            temporary.rename(folder)
        except OSError:
            if not _holds(folder, digest):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _holds(folder: Path, digest: str) -> bool:
    """Raises FileExistsError if something else stands there."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        load(folder, digest)
    except Refused as e:
        raise FileExistsError(f"{folder} is in use: {e.message}; remove it or choose another folder") from None
    return True


def _rows(rows: list[dict[str, Any]]) -> bytes:
    """One row a line, so that a difference can be read."""
    return ("[\n" + ",\n".join(_json(row) for row in rows) + "\n]\n").encode()


def _fields(value: dict[str, Any]) -> bytes:
    """One field a line."""
    return ("{\n" + ",\n".join(f"{_json(k)}:{_json(v)}" for k, v in sorted(value.items())) + "\n}\n").encode()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
