"""What a plain .onnx file does not say: the decision, and golden requests that it answers itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from aiservice.api.bundle import Decision, DecisionKind, GoldenRequest
from aiservice.bundle.read import Refused
from aiservice_predictor.codec.tensors import Array, Spec, Tensors, finite, to_json
from aiservice_predictor.failures import Failure
from aiservice_predictor.model import Model
from aiservice_predictor.signature import Signature

_SIZES = (1, 2, 3, 8, 16, 32, 64, 128, 224)
"""Tried in this order for axes of any length but the first."""
_PROBES = 64
"""Rows from which the spread of a number is taken."""


def signature(model: Model) -> tuple[Signature, list[GoldenRequest]]:
    """Signature of the graph with a derived decision, and golden requests with the model's own answers.

    Inputs are zeros, ones, and seeded random values: what is caught is a model that crashes or gives only numbers that are not finite.
    Raises Refused (GoldenMismatch) where it answers none of them although no axis but the rows is open; where other axes are open and no
    length works there are no golden requests.
    """
    answered: list[tuple[Tensors, Tensors]] = []
    fault = ""
    for size in _SIZES:
        for fill in ("zeros", "ones", "random"):
            inputs = {n: _values(s, fill, size, 2) for n, s in model.inputs.items()}
            try:
                outputs = model.run(inputs)
            except Failure as failure:
                fault = fault or str(failure)
                continue
            if all(finite(model.outputs[n].datatype, a) for n, a in outputs.items()):
                answered.append((inputs, outputs))
            else:
                fault = fault or "its answer holds numbers that are not finite"
        if answered or not _open(model):
            break
    if not answered and not _open(model):
        raise Refused("GoldenMismatch", f"the model answers neither zeros nor ones nor random inputs: {fault}")
    golden = [GoldenRequest(inputs=_wire(model.inputs, i), outputs=_wire(model.outputs, o)) for i, o in answered]
    return Signature(model.inputs, model.outputs, _decision(model, answered)), golden


def _open(model: Model) -> bool:
    return any(-1 in s.shape[1:] for s in model.inputs.values())


def _values(spec: Spec, fill: str, size: int, rows: int) -> Array:
    shape = tuple((rows if axis == 0 else size) if n == -1 else n for axis, n in enumerate(spec.shape))
    if spec.datatype == "BYTES":
        return np.full(shape, {"zeros": "", "ones": "1", "random": "a"}[fill], dtype=np.object_)
    if fill != "random":
        one = 0x3F80 if spec.datatype == "BF16" else 1
        return np.full(shape, one if fill == "ones" else 0, dtype=spec.dtype)
    draw = np.random.default_rng(0)
    if spec.datatype in ("FP16", "FP32", "FP64"):
        return draw.standard_normal(shape).astype(spec.dtype)
    if spec.datatype == "BF16":
        return (draw.standard_normal(shape).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return draw.integers(0, 2, shape).astype(spec.dtype)


def _decision(model: Model, answered: list[tuple[Tensors, Tensors]]) -> Decision:
    """Class where the first output is one integer, string or bool a row, or a float output has several columns; else a number.

    Two numbers agree within 5 % of the spread of the model's answers to random inputs (5 % of their size where they do not spread), and
    the tenths are of the same answers: a bundle, which knows real data, says both better.
    """
    first = next(iter(model.outputs.values()))
    if first.datatype not in ("FP16", "FP32", "FP64", "BF16") and _columns(first) == 1:
        return Decision(kind=DecisionKind.CLASS, output=first.name)
    for spec in model.outputs.values():
        if spec.datatype in ("FP16", "FP32", "FP64") and len(spec.shape) == 2 and _columns(spec) != 1:
            return Decision(kind=DecisionKind.CLASS, output=spec.name)
    numeric = next((s for s in model.outputs.values() if s.datatype in ("FP16", "FP32", "FP64")), None)
    if numeric is None:
        return Decision(kind=DecisionKind.CLASS, output=first.name)
    numbers = _predictions(model, numeric.name, answered)
    if not len(numbers):
        return Decision(kind=DecisionKind.TOLERANCE, output=numeric.name, tolerance=0.0)
    spread = float(np.ptp(numbers)) or float(np.abs(numbers).max())
    edges: list[float] = np.quantile(numbers, np.arange(1, 10) / 10).tolist()
    return Decision(kind=DecisionKind.TOLERANCE, output=numeric.name, tolerance=0.05 * spread, edges=edges)


def _columns(spec: Spec) -> int:
    """Elements a row; -1: unknown."""
    size = 1
    for n in spec.shape[1:]:
        size = -1 if n == -1 or size == -1 else size * n
    return size


def _predictions(model: Model, output: str, answered: list[tuple[Tensors, Tensors]]) -> Array:
    """First column of the output for random rows, float64; the answers known already where the model takes no more rows at once."""
    if not answered:
        return np.empty(0)
    sizes = {n: a.shape for n, a in answered[-1][0].items()}
    draw = {}
    for name, spec in model.inputs.items():
        shape = (_PROBES, *sizes[name][1:]) if spec.by_row else sizes[name]
        draw[name] = _values(Spec(name, spec.datatype, shape), "random", 1, _PROBES)
    try:
        found = model.run(draw)[output]
    except Failure:
        found = np.concatenate([np.atleast_1d(o[output]) for _, o in answered])
    numbers: Array = found.reshape((found.shape[0] if found.ndim else 1, -1))[:, 0].astype(np.float64)
    return numbers[np.isfinite(numbers)]


def _wire(specs: dict[str, Spec], arrays: Tensors) -> list[dict[str, Any]]:
    found = []
    for name, array in arrays.items():
        data = to_json(specs[name].datatype, array)
        found.append(
            {
                "name": name,
                "datatype": specs[name].datatype,
                "shape": list(array.shape),
                "data": data if isinstance(data, list) else data.tolist(),
            }
        )
    return found
