"""scikit-learn -> ONNX: the whole pipeline in one graph, and outputs that a user would ask for.

Two-class with a threshold: `label` BYTES [rows] (positive or negative) and `probability` FP32 [rows] of the positive class.
Other classifiers: `label` INT64 or BYTES [rows] and, where the model has them, `probabilities` FP32 [rows, classes].
Regressors: `prediction` FP32 [rows], or [rows, targets].
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper
from skl2onnx import convert_sklearn
from sklearn.base import is_classifier, is_regressor

from aiservice.api.bundle import Decision, DecisionKind
from aiservice_pipeline.layout import Layout, Table
from aiservice_pipeline.splits import exact_splits, floor32
from aiservice_pipeline.tensors import Array

OPSET = {"": 18, "ai.onnx.ml": 3}
IR_VERSION = 10
LABEL, PROBABILITY, PROBABILITIES, PREDICTION = "label", "probability", "probabilities", "prediction"


@dataclass(frozen=True)
class Head:
    """What a model answers, and which of it is the decision."""

    decision: Decision
    classes: tuple[Any, ...] = ()
    column: int = 0
    """Threshold: column of the positive class among the source's probabilities."""
    probabilities: bool = False

    @classmethod
    def of(
        cls,
        model: Any,
        *,
        positive: Any = None,
        names: tuple[str, str] | None = None,
        threshold: float | None = None,
        tolerance: float | None = None,
    ) -> Head:
        """Read off the model. `positive`: a class of the model; two classes and it given make a threshold decision (default 0.5).

        `names`: texts for the positive and the other class, by default the classes themselves. Raises ValueError.
        """
        if is_regressor(model):
            if tolerance is None:
                raise ValueError("a regression needs tolerance: the greatest difference that is still the same decision")
            return cls(Decision(kind=DecisionKind.TOLERANCE, output=PREDICTION, tolerance=tolerance))
        if not is_classifier(model):
            raise ValueError(f"{type(model).__name__} is neither a classifier nor a regressor")
        classes = tuple(model.classes_.tolist())
        if not all(isinstance(c, int | str) and not isinstance(c, bool) for c in classes):
            raise ValueError(f"classes must be integers or texts, not {classes[:5]}")
        if positive is not None and positive not in classes:
            raise ValueError(f"positive {positive!r} is not one of the classes {classes[:10]}")
        probabilities = hasattr(model, "predict_proba")
        if positive is None or len(classes) != 2 or not probabilities:
            if threshold is not None:
                raise ValueError("threshold needs a model with two classes, predict_proba, and positive")
            decision = Decision(kind=DecisionKind.CLASS, output=LABEL, positive=None if positive is None else str(positive))
            return cls(decision, classes, probabilities=probabilities)
        column = classes.index(positive)
        yes, no = names or (str(positive), str(classes[1 - column]))
        bound = 0.5 if threshold is None else float(threshold)
        decision = Decision(kind=DecisionKind.THRESHOLD, output=PROBABILITY, threshold=bound, positive=yes, negative=no)
        return cls(decision, classes, column, True)

    def text(self, label: Any) -> str:
        """A true label of the data -> the decision as text."""
        d = self.decision
        if d.kind is DecisionKind.TOLERANCE:
            return repr(float(label))
        if d.kind is DecisionKind.THRESHOLD:
            return str(d.positive if label == self.classes[self.column] else d.negative)
        return str(label)

    def decisions(self, outputs: dict[str, Array]) -> Array:
        """[rows]: decisions as text; numbers where the decision is one."""
        d = self.decision
        if d.kind is DecisionKind.TOLERANCE:
            return outputs[PREDICTION].reshape(len(outputs[PREDICTION]), -1)[:, d.column]
        return outputs[LABEL].astype(str)

    def source_outputs(self, model: Any, served: Table) -> dict[str, Array]:
        """What the source model answers, named and shaped as the ONNX model must."""
        d = self.decision
        if d.kind is DecisionKind.TOLERANCE:
            return {PREDICTION: np.asarray(model.predict(served)).astype(np.float32)}
        if d.kind is DecisionKind.THRESHOLD:
            score = model.predict_proba(served)[:, self.column].astype(np.float32)
            label = np.where(score.astype(np.float64) >= (d.threshold or 0), str(d.positive), str(d.negative)).astype(object)
            return {LABEL: label, PROBABILITY: score}
        label = np.asarray(model.predict(served))
        outputs = {LABEL: label.astype(object if label.dtype.kind in "OUS" else np.int64)}
        if self.probabilities:
            outputs[PROBABILITIES] = model.predict_proba(served).astype(np.float32)
        return outputs

    def unsure(self, outputs: dict[str, Array], absolute: float) -> Array | None:
        """[rows] bool: a difference of `absolute` could change the class."""
        if self.decision.kind is DecisionKind.THRESHOLD:
            return np.asarray(np.abs(outputs[PROBABILITY] - np.float32(self.decision.threshold or 0)) <= absolute)
        if self.probabilities:
            top = np.sort(outputs[PROBABILITIES], axis=1)
            return np.asarray(top[:, -1] - top[:, -2] <= 2 * absolute)
        return None


