"""The base of every model on a wire, and the scalar types they share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

Duration = Annotated[str, Field(pattern=r"^([0-9]{1,9}(ms|s|m|h))+$", min_length=2, max_length=20)]
"""A length of time as Go and CEL write it: `500ms`, `2m`, `1h30m`."""

Percent = Annotated[str, Field(pattern=r"^(100|[0-9]{1,2}(\.[0-9]{1,4})?)%$", max_length=8)]
"""A share from `0%` to `100%`, at most four decimals."""

Quantity = Annotated[str, Field(pattern=r"^[0-9]{1,12}(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$", max_length=20)]
"""An amount as Kubernetes writes it: `500m`, `1`, `1Gi`."""

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)]
"""`sha256:` and 64 hexadecimal digits."""

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


def seconds(duration: str) -> float:
    """`1h30m` -> 5400.0. The text must match `Duration`."""
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"([0-9]+)(ms|s|m|h)", duration))


def share(percent: str) -> float:
    """`0.5%` -> 0.005. The text must match `Percent`."""
    return float(percent.removesuffix("%")) / 100


def amount(quantity: str) -> float:
    """`500m` -> 0.5, `1Gi` -> 1073741824.0. The text must match `Quantity`."""
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", quantity).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]


class Rule(NamedTuple):
    """A rule over several fields, said once for both sides: CEL for the API server, a function for Python. A test holds them together."""

    cel: str
    message: str
    holds: Callable[[Any], bool]


class ApiModel(BaseModel):
    """Frozen, strict, camelCase on the wire; docstrings become descriptions; absent means None, never null."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        if cls.rules:
            handler.resolve_ref_schema(schema)["x-kubernetes-validations"] = [{"rule": r.cel, "message": r.message} for r in cls.rules]
        return schema

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        for rule in self.rules:
            if not rule.holds(self):
                raise ValueError(rule.message)
        return self

    def wire(self) -> dict[str, Any]:
        """As it stands in a manifest: JSON values, camelCase, nothing that is absent."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
