"""kubectl as a test uses it: its own namespace, models on the node's disk, a client that counts every answer."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from aiservice.api.status import AIServiceStatus, Decision, DecisionKind
from local import bundles

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("CLUSTER_CACHE", "~/.cache/aiservice-cluster")).expanduser()
ENV = dict(os.environ) | {
    "KUBECONFIG": os.environ.get("KUBECONFIG", str(ROOT / "build" / "cluster" / "kubeconfig")),
    "PATH": f"{CACHE / 'tools'}:{os.environ['PATH']}",
}
NAME = os.environ.get("CLUSTER", "aiservice")
NODE = f"{NAME}-control-plane"
PORT = int(os.environ.get("HTTP_PORT", "8080"))
PATIENCE = 240.0
SYSTEM = "aiservice-system"


class Refused(Exception):
    """kubectl ended with an error; the message is what it printed."""


def run(*command: str, given: str | None = None) -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, env=ENV, check=False, timeout=300)
    if done.returncode:
        raise Refused(done.stderr.strip() or done.stdout.strip())
    return done.stdout


@dataclass
class Counts:
    """What a client saw: HTTP status -> number; 0: no answer."""

    answers: Counter[int] = field(default_factory=Counter)
    by_revision: Counter[str] = field(default_factory=Counter)
    good: list[int] = field(default_factory=list)
    """Numbers of the requests that were answered: their ids and rows follow from them."""
    errors: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return sum(n for status, n in self.answers.items() if status != 200)


class Kube:
    """One namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def ctl(self, *args: str, given: str | None = None) -> str:
        return run("kubectl", "-n", self.namespace, *args, given=given)

    def get(self, *args: str) -> Any:
        return json.loads(self.ctl("get", *args, "-o", "json"))

    def apply(self, body: dict[str, Any]) -> None:
        self.ctl("apply", "--server-side", "--force-conflicts", "-f", "-", given=json.dumps(body))

    def publish(self, folder: Path, name: str, **how: Any) -> str:
        """A bundle on the disk of every node, reachable as pvc://models/NAME. -> its digest."""
        digest = bundles.write(folder / name, **how)
        for node in nodes():
            run("docker", "exec", node, "mkdir", "-p", f"/var/models/{self.namespace}")
            run("docker", "cp", str(folder / name), f"{node}:/var/models/{self.namespace}/{name}")
            run("docker", "exec", node, "chmod", "-R", "a+rX", f"/var/models/{self.namespace}")
        return digest

    def claim(self) -> None:
        """The volume that `publish` writes to."""
        size = {"storage": "1Gi"}
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"models-{self.namespace}"},
            "spec": {
                "capacity": size,
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": f"/var/models/{self.namespace}", "type": "DirectoryOrCreate"},
                "claimRef": {"namespace": self.namespace, "name": "models"},
            },
        }
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "models", "namespace": self.namespace},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "volumeName": volume["metadata"]["name"],  # type: ignore[index]
                "resources": {"requests": size},
            },
        }
        self.apply(volume)
        self.apply(claim)

    def service(self, model: str, *, name: str = "svc", replicas: int = 1, digest: str | None = None, **rollout: Any) -> dict[str, Any]:
        """An AIService whose rollout is over in seconds."""
        quick: dict[str, Any] = {
            "replay": {"requests": 200},
            "steps": [{"weight": 20, "hold": "2s"}, {"weight": 50, "hold": "2s"}],
            "gates": {"errors": {"margin": "20%"}},
            "standby": "1m",
            "deadline": "3m",
        }
        pin = {"digest": digest} if digest else {}
        return {
            "apiVersion": "aiservice.dev/v1alpha1",
            "kind": "AIService",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "model": {"uri": f"pvc://models/{model}"} | pin,
                "realTime": {
                    "replicas": {"min": replicas, "max": replicas},
                    "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
                },
                "rollout": quick | rollout,
            },
        }

    def status(self, name: str = "svc") -> AIServiceStatus:
        return AIServiceStatus.model_validate_json(json.dumps(self.get("ais", name).get("status", {})))

    async def until(self, holds: Callable[[AIServiceStatus], Any], what: str, name: str = "svc") -> Any:
        """The first true value that it gives. Fails with the last status."""
        deadline, seen = time.monotonic() + PATIENCE, AIServiceStatus()
        while time.monotonic() < deadline:
            seen = await asyncio.to_thread(self.status, name)
            found = holds(seen)
            if found:
                return found
            await asyncio.sleep(0.5)
        raise AssertionError(f"{what}: not within {PATIENCE:.0f} s; {seen.model_dump_json(exclude_none=True)[:4000]}")

    @asynccontextmanager
    async def traffic(self, name: str = "svc", connections: int = 4, rate: float = 100.0) -> AsyncIterator[Counts]:
        """Requests through the gateway all the while."""
        counts, url, going = Counts(), f"http://127.0.0.1:{PORT}/v2/models/{name}/infer", True
        host = {"Host": f"{name}.{self.namespace}.localhost"}

        async def client(session: aiohttp.ClientSession, first: int) -> None:
            i = first
            while going:
                body = json.dumps({"id": request_id(i), "inputs": bundles.row((i % 20) / 20, i % bundles.KINDS)})
                try:
                    async with session.post(url, data=body, headers=host) as answer:
                        counts.answers[answer.status] += 1
                        counts.by_revision[answer.headers.get("x-aiservice-revision", "")] += 1
                        text = await answer.text()
                        if answer.status == 200:
                            counts.good.append(i)
                        else:
                            counts.errors.append(f"{answer.status} {answer.headers.get('x-aiservice-revision')} {text[:200]}")
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    counts.answers[0] += 1
                    counts.errors.append(repr(error))
                i += connections
                await asyncio.sleep(connections / rate)

        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            tasks = [asyncio.create_task(client(session, i)) for i in range(connections)]
            try:
                yield counts
            finally:
                going = False
                await asyncio.gather(*tasks)


def request_id(number: int) -> str:
    return f"request-{number}"


def nodes() -> list[str]:
    return run("kind", "get", "nodes", "--name", NAME).split()


@contextmanager
def forwarded(namespace: str, what: str, port: int) -> Iterator[int]:
    """A port of this machine that leads to `what` (service/NAME)."""
    command = ["kubectl", "-n", namespace, "port-forward", what, f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENV) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert "Forwarding from 127.0.0.1:" in line, line
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield int(line.split("127.0.0.1:")[1].split()[0])
        finally:
            process.kill()


def ready(status: AIServiceStatus) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in status.conditions)


def decided(kind: DecisionKind, last: str | None = None) -> Callable[[AIServiceStatus], Decision | None]:
    """The newest decision of this kind (of this revision)."""
    return lambda s: next((d for d in s.rollout.decisions[::-1] if d.kind is kind and last in (None, d.revision)), None)
