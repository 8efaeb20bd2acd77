"""The loop body that every shell shares."""

from __future__ import annotations

from aiservice.api.service import AIService
from aiservice.core.plan import plan
from aiservice.core.world import Plan, World


async def reconcile(service: AIService, world: World) -> Plan:
    """Observe, decide, report, apply. An unchanged status is not written.

    What was decided is saved before it is done: if saving fails nothing is done, and if we are killed in between the next look does it.
    """
    todo = plan(service, await world.observe(service))
    if todo.status != service.status:
        await world.report(service, todo.status, todo.decisions)
    await world.apply(service, todo)
    return todo
