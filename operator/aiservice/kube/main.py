"""The operator: one leader at a time, kopf watches, one caretaker an object."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, cast

import aiohttp
import kopf
from aiohttp import web

from aiservice.api.service import API_VERSION, GROUP, KIND, PLURAL, VERSION
from aiservice.api.status import Decision, DecisionKind
from aiservice.core import names
from aiservice.core.world import Manifest
from aiservice.kube import labels, load
from aiservice.kube.caretaker import Caretaker
from aiservice.kube.cluster import Cluster
from aiservice.kube.lead import Lead
from aiservice.kube.probe import Probe
from aiservice.kube.settings import Settings
from aiservice.kube.telemetry import Telemetry
from aiservice.kube.world import KubeWorld

log = logging.getLogger("aiservice")

FAILED, LOST = 1, 75
"""Exit statuses. One that lost the lead runs itself anew: it starts clean, and the kubelet, which lets what ends wait for minutes, does not see it end."""
BAD_NEWS = {DecisionKind.REJECTED, DecisionKind.ROLLED_BACK, DecisionKind.REFUSED, DecisionKind.INSUFFICIENT_EVIDENCE}
WATCHED = (
    ("serving.kserve.io", "v1beta1", "inferenceservices"),
    ("gateway.networking.k8s.io", "v1", "httproutes"),
    ("networking.k8s.io", "v1", "networkpolicies"),
    ("", "v1", "pods"),
)
"""What we own or what follows from it; an event of it wakes its service's caretaker."""


class Operator:
    """Everything of one process that leads."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession, settings: Settings, telemetry: Telemetry) -> None:
        self._cluster, self._session, self._settings, self._telemetry = cluster, session, settings, telemetry
        self._probe = Probe(cluster, settings.place)
        self._tasks: dict[tuple[str, str], tuple[Caretaker, asyncio.Task[None]]] = {}

    def registry(self) -> kopf.OperatorRegistry:
        """kopf's handlers: every event of a service or of something of it ends in a wake-up."""
        registry = kopf.OperatorRegistry()
        for login in (kopf.login_with_service_account, kopf.login_with_kubeconfig):
            kopf.on.login(registry=registry)(login)
        kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)(self._service_event)
        for group, version, plural in WATCHED:
            kopf.on.event(group, version, plural, labels={names.SERVICE_LABEL: kopf.PRESENT}, registry=registry)(self._owned_event)
        return registry

    async def _service_event(self, name: str, namespace: str | None, **_: Any) -> None:
        self._telemetry.synced = True
        self._wake(namespace or "default", name)

    async def _owned_event(self, labels: Mapping[str, str], namespace: str | None, **_: Any) -> None:
        key = (namespace or "default", labels[names.SERVICE_LABEL])
        if key in self._tasks:
            self._wake(*key)

    def _wake(self, namespace: str, name: str) -> None:
        key = (namespace, name)
        if key not in self._tasks or self._tasks[key][1].done():
            world = KubeWorld(self._cluster, self._session, self._settings.place, self._probe)
            care = Caretaker(name, namespace, self._cluster, world, self._telemetry, self._tell)
            task = asyncio.create_task(care.run(), name=f"{namespace}/{name}")
            task.add_done_callback(lambda done: self._gone(key, done))
            self._tasks[key] = (care, task)
            self._telemetry.cares_for(len(self._tasks))
        self._tasks[key][0].wake()

    def _gone(self, key: tuple[str, str], done: asyncio.Task[None]) -> None:
        """What is deleted and made again under the same name gets a caretaker of its own."""
        if self._tasks[key][1] is done:
            del self._tasks[key]
        self._telemetry.cares_for(len(self._tasks))

    async def _tell(self, body: Manifest, decision: Decision) -> None:
        kind = "Warning" if decision.kind in BAD_NEWS else "Normal"
        gate = f" by {decision.gate}" if decision.gate else ""
        text = f"{decision.revision}{gate}: {decision.message}"
        kopf.event(cast(kopf.Body, body), type=kind, reason=decision.kind.value, message=text[:1024])

    async def _listed(self) -> None:
        """Where there is no service, no event says that they were listed."""
        while not self._telemetry.synced:
            try:
                self._telemetry.synced = not await self._cluster.list(API_VERSION, KIND, self._settings.watch, {})
            except Exception as error:
                log.warning("the services cannot be listed: %s", error)
            await asyncio.sleep(1)

    async def run(self) -> None:
        """Until it is cancelled."""
        settings = kopf.OperatorSettings()
        settings.posting.enabled = True
        settings.posting.level = logging.CRITICAL + 1  # our events only, not kopf's log lines
        settings.networking.request_timeout = 30
        listing = asyncio.create_task(self._listed(), name="list the services")
        try:
            await kopf.operator(
                registry=self.registry(),
                settings=settings,
                standalone=True,
                clusterwide=not self._settings.watch,
                namespaces=[self._settings.watch] if self._settings.watch else [],
            )
        finally:
            tasks = [listing, *(task for _, task in self._tasks.values())]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def serve(settings: Settings) -> int:
    """Answer probes, wait to lead, lead, and end when the lead is lost. -> the exit status."""
    telemetry = Telemetry()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    timeout = aiohttp.ClientTimeout(total=30, sock_connect=2)
    async with Cluster(telemetry.wrote) as cluster, aiohttp.ClientSession(timeout=timeout) as session:
        app = telemetry.app()
        app.router.add_post(labels.PATH, labels.Labels(cluster, session, settings.watch).post)
        app.router.add_get(load.PATH, load.Loads(cluster, session, settings.watch).get)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, None, settings.port).start()
        lead = Lead(cluster, settings.namespace, settings.identity)
        acting = asyncio.create_task(_act(lead, Operator(cluster, session, settings, telemetry), telemetry, settings.identity), name="act")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait({acting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        told_to, status = stop.is_set(), FAILED
        if acting.done() and acting.exception():
            log.error("the operator failed: %r", acting.exception())
        elif acting.done():
            told_to, status = acting.result(), LOST
        acting.cancel()
        await asyncio.wait({acting}, timeout=5)
        if told_to and telemetry.leading:
            await lead.release()
        await runner.cleanup()
    return 0 if told_to else status


async def _act(lead: Lead, operator: Operator, telemetry: Telemetry, identity: str) -> bool:
    """Wait for the lead, act while it lasts. -> True: kopf was told to stop by a signal; False: the lead is lost."""
    await lead.acquire()
    telemetry.leading = True
    log.info("%s leads", identity)
    running = asyncio.create_task(operator.run(), name="operator")
    keeping = asyncio.create_task(lead.keep(), name="keep the lead")
    try:
        done, _ = await asyncio.wait({running, keeping}, return_when=asyncio.FIRST_COMPLETED)
        if keeping in done:
            log.error("%s lost the lead; beginning anew", identity)
        await asyncio.gather(*done)  # what failed is raised
        return running in done
    finally:
        for task in (running, keeping):
            task.cancel()
        await asyncio.gather(running, keeping, return_exceptions=True)


def main() -> None:
    """Entry point of the operator's image."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        settings = Settings.of()
    except ValueError as error:
        sys.exit(f"error: {error}")
    status = asyncio.run(serve(settings))
    if status == LOST:
        os.execv(sys.executable, sys.orig_argv)
    sys.exit(status)


if __name__ == "__main__":
    main()
