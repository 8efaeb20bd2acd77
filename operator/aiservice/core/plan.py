"""AIService + what is seen -> objects, status, what to do, when to look again."""

from __future__ import annotations

from datetime import datetime

from aiservice.api.service import AIService
from aiservice.api.status import AIServiceStatus, Phase, RevisionStatus, Role, RolloutStatus, Template
from aiservice.core import gates, names, rollout
from aiservice.core.conditions import conditions, keep_times
from aiservice.core.ends import journalled
from aiservice.core.render import everything
from aiservice.core.world import Observed, Plan, ReplayTask, Running

BUSY = 1.0
"""Seconds between looks while a rollout is on its way."""
SOON = 0.2
"""Seconds until the gateway is asked again whether it does what was asked."""


def plan(service: AIService, seen: Observed) -> Plan:
    """One reconcile, decided. Nothing is done here."""
    old = service.status
    made_from = names.template(service.spec)
    wanted = names.revision(made_from)
    state = rollout.advance(old.rollout, wanted, service.spec, seen)
    if state.candidate and state.stable:
        state = state.model_copy(update={"gates": gates.now(service.spec.rollout, state)})
    templates = {r.name: r.template for r in old.revisions} | {wanted: made_from}
    weights = shares(state, seen)
    revisions = live(state, seen, templates, weights, {r.name: r for r in old.revisions})
    status = AIServiceStatus(
        observed_generation=service.metadata.generation,
        url=seen.url or old.url,
        revisions=revisions,
        rollout=state,
        conditions=keep_times(conditions(state, wanted, seen, service.metadata.generation, service.spec.real_time), old.conditions),
    )
    return Plan(
        objects=everything(service, revisions, seen.place),
        status=status,
        replay=replay_task(state, service.spec.rollout.replay.requests),
        decisions=journalled(state, old.rollout),
        requeue=next_look(state, weights, seen),
    )


def shares(state: RolloutStatus, seen: Observed) -> dict[str, int]:
    """Weights, which always add up to 100 over the stable and the candidate. No weight without readiness."""
    if state.stable is None:
        return {}
    ready = state.candidate is not None and seen.running.get(state.candidate, Running()).ready > 0
    if not ready or not state.candidate or not state.weight:
        return {state.stable: 100}
    return {state.stable: 100 - state.weight, state.candidate: state.weight}


def live(
    state: RolloutStatus, seen: Observed, templates: dict[str, Template], weights: dict[str, int], known: dict[str, RevisionStatus]
) -> list[RevisionStatus]:
    """Every revision that is to run, the stable first."""
    roles: dict[str, tuple[Role, datetime | None]] = {}
    for r in state.retired:
        roles[r.revision] = (Role.STANDBY if r.warm else Role.DRAINING, r.until)
    if state.candidate:
        roles[state.candidate] = (Role.CANDIDATE, None)
    if state.stable:
        roles[state.stable] = (Role.STABLE, None)
    out = []
    for name, (role, until) in sorted(roles.items(), key=lambda item: list(Role).index(item[1][0])):
        if name not in templates:
            continue
        now = seen.running.get(name, Running())
        out.append(
            RevisionStatus(
                name=name,
                role=role,
                template=templates[name],
                digest=now.digest or (known[name].digest if name in known else None),
                weight=weights.get(name, 0),
                replicas=now.replicas,
                ready=now.ready,
                until=until,
                message=now.message[:2048],
            )
        )
    return out


def replay_task(state: RolloutStatus, requests: int) -> ReplayTask | None:
    """Replay while the candidate has met no client."""
    if not (requests and state.stable and state.candidate and state.replay is not None and not state.weight):
        return None
    return ReplayTask(state.stable, state.candidate, requests, again=state.phase is Phase.HOLDING)


def next_look(state: RolloutStatus, weights: dict[str, int], seen: Observed) -> float | None:
    """Seconds until something may be due without an event."""
    if state.candidate:
        return BUSY
    if weights != seen.routed:
        return SOON
    ends = [r.until for r in state.retired]
    return max(SOON, (min(ends) - seen.now).total_seconds()) if ends else None
