"""LitServe. Arguments: model, port."""

import sys

import litserve as ls
import numpy as np
import onnxruntime as ort


class Onnx(ls.LitAPI):
    path = ""

    def setup(self, device):
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])

    def decode_request(self, request):
        tensor = request["inputs"][0]
        return np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])

    def predict(self, x):
        return self.session.run(None, {"X": x})

    def encode_response(self, output):
        return {"outputs": [a.ravel().tolist() for a in output]}


if __name__ == "__main__":
    ls.LitServer(Onnx(), accelerator="cpu", workers_per_device=1).run(port=int(sys.argv[2]), host="127.0.0.1", generate_client_file=False)
