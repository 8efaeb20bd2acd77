"""The environment -> PredictorConfig."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from aiservice.api.runtime import PredictorConfig

_PREFIX = "AISERVICE_"


class WrongConfig(Exception):
    """A sentence for whoever started the process, naming the variable."""


def from_environment(environment: Mapping[str, str]) -> PredictorConfig:
    """Raises WrongConfig. Variables that are not the predictor's are left alone."""
    values = {name: environment[_PREFIX + name.upper()] for name in PredictorConfig.model_fields if _PREFIX + name.upper() in environment}
    if values.get("digest") == "":
        del values["digest"]
    try:
        return PredictorConfig.model_validate(values, strict=False)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        raise WrongConfig("; ".join(f"{_PREFIX}{_snake(f['loc'][0])}: {f['msg']}" for f in faults)) from None


def _snake(camel: object) -> str:
    return "".join(f"_{c}" if c.isupper() else c for c in str(camel)).upper()
