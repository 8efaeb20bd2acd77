"""One recorded request, packed: as objects it would take five times as much memory, and most are never looked at again."""

from __future__ import annotations

import marshal
from dataclasses import dataclass
from sys import getsizeof

import numpy as np

from aiservice_predictor.codec.tensors import Array, Tensors

OVERHEAD = 224
"""Bytes that a record takes beside its own: its objects, and its places in the reservoir."""
COPIED = 2**14
"""Bytes of an input that are copied into the record; a larger one is kept as it came, with its whole message if need be."""


@dataclass(frozen=True, slots=True)
class Record:
    """As it goes into the reservoir."""

    id: str
    packed: bytes
    """Readable by this process and those that it forks."""
    large: Tensors
    """Inputs that were not copied."""

    @property
    def size(self) -> int:
        return size_of(self.packed, self.large)


@dataclass(frozen=True, slots=True)
class Contents:
    """What is packed."""

    id: str
    at: float
    """Unix seconds."""
    decisions: list[str]
    """One a row."""
    inputs: Tensors


def pack(id: str, at: float, decisions: list[str], inputs: Tensors) -> Record:
    parts, large = [], {}
    for name, array in inputs.items():
        data: list[str] | bytes | None
        if array.dtype == object:
            data = array.ravel().tolist()
        elif array.nbytes <= COPIED:
            data = array.tobytes()
        else:
            data, large[name] = None, array
        parts.append((name, array.dtype.str, array.shape, data))
    return Record(id, marshal.dumps((id, at, decisions, parts)), large)


def unpack(packed: bytes | memoryview, large: Tensors) -> Contents:
    id, at, decisions, parts = marshal.loads(packed)
    inputs = {name: large[name] if data is None else _array(dtype, shape, data) for name, dtype, shape, data in parts}
    return Contents(id, at, decisions, inputs)


def size_of(packed: bytes, large: Tensors) -> int:
    """Bytes that it holds on to."""
    return OVERHEAD + len(packed) + (held(large) if large else 0)


def held(inputs: Tensors) -> int:
    """Bytes of numbers, with all that is kept for their sake: whole buffers where arrays are views."""
    return sum(dict(map(_held, inputs.values())).values())


def _array(dtype: str, shape: tuple[int, ...], data: list[str] | bytes) -> Array:
    if isinstance(data, bytes):
        return np.frombuffer(data, dtype=dtype).reshape(shape)
    array = np.empty(len(data), dtype=np.object_)
    array[:] = data
    return array.reshape(shape)


def _held(array: Array) -> tuple[int, int]:
    """The buffer behind an array, and its bytes."""
    holder, base = array, array.base
    while base is not None:
        holder, base = base, getattr(base, "base", None)
    return _id(holder), getsizeof(holder) if isinstance(holder, (bytes, bytearray)) else max(array.nbytes, getattr(holder, "nbytes", 0))


_id = id
"""The builtin: `id` names a request's id elsewhere here."""
