"""POST /v1/namespaces/NAMESPACE/services/NAME/labels: late labels, from whom the cluster lets. Every operator answers, leading or not."""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from aiservice.api.service import API_VERSION, GROUP, KIND, PLURAL
from aiservice.core import names
from aiservice.core.render.inference import TOKEN_KEY
from aiservice.core.world import Manifest
from aiservice.kube import pods
from aiservice.kube.cluster import Cluster, Rejected
from aiservice.measure import labelling
from aiservice.measure.client import Predictor

log = logging.getLogger("aiservice")

PATH = "/v1/namespaces/{namespace}/services/{name}/labels"
PROXIED = "X-Aiservice-Authorization"
"""Where the token stands if the request came through the API server's proxy, which keeps `Authorization` for itself."""
REMEMBERED = 30.0
"""Seconds for which a review is believed."""
MOST_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """HTTP status and why."""

    status: int
    message: str


class Door:
    """Who may send labels: a token that the API server knows (TokenReview), allowed to create aiservices/labels there (SubjectAccessReview)."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster, self._clock = cluster, clock
        self._known: dict[tuple[str, str, str], tuple[float, Refusal | None]] = {}

    async def ask(self, token: str, namespace: str, name: str) -> Refusal | None:
        """None: come in."""
        if not token:
            return Refusal(401, "no token: send the token of a ServiceAccount as Authorization: Bearer TOKEN")
        key = (hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest(), namespace, name)
        found = self._known.get(key)
        if found and self._clock() - found[0] < REMEMBERED:
            return found[1]
        answer = await self._review(token, namespace, name)
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[key] = (self._clock(), answer)
        return answer

    async def _review(self, token: str, namespace: str, name: str) -> Refusal | None:
        who = await self._cluster.review(_review("authentication.k8s.io/v1", "TokenReview", {"token": token}))
        if not who.get("authenticated"):
            return Refusal(401, f"the token is not accepted: {who.get('error') or 'the API server does not know it'}")
        user = who["user"]
        what = {"group": GROUP, "resource": PLURAL, "subresource": "labels", "verb": "create", "namespace": namespace, "name": name}
        spec = {"user": user["username"], "uid": user.get("uid", ""), "groups": user.get("groups", []), "resourceAttributes": what}
        may = await self._cluster.review(_review("authorization.k8s.io/v1", "SubjectAccessReview", spec))
        if may.get("allowed"):
            return None
        return Refusal(
            403,
            f"{user['username']} may not create {PLURAL}/labels in namespace {namespace}: "
            "bind it to a Role with that verb, such as the ClusterRole aiservice-labels",
        )


class Labels:
    """The endpoint."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession, watched: str) -> None:
        self._cluster, self._session, self._watched = cluster, session, watched
        self._door = Door(cluster)

    async def post(self, request: web.Request) -> web.Response:
        """{"labels": {"<request id>": <true decision>}} -> how many were still in memory."""
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        given = request.headers.get(PROXIED) or request.headers.get("Authorization") or ""
        try:
            refusal = await self._door.ask(given.removeprefix("Bearer ").strip(), namespace, name)
            if refusal:
                return _error(refusal.status, refusal.message)
            labels = labelling.read(await request.read())
            if self._watched not in ("", namespace):
                return _error(404, f"this operator looks after namespace {self._watched} only")
            if await self._cluster.get(API_VERSION, KIND, name, namespace) is None:
                return _error(404, f"there is no AIService {name!r} in namespace {namespace}")
            return web.json_response(await labelling.join(await self._predictors(namespace, name), labels))
        except labelling.Unfit as unfit:
            return _error(unfit.status, str(unfit))
        except Rejected as rejected:
            return _error(503, f"the API server cannot be asked: {rejected}")
        except Exception:
            log.exception("%s/%s: labels could not be taken", namespace, name)
            return _error(503, "the labels could not be taken now; send them again")

    async def _predictors(self, namespace: str, name: str) -> list[Predictor]:
        secret = await self._cluster.get("v1", "Secret", names.token(name), namespace)
        if secret is None:
            return []
        token = base64.b64decode(secret["data"][TOKEN_KEY]).decode()
        found = await self._cluster.list("v1", "Pod", namespace, names.labels(name))
        return [Predictor(pods.revision(p) or "", pods.url(p), name, token, self._session) for p in found if pods.ready(p)]


def _review(api: str, kind: str, spec: Manifest) -> Manifest:
    return {"apiVersion": api, "kind": kind, "metadata": {}, "spec": spec}


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
