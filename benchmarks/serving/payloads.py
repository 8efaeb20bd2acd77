"""The model that all servers serve, and the requests that they all get: gradient boosting, 100 trees, 30 numbers a row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import orjson
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier

from aiservice_predictor.proto import messages

INPUT = "X"
NAME = "m"


@dataclass(frozen=True)
class Payload:
    """One request, as a file."""

    path: Path
    json_size: int | None = None
    """Bytes of JSON before binary data."""


def make(folder: Path) -> tuple[Path, dict[str, Payload]]:
    """Write model.onnx and the payloads json1, json32, bin1, bin32, grpc1, grpc32; the rows are the data set's first ones."""
    folder.mkdir(parents=True, exist_ok=True)
    data, target = load_breast_cancer(return_X_y=True)
    model = GradientBoostingClassifier(n_estimators=100, max_depth=3, random_state=0).fit(data, target)
    converted = to_onnx(model, data[:1].astype(np.float32), options={"zipmap": False}, target_opset=17)
    path = folder / "model.onnx"
    onnx.save(converted, str(path))
    found = {}
    for rows in (1, 32):
        part = data[:rows]
        tensor = {"name": INPUT, "shape": [rows, part.shape[1]], "datatype": "FP32"}
        text = orjson.dumps({"inputs": [tensor | {"data": part.ravel().tolist()}]})
        found[f"json{rows}"] = Payload(_write(folder / f"json{rows}", text))
        raw = part.astype(np.float32).tobytes()
        head = orjson.dumps(
            {"inputs": [tensor | {"parameters": {"binary_data_size": len(raw)}}], "parameters": {"binary_data_output": True}}
        )
        found[f"bin{rows}"] = Payload(_write(folder / f"bin{rows}", head + raw), len(head))
        message = messages.ModelInferRequest(model_name=NAME)
        message.inputs.add(name=INPUT, datatype="FP32", shape=[rows, part.shape[1]])
        message.raw_input_contents.append(raw)
        encoded = message.SerializeToString()
        found[f"grpc{rows}"] = Payload(_write(folder / f"grpc{rows}", b"\0" + len(encoded).to_bytes(4, "big") + encoded))
    return path, found


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
