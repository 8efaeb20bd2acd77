"""What the OpenAPI document says of every model alike: errors, and when they come."""

from __future__ import annotations

from typing import Any

import numpy as np

from aiservice_predictor.transport.head import MAX_FIELDS, MAX_HEAD

HEAD_LIMITS = {"headBytes": MAX_HEAD, "headers": MAX_FIELDS}
_WHOLE = [np.dtype(f"{kind}int{bits}") for kind in ("", "u") for bits in (8, 16, 32, 64)]
RANGES: dict[str, tuple[float, float]] = {
    **{t.name.upper(): (int(np.iinfo(t).min), int(np.iinfo(t).max)) for t in _WHOLE},
    **{
        name: (float(np.finfo(t).min), float(np.finfo(t).max))
        for name, t in (("FP16", "f2"), ("BF16", "f4"), ("FP32", "f4"), ("FP64", "f8"))
    },
}
"""Least and greatest value of each datatype that counts; BF16 is read as FP32 and rounded."""
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "What was wrong, what was expected, what to do"}},
    "additionalProperties": False,
}
_WHEN = {
    400: "The request is wrong, or cannot be told apart from the next one",
    403: "It says that it is the controller's and does not carry the service's token",
    408: "The body did not come in time",
    413: "The body, or the rows of an input, are more than is taken",
    415: "The content-encoding is neither gzip nor identity",
    417: "The expectation is not 100-continue",
    431: "The head is longer than is taken",
    500: "The model failed on this request",
    501: "The transfer-encoding is not chunked",
    503: "Too many requests wait, or the predictor is ending",
    504: "No answer within the timeout",
    505: "Neither HTTP/1.1 nor HTTP/1.0",
}
CONNECTION = (400, 408, 413, 415, 417, 431, 501, 505)
"""What any request can get."""
SERVING = tuple(_WHEN)
"""What a request that wants the model can get."""
_HEADERS = {503: {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 0}, "description": "Seconds"}}}
RESPONSES: dict[str, dict[str, Any]] = {
    f"{status}": {
        "description": when,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
    }
    for status, when in _WHEN.items()
}
