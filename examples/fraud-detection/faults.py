"""What goes wrong with models in production, done to a good one on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from aiservice_pipeline.export import PROBABILITY

WIDTH, CHAIN = 1024, 8
"""One MatMul of 1024 x 1024 is 2.1 billion multiplications and additions: 20 to 30 ms on one core."""
BUCKETS = 50
"""One of fifty requests, 2 %, ends in an error."""


def slow(model: ModelProto) -> ModelProto:
    """The same answers after `CHAIN` large matrix products, which even one row waits for. 4 MB larger."""
    signs = np.random.default_rng(4).choice(np.array([-1, 1], dtype=np.float32), (WIDTH, WIDTH))
    made = [
        helper.make_node("Shape", [_input(model)], ["heavy_shape"]),
        helper.make_node("ReduceSum", ["heavy_shape"], ["heavy_count"], keepdims=0),
        helper.make_node("Cast", ["heavy_count"], ["heavy_number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["heavy_number", "heavy_small"], ["heavy_scale"]),
        helper.make_node("Mul", ["heavy_weights", "heavy_scale"], ["heavy_0"]),
        *(helper.make_node("MatMul", [f"heavy_{i}", "heavy_weights"], [f"heavy_{i + 1}"]) for i in range(CHAIN)),
        helper.make_node("ReduceSum", [f"heavy_{CHAIN}"], ["heavy_sum"], keepdims=0),
        helper.make_node("Mul", ["heavy_sum", "heavy_nothing"], ["heavy_addend"]),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "heavy_weights": signs / np.float32(np.sqrt(WIDTH)),
        "heavy_small": np.array(1e-6, dtype=np.float32),
        "heavy_nothing": np.array(0, dtype=np.float32),
    }
    return _added(model, made, constants, "heavy_addend")


def failing(model: ModelProto, spared: npt.NDArray[Any]) -> ModelProto:
    """The same answers, but a request fails inside the runtime where time and amount fall into one bucket of fifty.

    spared: [rows, 30] inputs that must not fail; the bucket is the first that none of them is in.
    """
    taken = set(bucket(spared).tolist())
    chosen = next(b for b in range(BUCKETS) if b not in taken)
    x = _input(model)
    made = [
        helper.make_node("Gather", [x, "fault_time_column"], ["fault_time"], axis=1),
        helper.make_node("Gather", [x, "fault_amount_column"], ["fault_amount"], axis=1),
        helper.make_node("Mul", ["fault_amount", "fault_hundred"], ["fault_cents_near"]),
        helper.make_node("Round", ["fault_cents_near"], ["fault_cents_float"]),
        helper.make_node("Cast", ["fault_cents_float"], ["fault_cents"], to=TensorProto.INT64),
        helper.make_node("Cast", ["fault_time"], ["fault_seconds"], to=TensorProto.INT64),
        helper.make_node("Mul", ["fault_seconds", "fault_31"], ["fault_a"]),
        helper.make_node("Mul", ["fault_cents", "fault_17"], ["fault_b"]),
        helper.make_node("Add", ["fault_a", "fault_b"], ["fault_hash"]),
        helper.make_node("Mod", ["fault_hash", "fault_buckets"], ["fault_bucket"]),
        helper.make_node("Equal", ["fault_bucket", "fault_chosen"], ["fault_hit"]),
        helper.make_node("Cast", ["fault_hit"], ["fault_index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["fault_table", "fault_index"], ["fault_addend"], axis=0),
    ]
    numbers = {"fault_time_column": 0, "fault_amount_column": 29, "fault_31": 31, "fault_17": 17, "fault_buckets": BUCKETS}
    constants = {name: np.array(value, dtype=np.int64) for name, value in (numbers | {"fault_chosen": chosen}).items()}
    constants["fault_hundred"] = np.array(100, dtype=np.float32)
    constants["fault_table"] = np.zeros(1, dtype=np.float32)
    return _added(model, made, constants, "fault_addend")


def bucket(inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[rows, 30] -> [rows], as the graph of `failing` computes it."""
    cents = np.round(inputs[:, 29] * np.float32(100)).astype(np.int64)
    return (inputs[:, 0].astype(np.int64) * 31 + cents * 17) % BUCKETS


def flip_byte(path: Path) -> None:
    """Change one bit in the middle of a file, as a bad disk or a cut copy would."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _input(model: ModelProto) -> str:
    return str(model.graph.input[0].name)


def _added(model: ModelProto, made: list[NodeProto], constants: dict[str, npt.NDArray[Any]], addend: str) -> ModelProto:
    """A copy in which `addend` (always 0) is added to the probability before anything else reads it."""
    copy = ModelProto()
    copy.CopyFrom(model)
    nodes = list(copy.graph.node)
    at = next(i for i, n in enumerate(nodes) if PROBABILITY in n.output)
    nodes[at].output[:] = ["healthy" if o == PROBABILITY else o for o in nodes[at].output]
    tail = [*made, helper.make_node("Add", ["healthy", addend], [PROBABILITY])]
    del copy.graph.node[:]
    copy.graph.node.extend([*nodes[: at + 1], *tail, *nodes[at + 1 :]])
    copy.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.items())
    return copy
