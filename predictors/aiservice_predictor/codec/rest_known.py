"""Request bodies that differ from earlier ones in nothing but an id and numbers: what is the same is read and checked once.

A body is cut into its frame (everything but the data and the id's text) and these two. The frame is the key. It is remembered only after
a body with the same frame was read in full, and after the frame itself was read with two tokens in the gaps that nobody can guess: so the
gaps are known to be the place of `inputs[0].data` and of `id`, and any other complete JSON value stands in them for just those.
Whatever is laid out in another way is read in full every time.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from secrets import token_hex
from typing import Any

import numpy as np
import orjson

from aiservice_predictor.codec.numbers import LONGEST, SHORTEST, Numbers
from aiservice_predictor.codec.request import Data
from aiservice_predictor.codec.rest import SMALL, RestRequest, decode
from aiservice_predictor.codec.tensors import Array, Spec, Tensors, from_bytes, from_json, packing
from aiservice_predictor.signature import Signature

_REMEMBERED = 256
_LONGEST = 2048
_ID = re.compile(rb'"id":[ \t\r\n]*"([\x20\x21\x23-\x5b\x5d-\x7e]{1,256})"')
"""Texts that are written as they are: no escapes."""
_DATA = re.compile(rb'"data":[ \t\r\n]*\[')
_GAP = b"\0"
"""In no JSON text."""


class _Known:
    __slots__ = ("inputs", "pack", "request")

    def __init__(
        self, inputs: tuple[tuple[Spec, tuple[int, ...], int], ...], request: RestRequest, pack: Callable[..., bytes] | None
    ) -> None:
        self.inputs = inputs
        """With the bytes of each in the binary form."""
        self.request = request
        self.pack = pack
        """Of the values of the one input, where they are numbers."""


class Reader:
    """As `rest.decode`, for one model."""

    def __init__(self, signature: Signature, max_rows: int) -> None:
        self._signature, self._max_rows = signature, max_rows
        self._token = token_hex(16)
        self._numbers = Numbers()
        self._seen: set[bytes] = set()
        """Frames that came once."""
        self._json: dict[bytes, _Known] = {}
        self._around: tuple[bytes, bytes, _Known] | None = None
        """What stood before and behind the data of the last body without an id: most often, the next one's as well."""
        self._binary: dict[bytes, _Known] = {}

    def decode(self, body: Data, json_size: int | None) -> RestRequest:
        """Raises Invalid or TooLarge."""
        if json_size is not None:
            return self._from_binary(body, json_size)
        return self._from_json(bytes(body))

    def _from_json(self, body: bytes) -> RestRequest:
        around = self._around
        if around is not None:
            before, after, known = around
            if body.startswith(before) and body.endswith(after) and len(body) > len(before) + len(after):
                request = self._fill(known, body[len(before) : len(body) - len(after)], "", len(body))
                if request is not None:
                    return request
        found = _DATA.search(body) if len(body) <= SMALL else None
        if found is None:
            return decode(self._signature, self._max_rows, body)
        start = found.end() - 1
        close = b"]]" if body[start + 1 : start + 2] == b"[" else b"]"
        end = body.find(close, start) + len(close)
        before, after = body[:start], body[end:]
        frame, id = _without_id(before + _GAP + after)
        known_frame = self._json.get(frame)
        if known_frame is None or end <= start:
            request = decode(self._signature, self._max_rows, body)
            if self._again(frame) and self._fits(frame, data=True) and len(request.inputs) == 1:
                _remember(self._json, frame, self._known(request))
            return request
        if not id:
            self._around = before, after, known_frame
        return self._fill(known_frame, body[start:end], id, len(body)) or decode(self._signature, self._max_rows, body)

    def _fill(self, known: _Known, text: bytes, id: str, size: int) -> RestRequest | None:
        """None where the text is not one JSON value. Raises Invalid."""
        ((spec, shape, _),) = known.inputs
        array = self._numbers.read(spec, shape, text) if SHORTEST <= len(text) <= LONGEST and text.startswith(b"[") else None
        if array is None:
            try:
                array = _array(known, spec, shape, orjson.loads(text))
            except orjson.JSONDecodeError:
                return None
        return _like(known.request, {spec.name: array}, id, size)

    def _from_binary(self, body: Data, json_size: int) -> RestRequest:
        frame, id = _without_id(bytes(body[:json_size]))
        known = self._binary.get(frame)
        if known is None or json_size + sum(size for _, _, size in known.inputs) != len(body):
            request = decode(self._signature, self._max_rows, body, json_size)
            if known is None and self._again(frame) and self._fits(frame, data=False):
                _remember(self._binary, frame, self._known(request))
            return request
        inputs, at = {}, json_size
        for spec, shape, size in known.inputs:
            inputs[spec.name] = from_bytes(spec, shape, body, at, size)
            at += size
        return _like(known.request, inputs, id, len(body))

    def _again(self, frame: bytes) -> bool:
        """Whether it came before: most frames of a client that always writes another one never do."""
        if len(frame) > _LONGEST:
            return False
        if frame in self._seen:
            self._seen.discard(frame)
            return True
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen.add(frame)
        return False

    def _fits(self, frame: bytes, data: bool) -> bool:
        """Whether the gaps are where they seem to be: `data` and `id`, or `id` alone with all inputs in the binary form."""
        id, value = self._token[:16], self._token
        text = frame.replace(_ID_GAP, b'"id":"%s"' % id.encode()).replace(_GAP, b'"%s"' % value.encode())
        try:
            head = orjson.loads(text)
        except orjson.JSONDecodeError:
            return False
        if _ID_GAP in frame and head.get("id") != id:
            return False
        inputs = head["inputs"] if isinstance(head.get("inputs"), list) else []
        if data:
            return len(inputs) == 1 and isinstance(inputs[0], dict) and inputs[0].get("data") == value
        return all(isinstance(t, dict) and "data" not in t and self._signature.inputs[t["name"]].datatype != "BYTES" for t in inputs)

    def _known(self, request: RestRequest) -> _Known:
        specs = self._signature.inputs
        return _Known(
            tuple((specs[n], a.shape, a.nbytes) for n, a in request.inputs.items()),
            RestRequest({}, request.rows, request.id, request.outputs, 0, request.binary, request.binary_outputs),
            next((packing(specs[n].datatype, a.size) for n, a in request.inputs.items()), None),
        )


_ID_GAP = b'"id":\1'


def _without_id(frame: bytes) -> tuple[bytes, str]:
    """-> the frame with a gap for the id, and the id; as it is, where none is found; none, where it pretends to have the gap."""
    if b'"id":' not in frame:
        return frame, ""
    found = _ID.search(frame)
    if found is None:
        return (b"" if _ID_GAP in frame else frame), ""
    return frame[: found.start()] + _ID_GAP + frame[found.end() :], found[1].decode("ascii")


def _array(known: _Known, spec: Spec, shape: tuple[int, ...], values: Any) -> Array:
    """Raises Invalid."""
    if known.pack is not None:
        try:
            return np.frombuffer(known.pack(*values), spec.dtype).reshape(shape)
        except (struct.error, OverflowError, TypeError):
            pass  # nested lists, or what is wrong, or null
    return from_json(spec, shape, values)


def _like(known: RestRequest, inputs: Tensors, id: str, size: int) -> RestRequest:
    return RestRequest(inputs, known.rows, id or known.id, known.outputs, size, known.binary, known.binary_outputs)


def _remember(where: dict[bytes, _Known], frame: bytes, known: _Known) -> None:
    if len(where) >= _REMEMBERED:
        where.clear()
    where[frame] = known
