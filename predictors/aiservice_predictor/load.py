"""From a path to a model that may serve: verified, opened, checked against its manifest, its golden requests answered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aiservice.api.bundle import Bundle, GoldenRequest, ReferenceRow
from aiservice.bundle import read
from aiservice.bundle.read import Refused
from aiservice_predictor import derive
from aiservice_predictor.codec.tensors import Array, Spec, Tensors, fits, from_json, shape_of, to_json
from aiservice_predictor.failures import Failure
from aiservice_predictor.model import Model
from aiservice_predictor.signature import Signature


@dataclass(frozen=True)
class Loaded:
    """A model that may serve."""

    model: Model
    signature: Signature
    digest: str
    golden: Sequence[GoldenRequest]
    reference: Sequence[ReferenceRow]
    size: int
    """Bytes of all its files."""
    manifest: Bundle | None
    by_row: bool
    """Whether requests may be stacked: the signature says so, and stacked golden requests were answered as single ones."""


def load(path: Path, digest: str | None = None, threads: int = 1) -> Loaded:
    """Raises Refused with the reason and a sentence where the model must not serve."""
    opened = read.load(path, digest)
    model = Model(opened.model, threads)
    if opened.manifest is None:
        signature, golden = derive.signature(model)
    else:
        signature, golden = Signature.of(opened.manifest), opened.golden()
        for kind, said, found in (("input", signature.inputs, model.inputs), ("output", signature.outputs, model.outputs)):
            _must_agree(kind, said, found)
        _answer(model, signature, golden)
    by_row = signature.by_row and _stackable(model, signature, golden)
    return Loaded(model, signature, opened.digest, golden, opened.reference(), opened.size, opened.manifest, by_row)


def tensors(specs: dict[str, Spec] | Any, wire: Sequence[dict[str, Any]]) -> Tensors:
    """V2 JSON tensors of a bundle -> arrays. Raises Invalid."""
    found = {}
    for tensor in wire:
        spec = specs.get(str(tensor.get("name")))
        if spec is None:
            raise Refused(
                "DamagedBundle", f"a golden or reference request names the tensor {tensor.get('name')!r}, which the model does not have"
            )
        shape = shape_of(spec.name, tensor.get("shape"))
        fits(spec, tensor.get("datatype"), shape)
        found[spec.name] = from_json(spec, shape, tensor.get("data"))
    return found


def wire(specs: Any, arrays: Tensors) -> list[dict[str, Any]]:
    """Arrays -> V2 JSON tensors, ready for orjson with OPT_SERIALIZE_NUMPY."""
    return [
        {"name": n, "datatype": specs[n].datatype, "shape": list(a.shape), "data": to_json(specs[n].datatype, a)} for n, a in arrays.items()
    ]


def _must_agree(kind: str, said: Any, found: dict[str, Spec]) -> None:
    if set(said) != set(found):
        raise Refused(
            "DamagedBundle", f"bundle.json names the {kind}s {sorted(said)}, model.onnx has {sorted(found)}; write the bundle anew"
        )
    for name, spec in said.items():
        other = found[name]
        shapes = len(spec.shape) == len(other.shape) and all(a == b or -1 in (a, b) for a, b in zip(spec.shape, other.shape, strict=True))
        if spec.datatype != other.datatype or not (shapes or kind == "output"):
            raise Refused(
                "DamagedBundle",
                f"{kind} '{name}': bundle.json says {spec.datatype} {list(spec.shape)}, model.onnx has {other.datatype} {list(other.shape)}",
            )


def _answer(model: Model, signature: Signature, golden: Sequence[GoldenRequest]) -> None:
    """Raises Refused (GoldenMismatch) unless every golden request is answered as expected."""
    for index, request in enumerate(golden):
        where = f"golden request {index + 1} of {len(golden)}"
        try:
            got = model.run(tensors(signature.inputs, request.inputs))
            expected = tensors(signature.outputs, request.outputs)
        except Failure as failure:
            raise Refused("GoldenMismatch", f"{where}: {failure}") from None
        for name, want in expected.items():
            fault = difference(signature, want, got[name])
            if fault:
                raise Refused(
                    "GoldenMismatch", f"{where}, output '{name}': {fault}; the model does not answer here as it did where it was made"
                )


def difference(signature: Signature, want: Array, got: Array) -> str | None:
    """How `got` differs from `want` beyond the bundle's tolerance; None where it does not. NaN equals NaN."""
    if want.shape != got.shape:
        return f"shape is {list(got.shape)}, expected {list(want.shape)}"
    if want.dtype.kind != "f":
        wrong = np.flatnonzero((want != got).ravel())
    else:
        a, b = want.astype(np.float64).ravel(), got.astype(np.float64).ravel()
        close = np.isclose(b, a, rtol=signature.golden.relative, atol=signature.golden.absolute, equal_nan=True)
        wrong = np.flatnonzero(~close)
    if not len(wrong):
        return None
    first = int(wrong[0])
    return f"value {first} is {got.ravel()[first]!s}, expected {want.ravel()[first]!s} ({len(wrong)} of {math.prod(want.shape)} differ)"


def _stackable(model: Model, signature: Signature, golden: Sequence[GoldenRequest]) -> bool:
    """Whether golden requests, stacked, are answered as they are alone."""
    try:
        singles = [tensors(signature.inputs, g.inputs) for g in golden[:4]]
        if not singles:
            return True
        singles = [s for s in singles if all(s[n].shape[1:] == singles[0][n].shape[1:] for n in s)]
        alone = [model.run(s) for s in singles]
        stacked = model.run({name: np.concatenate([s[name] for s in singles]) for name in signature.inputs})
        return all(difference(signature, np.concatenate([a[n] for a in alone]), stacked[n]) is None for n in signature.outputs)
    except (Failure, Refused, ValueError):
        return False
