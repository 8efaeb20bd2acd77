"""Endpoints for the control plane alone, behind the service's token: reservoir, labels, golden requests, reference rows."""

from __future__ import annotations

import asyncio
import hmac
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import orjson
from pydantic import ValidationError

from aiservice.api.runtime import GOLDEN_PATH, LABELS_PATH, REFERENCE_PATH, RESERVOIR_PATH, Labels, LabelsMatched
from aiservice_predictor.dataplane import DataPlane
from aiservice_predictor.failures import Forbidden, Invalid, MethodNotAllowed, Unauthorized
from aiservice_predictor.load import wire
from aiservice_predictor.reservoir import Entry
from aiservice_predictor.shared import Shared
from aiservice_predictor.transport.head import Head

DEFAULT_LIMIT = 1000
MAX_LIMIT = 10_000
_METHODS = {RESERVOIR_PATH: "GET", GOLDEN_PATH: "GET", REFERENCE_PATH: "GET", LABELS_PATH: "POST"}


class Private:
    """Closed to everyone where no token is configured."""

    def __init__(self, plane: DataPlane, shared: Shared) -> None:
        self._plane, self._shared = plane, shared
        self._token = plane.config.token.encode()

    def owns(self, path: str) -> bool:
        return path in _METHODS

    async def answer(self, head: Head, data: bytes) -> bytes:
        """JSON. Raises Unauthorized, Forbidden, MethodNotAllowed, Invalid."""
        path, method = head.path, head.method
        self._admit(head.fields)
        if method != _METHODS[path]:
            raise MethodNotAllowed(method, _METHODS[path])
        if path == LABELS_PATH:
            return await self._label(data)
        if path == RESERVOIR_PATH:
            return await self._reservoir(head.query)
        loaded = self._plane.loaded
        if path == GOLDEN_PATH:
            golden = {"requests": [g.wire() for g in loaded.golden], "golden": loaded.signature.golden.wire()}
            return orjson.dumps(golden)
        rows = {"rows": [r.wire() for r in loaded.reference], "decision": loaded.signature.decision.wire()}
        return await asyncio.to_thread(orjson.dumps, rows)

    def _admit(self, headers: dict[bytes, bytes]) -> None:
        said = headers.get(b"authorization", b"")
        if not self._token:
            raise Forbidden("closed: this predictor was started without a token")
        if not said.startswith(b"Bearer "):
            raise Unauthorized("send the service's token: Authorization: Bearer <token>")
        if not hmac.compare_digest(said.removeprefix(b"Bearer "), self._token):
            raise Forbidden("this is not the service's token")

    async def _label(self, data: bytes) -> bytes:
        try:
            labels = Labels.model_validate_json(data)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_context=False)[0]
            raise Invalid(f'the body must be {{"labels": {{id: decision}}}}: {".".join(map(str, fault["loc"]))}: {fault["msg"]}') from None
        return orjson.dumps(LabelsMatched(matched=await self._shared.label(labels.labels)).wire())

    async def _reservoir(self, query: bytes) -> bytes:
        limit = min(_number(query, "limit", DEFAULT_LIMIT), MAX_LIMIT)
        after = _number(query, "labelledAfter", -1)
        run, seen, entries = await self._shared.recorded(after, limit)
        found = [self._recorded(e) for e in entries if self._carries(e)]
        answer = {"run": run, "seen": seen, "requests": found}
        return await asyncio.to_thread(orjson.dumps, answer, None, orjson.OPT_SERIALIZE_NUMPY)

    def _carries(self, entry: Entry) -> bool:
        """JSON can carry NaN inputs, as null, but no Infinity: such a request is not given out."""
        return not any(a.dtype.kind == "f" and np.isinf(a).any() for a in entry.inputs.values())

    def _recorded(self, entry: Entry) -> dict[str, Any]:
        found = {
            "id": entry.id,
            "at": entry.at,
            "sequence": entry.sequence,
            "decisions": entry.decisions,
            "inputs": wire(self._plane.signature.inputs, entry.inputs),
            "fair": entry.fair,
        }
        if entry.label is not None:
            found |= {"label": entry.label.text, "labelled": entry.label.at, "labelSequence": entry.label.sequence}
        return found


def _number(query: bytes, name: str, default: int) -> int:
    said = parse_qs(query.decode("latin-1")).get(name)
    if said is None:
        return default
    if not said[0].isdecimal() or len(said[0]) > 15:
        raise Invalid(f"{name} must be a number >= 0, got '{said[0][:40]}'")
    return int(said[0])
