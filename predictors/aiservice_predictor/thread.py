"""The thread that long calls of the model are made in. With an executor and its futures each would take half as long again to get there and back."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import perf_counter

from aiservice_predictor.calls import Calls, Result
from aiservice_predictor.failures import ModelFailed
from aiservice_predictor.waiting import Waiting

_NOBODY = ModelFailed("nobody waits for this answer any more")
_SIGNS = 2**10
"""Bytes of the pipe that are read at once: a call has fewer requests."""
_NICE, _LOWEST = 3, 19
"""How much lower the priority of the thread is, and the lowest there is."""


class Call:
    """Some requests, stacked or one by one; its fields are those of Calls.execute. Results come in the order of the requests."""

    def __init__(self, batch: list[Waiting], apart: bool, clock: Callable[[], float]) -> None:
        self.batch, self.apart, self.clock = batch, apart, clock
        self.results: list[Result] = []
        """Those that are here."""
        self.begun: list[float] = []
        """perf_counter when the model was called for each of them."""
        self.seconds = 0.0
        self.rows = 0
        """So long did the model take so far, for so many rows."""


class ModelThread:
    """Makes calls in their order; begins with the first. No process waits for it at its end."""

    def __init__(self, calls: Calls, told: Callable[[], None]) -> None:
        """`told`: is called in the event loop when there are results, of calls made one by one for each of them."""
        self._calls, self._told = calls, told
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._reads, self._writes = os.pipe()
        """By which the thread wakes the event loop. While it writes there it does not hold the interpreter's lock, for which a loop that is
        awake at once would have to wait again."""
        self._loop.add_reader(self._reads, self._woken)
        self._begun = False

    def make(self, call: Call) -> None:
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._work, name="model", daemon=True).start()
        self._queue.put(call)

    def close(self) -> None:
        """End after the calls that were to be made; that is not waited for."""
        self._loop.remove_reader(self._reads)
        if self._begun:
            self._queue.put(None)
        else:
            self._end()

    def _woken(self) -> None:
        os.read(self._reads, _SIGNS)
        self._told()

    def _end(self) -> None:
        os.close(self._reads)
        os.close(self._writes)

    def _work(self) -> None:
        _give_way()
        while self._made(self._queue.get()):
            pass  # nothing here may hold on to a call that was made
        self._end()

    def _made(self, call: Call | None) -> bool:
        if call is None:
            return False
        if not call.apart:
            self._make(call.batch, call)
            return True
        for item in call.batch:
            if item.settled:
                self._tell(call, perf_counter(), [_NOBODY])
            else:
                self._make([item], call)
        return True

    def _make(self, batch: list[Waiting], call: Call) -> None:
        begun = perf_counter()
        try:
            results, seconds = self._calls.execute(batch, call.apart, call.clock)
        except BaseException as error:
            results, seconds = [ModelFailed(f"the call of the model failed: {error!r}"[:300])] * len(batch), 0.0
        call.seconds += seconds
        call.rows += sum(item.rows for item in batch)
        self._tell(call, begun, results)

    def _tell(self, call: Call, begun: float, results: list[Result]) -> None:
        call.begun += [begun] * len(results)
        call.results += results  # last: whoever sees a result sees the rest
        os.write(self._writes, b".")


def _give_way() -> None:
    """Where a call and the event loop share a core, whoever is refused, or asks whether we are healthy, does not wait for a time slice of the
    call: 5 ms in one of a hundred cases. Linux alone has priorities of threads."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(_LOWEST, os.getpriority(os.PRIO_PROCESS, thread) + _NICE))
