"""From the event loop to the model's thread and back, on one core, with a call of the model that takes no time: `python -m benchmarks.serving.hop`.

Ours beside what asyncio offers: an executor with its future, and a thread with a queue that answers by `call_soon_threadsafe`. Plain Python.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from statistics import median

import numpy as np
import uvloop

from aiservice_predictor.calls import Calls
from aiservice_predictor.thread import Call, ModelThread
from aiservice_predictor.waiting import Waiting

from .load import SERVER_CORE

_HOPS, _ROUNDS = 20_000, 5


class _Counted:
    """Goes there again as soon as it is back."""

    def __init__(self) -> None:
        self.left = _HOPS
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.go: Callable[[], None]

    def back(self, *_: object) -> None:
        self.left -= 1
        if self.left:
            self.go()
        else:
            self.over.set_result(None)


async def _ours() -> float:
    counted, calls, item = _Counted(), Calls(lambda inputs: inputs, by_row=True), Waiting()
    item.inputs, item.rows, item.settled = {"x": np.zeros(1)}, 1, False
    thread = ModelThread(calls, counted.back)
    counted.go = lambda: thread.make(Call([item], True, time.perf_counter))
    seconds = await _timed(counted)
    thread.close()
    return seconds


async def _executor() -> float:
    counted, loop = _Counted(), asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as executor:
        counted.go = lambda: loop.run_in_executor(executor, int).add_done_callback(counted.back)
        return await _timed(counted)


async def _soon() -> float:
    counted, loop, queue = _Counted(), asyncio.get_running_loop(), SimpleQueue[bool]()

    def work() -> None:
        while queue.get():
            loop.call_soon_threadsafe(counted.back)

    thread = threading.Thread(target=work)
    thread.start()
    counted.go = lambda: queue.put(True)
    try:
        return await _timed(counted)
    finally:
        queue.put(False)
        thread.join()


async def _timed(counted: _Counted) -> float:
    start = time.perf_counter()
    counted.go()
    await counted.over
    return (time.perf_counter() - start) / _HOPS


def main() -> None:
    os.sched_setaffinity(0, {int(SERVER_CORE)})
    ways = {"the model's thread": _ours, "a queue and call_soon_threadsafe": _soon, "an executor": _executor}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_ROUNDS):
        for name, way in ways.items():
            found[name].append(uvloop.run(way()))
    for name, seconds in found.items():
        print(f"{name}: {median(seconds) * 1e6:.1f} us there and back")


if __name__ == "__main__":
    main()
