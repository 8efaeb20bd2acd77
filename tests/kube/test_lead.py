"""Who may act: two operators never both, and a silent one is followed."""

from __future__ import annotations

from typing import Any

import pytest

from aiservice.kube.lead import LEASE, Move, Sight, move


def lease(holder: str, version: str = "1") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": holder}}


@pytest.mark.parametrize(
    ("found", "seen", "now", "expected"),
    [
        (None, None, 0, Move.CREATE),
        (lease("me"), None, 0, Move.RENEW),
        (lease(""), None, 0, Move.TAKE),
        (lease("other"), None, 1e9, Move.WAIT),
        (lease("other"), Sight("1", 100), 100 + LEASE, Move.WAIT),
        (lease("other"), Sight("1", 100), 100 + LEASE + 0.1, Move.TAKE),
        (lease("other", "2"), Sight("1", 100), 1e9, Move.WAIT),
    ],
)
def test_what_to_do_about_a_lease(found: dict[str, Any] | None, seen: Sight | None, now: float, expected: Move) -> None:
    assert move(found, "me", seen, now) is expected
