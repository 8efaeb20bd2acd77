"""What the served model takes and gives, whether a bundle says so or it was derived from the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from aiservice.api.bundle import Bundle, Decision, Golden, Tensor
from aiservice_predictor.codec.tensors import Spec, Tensors, fits
from aiservice_predictor.failures import Invalid, TooLarge


@dataclass(frozen=True)
class Signature:
    inputs: Mapping[str, Spec]
    outputs: Mapping[str, Spec]
    decision: Decision
    golden: Golden = field(default_factory=Golden)

    @classmethod
    def of(cls, bundle: Bundle) -> Signature:
        return cls(_specs(bundle.inputs), _specs(bundle.outputs), bundle.decision, bundle.golden)

    @cached_property
    def by_row(self) -> bool:
        """Whether the first axis of every input and output counts rows, so that requests may be stacked."""
        return all(s.by_row for s in (*self.inputs.values(), *self.outputs.values()))

    @cached_property
    def fixed_rows(self) -> bool:
        """Whether every row has one and the same size, so that the time of a call follows the number of rows."""
        return all(s.by_row and -1 not in s.shape[1:] and s.datatype != "BYTES" for s in self.inputs.values())

    def input(self, name: object) -> Spec:
        """Raises Invalid where the model has no input of that name."""
        spec = self.inputs.get(name) if isinstance(name, str) else None
        if spec is None:
            raise Invalid(f"input {name!r} is not one of the model's: {_names(self.inputs)}")
        return spec

    def output(self, name: object) -> Spec:
        """Raises Invalid where the model has no output of that name."""
        spec = self.outputs.get(name) if isinstance(name, str) else None
        if spec is None:
            raise Invalid(f"output {name!r} is not one of the model's: {_names(self.outputs)}")
        return spec

    def admit(self, spec: Spec, datatype: object, shape: tuple[int, ...], max_rows: int) -> None:
        """Raises Invalid or TooLarge unless an input may have this type and shape; to be asked before anything is allocated."""
        fits(spec, datatype, shape)
        if spec.by_row:
            if shape[0] > max_rows:
                raise TooLarge(f"input '{spec.name}': {shape[0]} rows, at most {max_rows} are taken in one request: split it")
            if shape[0] == 0:
                raise Invalid(f"input '{spec.name}': has no rows; send at least one")

    def rows(self, inputs: Tensors) -> int:
        """Rows of a request whose inputs were admitted. Raises Invalid where one is missing, or they differ in rows."""
        if len(inputs) != len(self.inputs):
            missing = [f"'{n}' ({s.datatype} {list(s.shape)})" for n, s in self.inputs.items() if n not in inputs]
            raise Invalid(f"missing input: {', '.join(missing)}")
        rows = 0
        for name, array in inputs.items():
            if self.inputs[name].by_row:
                if rows and array.shape[0] != rows:
                    raise Invalid(f"input '{name}': {array.shape[0]} rows, another input has {rows}; all must have the same number")
                rows = array.shape[0]
        return rows or 1


def _specs(tensors: list[Tensor]) -> dict[str, Spec]:
    return {t.name: Spec(t.name, t.datatype, tuple(t.shape)) for t in tensors}


def _names(specs: Mapping[str, Spec]) -> str:
    return ", ".join(f"'{name}'" for name in specs)
