"""The requests that all servers get, as files, beside the models that they are for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import orjson

from aiservice_predictor.proto import messages

from . import models

INPUT = "X"
NAME = "m"


@dataclass(frozen=True)
class Payload:
    """One request, as a file."""

    path: Path
    json_size: int | None = None
    """Bytes of JSON before binary data."""
    answer: bytes = b""
    """In the text of a right answer to a payload that is JSON."""


def make(folder: Path) -> tuple[Path, dict[str, Payload]]:
    """Write the trees' model.onnx and the payloads json1, json32, bin1, bin32, grpc1, grpc32; the rows are the data set's first ones."""
    folder.mkdir(parents=True, exist_ok=True)
    model, data = models.trees()
    path = _save(model, folder / "model.onnx")
    return path, {f"{kind}{rows}": p for rows in (1, 32) for kind, p in _payloads(folder, str(rows), data[:rows], b"0.9987").items()}


def heavy(folder: Path) -> tuple[Path, dict[str, Payload]]:
    """Write conv.onnx and the payloads json-conv, bin-conv, grpc-conv: one picture."""
    picture = np.random.default_rng(0).random((1, 3, 224, 224)).round(2)
    return _with_answer(folder, "conv", models.convolution(), picture)


def slow(folder: Path) -> tuple[Path, dict[str, Payload]]:
    """Write slow.onnx and the payloads json-slow, bin-slow, grpc-slow: 30 numbers."""
    return _with_answer(folder, "slow", models.product(), np.random.default_rng(0).random((1, 30)).round(2))


def _with_answer(folder: Path, name: str, model: onnx.ModelProto, data: Any) -> tuple[Path, dict[str, Payload]]:
    folder.mkdir(parents=True, exist_ok=True)
    path = _save(model, folder / f"{name}.onnx")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    first = session.run(None, {INPUT: data.astype(np.float32)})[0].ravel()[0]
    return path, {f"{kind}-{name}": p for kind, p in _payloads(folder, f"-{name}", data, repr(float(first))[:5].encode()).items()}


def _payloads(folder: Path, name: str, data: Any, answer: bytes) -> dict[str, Payload]:
    shape: Sequence[int] = data.shape
    tensor = {"name": INPUT, "shape": shape, "datatype": "FP32"}
    text = orjson.dumps({"inputs": [tensor | {"data": data.ravel().tolist()}]})
    raw = data.astype(np.float32).tobytes()
    head = orjson.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(raw)}}], "parameters": {"binary_data_output": True}})
    message = messages.ModelInferRequest(model_name=NAME)
    message.inputs.add(name=INPUT, datatype="FP32", shape=shape)
    message.raw_input_contents.append(raw)
    encoded = message.SerializeToString()
    return {
        "json": Payload(_write(folder / f"json{name}", text), answer=answer),
        "bin": Payload(_write(folder / f"bin{name}", head + raw), len(head)),
        "grpc": Payload(_write(folder / f"grpc{name}", b"\0" + len(encoded).to_bytes(4, "big") + encoded)),
    }


def _save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, str(path))
    return path


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
