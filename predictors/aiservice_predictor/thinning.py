"""Which requests are recorded when there are too many to record them all."""

from __future__ import annotations

import math
import random
from collections import Counter

EACH = 500
"""Requests a second that are all recorded; of more, about so many, drawn by chance alone."""
RARE = 200
"""Beside them, so many a second for their decision, an equal share for each decision."""
_WINDOW = 1.0


class Thinning:
    """Draws before anything is known of a request, and costs those that are not drawn next to nothing: the recorder counts down to the next one."""

    def __init__(self, seed: int | None = None, workers: int = 1) -> None:
        """`workers`: how many draw for the same predictor, each its share."""
        self._each, self._share = max(1, EACH // workers), RARE // workers
        self._random = random.Random(seed)
        self._odds = 1.0
        """One in so many is drawn."""
        self._start = 0.0
        self._offered = 0
        self._drawn = 0
        self._rare: Counter[str] = Counter()

    def gap(self) -> int:
        """A request is recorded: so many are not before the next one."""
        self._drawn += 1
        if self._odds <= 1:
            return 0
        return int(math.log(1 - self._random.random()) / math.log(1 - 1 / self._odds))

    def offered(self, requests: int, at: float) -> bool:
        """So many were, up to `at` (seconds on any clock): the odds follow the rate. True: a gap drawn before is void."""
        self._offered += requests
        passed = at - self._start
        if not 0 <= passed < _WINDOW:
            self._odds = max(1.0, self._offered / self._each / max(passed, _WINDOW)) if passed > 0 else self._odds
            self._start, self._offered, self._drawn = at, 0, 0
            self._rare.clear()
            return True
        if self._drawn >= self._each:
            self._odds, self._drawn = self._odds * 2, 0
        return False

    def rare(self, stratum: str, strata: int) -> bool:
        """Whether a request that was not drawn is recorded for its decision, one of so many."""
        if self._rare[stratum] >= max(1, self._share // max(1, strata)):
            return False
        self._rare[stratum] += 1
        return True

    def sought(self, stratum: str, strata: int) -> bool:
        """Whether `rare` would say so, without taking a place."""
        return self._rare[stratum] < max(1, self._share // max(1, strata))
