"""Requests on their way through the model, and the line in which they wait for it."""

from __future__ import annotations

from collections import deque

from mypy_extensions import mypyc_attr

from aiservice_predictor.codec.request import Part
from aiservice_predictor.codec.tensors import Tensors
from aiservice_predictor.failures import Failure


@mypyc_attr(allow_interpreted_subclasses=True)
class Waiting:
    """One of them. Exactly one of `settle` and `fail` is called, unless it is withdrawn before."""

    __slots__ = ("due", "holds", "inputs", "rows", "settled", "since")

    inputs: Tensors
    rows: int
    holds: int
    """Bytes, about."""
    since: float
    """perf_counter when it was entered; `due`: when its time is over."""
    due: float

    def __init__(self) -> None:
        self.settled = True

    def settle(self, part: Part) -> None:
        """The model's outputs are there. Must not raise."""
        raise NotImplementedError

    def fail(self, failure: Failure) -> None:
        """Late, Overloaded, Invalid or ModelFailed. Must not raise."""
        raise NotImplementedError

    def key(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape[1:] for name, array in self.inputs.items()}


class Line:
    """Oldest first. Counts the bytes that they hold."""

    def __init__(self) -> None:
        self.items: deque[Waiting] = deque()
        self.holds = 0

    def append(self, item: Waiting) -> None:
        self.items.append(item)
        self.holds += item.holds

    def popleft(self) -> Waiting:
        item = self.items.popleft()
        self.holds -= item.holds
        return item

    def remove(self, item: Waiting) -> None:
        self.items.remove(item)
        self.holds -= item.holds

    def clear(self) -> None:
        self.items.clear()
        self.holds = 0

    def expire(self, now: float) -> list[Waiting]:
        """Take out those whose time is over."""
        late = [item for item in self.items if item.due <= now]
        for item in late:
            self.remove(item)
        return late
