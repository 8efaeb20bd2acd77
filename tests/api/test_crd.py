"""The CRD: generated, complete, bounded, and refused by nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from aiservice.api.crd import NotStructural, crd, schema_of

FILE = Path(__file__).resolve().parents[2] / "crds" / "aiservice.yaml"
ROOT = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


SPEC = [n for n in nodes(ROOT["properties"]["spec"], "spec") if n[0] != "spec"]
ALL = SPEC + list(nodes(ROOT["properties"]["status"], "status"))


def test_the_file_is_what_the_models_say() -> None:
    assert yaml.safe_load(FILE.read_text()) == crd(), "run: make crds"


def test_every_field_of_the_spec_is_described_with_its_default() -> None:
    fields = [(path, node) for path, node in SPEC if not path.endswith(("[]", "{}"))]
    assert [path for path, node in fields if not node.get("description")] == []
    required = {f"{path}.{r}" for path, node in nodes(ROOT["properties"]["spec"], "spec") for r in node.get("required", ())}
    optional = [(path, node) for path, node in fields if path not in required and path.count(".") > 0]
    silent = [path for path, node in optional if "Default" not in node["description"] and "for example" not in node["description"]]
    assert silent == []


def test_everything_is_bounded() -> None:
    """CEL's cost is estimated from the bounds, and an object must fit into etcd."""
    for path, node in ALL:
        if node["type"] == "string" and "enum" not in node and node.get("format") != "date-time":
            assert "maxLength" in node, path
        if node["type"] == "array":
            assert "maxItems" in node, path
        if node["type"] == "object" and "additionalProperties" in node:
            assert "maxProperties" in node, path


def test_nothing_that_the_api_server_refuses() -> None:
    for path, node in ALL:
        assert not node.keys() & {"$ref", "anyOf", "oneOf", "$defs", "title", "const", "uniqueItems", "nullable"}, path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert "null" not in json.dumps(node.get("default", "")), path
        assert "default" not in node or path.startswith("spec"), path


def test_columns_and_subresource() -> None:
    version = crd()["spec"]["versions"][0]
    assert [c["name"] for c in version["additionalPrinterColumns"]][:7] == ["Ready", "Stable", "Canary", "Weight", "Phase", "URL", "Age"]
    assert version["subresources"] == {"status": {}}


@pytest.mark.parametrize("annotation", [int | str, Any, dict[str, Any]])
def test_what_a_crd_cannot_say_is_an_error_that_names_the_path(annotation: Any) -> None:
    model = type("Model", (BaseModel,), {"__annotations__": {"field": annotation}})
    with pytest.raises(NotStructural, match=r"Model\.field"):
        schema_of(model)
