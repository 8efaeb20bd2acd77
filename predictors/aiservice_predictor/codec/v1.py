"""KServe V1 `:predict`: {"instances": [row, ...]} -> tensors, and back to {"predictions": [row, ...]}.

A row is a (nested) list for a model with one input, else an object with a value for each input; {"inputs": ...} is the same. Where a row
of an input has shape [1], the bare value will do.
"""

from __future__ import annotations

from typing import Any

import orjson

from aiservice_predictor.codec.request import Request
from aiservice_predictor.codec.rest import must_be_finite, parse
from aiservice_predictor.codec.tensors import Array, Spec, Tensors, brief, from_json, to_json
from aiservice_predictor.failures import Invalid
from aiservice_predictor.signature import Signature


def decode(signature: Signature, max_rows: int, body: bytes) -> Request:
    """Raises Invalid or TooLarge."""
    head = parse(body)
    key = "instances" if "instances" in head else "inputs"
    rows = head.get(key)
    if isinstance(rows, dict):
        columns = rows
    elif isinstance(rows, list) and rows:
        columns = _columns(signature, rows)
    else:
        raise Invalid(f'the body must hold "instances": a list of rows, got {brief(rows)}')
    inputs: Tensors = {}
    for name, data in columns.items():
        spec = signature.input(name)
        inputs[name] = _array(signature, spec, max_rows, data)
    return Request(inputs, signature.rows(inputs), size=len(body))


def encode(signature: Signature, request: Request, outputs: Tensors) -> bytes:
    """Raises as codec.rest.encode does on numbers that are not finite."""
    columns = {name: _nested(signature.outputs[name].datatype, array) for name, array in outputs.items()}
    if len(columns) == 1:
        (predictions,) = columns.values()
    elif all(isinstance(c, list) and len(c) == request.rows for c in columns.values()):
        predictions = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    else:
        predictions = columns
    body = orjson.dumps({"predictions": predictions})
    if b"null" in body:
        must_be_finite(signature, request.inputs, outputs)
    return body


def _columns(signature: Signature, rows: list[Any]) -> dict[str, list[Any]]:
    """Rows -> a list for each input."""
    if not isinstance(rows[0], dict):
        if len(signature.inputs) > 1:
            raise Invalid(f"the model has several inputs: each row must be an object with {', '.join(map(repr, signature.inputs))}")
        return {next(iter(signature.inputs)): rows}
    columns: dict[str, list[Any]] = {name: [] for name in signature.inputs}
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != columns.keys():
            got = sorted(row) if isinstance(row, dict) else row
            raise Invalid(f"row {index} must be an object with exactly {', '.join(map(repr, columns))}, got {brief(got)}")
        for name, value in row.items():
            columns[name].append(value)
    return columns


def _array(signature: Signature, spec: Spec, max_rows: int, data: object) -> Array:
    if not isinstance(data, list):
        raise Invalid(f"input '{spec.name}': must be a list of rows, got {brief(data)}")
    if len(spec.shape) == 2 and spec.shape[1] in (1, -1) and data and not isinstance(data[0], list):
        data = [[value] for value in data]
    shape: list[int] = []
    level: Any = data
    while isinstance(level, list) and len(shape) < len(spec.shape):
        shape.append(len(level))
        level = level[0] if level else None
    signature.admit(spec, spec.datatype, tuple(shape), max_rows)
    return from_json(spec, tuple(shape), data)


def _nested(datatype: str, array: Array) -> Any:
    """Nested lists of Python values; float32 keeps its short decimals."""
    flat = orjson.loads(orjson.dumps(to_json(datatype, array), option=orjson.OPT_SERIALIZE_NUMPY))
    for length in reversed(array.shape[1:]):
        flat = [flat[i : i + length] for i in range(0, len(flat), length)] if length else [[] for _ in range(array.shape[0])]
    return flat if array.ndim else flat[0]
