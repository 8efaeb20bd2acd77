"""Nothing is written while a live object holds what we rendered; everything that somebody changed of it is."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aiservice.kube.differ import changed

LEAVES = st.one_of(st.integers(), st.booleans(), st.text(max_size=5))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.dictionaries(st.text(min_size=1, max_size=4), inner, max_size=3), st.lists(inner, max_size=3)),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(min_size=1, max_size=4), TREES, min_size=1, max_size=4)


def with_more(value: Any) -> Any:
    """As the API server gives it back: with fields of others in every map."""
    if isinstance(value, dict):
        return {k: with_more(v) for k, v in value.items()} | {"__added": 1}
    if isinstance(value, list):
        return [with_more(v) for v in value]
    return value


@given(OBJECTS)
def test_what_others_added_is_no_difference(wanted: dict[str, Any]) -> None:
    assert not changed(with_more(copy.deepcopy(wanted)), wanted)


@given(OBJECTS, st.data())
def test_a_changed_field_is_a_difference(wanted: dict[str, Any], data: st.DataObject) -> None:
    live = copy.deepcopy(wanted)
    key = data.draw(st.sampled_from(sorted(live)))
    live[key] = "somebody else's value"
    if wanted[key] not in ({}, []):
        assert changed(live, wanted)


def test_absent_is_a_difference() -> None:
    assert changed(None, {"a": 1})


def test_amounts_are_numbers_and_named_items_are_found_by_name() -> None:
    wanted = {"resources": {"limits": {"cpu": "1000m", "memory": "1Gi"}}, "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}
    live = {"resources": {"limits": {"cpu": "1", "memory": "1024Mi"}}, "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]}
    assert not changed(live, wanted)
    live["env"] = [{"name": "A", "value": "1"}, {"name": "C", "value": "2"}]
    assert changed(live, wanted)


def test_empty_maps_that_the_server_drops_are_no_difference() -> None:
    assert not changed({"a": {"b": 1}}, {"a": {"b": 1, "limits": {}}, "c": None})
