"""From single requests to calls of the model: a bounded queue, batches of what waits anyway, one worker thread, deadlines.

Nothing waits at low load (unless `batch_max_delay` says so): a call takes what came while the last one ran. Calls known to be quick run in
the event loop itself; a hop to the thread costs more than they do. If a batch fails, each of its requests is run again alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import TypeAlias

import numpy as np

from aiservice_predictor.codec.tensors import Tensors
from aiservice_predictor.failures import Failure, Late, ModelFailed, Overloaded
from aiservice_predictor.metrics import Metrics

Run: TypeAlias = Callable[[Tensors], Tensors]
Result: TypeAlias = Tensors | Failure
QUICK = 0.0005
"""Seconds: calls that take no longer run in the event loop."""
_REMEMBERED = 0.98
"""How slowly a long call is forgotten: share of the remembered time that is left after each shorter one."""


@dataclass(frozen=True)
class Limits:
    """How requests are queued and stacked."""

    max_rows: int = 32
    max_delay: float = 0.0
    """Seconds."""
    queue: int = 256
    by_row: bool = True
    """Whether requests may be stacked."""
    inline: bool = True
    """Whether quick calls may run in the event loop."""


@dataclass(slots=True, eq=False)
class _Waiting:
    inputs: Tensors
    rows: int
    since: float
    answer: asyncio.Future[Tensors]

    def key(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape[1:] for name, array in self.inputs.items()}


class Batcher:
    """Belongs to one event loop."""

    def __init__(self, run: Run, limits: Limits, metrics: Metrics) -> None:
        self._run, self._limits, self._metrics = run, limits, metrics
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "model")
        self._waiting: deque[_Waiting] = deque()
        self._running: list[_Waiting] = []
        self._since = 0.0
        self._scheduled = False
        self._closed = False
        self._per_row = QUICK
        self._by_row = limits.by_row

    async def submit(self, inputs: Tensors, rows: int, seconds: float) -> Tensors:
        """The model's outputs for one request. Raises Overloaded, Late after so many seconds, Invalid, ModelFailed."""
        if self._closed:
            raise _ending()
        if len(self._waiting) >= self._limits.queue:
            raise Overloaded(f"{len(self._waiting)} requests wait already; try again in a second")
        if seconds <= 0:
            raise _late(seconds)
        item = _Waiting(inputs, rows, perf_counter(), self._loop.create_future())
        self._waiting.append(item)
        self._wake()
        timer = self._loop.call_later(seconds, self._expire, item, seconds)
        try:
            return await item.answer
        finally:
            timer.cancel()
            if item.answer.cancelled():
                self._remove(item)

    def idle(self) -> bool:
        return not self._waiting and not self._running

    def running_for(self) -> float:
        """Seconds since the call of the model that still runs was made; 0 where none does."""
        return perf_counter() - self._since if self._running else 0.0

    def close(self) -> None:
        """Whoever still waits gets Overloaded; a call that still runs is not waited for."""
        self._closed = True
        for item in (*self._waiting, *self._running):
            if not item.answer.done():
                item.answer.set_exception(_ending())
        self._waiting.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _expire(self, item: _Waiting, seconds: float) -> None:
        if not item.answer.done():
            item.answer.set_exception(_late(seconds))
            self._remove(item)

    def _remove(self, item: _Waiting) -> None:
        if item in self._waiting:
            self._waiting.remove(item)

    def _wake(self) -> None:
        if not self._running and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        if self._running or not self._waiting:
            return
        if self._by_row and self._limits.max_delay > 0:
            left = self._waiting[0].since + self._limits.max_delay - perf_counter()
            if left > 0 and sum(w.rows for w in self._waiting) < self._limits.max_rows:
                self._scheduled = True
                self._loop.call_later(left, self._pump)
                return
        batch = self._take()
        now = perf_counter()
        for item in batch:
            self._metrics.queue.observe(now - item.since)
        rows = sum(item.rows for item in batch)
        self._metrics.batch.observe(rows)
        if self._limits.inline and self._per_row * rows < QUICK:
            results, seconds = self._execute(batch)
            self._settle(batch, results, seconds / rows)
            if self._waiting:
                self._wake()
            return
        self._running, self._since = batch, perf_counter()
        future = self._thread.submit(self._execute, batch)
        future.add_done_callback(lambda f: self._closed or self._loop.call_soon_threadsafe(self._done, batch, rows, f))

    def _take(self) -> list[_Waiting]:
        """The next requests that can be stacked, oldest first; always at least one."""
        batch = [self._waiting.popleft()]
        if not self._by_row:
            return batch
        rows, key = batch[0].rows, batch[0].key()
        while self._waiting and rows + self._waiting[0].rows <= self._limits.max_rows and self._waiting[0].key() == key:
            batch.append(self._waiting.popleft())
            rows += batch[-1].rows
        return batch

    def _done(self, batch: list[_Waiting], rows: int, future: Future[tuple[list[Result], float]]) -> None:
        self._running = []
        if self._closed:
            return
        results, seconds = future.result()
        self._settle(batch, results, seconds / rows)
        self._wake()

    def _settle(self, batch: list[_Waiting], results: list[Result], per_row: float) -> None:
        self._per_row = max(per_row, self._per_row * _REMEMBERED)
        for item, result in zip(batch, results, strict=True):
            if item.answer.done():
                continue
            if isinstance(result, Failure):
                item.answer.set_exception(result)
            else:
                item.answer.set_result(result)

    def _execute(self, batch: list[_Waiting]) -> tuple[list[Result], float]:
        """One result a request, in order, and the seconds that the model took."""
        start = perf_counter()
        results = self._together(batch) if len(batch) > 1 else None
        if results is None:
            results = [self._alone(item.inputs) for item in batch]
        return results, perf_counter() - start

    def _together(self, batch: list[_Waiting]) -> list[Result] | None:
        """None where the stacked call failed, or its outputs do not have one row for each row."""
        try:
            outputs = self._run({name: np.concatenate([item.inputs[name] for item in batch]) for name in batch[0].inputs})
        except Exception:
            return None
        rows = sum(item.rows for item in batch)
        if any(a.ndim == 0 or a.shape[0] != rows for a in outputs.values()):
            self._by_row = False
            return None
        results: list[Result] = []
        start = 0
        for item in batch:
            end = start + item.rows
            results.append({name: array[start:end] for name, array in outputs.items()})
            start = end
        return results

    def _alone(self, inputs: Tensors) -> Result:
        try:
            return self._run(inputs)
        except Failure as failure:
            return failure
        except Exception as error:
            return ModelFailed(f"the model failed on this request: {_brief(error)}")


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _ending() -> Overloaded:
    return Overloaded("this predictor is ending; try again on another")


def _late(seconds: float) -> Late:
    return Late(f"not answered within {max(seconds, 0):g} seconds")
