"""Outputs of the model -> the text of a V2 JSON answer. What is the same in every answer is made once, what is the same in every request
of a call of the model once a call: all rows of an output are written together and then told apart."""

from __future__ import annotations

import numpy as np
import orjson

from aiservice_predictor.codec.request import Part
from aiservice_predictor.codec.tensors import Array, to_json
from aiservice_predictor.signature import Signature

_NUMPY = orjson.OPT_SERIALIZE_NUMPY


class JsonOut:
    """For one model."""

    def __init__(self, model: str, signature: Signature) -> None:
        self._head = b'{"model_name":%s,"id":' % orjson.dumps(model)
        self._types = {name: spec.datatype for name, spec in signature.outputs.items()}
        self._starts = {n: b'{"name":%s,"datatype":"%s","shape":[' % (orjson.dumps(n), t.encode()) for n, t in self._types.items()}

    def answer(self, id: str, tensors: bytes, decisions: list[str] | None) -> bytes:
        """The whole object; `tensors`: with commas between them."""
        parts = [self._head, orjson.dumps(id), b',"outputs":[', tensors]
        if decisions is not None:
            parts += (b'],"parameters":', orjson.dumps({"decisions": decisions}), b"}")
        else:
            parts.append(b"]}")
        return b"".join(parts)

    def tensors(self, names: tuple[str, ...], part: Part) -> bytes:
        """Several outputs with their data. Those of all requests of one row in a call are written at once."""
        if part.whole or part.end - part.start != 1:
            return b",".join([self.tensor(name, part) for name in names])
        rows = part.texts.get(names)
        if rows is None:
            columns = [self._column(name, part) for name in names]
            rows = part.texts[names] = columns[0] if len(columns) == 1 else [b",".join(row) for row in zip(*columns, strict=True)]
        return rows[part.start]

    def tensor(self, name: str, part: Part) -> bytes:
        """One output with its data, flat."""
        array = part.outputs[name]
        if part.whole:
            return b'%s],"data":[%s]}' % (self._shaped(name, array.shape), _flat(self._types[name], array))
        shape = (part.end - part.start, *array.shape[1:])
        return b'%s],"data":[%s]}' % (self._shaped(name, shape), b",".join(self._rows(name, part)[part.start : part.end]))

    def binary(self, name: str, shape: tuple[int, ...], size: int) -> bytes:
        """One output whose data follows the JSON."""
        return b'%s],"parameters":{"binary_data_size":%d}}' % (self._shaped(name, shape), size)

    def _column(self, name: str, part: Part) -> list[bytes]:
        """The output for each row of the call."""
        array = part.outputs[name]
        start = self._shaped(name, (1, *array.shape[1:])) + b'],"data":['
        return [b"%s%s]}" % (start, row) for row in self._rows(name, part) or [b""] * len(array)]

    def _rows(self, name: str, part: Part) -> list[bytes]:
        rows = part.texts.get(name)
        if rows is None:
            rows = part.texts[name] = _rows(self._types[name], part.outputs[name])
        return rows

    def _shaped(self, name: str, shape: tuple[int, ...]) -> bytes:
        return self._starts[name] + b",".join([b"%d" % n for n in shape])


def _flat(datatype: str, array: Array) -> bytes:
    return orjson.dumps(to_json(datatype, array), option=_NUMPY)[1:-1]


def _rows(datatype: str, array: Array) -> list[bytes]:
    """Array with a row axis -> the text of each row's values, flat; none where rows have no values."""
    if not array.size:
        return []
    if datatype == "BYTES":
        return [_flat(datatype, array[n : n + 1]) for n in range(len(array))]
    values = to_json(datatype, array)
    if values.size == len(array):
        return orjson.dumps(values, option=_NUMPY)[1:-1].split(b",")
    return orjson.dumps(np.reshape(values, (len(array), -1)), option=_NUMPY)[2:-2].split(b"],[")