def export(model: Any, layout: Layout, head: Head, expected: dict[str, Array]) -> ModelProto:
    """One graph from `layout`'s inputs to `head`'s outputs, shaped as the source's `expected` ones. Deterministic for one skl2onnx."""
    model = exact_splits(model)
    chosen = {id(model): {"zipmap": False}} if head.probabilities else None
    with warnings.catch_warnings():
        # skl2onnx hands numpy booleans to protobuf as integers, of which numpy warns; parity proves the result
        warnings.simplefilter("ignore", DeprecationWarning)
        proto: ModelProto = convert_sklearn(model, "model", layout.initial_types(), target_opset=OPSET, options=chosen)
    graph = proto.graph
    raw = [_renamed(o.name) for o in graph.output]
    _free_names(graph)
    del graph.output[:]
    if head.decision.kind is DecisionKind.TOLERANCE:
        _regression(graph, raw[0], list(expected[PREDICTION].shape[1:]))
    elif head.decision.kind is DecisionKind.THRESHOLD:
        _threshold(graph, raw[1], head)
    else:
        texts = isinstance(head.classes[0], str)
        _output(graph, raw[0], LABEL, TensorProto.STRING if texts else TensorProto.INT64, [None])
        if head.probabilities:
            _output(graph, raw[1], PROBABILITIES, TensorProto.FLOAT, [None, len(head.classes)])
    _prune(graph)
    proto.ir_version = IR_VERSION
    checker.check_model(proto)
    return proto


def _regression(graph: Any, raw: str, tail: list[int]) -> None:
    """Shape as the source has it: skl2onnx gives [rows, 1] for one target, and a wrong shape for some models with several."""
    graph.initializer.append(numpy_helper.from_array(np.array([-1, *tail], dtype=np.int64), "prediction_shape"))
    graph.node.append(helper.make_node("Reshape", [raw, "prediction_shape"], [PREDICTION]))
    graph.output.append(helper.make_tensor_value_info(PREDICTION, TensorProto.FLOAT, [None, *tail]))


def _threshold(graph: Any, probabilities: str, head: Head) -> None:
    d = head.decision
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(head.column, dtype=np.int64), "positive_column"),
            numpy_helper.from_array(_ceil32(d.threshold or 0), "threshold"),
            numpy_helper.from_array(np.array([d.negative, d.positive], dtype=object), "labels"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Gather", [probabilities, "positive_column"], [PROBABILITY], axis=1),
            helper.make_node("GreaterOrEqual", [PROBABILITY, "threshold"], ["is_positive"]),
            helper.make_node("Cast", ["is_positive"], ["positive_index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["labels", "positive_index"], [LABEL], axis=0),
        ]
    )
    graph.output.append(helper.make_tensor_value_info(LABEL, TensorProto.STRING, [None]))
    graph.output.append(helper.make_tensor_value_info(PROBABILITY, TensorProto.FLOAT, [None]))


def _ceil32(bound: float) -> Array:
    """The least float32 at least as large: x >= bound holds for the same float32 x."""
    return np.asarray(-floor32(np.array(-bound)), dtype=np.float32)


def _output(graph: Any, raw: str, name: str, kind: int, shape: list[int | None]) -> None:
    graph.node.append(helper.make_node("Identity", [raw], [name]))
    graph.output.append(helper.make_tensor_value_info(name, kind, shape))


def _renamed(name: str) -> str:
    return f"source_{name}" if name in (LABEL, PROBABILITY, PROBABILITIES, PREDICTION) else name


def _free_names(graph: Any) -> None:
    """skl2onnx may call its own values as our outputs are called."""
    for node in graph.node:
        for names in (node.input, node.output):
            renamed = [_renamed(n) for n in names]
            del names[:]
            names.extend(renamed)


def _prune(graph: Any) -> None:
    """Drop what no output needs."""
    needed = {o.name for o in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [i for i in graph.initializer if i.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(constants)
