"""Looks after one AIService in a cluster: one task an object, so no two reconciles of one object overlap."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from pydantic import ValidationError

from aiservice.api.service import API_VERSION, KIND, AIService
from aiservice.api.status import AIServiceStatus, Condition, Decision
from aiservice.core.conditions import keep_times
from aiservice.core.reconcile import reconcile
from aiservice.core.world import Manifest, Plan
from aiservice.kube.cluster import Cluster, Conflict, Rejected
from aiservice.kube.differ import without_empty
from aiservice.kube.telemetry import Telemetry
from aiservice.kube.world import KubeWorld

log = logging.getLogger("aiservice")

SHORTEST = 0.2
ASK_AGAIN = 2.0
"""Seconds until a predictor is asked again that is ready and did not answer."""
HEARTBEAT = 30.0
"""Seconds between looks when nothing happens: what no event told us of is seen then."""
LONGEST_BACK_OFF = 60.0


class Caretaker:
    """`told` hears every decision, with the object that it is about."""

    def __init__(
        self,
        name: str,
        namespace: str,
        cluster: Cluster,
        world: KubeWorld,
        telemetry: Telemetry,
        told: Callable[[Manifest, Decision], Awaitable[None]],
    ) -> None:
        self.name, self.namespace, self.cluster, self.world = name, namespace, cluster, world
        self._telemetry, self._told = telemetry, told
        self._awake = asyncio.Event()

    def wake(self) -> None:
        self._awake.set()

    async def run(self) -> None:
        """Until it is cancelled or the object is gone. What fails is logged and tried again."""
        back_off = 1.0
        while True:
            self._awake.clear()
            due = HEARTBEAT
            began = time.monotonic()
            outcome = "ok"
            try:
                plan = await self._look()
                if plan is None and self._awake.is_set():
                    continue  # there is one of that name again
                if plan is None:
                    return
                due, back_off = min(plan.requeue or HEARTBEAT, ASK_AGAIN if self.world.silent else HEARTBEAT), 1.0
            except asyncio.CancelledError:
                await self.world.close()
                raise
            except Conflict:
                outcome, due = "conflict", SHORTEST
            except Rejected as refused:
                outcome, due = "rejected", back_off
                log.error("%s/%s: %s", self.namespace, self.name, refused)
            except Exception:
                outcome, due = "failed", back_off
                log.exception("%s/%s: the look failed; trying again in %.0f s", self.namespace, self.name, back_off)
            if outcome in ("rejected", "failed"):
                back_off = min(back_off * 2, LONGEST_BACK_OFF)
            self._telemetry.reconciled(outcome, time.monotonic() - began)
            await asyncio.sleep(SHORTEST)
            try:
                async with asyncio.timeout(due):
                    await self._awake.wait()
            except TimeoutError:
                continue

    async def _look(self) -> Plan | None:
        """One reconcile; None if there is nothing to look after any more."""
        body = await self.cluster.get(API_VERSION, KIND, self.name, self.namespace)
        if body is None or "deletionTimestamp" in body["metadata"]:
            await self.world.close()
            self._telemetry.forget(self.namespace, self.name)
            return None
        try:
            service = parse(body)
        except ValidationError as error:
            await self._report_invalid(body, error)
            return Plan((), AIServiceStatus())
        self.world.annotations = body["metadata"].get("annotations", {})
        refused = self.world.refused
        plan = await reconcile(service, self.world)
        if refused:
            self.wake()  # it is taken now: the status can say so
        self._telemetry.state(self.namespace, self.name, plan.status)
        for decision in plan.decisions:
            log.info("%s/%s: %s %s %s: %s", self.namespace, self.name, decision.kind, decision.revision, decision.gate, decision.message)
            self._telemetry.decided(self.namespace, self.name, decision)
            await self._told(body, decision)
        return plan

    async def _report_invalid(self, body: Manifest, error: ValidationError) -> None:
        """Admission lets hardly anything of this through; where it did, the object says so and nothing else is touched."""
        first = error.errors()[0]
        message = f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']} ({error.error_count()} problems)"
        now = datetime.now(UTC).replace(microsecond=0)
        generation = body["metadata"].get("generation", 0)
        try:
            old = AIServiceStatus.model_validate_json(_json(body.get("status", {})))
        except ValidationError:
            old = AIServiceStatus()
        stalled = Condition(
            type="Stalled",
            status="True",
            reason="InvalidSpec",
            message=message[:2048],
            last_transition_time=now,
            observed_generation=generation,
        )
        others = [c for c in old.conditions if c.type != "Stalled"]
        status = old.model_copy(update={"observed_generation": generation, "conditions": keep_times([*others, stalled], old.conditions)})
        if status != old:
            await self.cluster.apply_status(API_VERSION, KIND, self.name, self.namespace, without_empty(status.wire()))


def parse(body: Manifest) -> AIService:
    """An API object, as the API server gives it. Raises ValidationError."""
    return AIService.model_validate_json(_json({k: body[k] for k in ("apiVersion", "kind", "metadata", "spec", "status") if k in body}))


def _json(value: Manifest) -> str:
    return json.dumps(value)
