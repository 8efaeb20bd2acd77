"""PyTriton. Arguments: model, HTTP port, gRPC port."""

import sys

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

if __name__ == "__main__":
    model, http, grpc = sys.argv[1:]
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @batch
    def infer(X):
        label, probabilities = session.run(None, {"X": X})
        return {"label": label.reshape(-1, 1), "probabilities": probabilities}

    with Triton(config=TritonConfig(http_port=int(http), grpc_port=int(grpc), metrics_port=int(grpc) + 1)) as triton:
        triton.bind(
            model_name="m",
            infer_func=infer,
            inputs=[Tensor(name="X", dtype=np.float32, shape=(30,))],
            outputs=[Tensor(name="label", dtype=np.int64, shape=(1,)), Tensor(name="probabilities", dtype=np.float32, shape=(2,))],
            config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
        triton.serve()
