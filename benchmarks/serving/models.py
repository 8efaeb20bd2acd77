"""The models that are served, made here: trees that take microseconds, a matrix product and a convolution that take about ten milliseconds."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier

_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""MobileNet's: channels, stride."""
_SIDE = 512
_PRODUCTS = 5


def trees() -> tuple[ModelProto, Any]:
    """Gradient boosting, 100 trees, X FP32 [-1, 30] -> label, probabilities; and the rows of its data set."""
    data, target = load_breast_cancer(return_X_y=True)
    model = GradientBoostingClassifier(n_estimators=100, max_depth=3, random_state=0).fit(data, target)
    return to_onnx(model, data[:1].astype(np.float32), options={"zipmap": False}, target_opset=17), data


def convolution() -> ModelProto:
    """MobileNet with random weights, 4.2 million, X FP32 [-1, 3, 224, 224] -> scores FP32 [-1, 1000]."""
    graph = _Graph()
    name, channels = graph.conv("X", 3, 32, 3, 2, 1), 32
    for wider, stride in _BLOCKS:
        name = graph.conv(name, channels, channels, 3, stride, channels)
        name, channels = graph.conv(name, channels, wider, 1, 1, 1), wider
    name = graph.add("Flatten", graph.add("GlobalAveragePool", name))
    graph.add("MatMul", name, graph.weights(channels, 1000, scale=0.03), to="scores")
    return graph.model(["N", 3, 224, 224], ["N", 1000])


def product() -> ModelProto:
    """About ten milliseconds for X FP32 [1, 30] -> scores FP32 [1, 1]: requests of a few bytes that cannot share a call."""
    graph = _Graph()
    row = graph.add("MatMul", "X", graph.weights(30, _SIDE, scale=0.1))
    name = graph.add("MatMul", graph.add("Transpose", row, perm=[1, 0]), row)
    for _ in range(_PRODUCTS):
        name = graph.add("MatMul", name, graph.weights(_SIDE, _SIDE, scale=_SIDE**-0.5))
    graph.add("ReduceMax", name, to="scores", keepdims=1)
    return graph.model([1, 30], [1, 1])


class _Graph:
    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def weights(self, *shape: int, scale: float) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array((self._random.standard_normal(shape) * scale).astype(np.float32), name))
        return name

    def add(self, kind: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        name = to or f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def conv(self, given: str, channels: int, wider: int, side: int, stride: int, groups: int) -> str:
        size = channels // groups * side * side
        weights = self.weights(wider, channels // groups, side, side, scale=(2 / size) ** 0.5)
        strides, pads = [stride, stride], [side // 2] * 4
        return self.add("Relu", self.add("Conv", given, weights, kernel_shape=[side, side], strides=strides, pads=pads, group=groups))

    def model(self, given: list[str | int], scores: list[str | int]) -> ModelProto:
        inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, given)]
        outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, scores)]
        graph = helper.make_graph(self._nodes, "graph", inputs, outputs, self._weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
