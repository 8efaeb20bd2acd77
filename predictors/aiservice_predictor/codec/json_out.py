"""Outputs of the model -> the text of a V2 JSON answer. What is the same in every answer is made once, what is the same in every request
of a call of the model once a call: all rows of an output are written together and then told apart."""

from __future__ import annotations

from collections.abc import Sequence

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

    def answer(self, id: str, tensors: Sequence[bytes], decisions: list[str] | None) -> bytes:
        """The whole object."""
        parts = [self._head, orjson.dumps(id), b',"outputs":[', b",".join(tensors)]
        if decisions is not None:
            parts += (b'],"parameters":', orjson.dumps({"decisions": decisions}), b"}")
        else:
            parts.append(b"]}")
        return b"".join(parts)

    def tensor(self, name: str, part: Part) -> bytes:
        """One output with its data, flat."""
        array = part.outputs[name]
        if part.whole:
            shape = array.shape
            data = _flat(self._types[name], array)
        else:
            rows = part.texts.get(name)
            if rows is None:
                rows = part.texts[name] = _rows(self._types[name], array)
            count = part.end - part.start
            shape = (count, *array.shape[1:])
            data = rows[part.start] if count == 1 and rows else b",".join(rows[part.start : part.end])
        return b'%s%s],"data":[%s]}' % (self._starts[name], b",".join([b"%d" % n for n in shape]), data)

    def binary(self, name: str, shape: tuple[int, ...], size: int) -> bytes:
        """One output whose data follows the JSON."""
        return b'%s%s],"parameters":{"binary_data_size":%d}}' % (self._starts[name], b",".join([b"%d" % n for n in shape]), size)


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
