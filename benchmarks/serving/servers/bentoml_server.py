"""BentoML, an asynchronous API without an access log. Started by `bentoml serve`."""

import os

import bentoml
import numpy as np
import onnxruntime as ort


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Onnx:
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])

    @bentoml.api(route="/infer")
    async def infer(self, inputs: list) -> dict:
        tensor = inputs[0]
        x = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
        return {"outputs": [a.ravel().tolist() for a in self.session.run(None, {"X": x})]}
