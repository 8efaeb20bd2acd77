"""The OpenAPI 3.1 document of one predictor: what the gateway leads to, for the model that is served. Made once, of constants.

Only what JSON Schema cannot say is left to prose: that the shape fits the data, and that all inputs have the same number of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import quote

import orjson

from aiservice.api.runtime import PredictorConfig
from aiservice_predictor import VERSION
from aiservice_predictor.codec.rest import MAX_ID
from aiservice_predictor.codec.tensors import Spec
from aiservice_predictor.openapi_parts import CONNECTION, ERROR, HEAD_LIMITS, RANGES, RESPONSES, SERVING
from aiservice_predictor.signature import Signature

Schema: TypeAlias = dict[str, Any]
PATH = "/openapi.json"
_BINARY_SIZE = "Inference-Header-Content-Length"


def document(config: PredictorConfig, signature: Signature) -> bytes:
    """As JSON."""
    name = quote(config.model_name, safe="")
    v2, v1 = f"/v2/models/{name}", f"/v1/models/{name}"
    ready = {"ready": {"type": "boolean"}}
    named = {"name": {"const": config.model_name}} | ready
    paths = {
        f"{v2}/infer": {"post": _infer(config)},
        v2: {"get": _get("modelMetadata", "The model's inputs and outputs", {200: _ref("schemas", "ModelMetadata")})},
        f"{v2}/ready": {"get": _get("modelReady", "Whether the model takes requests", dict.fromkeys((200, 503), _object(named)))},
        "/v2": {"get": _get("serverMetadata", "The server, and what it speaks beside V2", {200: _ref("schemas", "ServerMetadata")})},
        "/v2/health/live": {
            "get": _get("serverLive", "Whether the server works", dict.fromkeys((200, 503), _object({"live": {"type": "boolean"}})))
        },
        "/v2/health/ready": {"get": _get("serverReady", "Whether it takes requests", dict.fromkeys((200, 503), _object(ready)))},
        f"{v1}:predict": {"post": _predict()},
        v1: {"get": _get("v1ModelReady", "Whether the model takes requests", dict.fromkeys((200, 503), _object(named)))},
        "/v1/models": {"get": _get("v1Models", "The one model", {200: _object({"models": {"const": [config.model_name]}})})},
        PATH: {"get": _get("openapi", "This document", {200: {"type": "object", "required": ["openapi", "info", "paths"]}})},
    }
    found = {
        "openapi": "3.1.0",
        "info": {
            "title": config.model_name,
            "version": config.revision or "unversioned",
            "summary": "Open Inference Protocol V2 and KServe V1 for one model",
            "x-limits": {
                "bodyBytes": config.max_body,
                "rows": config.max_rows,
                "waitingRequests": config.queue,
                "timeoutSeconds": config.timeout,
                **HEAD_LIMITS,
            },
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": _schemas(config, signature), "responses": RESPONSES},
    }
    return orjson.dumps(found)


def _infer(config: PredictorConfig) -> Schema:
    binary = "JSON of as many bytes as the header says, then the tensors' bytes, little-endian, one after the other (binary tensor data)"
    answer = {
        "application/json": {"schema": _ref("schemas", "InferResponse")},
        "application/octet-stream": {"schema": {"description": binary}},
    }
    size = {"schema": {"type": "integer", "minimum": 1, "maximum": config.max_body}, "description": "Bytes of JSON before binary data"}
    return {
        "operationId": "infer",
        "summary": "Open Inference Protocol V2",
        "parameters": [{"name": _BINARY_SIZE, "in": "header", "required": False, **size}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref("schemas", "InferRequest")},
                "application/octet-stream": {"schema": {"description": binary}},
            },
        },
        "responses": {
            "200": {"description": "All outputs, or those that were asked for", "headers": {_BINARY_SIZE: size}, "content": answer},
            **_answers(SERVING),
        },
    }


def _predict() -> Schema:
    return {
        "operationId": "v1Predict",
        "summary": "KServe V1",
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref("schemas", "PredictRequest")}}},
        "responses": {
            "200": {"description": "One prediction a row", "content": {"application/json": {"schema": _ref("schemas", "PredictResponse")}}},
            **_answers(SERVING),
        },
    }


def _get(id: str, summary: str, found: Mapping[int, Schema]) -> Schema:
    answers = {f"{status}": {"description": summary, "content": {"application/json": {"schema": s}}} for status, s in found.items()}
    return {"operationId": id, "summary": summary, "responses": answers | _answers(CONNECTION)}


def _answers(statuses: Iterable[int]) -> Schema:
    return {f"{status}": _ref("responses", f"{status}") for status in statuses}


def _schemas(config: PredictorConfig, signature: Signature) -> dict[str, Schema]:
    inputs, outputs = signature.inputs.values(), signature.outputs.values()
    several = {"minItems": 1, "maxItems": len(signature.inputs)}
    chosen = {"name": {"enum": list(signature.outputs)}, "parameters": _ref("schemas", "Parameters")}
    infer = {
        "id": {"type": ["string", "null"], "maxLength": MAX_ID, "description": "Comes back; one is made where none is given"},
        "parameters": _ref("schemas", "Parameters"),
        "inputs": {"type": "array", **several, "items": _one_of(_input(s, config.max_rows) for s in inputs)},
        "outputs": {"type": ["array", "null"], "items": _object(chosen, ["name"]), "description": "None: all of them"},
    }
    answer = {
        "model_name": {"const": config.model_name},
        "id": {"type": "string"},
        "outputs": {"type": "array", "minItems": 1, "items": _one_of(_output(s) for s in outputs)},
    }
    tensor = {"name": {"type": "string"}, "datatype": {"type": "string"}, "shape": {"type": "array", "items": {"type": "integer"}}}
    tensors = {"type": "array", "items": _object(tensor)}
    about = {
        "name": {"const": config.model_name},
        "versions": {"type": "array", "items": {"type": "string"}},
        "platform": {"type": "string"},
    }
    return {
        "Error": ERROR,
        "Parameters": {"type": ["object", "null"]},
        "InferRequest": {
            **_object(infer, ["inputs"]),
            "description": "The data of each input, flat or nested, is as long as its shape says",
        },
        "InferResponse": _object(answer),
        "PredictRequest": _instances(signature),
        "PredictResponse": _object({"predictions": _predictions(signature)}),
        "ModelMetadata": _object(about | {"inputs": tensors, "outputs": tensors}),
        "ServerMetadata": _object(
            {"name": {"type": "string"}, "version": {"const": VERSION}, "extensions": {"type": "array", "items": {"type": "string"}}}
        ),
    }


def _input(spec: Spec, max_rows: int) -> Schema:
    axes = [{"type": "integer", "minimum": 0} if n == -1 else {"const": n} for n in spec.shape]
    if spec.by_row:
        axes[0] = {"type": "integer", "minimum": 1, "maximum": max_rows}
    value = _value(spec)
    given = {
        "name": {"const": spec.name},
        "datatype": {"const": spec.datatype},
        "shape": _exactly(axes),
        "data": {"anyOf": [value if not spec.shape else {"type": "array", "items": value}, _nested(value, spec.shape)]},
        "parameters": _ref("schemas", "Parameters"),
    }
    return _object(given, ["name", "datatype", "shape", "data"])


def _output(spec: Spec) -> Schema:
    shape = _exactly([{"type": "integer", "minimum": 0} if n == -1 else {"const": n} for n in spec.shape])
    data = {"type": "array", "items": _value(spec, given=False)}
    return _object({"name": {"const": spec.name}, "datatype": {"const": spec.datatype}, "shape": shape, "data": data})


def _instances(signature: Signature) -> Schema:
    """`instances` wins where both are given."""
    columns = _object({s.name: _column(s) for s in signature.inputs.values()}) | {"additionalProperties": False}
    rows = [_object({s.name: _row(s) for s in signature.inputs.values()}) | {"additionalProperties": False}]
    if len(signature.inputs) == 1:
        rows += [_row(s) for s in signature.inputs.values()]
    either = {"anyOf": [*({"type": "array", "minItems": 1, "items": row} for row in rows), columns]}
    return {"anyOf": [_object({"instances": either}), _object({"inputs": either, "instances": False}, ["inputs"])]}


def _column(spec: Spec) -> Schema:
    return {"type": "array", "items": _row(spec)}


def _row(spec: Spec) -> Schema:
    nested = _nested(_value(spec), spec.shape[1:])
    return {"anyOf": [nested, _value(spec)]} if len(spec.shape) == 2 and spec.shape[1] in (1, -1) else nested


def _predictions(signature: Signature) -> Schema:
    outputs = signature.outputs.values()
    if len(outputs) == 1:
        (output,) = outputs
        return _nested(_value(output, given=False), output.shape)
    rows = {"type": "array", "items": _object({s.name: _nested(_value(s, given=False), s.shape[1:]) for s in outputs})}
    columns = _object({s.name: _nested(_value(s, given=False), s.shape) for s in outputs})
    return {"anyOf": [rows, columns]}


def _value(spec: Spec, given: bool = True) -> Schema:
    """`given`: to us; true then counts as 1, false as 0, and null is NaN in a floating tensor."""
    if spec.datatype in ("BOOL", "BYTES"):
        return {"type": "boolean" if spec.datatype == "BOOL" else "string"}
    whole = spec.datatype.startswith(("INT", "UINT"))
    types = ["integer" if whole else "number"] + ["boolean"] * given + ["null"] * (given and not whole)
    low, high = RANGES[spec.datatype]
    return {"type": types if given else types[0], "minimum": low, "maximum": high}


def _nested(value: Schema, shape: Sequence[int]) -> Schema:
    for axis in reversed(shape):
        value = {"type": "array", "items": value} | ({} if axis == -1 else {"minItems": axis, "maxItems": axis})
    return value


def _exactly(items: list[Schema]) -> Schema:
    return {"type": "array", "minItems": len(items), "maxItems": len(items)} | ({"prefixItems": items} if items else {})


def _one_of(found: Iterable[Schema]) -> Schema:
    schemas = list(found)
    return schemas[0] if len(schemas) == 1 else {"oneOf": schemas}


def _object(properties: Mapping[str, object], required: Iterable[str] | None = None) -> Schema:
    """All of them are required unless said otherwise."""
    return {"type": "object", "required": list(properties if required is None else required), "properties": dict(properties)}


def _ref(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}
