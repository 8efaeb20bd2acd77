"""Counts decisions and fills the reservoir. On the hot path it only appends references; decisions are read off many answers at once.

Every answer is counted. Which are kept is drawn before anything is known of them (`Thinning`), so that those that are kept stand for all;
of those that were not drawn, some are kept for their decision, and marked as not fair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from typing import TypeAlias
from uuid import uuid4

import numpy as np

from aiservice.api.bundle import Decision
from aiservice_predictor import decision as decisions
from aiservice_predictor.codec.tensors import Array, Tensors
from aiservice_predictor.record import pack
from aiservice_predictor.reservoir import MAX_STRATA, OTHER, Reservoir
from aiservice_predictor.thinning import Thinning

_FOLD_AT = 64
"""Answers that wait at most until their decisions are read."""
_OUTPUTS = 2**22
"""Bytes of decision outputs that wait at most."""
GROWTH = 12
"""Bytes that inputs take at most for each byte of their message: one-letter texts, eight-byte numbers of one digit."""
_SHARE, _WAITING = 4, 2**23
"""Of all bytes one in so many may wait, and no more than these. A call of a large model leaves nothing of ours in the caches, so that
reading decisions costs as much for one answer as for twenty; but more bytes than these fit into no cache either."""
_ANSWER = 1024
"""Bytes that an answer takes while it waits, beside its inputs."""
_SMALL = 2**16
"""Bytes of a message that are not worth a closer look."""
_LONGEST_STRATUM = 128
"""Characters of a decision that tell strata apart; a model may echo whatever it was sent."""


_Answer: TypeAlias = tuple[str, float, Tensors, Array, bool, int]
"""Id, when, inputs, the output that is decided by, whether it was drawn, bytes of its message."""


_NONE: Tensors = {}


def waiting(limit: int) -> int:
    """Of so many bytes in all, those that requests may hold whose decisions are not read yet."""
    return min(limit // _SHARE, _WAITING)


class Recorder:
    """What was asked and decided since the start."""

    def __init__(self, decision: Decision, limit: int, reservoir: Reservoir | None = None, workers: int = 1) -> None:
        """`reservoir`: where requests are kept, if not here; `workers`: how many record for the same predictor."""
        self.run = uuid4().hex
        self.decision = decision
        self._pending_limit = waiting(limit) // workers
        self.reservoir = Reservoir(limit - waiting(limit)) if reservoir is None else reservoir
        self._records = limit > 0
        self._thinning = Thinning(limit - waiting(limit), workers=workers)
        self._gap = 0
        """Requests that are not drawn before the next one."""
        self._pending: list[_Answer] = []
        self._pending_bytes = 0
        """At most so many."""
        self._pending_outputs = 0
        self._seen: Counter[str] = Counter()

    def add(self, id: str, at: float, inputs: Tensors, output: Array, message: int) -> None:
        """A request, of so many bytes, was answered at `at` (Unix seconds); `output`: the one that is decided by.

        Keeps references to the arrays.
        """
        gap = self._gap
        if gap:
            self._gap = gap - 1
        else:
            self._gap = self._thinning.drawn(message)
        if self._records:
            self._pending.append((id, at, inputs, output, not gap, message))
            self._pending_bytes += _bytes(inputs, message) + _ANSWER
        else:
            self._pending.append((id, at, _NONE, output, False, message))
        self._pending_outputs += output.nbytes
        if len(self._pending) >= _FOLD_AT or self._pending_bytes > self._pending_limit or self._pending_outputs > _OUTPUTS:
            self.fold()

    def fold(self) -> None:
        """Read the decisions of what waits, count them, and put the requests that are kept into the reservoir."""
        pending, self._pending, self._pending_bytes, self._pending_outputs = self._pending, [], 0, 0
        if not pending:
            return
        if self._thinning.offered(len(pending), sum(p[5] for p in pending), pending[-1][1]):
            self._gap = self._thinning.gap()
        outputs = [p[3] for p in pending]
        if any(o.ndim == 0 or o.shape[1:] != outputs[0].shape[1:] for o in outputs):
            for answer in pending:
                self._file([answer], answer[3])
        else:
            self._file(pending, np.concatenate(outputs) if len(outputs) > 1 else outputs[0])

    def seen(self) -> dict[str, int]:
        self.fold()
        return dict(self._seen)

    def held(self) -> tuple[int, int]:
        self.fold()
        return self.reservoir.size, len(self.reservoir)

    def _file(self, answers: list[_Answer], output: Array) -> None:
        """`output`: of all these answers, one after the other."""
        codes, name = decisions.strata(self.decision, output)
        strata = self._count(codes, name)
        if not self._records:
            return
        total = len(self._seen)
        bounds = [0, *accumulate(a[3].shape[0] if a[3].ndim else 1 for a in answers)]
        wanted = self._wanted(codes, strata, bounds, answers[-1][1])
        for index, answer in enumerate(answers):
            start, end = bounds[index], bounds[index + 1]
            if end > start and (answer[4] or wanted[index]):
                found: set[int] = set(codes[start:end].tolist())
                self._keep(answer, min((strata[c] for c in found), key=self._seen.__getitem__), total)

    def _wanted(self, codes: Array, strata: dict[int, str], bounds: list[int], at: float) -> list[bool]:
        """Of each answer, whether one of its rows has a decision that is sought for its own sake."""
        sought = [c for c, s in strata.items() if self._thinning.sought(s, at)]
        if not sought:
            return [False] * (len(bounds) - 1)
        of_code = np.zeros(max(strata) + 1, dtype=np.bool_)
        of_code[sought] = True
        until = np.zeros(len(codes) + 1, dtype=np.int64)
        np.cumsum(of_code[codes], out=until[1:])
        found: list[bool] = (np.diff(until[bounds]) > 0).tolist()
        return found

    def _keep(self, answer: _Answer, stratum: str, strata: int) -> None:
        id, at, inputs, output, drawn, size = answer
        if not drawn and not self._thinning.rare(stratum, strata, size, at):
            return
        self.reservoir.add(pack(id, at, decisions.texts(self.decision, output), inputs), stratum, drawn)

    def _count(self, codes: Array, name: Callable[[int], str]) -> dict[int, str]:
        """Count rows, -> the strata of the codes that occur; in all there are MAX_STRATA and OTHER."""
        found = {}
        counts = np.bincount(codes)
        occur: list[int] = np.flatnonzero(counts).tolist()
        for code in occur:
            stratum = name(code)[:_LONGEST_STRATUM]
            found[code] = stratum if stratum in self._seen or len(self._seen) < MAX_STRATA else OTHER
            self._seen[found[code]] += int(counts[code])
        return found


def _bytes(inputs: Tensors, message: int) -> int:
    """That the inputs of a message hold, at most."""
    if message < _SMALL:
        return message * GROWTH
    total = message
    for array in inputs.values():
        if array.dtype.hasobject:
            return message * GROWTH
        total += array.nbytes
    return total
