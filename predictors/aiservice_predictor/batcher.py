"""From single requests to calls of the model: a bounded queue, batches of what waits anyway, one worker thread, deadlines.

Nothing waits at low load (unless `max_delay` says so): a call takes what came while the last one ran. Calls known to be quick run in
the event loop itself; a hop to the thread costs more than they do. They run at once where the queue is full: answering costs no more
than twice a refusal, so that a quick model refuses hardly anybody, and what it cannot take in time stays in the sockets. If a batch fails,
each of its requests is run again alone.
Whoever waits is called back, at once and in the event loop: no task and no future is made for a request.
"""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass
from time import perf_counter, thread_time

from aiservice_predictor.calls import Calls, Result, Run
from aiservice_predictor.codec.tensors import Tensors
from aiservice_predictor.failures import Failure, Late, Overloaded
from aiservice_predictor.metrics import Metrics
from aiservice_predictor.pace import QUICK, Pace
from aiservice_predictor.thread import Call, ModelThread
from aiservice_predictor.waiting import Line, Waiting

_PATIENCE = 0.5
"""Share of a request's time that it may spend in the queue, judged by whoever waits there longest: were it all of it, every request
would be taken when its time is nearly over, and be answered too late."""
_LARGE = 2**17
"""Bytes of a request from which on stacking costs more than it saves: larger ones are taken together, but called one by one."""
_NEVER = float("inf")


MAX_ROWS = 32
"""Of a call, where nobody says how many."""


@dataclass(frozen=True)
class Limits:
    """How requests are queued and stacked."""

    max_rows: int = MAX_ROWS
    """In one call."""
    stretch: bool = True
    """Whether a quick call takes more."""
    max_delay: float = 0.0
    """Seconds."""
    queue: int = 256
    """Requests that wait; further ones are refused. `queue_bytes`: the same for what they hold."""
    queue_bytes: int = 2**26
    by_row: bool = True
    """Whether requests may be stacked."""
    inline: bool = True
    """Whether quick calls may run in the event loop."""
    uniform: bool = False
    """Whether all requests that the signature admits have rows of one shape."""


