"""Services of a cluster: read, commanded, asked."""

from __future__ import annotations

import json
import time
import urllib.request
import uuid
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from aiservice.api.status import RolloutStatus
from aiservice.cli.api_server import JSON, ApiServer
from aiservice.cli.exits import BAD_INPUT, NOT_READY, fail
from aiservice.cli.sending import DIRECT, joined, post, refused
from aiservice.cli.source import Seen
from aiservice.core import names, rollout
from aiservice.core.world import Running, Verb

COMMAND = "aiservice.dev/command"
PATIENCE = 40.0
"""Seconds until an operator must have taken a command up: longer than its heartbeat."""
PAUSE = 0.3
BY_HAND = ("ByHand", "Aborted")


@dataclass
class InCluster:
    """A Source."""

    server: ApiServer
    everywhere: bool = False
    program: str = "kubectl aiservice"
    beat: float = 1.0

    def services(self, name: str | None) -> list[Seen]:
        return [(s, s.status.observed_generation > 0) for s in self.server.services(name, everywhere=self.everywhere)]

    def unattended(self, name: str) -> str:
        return f"No operator has looked at {name} yet. See: kubectl get pods -A -l app.kubernetes.io/name=aiservice"


def command(server: ApiServer, name: str, verb: Verb) -> str:
    """Written as an annotation, carried out by the operator. -> what happened. Leaves with NOT_READY and why not."""
    service = server.services(name)[0]
    before = service.status
    wanted = names.revision(names.template(service.spec))
    running = {r.name: Running(r.replicas, r.ready) for r in before.revisions}
    refusal = rollout.possible(before.rollout, wanted, running, verb)
    if refusal:
        fail(NOT_READY, refusal)
    mark = f"{verb}:{uuid.uuid4().hex[:16]}"
    server.annotate(name, COMMAND, mark)
    state = _handled(server, name, mark)
    done = [d for d in state.decisions if d not in before.rollout.decisions and d.reason in BY_HAND]
    if not done:
        fail(NOT_READY, f"{verb} came too late: {name} is {state.phase.value}, {state.stable} is stable")
    return f"{name}: {state.phase.value}, {state.stable} is stable. {done[0].message}"


def _handled(server: ApiServer, name: str, mark: str) -> RolloutStatus:
    """The rollout once this command was carried out."""
    deadline = time.monotonic() + PATIENCE
    while (state := server.services(name)[0].status.rollout).handled != mark:
        if time.monotonic() > deadline:
            fail(
                NOT_READY,
                f"no operator has carried it out within {PATIENCE:.0f} s: see kubectl get pods -A -l app.kubernetes.io/name=aiservice. "
                f"One that comes up will still do so; to take it back: kubectl -n {server.namespace} annotate ais {name} {COMMAND}-",
            )
        time.sleep(PAUSE)
    return state


def label(server: ApiServer, name: str, body: str, operator: str, account: str) -> str:
    """To the operator, through the API server, which keeps `Authorization` for itself. `operator`: NAMESPACE/SERVICE."""
    home, _, service = operator.partition("/")
    if not home or not service:
        fail(BAD_INPUT, f"--operator: {operator!r} given, expected NAMESPACE/SERVICE")
    try:
        given = json.loads(body)
    except ValueError as error:
        fail(BAD_INPUT, f"the labels are not JSON: {error}")
    headers = JSON | {"X-Aiservice-Authorization": f"Bearer {server.token(account)}"}
    path = (
        f"/api/v1/namespaces/{home}/services/{service}:http/proxy/v1/namespaces/{server.namespace}/services/{quote(name, safe='')}/labels"
    )
    status, answer = server.ask("POST", path, given, headers=headers)
    if status >= 300:
        refused(status, answer, f"{operator} cannot be asked")
    return joined(json.loads(answer))


def predict(server: ApiServer, name: str, body: str, resolve: str) -> str:
    """Through the gateway, as any client. `resolve`: ADDRESS or ADDRESS:PORT to connect to instead of the URL's own."""
    url = server.services(name)[0].status.url
    if not url:
        fail(NOT_READY, f"{name} has no URL yet: kubectl aiservice why {name}")
    to, headers, opener = _target(f"{url}/infer", resolve)
    hint = f"; the URL is {url}, --resolve ADDRESS[:PORT] connects to another address"
    return json.dumps(post(to, body, headers, opener, hint), indent=2)


def _target(url: str, resolve: str) -> tuple[str, dict[str, str], urllib.request.OpenerDirector]:
    """What to connect to. Names under .localhost are this machine (RFC 6761), also where the resolver does not know."""
    parts = urlsplit(url)
    local = (parts.hostname or "").endswith(".localhost")
    if not resolve and not local:
        return url, {}, urllib.request.build_opener()
    host, _, port = (resolve or "127.0.0.1").partition(":")
    port = port or str(parts.port or "")
    where = f"{host}:{port}" if port else host
    return parts._replace(netloc=where).geturl(), {"Host": parts.netloc}, DIRECT
