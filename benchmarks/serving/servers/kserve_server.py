"""kserve's ModelServer, stock: V2 REST and gRPC. Arguments: model, HTTP port, gRPC port."""

import sys

import kserve
import onnxruntime as ort
from kserve import InferOutput, InferResponse


class Onnx(kserve.Model):
    def __init__(self, path: str) -> None:
        super().__init__("m")
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.outputs = self.session.get_outputs()
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        arrays = self.session.run(None, {i.name: i.as_numpy() for i in payload.inputs})
        binary = payload.from_grpc or bool(payload.inputs[0].parameters and "binary_data_size" in payload.inputs[0].parameters)
        outputs = []
        for out, array in zip(self.outputs, arrays, strict=True):
            output = InferOutput(out.name, list(array.shape), {"tensor(int64)": "INT64", "tensor(float)": "FP32"}[out.type])
            output.set_data_from_numpy(array, binary_data=binary)
            outputs.append(output)
        return InferResponse(payload.id or "0", "m", outputs)


if __name__ == "__main__":
    model, http, grpc = sys.argv[1:]
    kserve.ModelServer(http_port=int(http), grpc_port=int(grpc), workers=1, enable_docs_url=False).start([Onnx(model)])