class Batcher:
    """Belongs to one event loop."""

    def __init__(self, run: Run, limits: Limits, metrics: Metrics, pace: Pace | None = None) -> None:
        self._limits, self._metrics = limits, metrics
        self._loop = asyncio.get_running_loop()
        self._too_many = Overloaded(f"{limits.queue} requests wait already; try again in a second")
        self._too_large = Overloaded(f"requests of {limits.queue_bytes} bytes wait already; try again in a second")
        self._line = Line()
        self._running: list[Waiting] = []
        self._call: Call | None = None
        """That of those that run, in the thread."""
        self._since = 0.0
        self._scheduled = False
        self._closed = False
        self._calls = Calls(run, limits.by_row)
        self._worker = ModelThread(self._calls, self._done)
        self._pace = pace or Pace(limits.max_rows, limits.inline, limits.stretch)
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = _NEVER

    def full(self) -> Overloaded | None:
        """The failure of whatever is entered now, once what the thread has done is taken in: to be asked before work is put into a request."""
        line, limits = self._line, self._limits
        if self._closed:
            return _ending()
        if len(line.items) < limits.queue and line.holds < limits.queue_bytes:
            return None
        self._collect()
        if len(line.items) >= limits.queue:
            return self._too_many
        return self._too_large if line.holds >= limits.queue_bytes else None

    def try_out(self, inputs: Tensors, rows: int) -> None:
        """Learn how long a call takes from a request that the model is known to answer: the first ones need not find it out."""
        self._pace.clock = thread_time
        start = thread_time()
        self._calls.run(inputs)
        self._pace.learn(rows, thread_time() - start)

    def enter(self, item: Waiting, inputs: Tensors, rows: int, seconds: float, holds: int = 0) -> None:
        """Take a request of so many bytes that must be answered within so many seconds; it may be answered before this returns.

        Raises Late where none are left, Overloaded where the queue is full or so slow that they would pass in it.
        """
        full = self.full()
        if full is not None:
            raise full.with_traceback(None)
        if seconds <= 0:
            raise _late(seconds)
        now, line = perf_counter(), self._line
        items = line.items
        if items and now - items[0].since > seconds * _PATIENCE:
            raise _too_slow(now - items[0].since, seconds)
        item.inputs, item.rows, item.holds, item.settled = inputs, rows, holds, False
        item.since = now
        item.due = now + seconds
        line.append(item)
        if self._running:
            self._wake_at(item.due)
        elif len(items) >= self._limits.queue or line.holds >= self._limits.queue_bytes:
            self._pump()
        elif not self._scheduled:
            self._schedule()

    def _collect(self) -> None:
        """Take in what the thread has done, and make the next call: the event loop may be long in coming to it, for with more than a
        thousand busy sockets libuv looks at nothing else for half a second."""
        self._done()
        self._pump()

    def withdraw(self, item: Waiting) -> None:
        """Nobody waits for it any more: it leaves the queue, or its answer is dropped."""
        if not item.settled:
            item.settled = True
            if item in self._line.items:
                self._line.remove(item)

    def idle(self) -> bool:
        return not self._line.items and not self._running

    def running_for(self) -> float:
        """Seconds since the model was called, or answered the one before of those that are called one by one; 0 where it is not called."""
        return perf_counter() - self._since if self._running else 0.0

    def close(self) -> None:
        """Whoever still waits gets Overloaded; a call that still runs is not waited for."""
        if self._closed:
            return
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        waiting = [*self._line.items, *self._running]
        self._line.clear()
        for item in waiting:
            _give(item, _ending())
        self._worker.close()

    def _wake_at(self, due: float) -> None:
        """Look for those whose time is over then, at the latest."""
        if due < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = due
            self._alarm = self._loop.call_later(max(0.0, due - perf_counter()), self._expire)

    def _expire(self) -> None:
        self._alarm, self._alarm_at = None, _NEVER
        now = perf_counter()
        for item in (*(i for i in self._running if i.due <= now), *self._line.expire(now)):
            _give(item, _late(item.due - item.since))
        left = [item.due for item in (*self._running, *self._line.items) if not item.settled]
        if left:
            self._wake_at(min(left))

    def _schedule(self, seconds: float = 0.0) -> None:
        """A turn, unless one is to come anyway."""
        if not self._scheduled:
            self._scheduled = True
            if seconds:
                self._loop.call_later(seconds, self._turn)
            else:
                self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        self._pump()

    def _pump(self) -> None:
        items = self._line.items
        if self._running or not items:
            return
        if self._calls.by_row and self._limits.max_delay > 0:
            left = items[0].since + self._limits.max_delay - perf_counter()
            if left > 0 and sum(w.rows for w in items) < self._limits.max_rows:
                self._schedule(left)
                return
        begun = now = perf_counter()
        while items and not self._running:
            if items[0].due <= now:
                item = self._line.popleft()
                _give(item, _late(item.due - item.since))
                continue
            self._start(self._take(), now)
            now = perf_counter()
            if now - begun > QUICK:
                break
        if items and not self._running:
            self._schedule()

    def _start(self, batch: list[Waiting], now: float) -> None:
        metrics = self._metrics
        each = [item.rows for item in batch]
        rows = sum(each)
        apart = len(batch) == 1 or (self._limits.stretch and batch[0].holds > _LARGE)
        metrics.batch.observe_all(each if apart else [rows])
        if self._pace.quick(rows):
            metrics.queue.observe_all([now - item.since for item in batch])
            results, seconds = self._calls.execute(batch, apart, self._pace.clock)
            self._pace.learn(rows, seconds)
            self._settle(batch, results)
            return
        self._running, self._since = batch, now
        self._wake_at(min(item.due for item in (*batch, *self._line.items)))
        self._call = Call(batch, apart, self._pace.clock)
        self._worker.make(self._call)

    def _take(self) -> list[Waiting]:
        """The next requests that can be stacked, oldest first; always at least one."""
        line, items = self._line, self._line.items
        batch = [line.popleft()]
        if not self._calls.by_row or not items:
            return batch
        rows, most, uniform = batch[0].rows, self._pace.most_rows, self._limits.uniform
        key = None if uniform else batch[0].key()
        while items:
            item = items[0]
            rows += item.rows
            if rows > most or not (uniform or item.key() == key):
                break
            batch.append(line.popleft())
        return batch

    def _done(self) -> None:
        """Take in what the thread has done since this was asked last."""
        call = self._call
        if call is None or self._closed:
            return
        first, until = len(call.batch) - len(self._running), len(call.results)
        if first == until:
            return
        done, self._running = call.batch[first:until], call.batch[until:]
        self._since = perf_counter()
        if not self._running:
            self._call = None
            if call.rows:
                self._pace.learn(call.rows, call.seconds)
        self._metrics.queue.observe_all([begun - item.since for begun, item in zip(call.begun[first:until], done, strict=True)])
        self._settle(done, call.results[first:until])
        if self._line.items and not self._running:
            self._schedule()

    def _settle(self, batch: list[Waiting], results: list[Result]) -> None:
        for item, result in zip(batch, results, strict=True):
            _give(item, result)


def _give(item: Waiting, result: Result) -> None:
    if item.settled:
        return
    item.settled = True
    try:
        if isinstance(result, Failure):
            item.fail(result)
        else:
            item.settle(result)
    except Exception:
        traceback.print_exc()  # the others of its call, and those behind it, are answered all the same


def _ending() -> Overloaded:
    return Overloaded("this predictor is ending; try again on another")


def _too_slow(waited: float, seconds: float) -> Overloaded:
    return Overloaded(
        f"requests wait already, the first for {waited:.2g} seconds: too long for one that has {seconds:.2g} seconds; try again in a second"
    )


def _late(seconds: float) -> Late:
    return Late(f"not answered within {max(seconds, 0):g} seconds")
