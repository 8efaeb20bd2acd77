"""Leader election on a Lease (coordination.k8s.io/v1): one operator acts at a time.

The client library's own election does not work in the version that we are bound to (docs/decisions/0009-election.md).
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from aiservice.core.world import Manifest
from aiservice.kube.cluster import Cluster

log = logging.getLogger("aiservice")

API, KIND, NAME = "coordination.k8s.io/v1", "Lease", "aiservice-operator"
LEASE, DEADLINE, RETRY = 8.0, 6.0, 1.5
"""Seconds: a leader that fell silent is followed after LEASE; one that cannot renew for DEADLINE stops by itself, before that."""


class Move(StrEnum):
    CREATE = "create"
    TAKE = "take"
    RENEW = "renew"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Sight:
    """A Lease as it was last seen to change, on our own clock: nobody's clock but ours is believed."""

    version: str
    at: float


def move(lease: Manifest | None, me: str, seen: Sight | None, now: float) -> Move:
    """What to do about the Lease. Pure."""
    if lease is None:
        return Move.CREATE
    holder = lease["spec"].get("holderIdentity")
    if holder == me:
        return Move.RENEW
    silent = seen is not None and seen.version == lease["metadata"]["resourceVersion"] and now - seen.at > LEASE
    return Move.TAKE if not holder or silent else Move.WAIT


class Lead:
    """`acquire`, then `keep` while acting; `release` for a quick successor."""

    def __init__(self, cluster: Cluster, namespace: str, identity: str) -> None:
        self._cluster, self._namespace, self._identity = cluster, namespace, identity
        self._seen: Sight | None = None

    async def acquire(self) -> None:
        """Return once we lead."""
        while not await self._try():  # noqa: ASYNC110 (another process lets go)
            await asyncio.sleep(RETRY)

    async def keep(self) -> None:
        """Return once the lead is lost."""
        renewed = time.monotonic()
        while time.monotonic() - renewed < DEADLINE:
            await asyncio.sleep(RETRY)
            began = time.monotonic()
            try:
                async with asyncio.timeout(DEADLINE):
                    held = await self._try()
            except TimeoutError:
                continue
            if held:
                renewed = began
            elif self._seen is not None:
                return  # somebody else holds it

    async def release(self) -> None:
        """Let the next one take it at once."""
        lease = await self._cluster.get(API, KIND, NAME, self._namespace)
        if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
            lease["spec"]["holderIdentity"] = ""
            await self._cluster.replace(lease)

    async def _try(self) -> bool:
        """One attempt; whether we lead now. The API server being away is not leading, and no reason to end."""
        try:
            lease = await self._cluster.get(API, KIND, NAME, self._namespace)
        except Exception as error:
            log.warning("the Lease cannot be read: %s", error)
            return False
        now = time.monotonic()
        todo = move(lease, self._identity, self._seen, now)
        if lease is not None and (self._seen is None or self._seen.version != lease["metadata"]["resourceVersion"]):
            self._seen = Sight(lease["metadata"]["resourceVersion"], now)
        if todo is Move.WAIT:
            return False
        try:
            if lease is None:
                meta = {"name": NAME, "namespace": self._namespace}
                return await self._cluster.create({"apiVersion": API, "kind": KIND, "metadata": meta, "spec": self._spec(0)})
            changes = lease["spec"].get("leaseTransitions", 0) + (todo is Move.TAKE)
            return await self._cluster.replace(lease | {"spec": lease["spec"] | self._spec(changes)})
        except Exception as error:
            log.warning("the Lease cannot be written: %s", error)
            return False

    def _spec(self, changes: int) -> Manifest:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: Manifest = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(LEASE),
            "renewTime": now,
            "leaseTransitions": changes,
        }
        return spec
