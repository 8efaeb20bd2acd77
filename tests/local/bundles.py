"""Bundles whose behaviour a test controls: decisions, failures and slowness."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper as h

from aiservice.api.bundle import GOLDEN, MANIFEST, MODEL, REFERENCE

KINDS = 10
"""The second feature is a number below this."""


def tensor(name: str, datatype: str, data: list[Any], *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape) or [len(data)], "data": data}


def row(score: float, kind: int = 0) -> list[dict[str, Any]]:
    return [tensor("x", "FP32", [score, float(kind)], 1, 2)]


def model(scale: float, bias: float, work: list[int]) -> bytes:
    """x FP32 [N, 2] -> y FP32 [N, 1] = scale * x0 + bias, after work[x1] products of matrices; fails where x1 is past the end of `work`."""
    body = h.make_graph(
        [h.make_node("Identity", ["go"], ["go_on"]), h.make_node("MatMul", ["v", "eye"], ["w"])],
        "body",
        [
            h.make_tensor_value_info("i", T.INT64, []),
            h.make_tensor_value_info("go", T.BOOL, []),
            h.make_tensor_value_info("v", T.FLOAT, [256, 256]),
        ],
        [h.make_tensor_value_info("go_on", T.BOOL, []), h.make_tensor_value_info("w", T.FLOAT, [256, 256])],
    )
    nodes = [
        h.make_node("Gather", ["x", "first"], ["score"], axis=1),
        h.make_node("Gather", ["x", "second"], ["kind"], axis=1),
        h.make_node("Cast", ["kind"], ["place"], to=T.INT64),
        h.make_node("Gather", ["work", "place"], ["trips"]),
        h.make_node("ReduceMax", ["trips"], ["most"], keepdims=0),
        h.make_node("Loop", ["most", "", "eye"], ["last"], body=body),
        h.make_node("ReduceSum", ["last"], ["sum"], keepdims=0),
        h.make_node("Mul", ["sum", "zero"], ["nothing"]),
        h.make_node("Mul", ["score", "scale"], ["scaled"]),
        h.make_node("Add", ["scaled", "bias"], ["biased"]),
        h.make_node("Add", ["biased", "nothing"], ["y"]),
    ]
    constants = [
        h.make_tensor("first", T.INT64, [1], [0]),
        h.make_tensor("second", T.INT64, [1], [1]),
        h.make_tensor("work", T.INT64, [len(work)], work),
        h.make_tensor("eye", T.FLOAT, [256, 256], np.eye(256, dtype=np.float32).tobytes(), raw=True),
        h.make_tensor("zero", T.FLOAT, [], [0.0]),
        h.make_tensor("scale", T.FLOAT, [], [scale]),
        h.make_tensor("bias", T.FLOAT, [], [bias]),
    ]
    graph = h.make_graph(
        nodes,
        "graph",
        [h.make_tensor_value_info("x", T.FLOAT, ["N", 2])],
        [h.make_tensor_value_info("y", T.FLOAT, ["N", 1])],
        constants,
    )
    found: bytes = h.make_model(graph, opset_imports=[h.make_opsetid("", 20)], ir_version=9).SerializeToString()
    return found


@functools.cache
def products(seconds: float) -> int:
    """So many of them take one thread that long here, however busy the machine is."""
    trial = 50
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model(1, 0, [trial]), options, providers=["CPUExecutionProvider"])
    times = []
    for _ in range(5):
        start = time.thread_time()
        session.run(None, {"x": np.zeros((1, 2), np.float32)})
        times.append(time.thread_time() - start)
    return int(seconds / min(times) * trial)


def write(folder: Path, *, scale: float = 1.0, bias: float = 0.0, fails: int = 0, slow: int = 0, always: int = 0) -> str:
    """A classifier: `yes` from 0.5 on. It fails for the last `fails` kinds, and for those before `slow`, in products of matrices,
    is what one takes (`products`: how many; 0.1 to 1 ms each); `always`: every one. -> its digest."""
    work = [always] * KINDS
    if slow:
        work[KINDS - 1] = slow
    work = work[: KINDS - fails]
    folder.mkdir(parents=True)
    golden = [{"inputs": row(0.25), "outputs": [tensor("y", "FP32", [float(np.float32(scale * 0.25 + bias))], 1, 1)]}]
    reference = [{"inputs": row(i / 20, i % 3), "label": "yes" if i >= 10 else "no", "weight": 1.0} for i in range(20)]
    contents = {
        MODEL: model(scale, bias, work),
        GOLDEN: json.dumps(golden).encode(),
        REFERENCE: json.dumps(reference).encode(),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    manifest = {
        "version": 1,
        "name": "halves",
        "opset": 20,
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
        "decision": {"kind": "Threshold", "output": "y", "threshold": 0.5, "positive": "yes", "negative": "no"},
        "files": {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in contents.items()},
    }
    raw = json.dumps(manifest).encode()
    (folder / MANIFEST).write_bytes(raw)
    return "sha256:" + hashlib.sha256(raw).hexdigest()
