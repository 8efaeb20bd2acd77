"""The onnxruntime session behind one function: tensors in, tensors out."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import numpy as np
import onnxruntime as ort

from aiservice.bundle.read import Refused
from aiservice_predictor.codec.tensors import Array, Spec, Tensors
from aiservice_predictor.failures import Failure, Invalid, ModelFailed

_TYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8", "int16": "INT16",
    "int32": "INT32", "int64": "INT64", "float16": "FP16", "bfloat16": "BF16", "float": "FP32", "double": "FP64", "string": "BYTES",
}  # fmt: skip
_BF16 = 16
"""TensorProto.DataType.BFLOAT16."""
_FATAL = 4
_BY_VALUE = (b"Loop", b"Scan", b"Range", b"Expand", b"Tile", b"ConstantOfShape", b"Resize", b"OneHot", b"Pad", b"SequenceMap")
"""Operators whose time may follow the values that they are given."""
_OP_TYPE = b"\x22"
"""Key of NodeProto.op_type on the wire."""
_SEARCHED = 2**26


class Model:
    """A loaded graph. `run` may be called from one thread at a time."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Raises Refused where onnxruntime cannot load the file, or a tensor's type is not one of the protocol's."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait would use up the container's CPU limit
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = _FATAL
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise _unloadable(path.name, error) from None
        self.inputs = {a.name: _spec("input", a) for a in self._session.get_inputs()}
        self.outputs = {a.name: _spec("output", a) for a in self._session.get_outputs()}
        self._names = list(self.outputs)
        self.steady = path.stat().st_size <= _SEARCHED and _steady(path.read_bytes())
        """Whether the time of a call surely follows the shapes of the inputs, never their values."""
        self._raw16 = any(s.datatype == "BF16" for s in (*self.inputs.values(), *self.outputs.values()))

    def run(self, inputs: Tensors) -> Tensors:
        """All outputs for these inputs. Raises Invalid where they do not fit together, ModelFailed where the graph fails on them."""
        try:
            arrays = self._run_ort_values(inputs) if self._raw16 else self._session.run(self._names, inputs)
        except Exception as error:
            raise _failure(error) from None
        return dict(zip(self._names, arrays, strict=True))

    def _run_ort_values(self, inputs: Tensors) -> list[Array]:
        values = {
            name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), _BF16)
            if self.inputs[name].datatype == "BF16"
            else ort.OrtValue.ortvalue_from_numpy(array)
            for name, array in inputs.items()
        }
        results = self._session.run_with_ort_values(self._names, values)
        return [_bits(r) if self.outputs[n].datatype == "BF16" else r.numpy() for n, r in zip(self._names, results, strict=True)]


def _steady(graph: bytes) -> bool:
    return not any(_OP_TYPE + bytes((len(op),)) + op in graph for op in _BY_VALUE)


def _bits(value: ort.OrtValue) -> Array:
    """A bfloat16 value -> its bits as uint16; numpy() refuses the type."""
    shape = tuple(value.shape())
    raw = ctypes.string_at(value.data_ptr(), 2 * int(np.prod(shape)))
    return np.frombuffer(raw, dtype=np.uint16).reshape(shape)


def _spec(kind: str, argument: ort.NodeArg) -> Spec:
    match = re.fullmatch(r"tensor\((\w+)\)", argument.type)
    datatype = _TYPES.get(match.group(1)) if match else None
    if datatype is None:
        raise Refused(
            "UnsupportedModel",
            f"{kind} '{argument.name}' is a {argument.type}, which the protocol cannot carry; export plain tensors (skl2onnx: zipmap=False)",
        )
    return Spec(argument.name, datatype, tuple(n if isinstance(n, int) else -1 for n in argument.shape))


def _unloadable(name: str, error: Exception) -> Refused:
    text = _short(error)
    if "opset" in text.lower() or "IR version" in text or "NOT_IMPLEMENTED" in str(error) or "NotImplemented" in type(error).__name__:
        return Refused("UnsupportedModel", f"{name}: onnxruntime {ort.__version__} cannot run it ({text}); export it with an older opset")
    if type(error).__name__ in ("InvalidProtobuf", "InvalidArgument", "NoModel"):
        return Refused("DamagedBundle", f"{name}: is not a whole ONNX model ({text}); export or fetch it again")
    return Refused("UnsupportedModel", f"{name}: onnxruntime {ort.__version__} does not load it ({text})")


def _failure(error: Exception) -> Failure:
    text = _short(error)
    if type(error).__name__ == "InvalidArgument" and "while running" not in text:
        return Invalid(f"the model refuses these inputs: {text}")
    return ModelFailed(f"the model failed on this request: {text}")


def _short(error: Exception) -> str:
    """onnxruntime's message without source positions, line breaks and stack, at most 300 characters."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : |Load model from \S+ failed:|/onnxruntime_src/\S+ .*?\) ", "", str(error))
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:297] + "..."
