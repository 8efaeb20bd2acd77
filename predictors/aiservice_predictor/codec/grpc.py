"""Open Inference Protocol V2 over gRPC: message bytes -> tensors, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from aiservice_predictor.codec.request import Part, Request
from aiservice_predictor.codec.tensors import Array, Spec, Tensors, from_bytes, shape_of, text_of
from aiservice_predictor.failures import Invalid
from aiservice_predictor.proto import messages
from aiservice_predictor.signature import Signature

_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents", "FP32": "fp32_contents",
    "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


class GrpcRequest(Request):
    """And whether the tensors came raw: they go back so."""

    __slots__ = ("raw",)

    def __init__(self, inputs: Tensors, rows: int, id: str = "", outputs: tuple[str, ...] = (), size: int = 0, raw: bool = False) -> None:
        super().__init__(inputs, rows, id, outputs, size)
        self.raw = raw


def parse(message: Any, data: bytes) -> Any:
    """Bytes -> message. Raises Invalid."""
    try:
        return message.FromString(data)
    except messages.DecodeError:
        raise Invalid(f"the request is not a {message.DESCRIPTOR.full_name}") from None


def decode(signature: Signature, max_rows: int, message: Any) -> GrpcRequest:
    """A ModelInferRequest -> request. Raises Invalid or TooLarge."""
    raws, tensors = message.raw_input_contents, message.inputs
    if len(message.id) > 256:
        raise Invalid("id must have at most 256 characters")
    if raws and len(raws) != len(tensors):
        raise Invalid(f"raw_input_contents has {len(raws)} entries for {len(tensors)} inputs; give one each, or none")
    inputs: Tensors = {}
    for index, tensor in enumerate(tensors):
        spec = signature.input(tensor.name)
        if spec.name in inputs:
            raise Invalid(f"input '{spec.name}' is given twice")
        shape = shape_of(spec.name, list(tensor.shape))
        signature.admit(spec, tensor.datatype, shape, max_rows)
        if raws:
            if tensor.HasField("contents"):
                raise Invalid(f"input '{spec.name}': has both contents and raw_input_contents")
            inputs[spec.name] = from_bytes(spec, shape, raws[index], 0, len(raws[index]))
        else:
            inputs[spec.name] = _typed(spec, shape, tensor.contents)
    outputs = tuple(dict.fromkeys(signature.output(o.name).name for o in message.outputs))
    wants_raw = message.parameters["binary_data_output"].bool_param if "binary_data_output" in message.parameters else bool(raws)
    return GrpcRequest(inputs, signature.rows(inputs), message.id, outputs, message.ByteSize(), raw=wants_raw)


def has_typed_form(datatype: str) -> bool:
    """Not FP16 and BF16."""
    return datatype in _CONTENTS


def encode_typed(model: str, signature: Signature, request: GrpcRequest, part: Part) -> bytes:
    """Answer -> bytes of a ModelInferResponse with typed contents, which all of its outputs must have."""
    answer = messages.ModelInferResponse(model_name=model, id=request.id)
    for name in request.outputs or tuple(signature.outputs):
        datatype, array = signature.outputs[name].datatype, part.tensor(name)
        tensor = answer.outputs.add(name=name, datatype=datatype, shape=array.shape)
        values = array.ravel().tolist()
        getattr(tensor.contents, _CONTENTS[datatype]).extend([v.encode() for v in values] if datatype == "BYTES" else values)
    return bytes(answer.SerializeToString())


def _typed(spec: Spec, shape: tuple[int, ...], contents: Any) -> Array:
    name = _CONTENTS.get(spec.datatype)
    if name is None:
        raise Invalid(f"input '{spec.name}': {spec.datatype} has no typed contents; send raw_input_contents")
    wrong = next((f.name for f, _ in contents.ListFields() if f.name != name), None)
    if wrong:
        raise Invalid(f"input '{spec.name}': contents are in {wrong}, {spec.datatype} takes {name}")
    values = getattr(contents, name)
    count = int(np.prod(shape, dtype=object))
    if len(values) != count:
        raise Invalid(f"input '{spec.name}': shape {list(shape)} takes {count} values, {name} has {len(values)}")
    if spec.datatype == "BYTES":
        texts = np.empty(count, dtype=np.object_)
        texts[:] = [text_of(spec.name, i, v) for i, v in enumerate(values)]
        return texts.reshape(shape)
    try:
        return np.array(values, dtype=spec.dtype).reshape(shape)
    except OverflowError:
        low, high = np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max
        bad = next((i, v) for i, v in enumerate(values) if not low <= v <= high)
        raise Invalid(f"input '{spec.name}': {name}[{bad[0]}] is {bad[1]}, out of the range of {spec.datatype}") from None
