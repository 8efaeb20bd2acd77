"""The thread that long calls of the model are made in. With an executor and its futures each would take half as long again to get there and back."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue

from aiservice_predictor.calls import Calls, Result
from aiservice_predictor.failures import ModelFailed
from aiservice_predictor.waiting import Waiting

_NICE, _LOWEST = 3, 19
"""How much lower the priority of the thread is, and the lowest there is."""


class Call:
    """Some requests, stacked or one by one; its fields are those of Calls.execute."""

    def __init__(self, batch: list[Waiting], apart: bool, clock: Callable[[], float]) -> None:
        self.batch, self.apart, self.clock = batch, apart, clock
        self.results: list[Result] = []
        self.seconds = 0.0
        self.done = False


class ModelThread:
    """Makes calls in their order; begins with the first. No process waits for it at its end."""

    def __init__(self, calls: Calls, told: Callable[[Call], None]) -> None:
        """`told`: is called in the thread when a call is done."""
        self._calls, self._told = calls, told
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._begun = False

    def make(self, call: Call) -> None:
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._work, name="model", daemon=True).start()
        self._queue.put(call)

    def close(self) -> None:
        """End after the calls that were to be made; that is not waited for."""
        self._queue.put(None)

    def _work(self) -> None:
        _give_way()
        while self._made(self._queue.get()):
            pass  # nothing here may hold on to a call that was made

    def _made(self, call: Call | None) -> bool:
        if call is None:
            return False
        try:
            call.results, call.seconds = self._calls.execute(call.batch, call.apart, call.clock)
        except BaseException as error:
            call.results = [ModelFailed(f"the call of the model failed: {error!r}"[:300])] * len(call.batch)
        call.done = True
        self._told(call)
        return True


def _give_way() -> None:
    """Where a call and the event loop share a core, whoever is refused, or asks whether we are healthy, does not wait for a time slice of the
    call: 5 ms in one of a hundred cases. Linux alone has priorities of threads."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(_LOWEST, os.getpriority(os.PRIO_PROCESS, thread) + _NICE))
