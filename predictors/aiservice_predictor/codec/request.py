"""What every codec makes of a request."""

from __future__ import annotations

from dataclasses import dataclass

from aiservice_predictor.codec.tensors import Tensors


@dataclass(slots=True)
class Request:
    """The shapes and types of the inputs fit the signature."""

    inputs: Tensors
    rows: int
    id: str = ""
    """Empty: the answer carries one that is made here."""
    outputs: tuple[str, ...] = ()
    """Names of the outputs that are asked for; none: all."""
