"""ModelInfer with raw contents, without a message object: what comes before the tensors' bytes is the same in request after request.

A message is read field by field only down to its first raw tensor. Everything before that, but for the id, is the key under which the
checked shapes and types are remembered; what is not remembered, or is not laid out so, goes through the protobuf library.
"""

from __future__ import annotations

from collections.abc import Callable

from aiservice_predictor.codec import grpc as slow
from aiservice_predictor.codec.grpc import GrpcRequest
from aiservice_predictor.codec.request import Data, Part
from aiservice_predictor.codec.tensors import Spec, Tensors, from_bytes, to_bytes
from aiservice_predictor.failures import Invalid
from aiservice_predictor.proto import messages
from aiservice_predictor.signature import Signature

_REMEMBERED = 256
_LONGEST = 2048
_ID, _RAW = 0x1A, 0x3A
_BEFORE = frozenset((0x0A, 0x12, 0x22, 0x2A, 0x32))
"""Tags of model_name, model_version, parameters, inputs, outputs: all have a length."""
_OUT_MODEL, _OUT_ID, _OUT_TENSOR, _OUT_RAW = b"\x0a", b"\x1a", b"\x2a", b"\x32"


class _Known:
    __slots__ = ("inputs", "outputs", "rows")

    def __init__(self, inputs: tuple[tuple[Spec, tuple[int, ...]], ...], rows: int, outputs: tuple[str, ...]) -> None:
        self.inputs, self.rows, self.outputs = inputs, rows, outputs


class GrpcCodec:
    """Messages -> requests, outputs -> messages, for one model."""

    def __init__(self, model: str, signature: Signature, max_rows: int, serves: Callable[[str], None]) -> None:
        """`serves` raises NotFound for the name of another model."""
        self._model, self._signature, self._max_rows, self._serves = model, signature, max_rows, serves
        self._known: dict[bytes, _Known] = {}
        self._all = tuple(signature.outputs)
        self._untyped = {n for n, s in signature.outputs.items() if not slow.has_typed_form(s.datatype)}
        self._head = _field(_OUT_MODEL, model.encode())
        self._tensors: dict[tuple[str, tuple[int, ...]], bytes] = {}

    def decode(self, data: Data) -> GrpcRequest:
        """Bytes of a ModelInferRequest -> request. Raises Invalid, TooLarge, NotFound."""
        found = _split(data)
        if found is None:
            return self._slow(data)
        key, id, raws = found
        known = self._known.get(key)
        if known is None or len(raws) != len(known.inputs) or len(id) > 256:
            request = self._slow(data)
            if known is None and request.raw and len(key) <= _LONGEST:
                self._remember(key, request)
            return request
        inputs: Tensors = {}
        for (spec, shape), (start, end) in zip(known.inputs, raws, strict=True):
            inputs[spec.name] = from_bytes(spec, shape, data, start, end - start)
        try:
            return GrpcRequest(inputs, known.rows, id.decode(), known.outputs, len(data), raw=True)
        except UnicodeDecodeError:
            raise Invalid("the request is not a inference.ModelInferRequest") from None

    def encode(self, request: GrpcRequest, part: Part) -> bytes:
        """Bytes of a ModelInferResponse; raw for all outputs where one has no typed form."""
        names = request.outputs or self._all
        if not request.raw and self._untyped.isdisjoint(names):
            return slow.encode_typed(self._model, self._signature, request, part)
        parts = [self._head, _field(_OUT_ID, request.id.encode())]
        raws = []
        for name in names:
            array = part.tensor(name)
            parts.append(self._tensor(name, array.shape))
            raw = to_bytes(self._signature.outputs[name].datatype, array)
            raws += [_OUT_RAW, _varint(len(raw)), raw]
        return b"".join(parts + raws)

    def _slow(self, data: Data) -> GrpcRequest:
        message = slow.parse(messages.ModelInferRequest, bytes(data))
        self._serves(message.model_name)
        return slow.decode(self._signature, self._max_rows, message)

    def _remember(self, key: bytes, request: GrpcRequest) -> None:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        inputs = tuple((self._signature.inputs[n], a.shape) for n, a in request.inputs.items())
        self._known[key] = _Known(inputs, request.rows, request.outputs)

    def _tensor(self, name: str, shape: tuple[int, ...]) -> bytes:
        found = self._tensors.get((name, shape))
        if found is None:
            if len(self._tensors) >= _REMEMBERED:
                self._tensors.clear()
            tensor = messages.ModelInferResponse.InferOutputTensor(name=name, datatype=self._signature.outputs[name].datatype, shape=shape)
            found = self._tensors[name, shape] = _field(_OUT_TENSOR, tensor.SerializeToString())
        return found


def _split(data: Data) -> tuple[bytes, bytes, list[tuple[int, int]]] | None:
    """-> (what comes before the raw tensors, without the id; the id; start and end of each raw tensor).

    None where there is no raw tensor, where something follows one, or where a field is not one of the message's.
    """
    at, end, id_from, id_to, id = 0, len(data), 0, 0, b""
    try:
        while True:
            tag = data[at]
            if tag == _RAW:
                break
            start, stop = _length(data, at + 1)
            if tag == _ID and not id_to:
                id_from, id_to, id = at, stop, bytes(data[start:stop])
            elif tag not in _BEFORE:
                return None
            at = stop
        key = bytes(data[:at]) if not id_to else bytes(data[:id_from]) + bytes(data[id_to:at])
        raws = []
        while at < end:
            if data[at] != _RAW:
                return None
            start, at = _length(data, at + 1)
            raws.append((start, at))
    except IndexError:
        return None
    return (key, id, raws) if at == end else None


def _length(data: Data, at: int) -> tuple[int, int]:
    """A length and what it spans -> (start, end). Raises IndexError."""
    size = data[at]
    at += 1
    if size >= 0x80:
        size &= 0x7F
        shift = 7
        while True:
            byte = data[at]
            at += 1
            size |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 28:
                raise IndexError
    return at, at + size


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
