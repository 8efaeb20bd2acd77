"""Does the ONNX model answer as the source model does? Asked on held-out rows, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort
from onnx import ModelProto

from aiservice.api.bundle import Golden
from aiservice_pipeline.tensors import Array


class Disparity(ValueError):
    """The export is wrong. Names the output, how many rows differ, the worst row and both of its values."""


def run(model: ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Answers of the ONNX model by output name."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def check(
    model: ModelProto, feeds: Mapping[str, Array], expected: Mapping[str, Array], tolerance: Golden, unsure: Array | None = None
) -> None:
    """Compare all rows at once, then the first row alone (the first axis must be dynamic).

    `expected`: the source model's answers, [rows, ...] each. Numbers may differ by tolerance.absolute + tolerance.relative * |expected|;
    classes may not, but where `unsure` ([rows], bool) says that the source stands on the fence within that tolerance. Raises Disparity.
    """
    _compare(run(model, feeds), expected, tolerance, unsure)
    first = {name: array[:1] for name, array in feeds.items()}
    _compare(run(model, first), {n: a[:1] for n, a in expected.items()}, tolerance, None if unsure is None else unsure[:1])


def _compare(got: Mapping[str, Array], expected: Mapping[str, Array], tolerance: Golden, unsure: Array | None) -> None:
    if set(got) != set(expected):
        raise Disparity(f"the ONNX model answers {sorted(got)}, the source model {sorted(expected)}")
    for name, want in expected.items():
        have = got[name]
        if have.shape != want.shape:
            raise Disparity(f"output {name!r}: ONNX gives shape {list(have.shape)}, the source {list(want.shape)}")
        texts = want.dtype.kind in "OUS"
        if texts != (have.dtype.kind in "OUS") or (not texts and have.dtype != want.dtype):
            raise Disparity(f"output {name!r}: ONNX gives {have.dtype}, the source {want.dtype}")
        _compare_values(name, have, want, tolerance, unsure)


def _compare_values(name: str, have: Array, want: Array, tolerance: Golden, unsure: Array | None) -> None:
    if want.dtype.kind == "f":
        distance = np.abs(have.astype(np.float64) - want)
        both = np.isnan(have) & np.isnan(want)
        excess = np.where(both, -1.0, distance - (tolerance.absolute + tolerance.relative * np.abs(want)))
        excess = np.where(np.isnan(excess), np.inf, excess)
    else:
        excess = np.where(have == want, -1.0, 1.0)
        if unsure is not None:
            excess = np.where(unsure.reshape(-1, *[1] * (excess.ndim - 1)), -1.0, excess)
    rows = excess.reshape(len(excess), -1).max(axis=1, initial=-1.0)
    if (bad := int((rows > 0).sum())) == 0:
        return
    worst = int(rows.argmax())
    raise Disparity(
        f"output {name!r}: {bad:,} of {len(rows):,} rows differ; worst is row {worst}: ONNX gives {have[worst].tolist()!r}, "
        f"the source {want[worst].tolist()!r} (allowed: {tolerance.absolute:g} + {tolerance.relative:g} of the value)"
    )
