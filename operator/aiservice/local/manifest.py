"""A manifest in a file -> an AIService, or sentences that say what is wrong with it and where."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from aiservice.api.service import AIService


class Invalid(Exception):
    """The manifest cannot be used; each problem is a sentence that names the field, the value and what was expected."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        super().__init__(f"{path}: " + "; ".join(problems))
        self.path = path
        self.problems = problems


def read(path: Path) -> AIService:
    """One AIService from a YAML or JSON file. Raises Invalid; the file is not changed.

    A relative file:// model starts at the manifest's folder.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise Invalid(path, ["there is no such file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(path, [f"cannot be read: {error}"]) from None
    return parse(text, path)


def parse(text: str, path: Path) -> AIService:
    """As `read`, from text; `path` says where it stands."""
    try:
        documents = [d for d in yaml.load_all(text, _Strict) if d is not None]
    except (yaml.YAMLError, ValueError) as error:
        raise Invalid(path, [f"is not YAML: {' '.join(str(error).split())}"]) from None
    except RecursionError:
        raise Invalid(path, ["is not YAML that anybody could read: it is nested too deeply"]) from None
    if len(documents) != 1:
        raise Invalid(path, [f"holds {len(documents)} documents, expected one AIService"])
    if not isinstance(documents[0], dict):
        raise Invalid(path, [f"holds {'a list' if isinstance(documents[0], list) else 'a text'}, expected one AIService"])
    body = _texts(documents[0])
    for field, expected in (("apiVersion", "aiservice.dev/v1alpha1"), ("kind", "AIService")):
        if body.get(field) != expected:
            raise Invalid(path, [f"{field}: {body.get(field)!r} given, expected {expected!r}"])
    body = {k: v for k, v in body.items() if k != "status"}
    try:
        service = AIService.model_validate_json(json.dumps(body, default=str))
    except ValidationError as error:
        raise Invalid(path, [_sentence(e, body) for e in error.errors()]) from None
    return _absolute(service, path)


class _Strict(yaml.SafeLoader):
    """What stands twice is a mistake: one of the two would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _texts(value: Any) -> Any:
    """With every key as text, as JSON has them."""
    if isinstance(value, dict):
        return {k if isinstance(k, str) else str(k): _texts(v) for k, v in value.items()}
    return [_texts(v) for v in value] if isinstance(value, list) else value


def _absolute(service: AIService, path: Path) -> AIService:
    uri = service.spec.model.uri
    place = Path(uri.removeprefix("file://"))
    if not uri.startswith("file://") or place.is_absolute():
        return service
    model = service.spec.model.model_copy(update={"uri": f"file://{(path.resolve().parent / place).resolve()}"})
    return service.model_copy(update={"spec": service.spec.model_copy(update={"model": model})})


def _sentence(error: Any, body: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "the manifest"
    given = error.get("input")
    kind = error["type"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(error["loc"][-1]), _fields(error["loc"][:-1]), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(_fields(error['loc'][:-1]))}"
        return f"{where}: there is no such field{hint}"
    if kind == "missing":
        return f"{where}: is required"
    if kind == "value_error":
        return f"{where}: {error['ctx']['error']}"
    if kind == "string_pattern_mismatch":
        return f"{where}: {given!r} given, expected {_examples(error['ctx']['pattern'])}"
    return f"{where}: {json.dumps(given, default=str)[:80]} given, {error['msg'][0].lower()}{error['msg'][1:]}"


def _examples(pattern: str) -> str:
    if "ms|s|m|h" in pattern:
        return "a duration such as 500ms, 2m or 1h30m"
    if pattern.startswith("^[5-9]"):
        return "a percentage from 50% to 99.999%"
    if pattern.endswith("%$"):
        return "a percentage such as 0.5% or 95%"
    if pattern.startswith("^[a-z]"):
        return "lower-case letters, digits and -, beginning with a letter"
    if "Ki|Mi" in pattern:
        return "an amount such as 500m, 2 or 1Gi"
    if "file|s3|https" in pattern:
        return "a URI that begins with file://, s3:// or https://"
    if "sha256" in pattern:
        return "sha256: and 64 hexadecimal digits"
    return f"text that matches {pattern}"


def _fields(place: tuple[Any, ...]) -> list[str]:
    """The fields that a model at this place has."""
    model: Any = AIService
    for part in place:
        if isinstance(part, int):
            continue
        names = {(f.alias or n): f.annotation for n, f in model.model_fields.items()}
        model = _model_in(names.get(str(part)))
        if model is None:
            return []
    return [f.alias or n for n, f in model.model_fields.items()]


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
