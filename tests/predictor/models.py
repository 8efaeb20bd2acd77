"""Small ONNX models, each as bytes, and a bundle around one of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h

from aiservice.api.bundle import GOLDEN, MANIFEST, MODEL, REFERENCE

TYPES = {
    "BOOL": T.BOOL, "UINT8": T.UINT8, "UINT16": T.UINT16, "UINT32": T.UINT32, "UINT64": T.UINT64, "INT8": T.INT8, "INT16": T.INT16,
    "INT32": T.INT32, "INT64": T.INT64, "FP16": T.FLOAT16, "BF16": T.BFLOAT16, "FP32": T.FLOAT, "FP64": T.DOUBLE, "BYTES": T.STRING,
}  # fmt: skip


def info(name: str, datatype: str, *shape: str | int) -> Any:
    return h.make_tensor_value_info(name, TYPES[datatype], list(shape))


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any] | None = None, opset: int = 20) -> bytes:
    graph = h.make_graph(nodes, "graph", inputs, outputs, constants or [])
    found: bytes = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=9).SerializeToString()
    return found


def identity(datatype: str, *shape: str | int) -> bytes:
    """y = x."""
    shape = shape or ("N", 3)
    return model([h.make_node("Identity", ["x"], ["y"])], [info("x", datatype, *shape)], [info("y", datatype, *shape)])


def identities() -> bytes:
    """One input in_TYPE and one output out_TYPE of shape [N, 2] for each type that has a numpy type."""
    types = [t for t in TYPES if t != "BF16"]
    return model(
        [h.make_node("Identity", [f"in_{t}"], [f"out_{t}"]) for t in types],
        [info(f"in_{t}", t, "N", 2) for t in types],
        [info(f"out_{t}", t, "N", 2) for t in types],
    )


def classifier() -> bytes:
    """x FP32 [N, 3] -> label INT64 [N], the greatest column, and scores FP32 [N, 3] = 2 x."""
    return model(
        [
            h.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
            h.make_node("Mul", ["x", "two"], ["scores"]),
        ],
        [info("x", "FP32", "N", 3)],
        [info("label", "INT64", "N"), info("scores", "FP32", "N", 3)],
        [h.make_tensor("two", T.FLOAT, [], [2.0])],
    )


def pair() -> bytes:
    """a FP32 [N, 2], b INT64 [N, 1] -> total FP32 [N, 1], echo INT64 [N, 1]."""
    return model(
        [
            h.make_node("ReduceSum", ["a", "axis"], ["sum"], keepdims=1),
            h.make_node("Cast", ["b"], ["number"], to=T.FLOAT),
            h.make_node("Add", ["sum", "number"], ["total"]),
            h.make_node("Identity", ["b"], ["echo"]),
        ],
        [info("a", "FP32", "N", 2), info("b", "INT64", "N", 1)],
        [info("total", "FP32", "N", 1), info("echo", "INT64", "N", 1)],
        [h.make_tensor("axis", T.INT64, [1], [1])],
    )


def doubled_text() -> bytes:
    """x BYTES [N] -> y BYTES [N], each twice."""
    return model([h.make_node("StringConcat", ["x", "x"], ["y"])], [info("x", "BYTES", "N")], [info("y", "BYTES", "N")])


def table() -> bytes:
    """x INT64 [N] -> y FP32 [N]: 10, 20, 30; the graph fails on an index out of range."""
    return model(
        [h.make_node("Gather", ["table", "x"], ["y"])],
        [info("x", "INT64", "N")],
        [info("y", "FP32", "N")],
        [h.make_tensor("table", T.FLOAT, [3], [10, 20, 30])],
    )


def logarithm() -> bytes:
    """x FP32 [N] -> y FP32 [N]; NaN below zero."""
    return model([h.make_node("Log", ["x"], ["y"])], [info("x", "FP32", "N")], [info("y", "FP32", "N")])


def mean_over_rows() -> bytes:
    """x FP32 [N, 3] -> y FP32 [N, 3]: rows depend on each other although every first axis is open."""
    return model(
        [h.make_node("ReduceMean", ["x", "axis"], ["m"], keepdims=1), h.make_node("Sub", ["x", "m"], ["y"])],
        [info("x", "FP32", "N", 3)],
        [info("y", "FP32", "N", 3)],
        [h.make_tensor("axis", T.INT64, [1], [0])],
    )


def slow(size: int = 256) -> bytes:
    """x INT64 [N] -> y FP32 [N]; takes about a millisecond times the greatest x."""
    body = h.make_graph(
        [h.make_node("Identity", ["go"], ["go_on"]), h.make_node("MatMul", ["v", "eye"], ["w"])],
        "body",
        [h.make_tensor_value_info("i", T.INT64, []), h.make_tensor_value_info("go", T.BOOL, []), info("v", "FP32", size, size)],
        [h.make_tensor_value_info("go_on", T.BOOL, []), info("w", "FP32", size, size)],
    )
    return model(
        [
            h.make_node("ReduceMax", ["x"], ["trips"], keepdims=0),
            h.make_node("Loop", ["trips", "", "eye"], ["last"], body=body),
            h.make_node("ReduceSum", ["last"], ["sum"], keepdims=0),
            h.make_node("Mul", ["sum", "zero"], ["nothing"]),
            h.make_node("Cast", ["x"], ["number"], to=T.FLOAT),
            h.make_node("Add", ["number", "nothing"], ["y"]),
        ],
        [info("x", "INT64", "N")],
        [info("y", "FP32", "N")],
        [
            h.make_tensor("eye", T.FLOAT, [size, size], np.eye(size, dtype=np.float32).tobytes(), raw=True),
            h.make_tensor("zero", T.FLOAT, [], [0.0]),
        ],
    )


def tensor(name: str, datatype: str, data: list[Any], *shape: int) -> dict[str, Any]:
    """A V2 JSON tensor."""
    return {"name": name, "datatype": datatype, "shape": list(shape) or [len(data)], "data": data}


def bundle(folder: Path, **changes: Any) -> str:
    """A bundle around `classifier` with one golden request and two reference rows; its digest. `changes` replace parts of bundle.json."""
    folder.mkdir(parents=True, exist_ok=True)
    golden = [
        {
            "inputs": [tensor("x", "FP32", [1, 2, 3, 9, 8, 7], 2, 3)],
            "outputs": [tensor("label", "INT64", [2, 0], 2), tensor("scores", "FP32", [2, 4, 6, 18, 16, 14], 2, 3)],
        }
    ]
    reference = [{"inputs": [tensor("x", "FP32", [1, 2, 3], 1, 3)], "label": "2", "weight": 3.0}]
    contents = {
        MODEL: classifier(),
        GOLDEN: json.dumps(changes.pop("golden_requests", golden)).encode(),
        REFERENCE: json.dumps(reference).encode(),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    manifest = {
        "version": 1,
        "name": "classes",
        "opset": 20,
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "label", "datatype": "INT64", "shape": [-1]}, {"name": "scores", "datatype": "FP32", "shape": [-1, 3]}],
        "decision": {"kind": "Class", "output": "scores", "labels": ["low", "middle", "high"]},
        "files": {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in contents.items()},
    } | changes
    raw = json.dumps(manifest).encode()
    (folder / MANIFEST).write_bytes(raw)
    return "sha256:" + hashlib.sha256(raw).hexdigest()
