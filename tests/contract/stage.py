"""Where a story is played: this machine, or a cluster. The stories do not know which."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import aiohttp

import sending
from aiservice.api.service import AIService
from aiservice.api.status import AIServiceStatus
from aiservice.core import names
from cluster.kube import PORT, SYSTEM, Kube, forwarded
from cluster.kube import ready as is_ready
from local.machine import FREE, Machine

Holds = Callable[[AIServiceStatus], Any]


class Stage(Protocol):
    """One service, `svc`."""

    def publish(self, name: str, **behaviour: Any) -> str: ...
    def damage(self, name: str) -> None: ...
    def ask(self, bundle: str, *, digest: str | None = None, **rollout: Any) -> str: ...
    async def serve(self, bundle: str, **rollout: Any) -> str: ...
    async def wait(self, holds: Holds) -> AIServiceStatus: ...
    def status(self) -> AIServiceStatus: ...
    def rest(self) -> AbstractAsyncContextManager[sending.Counts]: ...
    def over_grpc(self) -> AbstractAsyncContextManager[sending.Counts]: ...
    async def command(self, verb: str) -> None: ...
    async def label(self, labels: dict[str, bool]) -> dict[str, int]: ...


class Here:
    """`aiservice up` on this machine."""

    def __init__(self, box: Machine) -> None:
        self.box = box

    def publish(self, name: str, **behaviour: Any) -> str:
        return self.box.bundle(name, **behaviour)

    def damage(self, name: str) -> None:
        flip(self.box.folder / name)

    def ask(self, bundle: str, *, digest: str | None = None, **rollout: Any) -> str:
        return self.box.ask(bundle, digest=digest, **rollout)

    async def serve(self, bundle: str, **rollout: Any) -> str:
        revision = self.ask(bundle, **rollout)
        await asyncio.to_thread(self.box.up)
        return revision

    async def wait(self, holds: Holds) -> AIServiceStatus:
        return await self.box.wait(holds)

    def status(self) -> AIServiceStatus:
        return self.box.status()

    def rest(self) -> AbstractAsyncContextManager[sending.Counts]:
        return sending.rest(self.box.port, "svc", pause=0.002)

    def over_grpc(self) -> AbstractAsyncContextManager[sending.Counts]:
        return sending.over_grpc(self.box.port, "svc", "svc.localhost")

    async def command(self, verb: str) -> None:
        done = await asyncio.to_thread(self.box.cli, verb, "svc")
        assert done.returncode == 0, done.stderr

    async def label(self, labels: dict[str, bool]) -> dict[str, int]:
        async with aiohttp.ClientSession() as session:
            return await send(session, f"http://127.0.0.1:{self.box.port}/v1/labels", labels, {"Host": "svc.localhost"})


class There:
    """A namespace of the test cluster."""

    def __init__(self, kube: Kube, folder: Path) -> None:
        self.kube, self.folder = kube, folder
        self._token = ""
        self._commands = 0

    def publish(self, name: str, **behaviour: Any) -> str:
        return self.kube.publish(self.folder, name, **behaviour)

    def damage(self, name: str) -> None:
        flip(self.folder / name)
        self.kube.put(self.folder / name)

    def ask(self, bundle: str, *, digest: str | None = None, **rollout: Any) -> str:
        body = self.kube.service(bundle, digest=digest, **(FREE | {"deadline": "3m"} | rollout))
        body["spec"]["rollout"] = {k: v for k, v in body["spec"]["rollout"].items() if v is not None}
        self.kube.apply(body)
        return names.revision(names.template(AIService.model_validate_json(json.dumps(body)).spec))

    async def serve(self, bundle: str, **rollout: Any) -> str:
        revision = self.ask(bundle, **rollout)
        await self.wait(is_ready)
        return revision

    async def wait(self, holds: Holds) -> AIServiceStatus:
        found: AIServiceStatus = await self.kube.until(lambda s: s if holds(s) else None, "the story goes on")
        return found

    def status(self) -> AIServiceStatus:
        return self.kube.status()

    def rest(self) -> AbstractAsyncContextManager[sending.Counts]:
        return self.kube.traffic()

    def over_grpc(self) -> AbstractAsyncContextManager[sending.Counts]:
        return sending.over_grpc(PORT, "svc", self.kube.host("svc"))

    async def command(self, verb: str) -> None:
        self._commands += 1
        mark = f"{verb}:{self._commands}"
        await asyncio.to_thread(self.kube.ctl, "annotate", "ais", "svc", f"aiservice.dev/command={mark}", "--overwrite")
        await self.wait(lambda s: s.rollout.handled == mark)

    async def label(self, labels: dict[str, bool]) -> dict[str, int]:
        self._token = self._token or self.kube.robot("labels")
        path = f"/v1/namespaces/{self.kube.namespace}/services/svc/labels"
        with forwarded(SYSTEM, "service/aiservice-operator", 8080) as port:
            async with aiohttp.ClientSession() as session:
                return await send(session, f"http://127.0.0.1:{port}{path}", labels, {"Authorization": f"Bearer {self._token}"})


async def send(session: aiohttp.ClientSession, url: str, labels: dict[str, bool], headers: dict[str, str]) -> dict[str, int]:
    async with session.post(url, json={"labels": labels}, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, int] = await answer.json()
        return found


def flip(bundle: Path) -> None:
    """One bit of the model."""
    place = bundle / "model.onnx"
    raw = bytearray(place.read_bytes())
    raw[len(raw) // 2] ^= 1
    place.write_bytes(raw)
