"""Weights count once every parent of the route confirmed this very generation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiservice.kube.routes import order, toward, weights


def route(generation: int, observed: int, resolved: str = "True") -> dict[str, Any]:
    conditions = [
        {"type": "Accepted", "status": "True", "observedGeneration": observed},
        {"type": "ResolvedRefs", "status": resolved, "observedGeneration": observed},
    ]
    refs = [{"name": "s-r1-predictor", "weight": 94}, {"name": "s-r2-predictor", "weight": 5}, {"name": "other", "weight": 1}]
    return {
        "metadata": {"generation": generation},
        "spec": {"rules": [{"backendRefs": refs}]},
        "status": {"parents": [{"conditions": conditions}]},
    }


def test_confirmed() -> None:
    assert weights(route(3, 3), "s", ["r1", "r2"]) == {"r1": 94, "r2": 5}


def test_a_backend_that_comes_or_goes_has_no_percent_yet() -> None:
    assert weights(live(("r1", 1_000_000), ("r2", 1)), "s", ["r1", "r2"]) == {"r1": 100, "r2": 0}
    assert weights(live(("r1", 800_000), ("r2", 200_000), ("r3", 1)), "s", ["r1", "r2", "r3"]) == {"r1": 80, "r2": 20, "r3": 0}


def test_not_confirmed() -> None:
    nobody = route(3, 3) | {"status": {}}
    for unconfirmed in (None, route(3, 2), route(3, 3, "False"), nobody):
        assert weights(unconfirmed, "s", ["r1", "r2"]) == {}


def test_backends_by_their_place() -> None:
    assert order(route(3, 3), "s", ["r2", "r1", "r9"]) == ["r1", "r2", None]


WHOLE = 1_000_000


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
        ([("a", 100)], [("a", 80), ("b", 20)], [[("a", WHOLE), ("b", 1)], [("a", 80), ("b", 20)]]),
        ([("a", 50), ("b", 50)], [("b", 100)], [[("b", WHOLE), ("a", 1)], [("b", 100)]]),
        ([("a", 100)], [("b", 100)], [[("a", WHOLE), ("b", 1)], [("b", WHOLE), ("a", 1)], [("b", 100)]]),
        ([("a", 80), ("b", 20)], [("a", 100)], [[("a", WHOLE), ("b", 1)], [("a", 100)]]),
        (
            [("a", 80), ("b", 20)],
            [("a", 70), ("c", 30)],
            [
                [("a", 800_000), ("b", 200_000), ("c", 1)],
                [("a", 700_000), ("c", 300_000), ("b", 1)],
                [("a", 70), ("c", 30)],
            ],
        ),
        ([("a", 80), ("b", 20)], [("a", 50), ("b", 50)], [[("a", 50), ("b", 50)]]),
        ([("a", 99), ("b", 1)], [("a", 80), ("b", 20)], [[("a", 80), ("b", 20)]]),
        ([("a", 7)], [("a", 100)], [[("a", 100)]]),
        ([("a", 100), ("b", 0)], [("a", 80), ("b", 20)], [[("a", WHOLE), ("b", 1)], [("a", 80), ("b", 20)]]),
    ],
    ids=["comes", "goes", "comes and goes", "rolled back", "superseded", "moves", "from one percent", "edited by hand", "nothing by hand"],
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
    waiting = toward(live(("a", WHOLE), ("b", 1), confirmed=False), wanted(("a", 80), ("b", 20)))
    assert waiting == wanted(("a", WHOLE), ("b", 1))


def test_a_backend_is_not_taken_out_before_the_gateway_has_looked_at_its_little_weight() -> None:
    there = live(("a", WHOLE), ("b", 1), confirmed=False)
    assert toward(there, wanted(("a", 100))) == wanted(("a", WHOLE), ("b", 1))
    assert toward(there | {"status": {}}, wanted(("a", 100))) == wanted(("a", WHOLE), ("b", 1))


def test_a_backend_that_the_gateway_cannot_find_goes() -> None:
    unresolved = live(("a", WHOLE), ("b", 1)) | {"status": route(3, 3, "False")["status"]}
    assert toward(unresolved, wanted(("a", 100))) == wanted(("a", 100))


weighted = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 1_000_000), min_size=1)
"""Backend -> weight."""


@given(weighted, st.permutations("abcd"), st.integers(1, 4), st.booleans())
def test_no_backend_comes_or_goes_with_much_weight_and_the_wanted_route_is_reached(
    there: dict[str, int], order: list[str], many: int, hasty: bool
) -> None:
    """`hasty`: the operator looks twice before the gateway does."""
    asked = wanted(*((r, 100 // many + (100 % many if i == 0 else 0)) for i, r in enumerate(order[:many])))
    now = live(*there.items())
    for _ in range(5):
        if hasty:
            unseen = now | {"status": route(3, 2)["status"]}
            assert all(share(unseen, r) < 0.005 for r in gone_or_new(unseen, toward(unseen, asked)))
        made = toward(now, asked)
        if made == asked and not gone_or_new(now, made):
            return
        assert all(share(now, r) < 0.005 and share(made, r) < 0.005 for r in gone_or_new(now, made))
        now = made | {k: now[k] for k in ("metadata", "status")}
    raise AssertionError(now)


def share(of: dict[str, Any], name: str) -> float:
    refs = {ref["name"]: ref["weight"] for ref in of["spec"]["rules"][0]["backendRefs"]}
    return float(refs.get(name, 0) / sum(refs.values()))


def gone_or_new(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    names = [{ref["name"] for ref in o["spec"]["rules"][0]["backendRefs"]} for o in (before, after)]
    return names[0] ^ names[1]


def test_the_first_route_is_applied_as_it_is() -> None:
    assert toward(None, wanted(("a", 100))) == wanted(("a", 100))
