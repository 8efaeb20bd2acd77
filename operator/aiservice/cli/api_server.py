"""The API server as a person's kubeconfig reaches it: AIServices read, one annotation written. What goes wrong leaves with a sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from kubernetes import config
from kubernetes.client import ApiClient, ApiException
from pydantic import ValidationError
from urllib3.exceptions import HTTPError

from aiservice.api.service import API_VERSION, KIND, PLURAL, AIService
from aiservice.cli.exits import BAD_INPUT, NOT_FOUND, NOT_READY, fail
from aiservice.cli.sending import refused

TIMEOUT = (5, 30)
"""Seconds to connect, to answer."""
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
JSON = {"Content-Type": "application/json"}
READ = ("apiVersion", "kind", "metadata", "spec", "status")
INSTALL = "install it: helm install aiservice charts/aiservice --namespace aiservice-system --create-namespace"


@dataclass(frozen=True, slots=True)
class Target:
    """What kubectl's options of the same names say; empty: as the kubeconfig has it."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""


@dataclass
class ApiServer:
    """One cluster, seen from one namespace."""

    target: Target
    client: ApiClient = field(init=False)
    namespace: str = field(init=False)

    def __post_init__(self) -> None:
        chosen, inside = self.target, ACCOUNT / "namespace"
        try:
            if not chosen.kubeconfig and not chosen.context and not _kubeconfigs() and inside.exists():
                config.load_incluster_config()
                self.client, default = ApiClient(), inside.read_text().strip()
            else:
                given = {"config_file": chosen.kubeconfig or None}
                contexts, active = config.list_kube_config_contexts(**given)
                named = next((c for c in contexts if c["name"] == chosen.context), active)
                self.client = config.new_client_from_config(**given, context=chosen.context or None)
                default = named["context"].get("namespace", "default")
        except (config.ConfigException, OSError, TypeError, KeyError) as error:
            fail(NOT_READY, f"no cluster to ask: {error}; see kubectl config get-contexts, or give --kubeconfig and --context")
        self.client.configuration.retries = 0
        self.namespace = chosen.namespace or default

    def ask(
        self, method: str, path: str, body: Any = None, *, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body, whatever the status. Leaves where nobody answers."""
        given = {"Accept": "application/json"} | dict(headers or {})
        try:
            request = self.client.param_serialize(
                method, path, query_params=list((query or {}).items()), header_params=given, body=body, auth_settings=["BearerToken"]
            )
            answer = self.client.call_api(*request, _request_timeout=TIMEOUT)
            return int(answer.status), answer.read()
        except ApiException as error:
            return int(error.status or 0), (error.body or "").encode()
        except (HTTPError, OSError) as error:
            cause = getattr(error, "reason", None) or error
            fail(NOT_READY, f"the API server {self.client.configuration.host} does not answer: {cause}")

    def services(self, name: str | None, *, everywhere: bool = False) -> list[AIService]:
        """One, or all of the namespace (of all namespaces). Leaves with NOT_FOUND where there is none."""
        status, body = self.ask("GET", self._path(name, everywhere=everywhere))
        found = self._object(status, body, name)
        items = [found] if name else [{"apiVersion": API_VERSION, "kind": KIND} | item for item in found["items"]]
        if not items:
            where = "in any namespace" if everywhere else f"in namespace {self.namespace}"
            fail(NOT_FOUND, f"there is no AIService {where}; make one: kubectl apply -f service.yaml")
        return [_parsed(item) for item in items]

    def annotate(self, name: str, key: str, value: str) -> None:
        patch = {"metadata": {"annotations": {key: value}}}
        headers = {"Content-Type": "application/merge-patch+json"}
        status, body = self.ask("PATCH", self._path(name), patch, query={"fieldManager": "kubectl-aiservice"}, headers=headers)
        self._object(status, body, name)

    def token(self, account: str) -> str:
        """Who we are, as the operator can check it: a token of this ServiceAccount of the namespace, or that of the kubeconfig."""
        if not account:
            known = self.client.configuration.get_api_key_with_prefix("BearerToken", alias="authorization") or ""
            if not known.startswith("Bearer "):
                fail(
                    BAD_INPUT,
                    "the kubeconfig logs in without a token, so the operator cannot tell who you are: give --account SERVICEACCOUNT",
                )
            return known.removeprefix("Bearer ")
        path = f"/api/v1/namespaces/{quote(self.namespace, safe='')}/serviceaccounts/{quote(account, safe='')}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
        status, body = self.ask("POST", path, request, headers=JSON)
        if status >= 300:
            refused(status, body, f"no token for ServiceAccount {account}")
        return str(json.loads(body)["status"]["token"])

    def _path(self, name: str | None, *, everywhere: bool = False) -> str:
        space = "" if everywhere else f"/namespaces/{quote(self.namespace, safe='')}"
        return f"/apis/{API_VERSION}{space}/{PLURAL}" + (f"/{quote(name, safe='')}" if name else "")

    def _object(self, status: int, body: bytes, name: str | None) -> dict[str, Any]:
        """The answer's object, or a sentence."""
        try:
            said: dict[str, Any] = json.loads(body)
        except ValueError:
            said = {"message": body.decode(errors="replace").strip()[:300]}
        if status >= 300:
            self._refused(status, said, name)
        return said

    def _refused(self, status: int, said: dict[str, Any], name: str | None) -> NoReturn:
        if status == 404 and name and said.get("details", {}).get("name") == name:
            fail(NOT_FOUND, f"there is no AIService {name!r} in namespace {self.namespace}{self._others()}")
        if status == 404:
            fail(NOT_READY, f"this cluster has no AIService resource: {INSTALL}")
        if status == 401:
            fail(NOT_READY, f"{self.client.configuration.host} does not know you: log in again ({said.get('message', 'Unauthorized')})")
        fail(NOT_READY, f"the API server refuses: {status}: {said.get('message', '')}")

    def _others(self) -> str:
        status, body = self.ask("GET", self._path(None))
        there = [item["metadata"]["name"] for item in json.loads(body)["items"]] if status == 200 else []
        return f"; there are: {', '.join(there)}" if there else ""


def _kubeconfigs() -> bool:
    """Whether kubectl would find one."""
    named = os.environ.get("KUBECONFIG", "")
    return any(Path(p).exists() for p in named.split(os.pathsep) if p) or Path("~/.kube/config").expanduser().exists()


def _parsed(item: dict[str, Any]) -> AIService:
    try:
        return AIService.model_validate_json(json.dumps({k: item[k] for k in READ if k in item}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        fail(BAD_INPUT, f"{item['metadata']['name']} cannot be read: {where}: {first['msg']}; is this program as new as the operator?")
