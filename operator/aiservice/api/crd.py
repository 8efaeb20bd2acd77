"""The models -> the CustomResourceDefinition: structural schema, CEL, printer columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from aiservice.api.service import GROUP, KIND, PLURAL, VERSION, AIService
from aiservice.api.spec import AIServiceSpec
from aiservice.api.status import AIServiceStatus

Schema = dict[str, Any]

KEPT = frozenset(
    [
        "type",
        "format",
        "description",
        "default",
        "enum",
        "nullable",
        "pattern",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "multipleOf",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "required",
    ]
)
DROPPED = frozenset(["title", "examples", "deprecated", "readOnly", "writeOnly", "$defs", "$comment"])
COLUMNS = (
    ("Ready", '.status.conditions[?(@.type=="Ready")].status', "string"),
    ("Stable", ".status.rollout.stable", "string"),
    ("Canary", ".status.rollout.candidate", "string"),
    ("Weight", ".status.rollout.weight", "integer"),
    ("Phase", ".status.rollout.phase", "string"),
    ("URL", ".status.url", "string"),
    ("Age", ".metadata.creationTimestamp", "date"),
)
WIDE_COLUMNS = (("Model", ".spec.model.uri", "string"), ("Why", '.status.conditions[?(@.type=="RolloutHealthy")].message', "string"))


class NotStructural(TypeError):
    """This model cannot be said in a CRD; the message names the path."""


def structural(schema: Mapping[str, Any], defs: Mapping[str, Any], path: str) -> Schema:
    """One JSON-schema node in the subset that the API server takes. Raises NotStructural."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        if f"<{name}>" in path:
            raise NotStructural(f"{path}: {name} refers to itself")
        schema, path = {**defs[name], **{k: v for k, v in schema.items() if k != "$ref"}}, f"{path}<{name}>"
    options = [o for o in schema.get("anyOf", ()) if o != {"type": "null"}]
    rest = {k: v for k, v in schema.items() if k != "anyOf"}
    if len(options) == 1:  # T | None: absent means None
        return structural({**options[0], **rest}, defs, path)
    if options:
        raise NotStructural(f"{path}: a union; use optional siblings and a rule")
    out: Schema = {}
    for key, value in rest.items():
        if key in DROPPED or (key == "default" and value is None):
            continue
        if key == "default":
            out[key] = _present(value)
        elif key == "const":
            out["enum"] = [value]
        elif key in ("exclusiveMinimum", "exclusiveMaximum"):
            out |= {key: True, "minimum" if key.endswith("Minimum") else "maximum": value}
        elif key == "properties":
            out[key] = {name: structural(s, defs, f"{path}.{name}") for name, s in value.items()}
        elif key == "items":
            out[key] = structural(value, defs, f"{path}[]")
        elif key == "prefixItems":  # a tuple of equal types
            out["items"] = structural(value[0], defs, f"{path}[]")
        elif key == "additionalProperties":
            if value is True:
                raise NotStructural(f"{path}: holds anything; say what")
            if value:
                out[key] = structural(value, defs, f"{path}{{}}")
        elif key == "propertyNames":
            continue
        elif key in KEPT or key.startswith("x-kubernetes-"):
            out[key] = value
        else:
            raise NotStructural(f"{path}: {key} has no place in a CRD")
    if "type" not in out and "enum" in out:
        out["type"] = "string"
    if "type" not in out:
        raise NotStructural(f"{path}: no type")
    return out


def _present(value: Any) -> Any:
    """A default without what is absent in it."""
    if isinstance(value, dict):
        return {k: _present(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_present(v) for v in value]
    return value


def without_defaults(schema: Schema) -> Schema:
    """A status is what a controller wrote, and nothing that the API server adds."""
    out = {k: v for k, v in schema.items() if k != "default"}
    for key in ("items", "additionalProperties"):
        if key in out:
            out[key] = without_defaults(out[key])
    if "properties" in out:
        out["properties"] = {name: without_defaults(inner) for name, inner in out["properties"].items()}
    return out


def schema_of(model: type[BaseModel]) -> Schema:
    """The structural schema of a model."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return structural(schema, schema.get("$defs", {}), model.__name__)


def crd() -> Schema:
    """The whole CustomResourceDefinition."""
    root: Schema = {
        "type": "object",
        "description": (AIService.__doc__ or "").strip(),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": schema_of(AIServiceSpec),
            "status": without_defaults(schema_of(AIServiceStatus)),
        },
        "x-kubernetes-validations": [{"rule": r.cel, "message": r.message} for r in AIService.rules],
    }
    conditions = root["properties"]["status"]["properties"]["conditions"]
    conditions |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    columns: list[Schema] = [{"name": n, "jsonPath": p, "type": t} for n, p, t in COLUMNS]
    columns += [{"name": n, "jsonPath": p, "type": t, "priority": 1} for n, p, t in WIDE_COLUMNS]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root},
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
    }
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": KIND.lower(),
        "shortNames": ["ais"],
        "categories": ["all"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }
