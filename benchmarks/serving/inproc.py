"""What onnxruntime does in a process of its own, one thread, nothing around it: runs a second, as JSON. Arguments: model, rows ..."""

from __future__ import annotations

import sys
import time

import numpy as np
import onnxruntime as ort
import orjson

SECONDS = 1.0


def main() -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    names = [o.name for o in session.get_outputs()]
    found = {}
    for rows in sys.argv[2:]:
        feed = {given.name: np.random.default_rng(0).random((int(rows), *given.shape[1:]), dtype=np.float32)}
        session.run(names, feed)
        runs, start = 0, time.perf_counter()
        while (seconds := time.perf_counter() - start) < SECONDS:
            session.run(names, feed)
            runs += 1
        found[rows] = runs / seconds
    print(orjson.dumps(found).decode())


if __name__ == "__main__":
    main()
