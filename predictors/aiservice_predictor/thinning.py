"""Which requests are recorded when there are too many to record them all."""

from __future__ import annotations

import math
import random
from collections import defaultdict

EACH = 500
"""Requests a second that are all recorded; of more, about so many, drawn by chance alone."""
RARE = 200
"""Beside them, so many a second for their decision, an equal share for each decision."""
SPAN = 60.0
"""Seconds that what is recorded reaches back at least: of larger requests fewer are recorded."""
_FIFO = 3 / 4
_WINDOW = 1.0
_BURST = 1.0
"""Seconds whose share of a decision may come at once."""


class Thinning:
    """Draws before anything is known of a request, and costs those that are not drawn next to nothing: the recorder counts down to the next one."""

    def __init__(self, limit: int, seed: int | None = None, workers: int = 1) -> None:
        """`limit`: bytes that are kept in all; `workers`: how many draw for the same predictor, each its share."""
        self._each, self._rare_each = max(1, EACH // workers), RARE / workers
        self._bytes = limit * _FIFO / SPAN / workers + 1
        self._rare_bytes = limit * (1 - _FIFO) / SPAN / workers + 1
        self._random = random.Random(seed)
        self._odds = 1.0
        """One in so many is drawn."""
        self._start = 0.0
        self._offered = self._offered_bytes = 0
        self._drawn = self._drawn_bytes = 0
        self._next: defaultdict[str, float] = defaultdict(float)
        """When the share of a decision is used up until, as the theoretical arrival time of a leaky bucket (ITU-T I.371, GCRA)."""

    def drawn(self, size: int) -> int:
        """A request of so many bytes is recorded; -> `gap`."""
        self._drawn += 1
        self._drawn_bytes += size
        return self.gap()

    def gap(self) -> int:
        """So many are not recorded before the next one that is."""
        if self._odds <= 1:
            return 0
        return int(math.log(1 - self._random.random()) / math.log(1 - 1 / self._odds))

    def offered(self, requests: int, size: int, at: float) -> bool:
        """So many were, of so many bytes, up to `at` (seconds on any clock): the odds follow the rate. True: a gap drawn before is void."""
        self._offered += requests
        self._offered_bytes += size
        passed = at - self._start
        if not 0 <= passed < _WINDOW:
            if passed > 0:
                seconds = max(passed, _WINDOW)
                self._odds = max(1.0, self._offered / self._each / seconds, self._offered_bytes / self._bytes / seconds)
            self._start = at
            self._offered = self._offered_bytes = self._drawn = self._drawn_bytes = 0
            return True
        if self._drawn >= self._each or self._drawn_bytes >= self._bytes:
            self._odds *= 2
            self._drawn = self._drawn_bytes = 0
        return False

    def rare(self, stratum: str, strata: int, size: int, at: float) -> bool:
        """Whether a request that was not drawn is recorded for its decision, one of so many."""
        if not self.sought(stratum, at):
            return False
        self._next[stratum] = max(self._next[stratum], at) + max(1, strata) * max(1 / self._rare_each, size / self._rare_bytes)
        return True

    def sought(self, stratum: str, at: float) -> bool:
        """Whether `rare` would say so."""
        return self._next[stratum] - at <= _BURST
