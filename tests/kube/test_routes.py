"""Weights count once every parent of the route confirmed this very generation."""

from __future__ import annotations

from typing import Any

from aiservice.kube.routes import order, weights


def route(generation: int, observed: int, resolved: str = "True") -> dict[str, Any]:
    conditions = [
        {"type": "Accepted", "status": "True", "observedGeneration": observed},
        {"type": "ResolvedRefs", "status": resolved, "observedGeneration": observed},
    ]
    refs = [{"name": "s-r1-predictor", "weight": 95}, {"name": "s-r2-predictor", "weight": 5}, {"name": "other", "weight": 1}]
    return {
        "metadata": {"generation": generation},
        "spec": {"rules": [{"backendRefs": refs}]},
        "status": {"parents": [{"conditions": conditions}]},
    }


def test_confirmed() -> None:
    assert weights(route(3, 3), "s", ["r1", "r2"]) == {"r1": 95, "r2": 5}


def test_not_confirmed() -> None:
    nobody = route(3, 3) | {"status": {}}
    for unconfirmed in (None, route(3, 2), route(3, 3, "False"), nobody):
        assert weights(unconfirmed, "s", ["r1", "r2"]) == {}


def test_backends_by_their_place() -> None:
    assert order(route(3, 3), "s", ["r2", "r1", "r9"]) == ["r1", "r2", None]
