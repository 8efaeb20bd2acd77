"""A world of numbers for the core: revisions with true rates, a gateway that does as it is told, time that the test winds."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from aiservice.api.runtime import Refusal
from aiservice.api.service import AIService
from aiservice.api.spec import AIServiceSpec
from aiservice.api.status import AIServiceStatus, Cursor, Pairs, ReplayStatus, Stratum, Template
from aiservice.core import names
from aiservice.core.ends import journalled
from aiservice.core.plan import live, plan, replay_task, shares
from aiservice.core.rollout import advance
from aiservice.core.world import Command, Observed, Plan, Running, Totals

START = datetime(2026, 1, 1, tzinfo=UTC)


def spec(uri: str = "file:///m/v1", **rollout: object) -> AIServiceSpec:
    return AIServiceSpec.model_validate({"model": {"uri": uri}, "rollout": rollout})


def service(body: AIServiceSpec, status: AIServiceStatus | None = None, generation: int = 1) -> AIService:
    return AIService.model_validate(
        {"metadata": {"name": "svc", "generation": generation}, "spec": body, "status": status or AIServiceStatus()}
    )


@dataclass
class Truth:
    """What is so of one revision, whoever looks."""

    errors: float = 0.0
    slow: float = 0.0
    agrees: float = 0.9
    refused: bool = False
    ready: bool = True


@dataclass
class Numbers:
    """One service in this world. `turn` is one reconcile, `rate` requests a second arrive between two."""

    body: AIServiceSpec
    rng: random.Random
    rate: float = 50.0
    seconds: float = 5.0
    truth: dict[str, Truth] = field(default_factory=dict)
    status: AIServiceStatus = field(default_factory=AIServiceStatus)
    now: datetime = START
    generation: int = 1
    counts: dict[str, list[int]] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    replayed: ReplayStatus | None = None
    command: Command | None = None
    last: Plan | None = None
    bare: bool = False
    """Decide, but leave out objects, conditions and sentences: many more histories in the same time."""
    draws: np.random.Generator = field(init=False)
    _asked: tuple[AIServiceSpec, Template, str] | None = None

    def __post_init__(self) -> None:
        self.draws = np.random.Generator(np.random.SFC64(self.rng.getrandbits(64)))

    @property
    def template(self) -> Template:
        return self._made()[1]

    @property
    def wanted(self) -> str:
        return self._made()[2]

    def _made(self) -> tuple[AIServiceSpec, Template, str]:
        if self._asked is None or self._asked[0] is not self.body:
            made = names.template(self.body)
            self._asked = (self.body, made, names.revision(made))
        return self._asked

    def of(self, revision: str) -> Truth:
        return self.truth.setdefault(revision, Truth())

    def ask(self, body: AIServiceSpec, truth: Truth | None = None) -> None:
        self.body = body
        self.generation += 1
        if truth:
            self.truth[self.wanted] = truth

    def observed(self) -> Observed:
        running = {}
        for r in {v.name for v in self.status.revisions} | {self.wanted}:
            t = self.of(r)
            refused = Refusal(reason="DigestMismatch", message="the digest differs") if t.refused else None
            up = t.ready and not t.refused and any(v.name == r for v in self.status.revisions)
            running[r] = Running(int(up), int(up), f"sha256:{'0' * 64}" if up else None, refused)
        totals = {
            f"gateway/{r}": Totals(r, Cursor(errors=(c[0], c[1]), latency=(c[2], c[1])), arrivals=True) for r, c in self.counts.items()
        }
        return Observed(self.now, running, dict(self.weights), totals, self.replayed, command=self.command)

    def turn(self, seen: Observed | None = None) -> Plan:
        """One reconcile and what follows from it. `seen`: what was observed for it already."""
        seen = seen or self.observed()
        todo = self._bare(seen) if self.bare else plan(service(self.body, self.status, self.generation), seen)
        self.status, self.last = todo.status, todo
        self.weights = {r.name: r.weight for r in todo.status.revisions if r.weight}
        self._serve()
        self._replay(todo)
        self.now += timedelta(seconds=self.seconds)
        return todo

    def _bare(self, seen: Observed) -> Plan:
        old = self.status
        state = advance(old.rollout, self.wanted, self.body, seen)
        templates = {r.name: r.template for r in old.revisions} | {self.wanted: self.template}
        revisions = live(state, seen, templates, shares(state, seen), {r.name: r for r in old.revisions})
        status = AIServiceStatus(revisions=revisions, rollout=state)
        return Plan((), status, replay_task(state, self.body.rollout.replay.requests), journalled(state, old.rollout))

    def _binomial(self, n: int, p: float) -> int:
        return int(self.draws.binomial(n, p)) if n and p else 0

    def _serve(self) -> None:
        left = round(self.rate * self.seconds)
        for r, w in sorted(self.weights.items()):
            n = left if w == 100 else self._binomial(round(self.rate * self.seconds), w / 100)
            c = self.counts.setdefault(r, [0, 0, 0])
            c[0] += self._binomial(n, self.of(r).errors)
            c[1] += n
            c[2] += self._binomial(n, self.of(r).slow)

    def _replay(self, todo: Plan) -> None:
        self.replayed = None
        if todo.replay is None:
            return
        n = min(todo.replay.requests, 200)
        t, s = self.of(todo.replay.candidate), self.of(todo.replay.stable)
        same, rest = self._binomial(n, t.agrees), self._binomial(n, 0.99)
        strata = [
            Stratum(decision="a", mass=n, replayed=n, answers={"a": same, "b": n - same}),
            Stratum(decision="b", mass=50 * n, replayed=n, answers={"b": max(rest, n - 1), "a": n - max(rest, n - 1)}),
        ]
        pairs = [
            Pairs(total=n, candidate_only=self._binomial(n, c), stable_only=self._binomial(n, b))
            for c, b in ((t.errors, s.errors), (t.slow, s.slow))
        ]
        self.replayed = ReplayStatus(planned=n, done=n, complete=True, strata=strata, errors=pairs[0], latency=pairs[1])
