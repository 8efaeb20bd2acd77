"""The loop body that every shell shares."""

from __future__ import annotations

from aiservice.api.service import AIService
from aiservice.core.plan import plan
from aiservice.core.world import Plan, World


async def reconcile(service: AIService, world: World) -> Plan:
    """Observe, decide, apply, report. An unchanged status is not written."""
    todo = plan(service, await world.observe(service))
    await world.apply(service, todo)
    if todo.status != service.status:
        await world.report(service, todo.status, todo.decisions)
    return todo
