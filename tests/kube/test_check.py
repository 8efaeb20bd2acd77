"""helm test: the request that it makes of a model's metadata fits the model."""

from __future__ import annotations

from aiservice.kube.check import zeros


def test_one_row_of_zeros_in_every_type() -> None:
    inputs = [
        {"name": "x", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "s", "datatype": "BYTES", "shape": [-1]},
        {"name": "b", "datatype": "BOOL", "shape": [3]},
    ]
    assert zeros({"inputs": inputs}) == {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]},
            {"name": "s", "datatype": "BYTES", "shape": [1], "data": [""]},
            {"name": "b", "datatype": "BOOL", "shape": [3], "data": [False, False, False]},
        ]
    }
