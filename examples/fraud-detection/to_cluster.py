"""Put the example's model versions into the test cluster of `make cluster`, as the volume claim `fraud-models` of the current namespace.

Run it with the project's Python: .venv/bin/python examples/fraud-detection/to_cluster.py. Twice is fine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent))

from prepare import BUNDLES, prepare

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = os.environ.get("CLUSTER", "aiservice")
FOLDER = "/var/models/fraud-detection"
TOOLS = Path(os.environ.get("CLUSTER_CACHE", "~/.cache/aiservice-cluster")).expanduser() / "tools"
ENV = {"KUBECONFIG": str(ROOT / "build" / "cluster" / "kubeconfig")} | dict(os.environ) | {"PATH": f"{TOOLS}:{os.environ['PATH']}"}


def run(*command: str, given: str | None = None) -> str:
    if not shutil.which(command[0], path=ENV["PATH"]):
        sys.exit(f"error: {command[0]} is not there: run make cluster first")
    done = subprocess.run(command, input=given, capture_output=True, text=True, env=ENV, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def main() -> None:
    prepare(Console(stderr=True))
    nodes = run("kind", "get", "nodes", "--name", CLUSTER).split()
    if not nodes:
        sys.exit(f"error: there is no cluster {CLUSTER}: run make cluster first")
    for node in nodes:
        run("docker", "exec", node, "mkdir", "-p", FOLDER)
        run("docker", "cp", f"{BUNDLES}/.", f"{node}:{FOLDER}")
        run("docker", "exec", node, "chmod", "-R", "a+rX", FOLDER)
    namespace = run("kubectl", "config", "view", "--minify", "-o", "jsonpath={..namespace}") or "default"
    size, volume = {"storage": "1Gi"}, f"fraud-models-{namespace}"
    for kind, meta, spec in (
        (
            "PersistentVolume",
            {"name": volume},
            {
                "capacity": size,
                "accessModes": ["ReadOnlyMany"],
                "storageClassName": "",
                "hostPath": {"path": FOLDER},
                "claimRef": {"namespace": namespace, "name": "fraud-models"},
            },
        ),
        (
            "PersistentVolumeClaim",
            {"name": "fraud-models", "namespace": namespace},
            {"accessModes": ["ReadOnlyMany"], "storageClassName": "", "volumeName": volume, "resources": {"requests": size}},
        ),
    ):
        manifest = {"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": spec}
        run("kubectl", "apply", "--server-side", "-f", "-", given=json.dumps(manifest))
    versions = ", ".join(sorted(p.name for p in BUNDLES.iterdir() if p.is_dir()))
    print(f"{versions} are on {len(nodes)} nodes, as pvc://fraud-models/VERSION of namespace {namespace}.")
    print("Next: kubectl apply -f examples/fraud-detection/aiservice.yaml")


if __name__ == "__main__":
    main()
