"""Open Inference Protocol V2 over REST for one model: request bodies -> requests, outputs -> answers."""

from __future__ import annotations

from aiservice_predictor.codec.json_out import JsonOut
from aiservice_predictor.codec.request import Data, Part
from aiservice_predictor.codec.rest import RestRequest, must_be_finite
from aiservice_predictor.codec.rest_known import Reader
from aiservice_predictor.codec.tensors import to_bytes
from aiservice_predictor.signature import Signature


class RestCodec:
    """Request bodies -> requests, outputs -> answers, for one model."""

    def __init__(self, model: str, signature: Signature, max_rows: int) -> None:
        self._signature = signature
        self._reader = Reader(signature, max_rows)
        self._out = JsonOut(model, signature)
        self._all = tuple(signature.outputs)

    def decode(self, body: Data, json_size: int | None = None) -> RestRequest:
        """`json_size`: bytes of JSON before the binary data. Raises Invalid or TooLarge."""
        return self._reader.decode(body, json_size)

    def encode(self, request: RestRequest, part: Part, decisions: list[str] | None = None) -> tuple[bytes, int | None]:
        """Answer -> (body, bytes of JSON in it where binary data follows).

        JSON has no NaN and no Infinity, and null is not one: an answer that holds such a number, and is not asked for as binary data, is
        the model's failure (ModelFailed, 500) or, where the inputs held one already, the request's (Invalid, 400).
        """
        names = request.outputs or self._all
        if not request.binary and not request.binary_outputs:
            head = self._out.answer(request.id, self._out.tensors(names, part), decisions)
            if b"null" in head:
                must_be_finite(self._signature, request.inputs, {n: part.tensor(n) for n in names})
            return head, None
        texts, binary, shown = [], [], {}
        for name in names:
            array = part.tensor(name)
            if request.binary_outputs.get(name, request.binary):
                raw = to_bytes(self._signature.outputs[name].datatype, array)
                texts.append(self._out.binary(name, array.shape, len(raw)))
                binary.append(raw)
            else:
                shown[name] = array
                texts.append(self._out.tensor(name, part))
        head = self._out.answer(request.id, b",".join(texts), decisions)
        if shown and b"null" in head:
            must_be_finite(self._signature, request.inputs, shown)
        return (b"".join((head, *binary)), len(head)) if binary else (head, None)
