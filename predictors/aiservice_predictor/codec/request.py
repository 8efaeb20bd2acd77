"""What every codec makes of a request, and what it makes an answer of."""

from __future__ import annotations

from typing import TypeAlias

from aiservice_predictor.codec.tensors import Array, Tensors

Data: TypeAlias = bytes | memoryview
"""A message; a large one as a view of where it was received."""


class Request:
    """The shapes and types of the inputs fit the signature."""

    __slots__ = ("id", "inputs", "outputs", "rows", "size")

    def __init__(self, inputs: Tensors, rows: int, id: str = "", outputs: tuple[str, ...] = (), size: int = 0) -> None:
        self.inputs, self.rows = inputs, rows
        self.id = id
        """Empty: the answer carries one that is made here."""
        self.outputs = outputs
        """Names of the outputs that are asked for; none: all."""
        self.size = size
        """Bytes of its message."""


Texts: TypeAlias = dict[str | tuple[str, ...], list[bytes]]
"""Output -> each of its rows as JSON; several outputs -> the tensors of each request of one row."""


class Part:
    """One request's rows in the outputs of a call of the model."""

    __slots__ = ("end", "outputs", "start", "texts", "whole")

    def __init__(self, outputs: Tensors, start: int = 0, end: int = 0, texts: Texts | None = None) -> None:
        """`outputs` of the whole call. With `texts`: rows `start` to `end` are this request's; without, all of it is."""
        self.outputs, self.start, self.end = outputs, start, end
        self.whole = texts is None
        self.texts: Texts = {} if texts is None else texts
        """What somebody wanted already: shared by all requests of the call."""

    def tensors(self) -> Tensors:
        """The request's own outputs, as views."""
        if self.whole:
            return self.outputs
        start, end = self.start, self.end
        return {name: array[start:end] for name, array in self.outputs.items()}

    def tensor(self, name: str) -> Array:
        """One of them."""
        array = self.outputs[name]
        return array if self.whole else array[self.start : self.end]
