"""One predictor on N cores, with workers, with threads, with neither: `python -m benchmarks.serving.workers`.

The load runs on the same cores, so requests a second say less than what a request costs: scaling is N x the CPU time of a request with one
worker / that with N, all of the predictor's processes counted. One worker has a core to itself, while the load runs on the others; N share
theirs with it. So the same is said against "apart" as well, which is what the machine itself gives: as many predictors of one worker, each
with its own load, at the same time.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median

import numpy as np
import onnx
import orjson
from onnx import TensorProto, helper, numpy_helper

from . import load
from .payloads import NAME, Payload, make
from .peers import ROOT, Running, compiled, running

OUT = ROOT / "build" / "bench"
_SIZE = 64
_CHANNELS = (3, 64, 128, 256, 512)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.serving.workers", description=__doc__)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each load")
    arguments = parser.parse_args()
    cores = arguments.cores
    small, payloads = make(OUT)
    heavy, image = convolution(OUT)
    cells = (
        ("small, 64 connections a worker", small, payloads["json1"], 64),
        ("heavy, 4 connections a worker", heavy, image, 4),
        ("heavy, 1 connection", heavy, image, 0),
    )
    variants: dict[str, dict[str, str]] = {
        "one": {"AISERVICE_THREADS": "1"},
        f"{cores} threads": {"AISERVICE_THREADS": f"{cores}"},
        f"{cores} workers": {"AISERVICE_WORKERS": f"{cores}"},
        f"{cores} of them apart": {"AISERVICE_THREADS": "1"},
    }
    found: dict[tuple[str, str], list[load.Measured]] = defaultdict(list)
    load.ahead(os.getpid())
    for _ in range(arguments.rounds):
        for cell, model, payload, connections in cells:
            for name, settings in variants.items():
                peer = replace(compiled(), env=compiled().env | settings)
                workers = cores if name.endswith("workers") else 1
                predictors = cores if name.endswith("apart") else 1
                with ExitStack() as stack, ThreadPoolExecutor() as pool:
                    servers = [stack.enter_context(running(peer, model, payload, f"0-{cores - 1}")) for _ in range(predictors)]
                    for server in servers:
                        load.ahead(server.process)
                    for seconds in (1, arguments.seconds):
                        measured = list(pool.map(lambda s: _load(s, payload, connections * workers or 1, seconds, cores, workers), servers))  # noqa: B023
                found[cell, name].append(_together(measured))
                print(f"{cell}, {name}: {found[cell, name][-1].requests:,.0f}/s", file=sys.stderr, flush=True)
    print(*_table(found, cores), sep="\n")


def _table(found: dict[tuple[str, str], list[load.Measured]], cores: int) -> Iterator[str]:
    yield f"| load | predictor | requests/s | CPU us/request | p50 | memory | {cores} x CPU of one / its own | of those apart |\n|{'---|' * 8}"
    for (cell, name), runs in found.items():
        cpu = median(r.cpu for r in runs)
        alone, apart = (
            cores * median(other.cpu / run.cpu for other, run in zip(found[cell, name], runs, strict=True))
            for name in ("one", f"{cores} of them apart")
        )
        yield (
            f"| {cell} | {name} | {median(r.requests for r in runs):,.0f} | {cpu * 1e6:,.1f} | {median(r.p50 for r in runs) * 1e3:.2f} ms "
            f"| {max(r.memory for r in runs) / 2**20:.0f} MiB | {alone:.2f} | {apart:.2f} |"
        )


def _load(server: Running, payload: Payload, connections: int, seconds: int, cores: int, threads: int) -> load.Measured:
    measured = load.rest(server.url, payload, connections, seconds, server.process, f"0-{cores - 1}", min(threads, connections))
    return replace(measured, memory=_memory(server.process))


def _together(parts: list[load.Measured]) -> load.Measured:
    """Of several predictors at once."""
    whole, requests = parts[0], sum(p.requests for p in parts)
    cpu = sum(p.cpu * p.requests for p in parts) / requests
    return replace(whole, requests=requests, cpu=cpu, p50=fmean(p.p50 for p in parts), memory=sum(p.memory for p in parts))


def _memory(root: int) -> int:
    """Bytes of a process and its children, what they share counted once."""
    rollups = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in load.tree(root))
    return sum(int(line.split()[1]) * 1024 for text in rollups for line in text.splitlines() if line.startswith("Pss:"))


def convolution(folder: Path) -> tuple[Path, Payload]:
    """A 4-million-parameter convolution on pictures of 3 x 64 x 64, and one picture as binary data."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for number, (before, after) in enumerate(pairwise(_CHANNELS)):
        value = (rng.standard_normal((after, before, 3, 3)) * np.sqrt(2 / 9 / before)).astype(np.float32)
        weights.append(numpy_helper.from_array(value, f"w{number}"))
        nodes.append(helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], pads=[1] * 4, strides=[2 if number else 1] * 2))
        last = f"r{number}"
        nodes.append(helper.make_node("Relu", [f"c{number}"], [last]))
    weights += [
        numpy_helper.from_array(v, n)
        for n, v in (("axes", np.array([2, 3])), ("classes", rng.standard_normal((_CHANNELS[-1], 10)).astype(np.float32)))
    ]
    nodes += [
        helper.make_node("ReduceMean", [last, "axes"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "classes"], ["scores"]),
    ]
    shape = [3, _SIZE, _SIZE]
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *axes]) for name, axes in (("x", shape), ("scores", [10])))
    graph = helper.make_graph(nodes, NAME, [given], [made], weights)
    path = folder / "heavy.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(path))
    raw = rng.random((1, *shape), dtype=np.float32).tobytes()
    tensor = {"name": "x", "shape": [1, *shape], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    head = orjson.dumps({"inputs": [tensor]})
    picture = folder / "picture"
    picture.write_bytes(head + raw)
    return path, Payload(picture, len(head), b"scores")


if __name__ == "__main__":
    main()
