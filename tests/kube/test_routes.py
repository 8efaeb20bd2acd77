"""Weights count once every parent of the route confirmed this very generation."""

from __future__ import annotations

from typing import Any

import pytest

from aiservice.kube.routes import order, toward, weights


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


def backends(*pairs: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"name": f"s-{r}-predictor", "port": 80, "weight": w} for r, w in pairs]


def live(*pairs: tuple[str, int], confirmed: bool = True) -> dict[str, Any]:
    """As the API server gives it: with defaults of its own."""
    found = route(3, 3 if confirmed else 2)
    found["spec"]["rules"][0]["backendRefs"] = [ref | {"group": "", "kind": "Service"} for ref in backends(*pairs)]
    return found


def wanted(*pairs: tuple[str, int]) -> dict[str, Any]:
    return {"metadata": {}, "spec": {"rules": [{"matches": [], "backendRefs": backends(*pairs)}]}}


@pytest.mark.parametrize(
    ("there", "asked", "steps"),
    [
        ([("a", 100)], [("a", 80), ("b", 20)], [[("a", 100), ("b", 1)], [("a", 80), ("b", 20)]]),
        ([("a", 50), ("b", 50)], [("b", 100)], [[("b", 100), ("a", 1)], [("b", 100)]]),
        ([("a", 100)], [("b", 100)], [[("a", 100), ("b", 1)], [("b", 100), ("a", 1)], [("b", 100)]]),
        ([("a", 80), ("b", 20)], [("a", 100)], [[("a", 100)]]),
        ([("a", 80), ("b", 20)], [("a", 50), ("b", 50)], [[("a", 50), ("b", 50)]]),
        ([("a", 7)], [("a", 100)], [[("a", 100)]]),
    ],
    ids=["comes", "goes", "comes and goes", "rolled back at once", "moves", "edited by hand"],
)
def test_a_backend_comes_and_goes_with_little_weight(
    there: list[tuple[str, int]], asked: list[tuple[str, int]], steps: list[list[tuple[str, int]]]
) -> None:
    for step in steps:
        made = toward(live(*there), wanted(*asked))
        assert made["spec"]["rules"][0] == {"matches": [], "backendRefs": backends(*step)}
        there = step
    assert toward(live(*there), wanted(*asked)) == wanted(*asked)


def test_a_new_backend_has_little_weight_before_the_gateway_confirmed_it() -> None:
    waiting = toward(live(("a", 100), ("b", 1), confirmed=False), wanted(("a", 80), ("b", 20)))
    assert waiting == wanted(("a", 100), ("b", 1))


def test_the_first_route_is_applied_as_it_is() -> None:
    assert toward(None, wanted(("a", 100))) == wanted(("a", 100))
