"""Is a live object still what we rendered? Pure: decides whether anything must be written."""

from __future__ import annotations

from typing import Any

from aiservice.api.base import amount
from aiservice.core.world import Manifest

AMOUNTS = {"cpu", "memory"}


def holds(live: Any, wanted: Any, key: str = "") -> bool:
    """Whether every field that we rendered has our value in the live object; what others added does not matter.

    Lists are compared item by item: items with a name by name, others by place. Amounts are compared as numbers (1000m is 1).
    """
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(name in live and holds(live[name], value, name) for name, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(live, list) and _list_holds(live, wanted)
    if key in AMOUNTS and isinstance(live, str) and isinstance(wanted, str):
        return amount(live) == amount(wanted)
    return bool(live == wanted)


def _list_holds(live: list[Any], wanted: list[Any]) -> bool:
    if wanted and all(isinstance(w, dict) and "name" in w for w in wanted):
        by_name = {item.get("name"): item for item in live if isinstance(item, dict)}
        return len(live) == len(wanted) and all(w["name"] in by_name and holds(by_name[w["name"]], w) for w in wanted)
    return len(live) == len(wanted) and all(holds(a, b) for a, b in zip(live, wanted, strict=True))


def changed(live: Manifest | None, wanted: Manifest) -> bool:
    """Whether the object must be applied. Empty maps that the API server drops are no difference."""
    return live is None or not holds(live, without_empty(wanted))


def without_empty(value: Any) -> Any:
    """Without maps, lists and values that say nothing; what becomes empty by that stays."""
    if isinstance(value, dict):
        return {k: without_empty(v) for k, v in value.items() if v not in ({}, [], None)}
    if isinstance(value, list):
        return [without_empty(v) for v in value]
    return value
