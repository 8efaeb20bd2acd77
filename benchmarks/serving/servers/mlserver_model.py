"""A model for MLServer, in its own process (parallel_workers=0)."""

import os

import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Onnx(MLModel):
    async def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        arrays = self.session.run(None, {"X": NumpyCodec.decode_input(payload.inputs[0])})
        outputs = [NumpyCodec.encode_output(o.name, a) for o, a in zip(self.session.get_outputs(), arrays, strict=True)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
