"""mosec with its dynamic batching (up to 16, 1 ms), orjson on both sides. Arguments: model, then mosec's own."""

import os
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson
from mosec import Server, Worker


class Onnx(Worker):
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])
        self.names = [o.name for o in self.session.get_outputs()]

    def deserialize(self, data: bytes) -> Any:
        tensor = orjson.loads(data)["inputs"][0]
        return np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])

    def serialize(self, data: Any) -> bytes:
        return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)

    def forward(self, data: list[Any]) -> list[Any]:
        arrays = self.session.run(self.names, {"X": np.concatenate(data)})
        found, start = [], 0
        for part in data:
            end = start + len(part)
            outputs = [
                {"name": n, "shape": list(a[start:end].shape), "data": np.ascontiguousarray(a[start:end]).ravel()}
                for n, a in zip(self.names, arrays, strict=True)
            ]
            found.append({"model_name": "m", "outputs": outputs})
            start = end
        return found


if __name__ == "__main__":
    server = Server()
    server.append_worker(Onnx, num=1, max_batch_size=16, max_wait_time=1)
    server.run()
