"""Tensors between JSON values, bytes and numpy arrays, and the checks that every protocol shares.

A `Tensors` maps a tensor's name to its array. BYTES are object arrays of `str` (onnxruntime's strings are UTF-8); BF16 are uint16
arrays of the raw bits, since numpy has no such type.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from aiservice_predictor.failures import Invalid

Array: TypeAlias = npt.NDArray[Any]
Tensors: TypeAlias = dict[str, Array]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(np.uint16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
FLOATS = frozenset(("FP16", "FP32", "FP64"))
MAX_AXES = 16
MAX_ELEMENTS = 2**40

_STRUCT = {
    "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
    "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip
_EXPECTED = {"BOOL": "true or false", "BYTES": "strings"} | {t: "numbers" if t in FLOATS else "integers" for t in _STRUCT}


@dataclass(frozen=True)
class Spec:
    """One input or output of the model."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    """-1: any length; the first axis counts rows where it is -1."""

    @property
    def dtype(self) -> np.dtype[Any]:
        return DTYPES[self.datatype]

    @property
    def by_row(self) -> bool:
        """Whether the first axis counts rows."""
        return bool(self.shape) and self.shape[0] == -1


def shape_of(name: str, value: object) -> tuple[int, ...]:
    """A shape as it came -> a tuple. Raises Invalid unless it is a list of at most 16 integers >= 0 whose product is sane."""
    if not isinstance(value, list) or not all(type(n) is int and n >= 0 for n in value) or len(value) > MAX_AXES:
        raise Invalid(f"input '{name}': shape must be a list of at most {MAX_AXES} integers >= 0, got {brief(value)}")
    if prod(n for n in value if n) > MAX_ELEMENTS:
        raise Invalid(f"input '{name}': shape {value} has more than {MAX_ELEMENTS} elements")
    return tuple(value)


def fits(spec: Spec, datatype: object, shape: tuple[int, ...]) -> None:
    """Raises Invalid, with what came and what is expected, unless an input of this type and shape can be given to the model."""
    if datatype != spec.datatype:
        raise Invalid(f"input '{spec.name}': datatype is {brief(datatype)}, the model expects \"{spec.datatype}\"")
    if len(shape) != len(spec.shape):
        raise Invalid(
            f"input '{spec.name}': shape {list(shape)} has {len(shape)} axes, the model expects {len(spec.shape)}: {list(spec.shape)}"
        )
    for axis, (got, expected) in enumerate(zip(shape, spec.shape, strict=True)):
        if expected not in (-1, got):
            raise Invalid(
                f"input '{spec.name}': shape {list(shape)} does not fit {list(spec.shape)}: axis {axis} has {got}, expected {expected}"
            )


def from_json(spec: Spec, shape: tuple[int, ...], data: object) -> Array:
    """JSON values, flat or nested as the shape says, -> array. `null` is NaN in a floating tensor.

    Raises Invalid on another count of values, a value of another type, or one out of range.
    """
    count = prod(shape)
    flat = _flat(spec.name, shape, data)
    if len(flat) != count:
        raise Invalid(f"input '{spec.name}': shape {list(shape)} takes {count} values, data has {len(flat)}")
    datatype = spec.datatype
    if datatype == "BYTES":
        if not all(type(v) is str for v in flat):
            raise _wrong_value(spec, flat)
        array = np.empty(count, dtype=np.object_)
        array[:] = flat
    elif datatype == "BOOL":
        if not set(map(type, flat)) <= {bool}:
            raise _wrong_value(spec, flat)
        array = np.array(flat, dtype=np.bool_)
    elif datatype == "BF16":
        array = to_bf16(_numbers(Spec(spec.name, "FP32", spec.shape), flat))
    else:
        array = _numbers(spec, flat)
    return array.reshape(shape)


def packing(datatype: str, count: int) -> Callable[..., bytes] | None:
    """What packs so many values as `from_json` does, if they are numbers that need no more looking at; raises struct.error, OverflowError."""
    return struct.Struct(f"<{count}{_STRUCT[datatype]}").pack if datatype in _STRUCT else None


def _numbers(spec: Spec, flat: Sequence[Any]) -> Array:
    layout = f"<{len(flat)}{_STRUCT[spec.datatype]}"
    try:
        packed = struct.pack(layout, *flat)
    except (struct.error, OverflowError):
        if spec.datatype not in FLOATS or None not in flat:
            raise _wrong_value(spec, flat) from None
        try:
            packed = struct.pack(layout, *(float("nan") if v is None else v for v in flat))
        except (struct.error, OverflowError):
            raise _wrong_value(spec, flat) from None
    return np.frombuffer(packed, dtype=spec.dtype)


def _wrong_value(spec: Spec, flat: Sequence[Any]) -> Invalid:
    """Names the first value that the datatype cannot hold."""
    for index, value in enumerate(flat):
        if spec.datatype in ("BYTES", "BOOL"):
            bad = type(value) is not (str if spec.datatype == "BYTES" else bool)
        elif value is None and spec.datatype in FLOATS:
            bad = False
        else:
            try:
                struct.pack("<" + _STRUCT[spec.datatype], value)
                bad = False
            except (struct.error, OverflowError):
                bad = True
        if bad:
            return Invalid(
                f"input '{spec.name}': data[{index}] is {brief(value)}, expected {_EXPECTED[spec.datatype]} within the range of {spec.datatype}"
            )
    return Invalid(f"input '{spec.name}': data does not fit {spec.datatype}")


def _flat(name: str, shape: tuple[int, ...], data: object) -> Sequence[Any]:
    if not isinstance(data, list):
        if not shape and not isinstance(data, dict):
            return [data]
        raise Invalid(f"input '{name}': data must be a list, got {brief(data)}")
    if not data or not isinstance(data[0], list):
        return data
    level: list[Any] = data
    for axis in range(len(shape)):
        expected = prod(shape[: axis + 1])
        if len(level) != expected:
            raise Invalid(
                f"input '{name}': data does not nest as shape {list(shape)} says: {len(level)} values down to axis {axis}, not {expected}"
            )
        if axis == len(shape) - 1:
            return level
        if not all(isinstance(v, list) and len(v) == shape[axis + 1] for v in level):
            raise Invalid(
                f"input '{name}': data does not nest as shape {list(shape)} says: a list at depth {axis + 1} has not {shape[axis + 1]} values"
            )
        level = list(chain.from_iterable(level))
    return level


def from_bytes(spec: Spec, shape: tuple[int, ...], raw: bytes | memoryview, offset: int, size: int) -> Array:
    """`size` bytes of `raw` from `offset`, little-endian, -> array, a view where that is possible. Raises Invalid on another size."""
    if spec.datatype == "BYTES":
        return _strings(spec.name, shape, raw, offset, size)
    expected = prod(shape) * spec.dtype.itemsize
    if size != expected:
        raise Invalid(f"input '{spec.name}': {spec.datatype} of shape {list(shape)} takes {expected} bytes of binary data, got {size}")
    if spec.datatype == "BOOL" and any(bytes(raw[offset : offset + size]).translate(None, b"\0\1")):
        raise Invalid(f"input '{spec.name}': BOOL takes bytes of 0 and 1, got another value")
    return np.frombuffer(raw, dtype=spec.dtype, count=prod(shape), offset=offset).reshape(shape)


def _strings(name: str, shape: tuple[int, ...], raw: bytes | memoryview, offset: int, size: int) -> Array:
    count, end = prod(shape), offset + size
    if count * 4 > size:
        raise Invalid(f"input '{name}': {count} strings take at least {count * 4} bytes of binary data, got {size}")
    array = np.empty(count, dtype=np.object_)
    for index in range(count):
        if offset + 4 > end:
            raise Invalid(f"input '{name}': binary data ends before string {index} of {count}")
        length = int.from_bytes(raw[offset : offset + 4], "little")
        offset += 4
        if offset + length > end:
            raise Invalid(f"input '{name}': string {index} says {length} bytes, {end - offset} are left")
        array[index] = text_of(name, index, bytes(raw[offset : offset + length]))
        offset += length
    if offset != end:
        raise Invalid(f"input '{name}': {end - offset} bytes are left after {count} strings")
    return array.reshape(shape)


def text_of(name: str, index: int, raw: bytes) -> str:
    """One element of a BYTES tensor -> text. Raises Invalid where it is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Invalid(f"input '{name}': string {index} is not UTF-8, which is all that the model can read") from None


