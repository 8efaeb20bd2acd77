"""numpy arrays and ONNX values <-> tensors of the Open Inference Protocol V2."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, ValueInfoProto

from aiservice.api.bundle import Datatype, Tensor

Array = npt.NDArray[Any]

_NUMPY: dict[str, Datatype] = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip
_ONNX: dict[int, Datatype] = {
    TensorProto.BOOL: "BOOL", TensorProto.UINT8: "UINT8", TensorProto.UINT16: "UINT16", TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64", TensorProto.INT8: "INT8", TensorProto.INT16: "INT16", TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64", TensorProto.FLOAT16: "FP16", TensorProto.FLOAT: "FP32", TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "BYTES",
}  # fmt: skip
assert set(_NUMPY.values()) | {"BYTES", "BF16"} == set(get_args(Datatype))


def datatype(array: Array) -> Datatype:
    """V2 element type; texts and objects are BYTES."""
    return "BYTES" if array.dtype.kind in "OUS" else _NUMPY[array.dtype.name]


def to_v2(name: str, array: Array) -> dict[str, Any]:
    """One V2 JSON tensor, its data flat. Raises ValueError for a number that JSON cannot carry (NaN, infinity)."""
    kind = datatype(array)
    flat = array.reshape(-1)
    if kind == "BYTES":
        data: list[Any] = [str(v) for v in flat]
    elif array.dtype.kind == "f":
        if not np.isfinite(flat).all():
            raise ValueError(f"tensor {name!r} holds NaN or infinity, which JSON cannot carry")
        data = [float(str(v)) for v in flat]
    else:
        data = flat.tolist()
    return {"name": name, "datatype": kind, "shape": list(array.shape), "data": data}


def signature(model: ModelProto) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of an ONNX model; an axis of any length is -1. Raises ValueError for what is not a tensor."""
    constants = {i.name for i in model.graph.initializer}
    return [_tensor(v) for v in model.graph.input if v.name not in constants], [_tensor(v) for v in model.graph.output]


def opset(model: ModelProto) -> int:
    """Of the default ONNX domain."""
    return next(int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx"))


def _tensor(value: ValueInfoProto) -> Tensor:
    if not value.type.HasField("tensor_type") or value.type.tensor_type.elem_type not in _ONNX:
        raise ValueError(f"{value.name!r} is not a tensor of a type that V2 knows; export with zipmap off")
    kind = value.type.tensor_type
    dims = [int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else -1 for d in kind.shape.dim]
    return Tensor(name=value.name, datatype=_ONNX[kind.elem_type], shape=dims)
