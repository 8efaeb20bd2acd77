"""The API server in a few verbs: get, list, apply, delete, apply to a status, ask for a review. Everything else of the client stays in here."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from kubernetes.aio import client, config
from kubernetes.aio.client import ApiException
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.exceptions import DynamicApiError, NotFoundError, ResourceNotFoundError

from aiservice.core.world import Manifest

FIELD_MANAGER = "aiservice"
ABSENT = 20.0
"""Seconds for which it is believed that the API server does not know a kind."""


class Rejected(Exception):
    """The API server refused an object; the message names it and says why."""


class Conflict(Rejected):
    """The object changed since it was read."""


class Cluster:
    """One connection; `async with Cluster() as cluster`. `wrote` hears the verb and kind of every write that was taken."""

    def __init__(self, wrote: Callable[[str, str], None] = lambda verb, kind: None) -> None:
        self._wrote = wrote
        self._api: client.ApiClient | None = None
        self._dynamic: Any = None
        self._searching = asyncio.Lock()
        self._known: dict[tuple[str, str], Any] = {}
        self._absent: dict[tuple[str, str], float] = {}

    async def __aenter__(self) -> Self:
        try:
            config.load_incluster_config()
        except config.ConfigException:
            await config.load_kube_config()
        self._api = client.ApiClient()
        self._dynamic = await DynamicClient(self._api)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._api is not None:
            await self._api.close()

    async def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Manifest | None:
        """The object, or None, also where the API server does not know the kind."""
        try:
            found = await (await self._resource(api_version, kind)).get(name=name, namespace=namespace)
        except (NotFoundError, ResourceNotFoundError):
            return None
        return _plain(found)

    async def knows(self, api_version: str, kind: str) -> bool:
        """Whether the API server has this kind."""
        try:
            await self._resource(api_version, kind)
        except ResourceNotFoundError:
            return False
        return True

    async def list(self, api_version: str, kind: str, namespace: str, labels: Mapping[str, str]) -> list[Manifest]:
        """Objects with all of these labels."""
        selector = ",".join(f"{k}={v}" for k, v in labels.items())
        try:
            resource = await self._resource(api_version, kind)
        except ResourceNotFoundError:
            return []
        try:
            found = _plain(await resource.get(namespace=namespace, label_selector=selector))
        except NotFoundError:
            self._known.pop((api_version, kind), None)  # its CRD is gone
            return []
        return [{"apiVersion": api_version, "kind": kind, **item} for item in found["items"]]

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply with our field manager; what others changed of it is taken back. Raises Rejected."""
        meta = manifest["metadata"]
        try:
            resource = await self._resource(manifest["apiVersion"], manifest["kind"])
        except ResourceNotFoundError:
            raise Rejected(
                f"{manifest['kind']} {meta['name']}: the API server has no {manifest['apiVersion']} {manifest['kind']}"
            ) from None
        try:
            done = await resource.server_side_apply(
                body=manifest, name=meta["name"], namespace=meta.get("namespace"), field_manager=FIELD_MANAGER, force_conflicts=True
            )
        except (ApiException, DynamicApiError) as error:
            raise Rejected(f"{manifest['kind']} {meta['name']}: {_reason(error)}") from None
        self._wrote("apply", manifest["kind"])
        return _plain(done)

    async def create(self, manifest: Manifest) -> bool:
        """False if there is one of that name already."""
        meta = manifest["metadata"]
        try:
            await (await self._resource(manifest["apiVersion"], manifest["kind"])).create(body=manifest, namespace=meta["namespace"])
        except (ApiException, DynamicApiError) as error:
            if error.status == 409:
                return False
            raise Rejected(f"{manifest['kind']} {meta['name']}: {_reason(error)}") from None
        self._wrote("create", manifest["kind"])
        return True

    async def review(self, manifest: Manifest) -> Manifest:
        """Ask the API server a question (TokenReview, SubjectAccessReview). -> its status. Raises Rejected."""
        try:
            done = await (await self._resource(manifest["apiVersion"], manifest["kind"])).create(body=manifest)
        except (ApiException, DynamicApiError) as error:
            raise Rejected(f"{manifest['kind']}: {_reason(error)}") from None
        return dict(_plain(done).get("status", {}))

    async def replace(self, manifest: Manifest) -> bool:
        """The whole object, if it is still the one that was read; False if somebody changed it meanwhile. Raises Rejected."""
        meta = manifest["metadata"]
        try:
            await (await self._resource(manifest["apiVersion"], manifest["kind"])).replace(
                body=manifest, name=meta["name"], namespace=meta["namespace"]
            )
        except (ApiException, DynamicApiError) as error:
            if error.status in (404, 409):
                return False
            raise Rejected(f"{manifest['kind']} {meta['name']}: {_reason(error)}") from None
        self._wrote("replace", manifest["kind"])
        return True

    async def delete(self, api_version: str, kind: str, name: str, namespace: str) -> None:
        """Gone, or gone already."""
        try:
            await (await self._resource(api_version, kind)).delete(name=name, namespace=namespace)
        except NotFoundError:
            return
        self._wrote("delete", kind)

    async def apply_status(self, api_version: str, kind: str, name: str, namespace: str, status: Manifest, *, version: str = "") -> None:
        """The whole status: what is no longer in it is removed. `version`: only if the object still is of this resourceVersion. Raises Rejected, Conflict."""
        resource = await self._resource(api_version, kind)
        body: Manifest = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "status": status}
        if version:
            body["metadata"]["resourceVersion"] = version
        try:
            await resource.status.server_side_apply(
                body=body, name=name, namespace=namespace, field_manager=FIELD_MANAGER, force_conflicts=True
            )
        except NotFoundError:
            return
        except (ApiException, DynamicApiError) as error:
            raise (Conflict if error.status == 409 else Rejected)(f"status of {kind} {name}: {_reason(error)}") from None
        self._wrote("apply", f"{kind}/status")

    async def _resource(self, api_version: str, kind: str) -> Any:
        """Found once and kept; a kind that is not there is looked for again after a while. Raises ResourceNotFoundError.

        One search at a time: the client's own cache is emptied by each search in vain, under the feet of the others.
        """
        key = (api_version, kind)
        async with self._searching:
            if key not in self._known and time.monotonic() - self._absent.get(key, -ABSENT) >= ABSENT:
                try:
                    self._known[key] = await self._dynamic.resources.get(api_version=api_version, kind=kind)
                except ResourceNotFoundError:
                    self._absent[key] = time.monotonic()
            if key not in self._known:
                raise ResourceNotFoundError(f"{api_version} {kind}")
            return self._known[key]


def _plain(found: Any) -> Manifest:
    out: Manifest = found.to_dict()
    return out


def _reason(error: Any) -> str:
    """The API server's own sentence."""
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.status} {error.reason}"
