"""Who may send labels. The API server's part is played for real in tests/cluster."""

from __future__ import annotations

from typing import Any, cast

from aiservice.kube.cluster import Cluster
from aiservice.kube.labels import REMEMBERED, Door, Refusal


class Answers:
    """What the API server would say, and how often it was asked."""

    def __init__(self, *, authenticated: bool = True, allowed: bool = True) -> None:
        self.authenticated, self.allowed = authenticated, allowed
        self.asked: list[dict[str, Any]] = []

    async def review(self, manifest: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(manifest)
        if manifest["kind"] == "TokenReview":
            return {"authenticated": True, "user": {"username": "robot", "groups": ["g"]}} if self.authenticated else {"error": "expired"}
        return {"allowed": self.allowed}


def door(answers: Answers, now: list[float]) -> Door:
    return Door(cast(Cluster, answers), lambda: now[0])


def status(found: Refusal | None) -> int | None:
    return found.status if found else None


async def test_nobody_without_a_token() -> None:
    answers = Answers()
    assert status(await door(answers, [0.0]).ask("", "pay", "fraud")) == 401
    assert answers.asked == []


async def test_unknown_tokens_and_those_without_the_right_are_told_apart() -> None:
    unknown = await door(Answers(authenticated=False), [0.0]).ask("t", "pay", "fraud")
    assert (status(unknown), "expired" in str(unknown)) == (401, True)
    barred = await door(Answers(allowed=False), [0.0]).ask("t", "pay", "fraud")
    assert (status(barred), "robot may not create aiservices/labels" in str(barred)) == (403, True)


async def test_it_asks_for_this_very_service_and_believes_the_answer_for_a_while() -> None:
    answers, now = Answers(), [0.0]
    asked = door(answers, now)
    for namespace in ("pay", "pay", "other"):
        assert await asked.ask("t", namespace, "fraud") is None
    attributes = [a["spec"]["resourceAttributes"]["namespace"] for a in answers.asked if a["kind"] == "SubjectAccessReview"]
    assert attributes == ["pay", "other"]
    now[0] = REMEMBERED + 1
    await asked.ask("t", "pay", "fraud")
    assert len(answers.asked) == 6
