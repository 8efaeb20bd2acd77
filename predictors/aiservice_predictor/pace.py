"""How long calls of the model take, as far as it can be known before one is made."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, thread_time

from mypy_extensions import mypyc_attr

QUICK = 0.0005
"""Seconds: calls that take no longer run in the event loop, and may have more rows than others."""
MOST_ROWS = 1024
"""In a quick call."""
_REMEMBERED = 0.8
"""How slowly a long call is forgotten: share of the remembered time that is left after each shorter one."""
_PER_CALL = 5e-6
"""Seconds of a call, whatever it holds."""
_SHORTEST = 1e-6
"""Seconds beside that: what is less is not measured."""
_NEVER = float("inf")


@mypyc_attr(allow_interpreted_subclasses=True)
class Pace:
    """Of one model."""

    def __init__(self, max_rows: int, follows_rows: bool, stretch: bool) -> None:
        """`follows_rows`: whether the time of a call can be told from its rows at all; `stretch`: whether a quick one takes more than
        `max_rows`, since every call costs as much as ten rows of a small model."""
        self._max_rows, self._follows_rows, self._stretch = max_rows, follows_rows, stretch and follows_rows
        self.most_rows = max_rows
        """In the next call."""
        self.clock: Callable[[], float] = perf_counter
        """What the next call is timed by. A pause that others force on us is not the model's fault, so where a call is slow by the clock,
        or slower than expected, the next one's CPU time counts in its stead: reading that costs as much as a row of a small model."""
        self._per_row = _NEVER
        """Seconds beside _PER_CALL."""

    def quick(self, rows: int) -> bool:
        return self._follows_rows and self._per_row * rows < QUICK

    def learn(self, rows: int, seconds: float) -> None:
        """A call of so many rows took so long by `clock`."""
        if self.clock is perf_counter and seconds > min(QUICK, 2 * (_PER_CALL + self._per_row * rows)):
            self.clock = thread_time
            return
        self.clock = perf_counter if seconds <= QUICK else thread_time
        per_row = max(_SHORTEST, seconds - _PER_CALL) / rows
        self._per_row = per_row if self._per_row == _NEVER else max(per_row, self._per_row * _REMEMBERED)
        if self._stretch:
            self.most_rows = max(self._max_rows, min(MOST_ROWS, int(QUICK / self._per_row)))
