"""Counts decisions and fills the reservoir. On the hot path it only appends references; decisions are read off many answers at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from uuid import uuid4

import numpy as np

from aiservice.api.bundle import Decision
from aiservice_predictor import decision as decisions
from aiservice_predictor.codec.tensors import Array, Tensors
from aiservice_predictor.reservoir import MAX_STRATA, OTHER, Entry, Reservoir, size_of

_FOLD_AT = 64
"""Answers that wait at most until their decisions are read."""
_OUTPUTS = 2**22
"""Bytes of decision outputs that wait at most."""
_LONGEST_STRATUM = 128
"""Characters of a decision that tell strata apart; a model may echo whatever it was sent."""


@dataclass(slots=True)
class _Answer:
    id: str
    at: float
    inputs: Tensors | None
    output: Array
    size: int


class Recorder:
    """What was asked and decided since the start."""

    def __init__(self, decision: Decision, limit: int) -> None:
        self.run = uuid4().hex
        self.decision = decision
        self._pending_limit = limit // 16
        self.reservoir = Reservoir(limit - self._pending_limit)
        self._records = limit > 0
        self._pending: list[_Answer] = []
        self._pending_bytes = 0
        self._pending_outputs = 0
        self._sequence = 0
        self._seen: Counter[str] = Counter()

    def add(self, id: str, at: float, inputs: Tensors, output: Array, rows: int) -> None:
        """A request was answered at `at` (Unix seconds); `output`: the one that is decided by. Keeps references to the arrays."""
        size = size_of(id, inputs, rows) if self._records else 0
        kept = self._records and size <= self.reservoir.largest()
        if kept:
            self._pending_bytes += size
        self._pending.append(_Answer(id, at, inputs if kept else None, output, size))
        self._pending_outputs += output.nbytes
        if len(self._pending) >= _FOLD_AT or self._pending_bytes > self._pending_limit or self._pending_outputs > _OUTPUTS:
            self.fold()

    def fold(self) -> None:
        """Read the decisions of what waits, count them, and put the requests into the reservoir."""
        pending, self._pending, self._pending_bytes, self._pending_outputs = self._pending, [], 0, 0
        if not pending:
            return
        texts = self._texts([p.output for p in pending])
        for answer, found in zip(pending, texts, strict=True):
            strata = self._count(decisions.strata(self.decision, found))
            if answer.inputs is None or not found:
                continue
            size = answer.size + (4 * sum(map(len, found)) if answer.output.dtype == object else 0)
            self._sequence += 1
            stratum = min(strata, key=self._seen.__getitem__)
            self.reservoir.add(Entry(answer.id, answer.at, self._sequence, found, stratum, answer.inputs, size))

    def seen(self) -> dict[str, int]:
        self.fold()
        return dict(self._seen)

    def held(self) -> tuple[int, int]:
        self.fold()
        return self.reservoir.bytes, len(self.reservoir)

    def _texts(self, outputs: list[Array]) -> list[list[str]]:
        if any(o.ndim == 0 or o.shape[1:] != outputs[0].shape[1:] for o in outputs):
            return [decisions.texts(self.decision, o) for o in outputs]
        flat = decisions.texts(self.decision, np.concatenate(outputs) if len(outputs) > 1 else outputs[0])
        found, start = [], 0
        for output in outputs:
            found.append(flat[start : start + len(output)])
            start += len(output)
        return found

    def _count(self, strata: list[str]) -> list[str]:
        """Count the rows of a request, -> its strata, of which there are MAX_STRATA in all and OTHER."""
        if len(strata) == 1 and strata[0] in self._seen:
            self._seen[strata[0]] += 1
            return strata
        found = []
        for text, rows in Counter(strata).items():
            stratum = text[:_LONGEST_STRATUM]
            bounded = stratum if stratum in self._seen or len(self._seen) < MAX_STRATA else OTHER
            self._seen[bounded] += rows
            found.append(bounded)
        return found
