"""Open Inference Protocol V2 over REST: a request body, JSON with or without the binary tensor extension, -> tensors, and back."""

from __future__ import annotations

from typing import Any

import orjson

from aiservice_predictor.codec.request import Data, Request
from aiservice_predictor.codec.tensors import Array, Spec, Tensors, brief, finite, from_bytes, from_json, shape_of
from aiservice_predictor.failures import Invalid, ModelFailed, TooLarge
from aiservice_predictor.signature import Signature

MAX_CONTAINERS = 2**20
"""Each takes about 100 bytes of memory for as few as 3 of JSON."""
SMALL = 2**20
"""Bytes of JSON that cannot take too much memory, whatever they say."""
MAX_ID = 256
"""Characters of a request's id."""
_BINARY = "binary_data"


class RestRequest(Request):
    """And how the outputs are to be written."""

    __slots__ = ("binary", "binary_outputs")

    def __init__(
        self, inputs: Tensors, rows: int, id: str = "", outputs: tuple[str, ...] = (), size: int = 0, binary: bool = False,
        binary_outputs: dict[str, bool] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(inputs, rows, id, outputs, size)
        self.binary = binary
        """Outputs as binary data unless said otherwise for one."""
        self.binary_outputs = binary_outputs or {}


def parse(body: bytes) -> dict[str, Any]:
    """Raises Invalid unless it is one JSON object, TooLarge where it would take far more memory than bytes."""
    if len(body) > SMALL and body.count(b"[") + body.count(b"{") > MAX_CONTAINERS:
        raise TooLarge(f"the body has more than {MAX_CONTAINERS} lists and objects: send flat data, or binary data")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = "; NaN and Infinity are not JSON: send such values as binary data" if _says_nan(body) else ""
        raise Invalid(f"the body is not JSON: {str(error)[:120]}{hint}") from None
    if not isinstance(found, dict):
        raise Invalid(f"the body must be a JSON object, got {brief(found)}")
    return found


def decode(signature: Signature, max_rows: int, body: Data, json_size: int | None = None) -> RestRequest:
    """A request body -> request; `json_size`: bytes of JSON before the binary data (Inference-Header-Content-Length).

    Raises Invalid or TooLarge.
    """
    if json_size is None:
        json_size = len(body)
    elif not 0 < json_size <= len(body):
        raise Invalid(f"Inference-Header-Content-Length is {json_size}, the body has {len(body)} bytes")
    head = parse(bytes(body[:json_size]))
    parameters = _parameters("the request", head)
    tensors = head.get("inputs")
    if not isinstance(tensors, list) or not tensors:
        raise Invalid(f"inputs must be a list of tensors, got {brief(tensors)}")
    inputs: Tensors = {}
    offset = json_size
    for tensor in tensors:
        spec, array, offset = _input(signature, max_rows, tensor, body, offset)
        if spec.name in inputs:
            raise Invalid(f"input '{spec.name}' is given twice")
        inputs[spec.name] = array
    if offset != len(body):
        raise Invalid(f"{len(body) - offset} bytes of binary data belong to no input; give each its parameters.binary_data_size")
    request = RestRequest(inputs, signature.rows(inputs), _id(head), size=len(body), binary=parameters.get("binary_data_output") is True)
    _outputs(signature, head.get("outputs"), request)
    return request


def must_be_finite(signature: Signature, inputs: Tensors, outputs: Tensors) -> None:
    """Raises Invalid or ModelFailed where an output cannot be written as JSON."""
    for name, array in outputs.items():
        if not finite(signature.outputs[name].datatype, array):
            said = f"output '{name}' holds NaN or Infinity, which JSON cannot carry; ask for it as binary data to see it"
            for given, values in inputs.items():
                if not finite(signature.inputs[given].datatype, values):
                    raise Invalid(f"{said} (input '{given}' holds such values as well)")
            raise ModelFailed(f"the model failed on this request: {said}")


def _input(signature: Signature, max_rows: int, tensor: object, body: Data, offset: int) -> tuple[Spec, Array, int]:
    if not isinstance(tensor, dict):
        raise Invalid(f"each of inputs must be an object with name, datatype, shape and data, got {brief(tensor)}")
    spec = signature.input(tensor.get("name"))
    shape = shape_of(spec.name, tensor.get("shape"))
    signature.admit(spec, tensor.get("datatype"), shape, max_rows)
    size = _parameters(f"input '{spec.name}'", tensor).get("binary_data_size")
    if size is None:
        if "data" not in tensor:
            raise Invalid(f"input '{spec.name}': has neither data nor parameters.binary_data_size")
        return spec, from_json(spec, shape, tensor["data"]), offset
    if "data" in tensor:
        raise Invalid(f"input '{spec.name}': has both data and parameters.binary_data_size")
    if type(size) is not int or size < 0 or offset + size > len(body):
        raise Invalid(f"input '{spec.name}': binary_data_size is {brief(size)}, {len(body) - offset} bytes are left in the body")
    return spec, from_bytes(spec, shape, body, offset, size), offset + size


def _outputs(signature: Signature, wanted: object, request: RestRequest) -> None:
    if wanted is None or wanted == []:
        return
    if not isinstance(wanted, list):
        raise Invalid(f"outputs must be a list, got {brief(wanted)}")
    for output in wanted:
        if not isinstance(output, dict):
            raise Invalid(f"each of outputs must be an object with a name, got {brief(output)}")
        spec = signature.output(output.get("name"))
        parameters = _parameters(f"output '{spec.name}'", output)
        if parameters.get("classification"):
            raise Invalid(f"output '{spec.name}': the classification extension is not spoken here; ask for the values")
        if _BINARY in parameters:
            request.binary_outputs[spec.name] = parameters[_BINARY] is True
        if spec.name not in request.outputs:
            request.outputs += (spec.name,)


def _parameters(where: str, holder: dict[str, Any]) -> dict[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise Invalid(f"{where}: parameters must be an object, got {brief(parameters)}")
    return parameters


def _id(head: dict[str, Any]) -> str:
    found = head.get("id")
    if found is None:
        return ""
    if not isinstance(found, str) or len(found) > MAX_ID:
        raise Invalid(f"id must be a text of at most {MAX_ID} characters, got {brief(found)}")
    return found


def _says_nan(body: bytes) -> bool:
    return b"NaN" in body or b"Infinity" in body