def to_bytes(datatype: str, array: Array) -> bytes:
    """Array -> little-endian bytes, row-major; strings with a length of 4 bytes before each."""
    if datatype != "BYTES":
        return array.tobytes()
    parts: list[bytes] = []
    for value in array.ravel().tolist():
        raw = value.encode() if isinstance(value, str) else bytes(value)
        parts += (struct.pack("<I", len(raw)), raw)
    return b"".join(parts)


def to_json(datatype: str, array: Array) -> Any:
    """Array -> flat values as orjson writes them (OPT_SERIALIZE_NUMPY). Numbers that are not finite come out as null: see `finite`."""
    if datatype == "BYTES":
        return array.ravel().tolist()
    if datatype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32).ravel()
    return np.ascontiguousarray(array).ravel()


def to_bf16(array: Array) -> Array:
    """float32 -> the bits of the nearest bfloat16, as uint16."""
    bits = array.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)


def finite(datatype: str, array: Array) -> bool:
    """Whether JSON can carry the array."""
    if datatype == "BF16":
        return bool(((array & 0x7F80) != 0x7F80).all())
    return datatype not in FLOATS or bool(np.isfinite(array).all())


def brief(value: object) -> str:
    """A value as it came, short enough for a message."""
    text = "null" if value is None else ("true" if value else "false") if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
