"""The control server on loopback: labels from clients (through the gateway), commands from the CLI (with the service's token)."""

from __future__ import annotations

import asyncio
import hmac
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from aiservice.core import names, rollout
from aiservice.core.world import Command, Verb
from aiservice.local.caretaker import Caretaker
from aiservice.measure import labelling

PATIENCE = 20.0
"""Seconds until a command must have been carried out."""


@dataclass(slots=True)
class Control:
    """Answers for every service of one `aiservice up`."""

    services: Callable[[], Mapping[str, Caretaker]]

    def app(self) -> web.Application:
        app = web.Application(client_max_size=labelling.MOST_BYTES)
        app.router.add_post("/v1/labels", self.labels)
        app.router.add_post("/v1/services/{name}/{verb}", self.command)
        return app

    async def labels(self, request: web.Request) -> web.Response:
        """{"labels": {"<request id>": <true decision>}} -> which of them were still in memory."""
        try:
            labels = labelling.read(await request.read())
        except labelling.Unfit as unfit:
            return _error(unfit.status, str(unfit))
        predictors = [r.predictor for care in self.services().values() for crew in care.world.fleet.crews.values() for r in crew.ready]
        return web.json_response(await labelling.join(predictors, labels))

    async def command(self, request: web.Request) -> web.Response:
        """promote, abort or retry: checked now, carried out at the next look; the answer comes when it was."""
        care = self.services().get(request.match_info["name"])
        if care is None:
            return _error(404, f"there is no service {request.match_info['name']!r} here; there are: {', '.join(sorted(self.services()))}")
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), care.world.store.token().encode()):
            return _error(401, "the token is missing or wrong")
        try:
            verb = Verb(request.match_info["verb"])
        except ValueError:
            return _error(404, f"there is no command {request.match_info['verb']!r}; there are: {', '.join(Verb)}")
        wanted = names.revision(names.template(care.service.spec))
        refusal = rollout.possible(care.service.status.rollout, wanted, care.world.fleet.running(), verb)
        if refusal:
            return _error(409, refusal)
        command = Command(uuid.uuid4().hex, verb)
        care.world.command = command
        care.wake()
        try:
            async with asyncio.timeout(PATIENCE):
                async with care.looked:
                    await care.looked.wait_for(lambda: care.service.status.rollout.handled == command.id)
        except TimeoutError:
            return _error(504, f"{verb} was not carried out within {PATIENCE:.0f} s; it will be at the next look")
        state = care.service.status.rollout
        last = state.decisions[-1].message if state.decisions else ""
        return web.json_response({"phase": state.phase.value, "stable": state.stable, "message": last})


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


async def serve(control: Control) -> tuple[web.AppRunner, int]:
    """On loopback, a port of its own. Returns the runner, to be cleaned up, and the port."""
    runner = web.AppRunner(control.app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, int(runner.addresses[0][1])
