"""kubectl as a test uses it: its own namespace, models on the node's disk, a client that counts every answer."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

from aiservice.api.status import AIServiceStatus, Decision, DecisionKind
from local import bundles
from sending import Counts, rest

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
        self.put(folder / name)
        return digest

    def put(self, bundle: Path) -> None:
        place = f"/var/models/{self.namespace}"
        for node in nodes():
            run("docker", "exec", node, "mkdir", "-p", f"{place}/{bundle.name}")
            run("docker", "cp", f"{bundle}/.", f"{node}:{place}/{bundle.name}")
            run("docker", "exec", node, "chmod", "-R", "a+rX", place)

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

    def host(self, name: str) -> str:
        return f"{name}.{self.namespace}.localhost"

    def traffic(self, name: str = "svc", clients: int = 4, pause: float = 0.03) -> AbstractAsyncContextManager[Counts]:
        """Requests through the gateway all the while."""
        return rest(PORT, name, self.host(name), clients=clients, pause=pause)

    def robot(self, name: str, *, may: bool = True) -> str:
        """A ServiceAccount that may send labels, or not. -> its token."""
        self.ctl("create", "serviceaccount", name)
        if may:
            self.ctl("create", "rolebinding", name, "--clusterrole=aiservice-labels", f"--serviceaccount={self.namespace}:{name}")
        return self.ctl("create", "token", name).strip()


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


async def served(kube: Kube, folder: Path) -> str:
    """v1 serves, v2 is there. -> v1's revision."""
    kube.publish(folder, "v1")
    kube.publish(folder, "v2", bias=0.001)
    kube.apply(kube.service("v1"))
    await kube.until(ready, "v1 is ready")
    return str(kube.status().rollout.stable)


def ready(status: AIServiceStatus) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in status.conditions)


def decided(kind: DecisionKind, last: str | None = None) -> Callable[[AIServiceStatus], Decision | None]:
    """The newest decision of this kind (of this revision)."""
    return lambda s: next((d for d in s.rollout.decisions[::-1] if d.kind is kind and last in (None, d.revision)), None)
