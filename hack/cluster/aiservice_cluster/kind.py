"""The kind cluster itself: created once, started again when dead, made anew when what it is made of has changed."""

import dataclasses
import json
import socket
import time
from pathlib import Path

from . import images
from .engine import lacks_sys_resource
from .gomod import Program, build
from .settings import Settings, key
from .shell import Failure, atomic, remove, run, say, step, succeeds, until

NODE_PORT = 30080
KIND = Program("sigs.k8s.io/kind", ("sigs.k8s.io/kind",))
HELM = Program("helm.sh/helm/v4", ("helm.sh/helm/v4/cmd/helm",), ("helm.sh/helm/v4/internal/version.version={version}",))


def tools(settings: Settings) -> None:
    """kind and helm (and kubectl in build mode), as links in the tools folder."""
    for program in (KIND, HELM):
        link(settings, next(iter(build(settings, program).iterdir())))
    if settings.images == "build":
        link(settings, build(settings, images.KUBERNETES) / "kubectl")


def link(settings: Settings, program: Path) -> None:
    with atomic(settings.tools / program.name) as scratch:
        scratch.symlink_to(program)


def as_found(settings: Settings) -> Settings:
    """Workers that nobody asked about stay as many as they are."""
    if settings.workers is not None:
        return settings
    return dataclasses.replace(settings, workers=max(0, len(nodes(settings)) - 1))


def config(settings: Settings) -> str:
    """kind's configuration, as JSON (which is YAML)."""
    control_plane = {
        "role": "control-plane",
        "extraPortMappings": [{"containerPort": NODE_PORT, "hostPort": settings.port, "listenAddress": "127.0.0.1", "protocol": "TCP"}],
    }
    workers = [{"role": "worker", "labels": {"aiservice-cluster/worker": str(number)}} for number in range(1, settings.nodes)]
    wanted: dict[str, object] = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "kubeadmConfigPatches": ["kind: KubeletConfiguration\nfailCgroupV1: false\n"],
        "nodes": [control_plane, *workers],
    }
    if settings.images == "build":
        wanted["networking"] = {"disableDefaultCNI": True}
    if lacks_sys_resource():
        wanted["containerdConfigPatches"] = ['[plugins."io.containerd.grpc.v1.cri"]\n  restrict_oom_score_adj = true\n']
    return json.dumps(wanted, indent=1)


def up(settings: Settings, image: str) -> None:
    """A cluster that answers. `image` is empty in pull mode: kind's own default then."""
    wanted = key(config(settings), image, settings.go("sigs.k8s.io/kind"))
    state = _state(settings)
    if nodes(settings):
        whole = len(nodes(settings)) == settings.nodes
        made_of = state.read_text() if state.exists() else ""
        if made_of == wanted and whole:
            _kubectl_of_node(settings)
        if made_of == wanted and whole and _revive(settings):
            return
        why = (
            "what it is made of has changed"
            if made_of and made_of != wanted
            else "it was half built"
            if not made_of
            else "it does not answer"
        )
        say(f"  cluster {settings.name} is made anew: {why}")
        delete(settings)
    _create(settings, image)
    with atomic(state) as scratch:
        scratch.write_text(wanted)


def _state(settings: Settings) -> Path:
    return settings.cache / "clusters" / settings.name


def nodes(settings: Settings, *filters: str) -> list[str]:
    """The node containers, running or not."""
    label = f"label=io.x-k8s.kind.cluster={settings.name}"
    return run("docker", "ps", "-a", "--filter", label, *filters, "--format", "{{.Names}}").split()


def _kubectl_of_node(settings: Settings) -> None:
    """In pull mode kubectl comes out of the node image: always the fitting version."""
    if settings.images == "build":
        return
    node = f"{settings.name}-control-plane"
    image = run("docker", "inspect", "--format", "{{.Image}}", node).strip().removeprefix("sha256:")
    target = settings.cache / "kubectl" / image[:12] / "kubectl"
    if not target.exists():
        with atomic(target) as scratch:
            run("docker", "cp", "--follow-link", f"{node}:/usr/bin/kubectl", scratch)
    link(settings, target)


def _revive(settings: Settings) -> bool:
    """Start stopped nodes, wait for the API server; whether it came back."""
    stopped = sorted(set(nodes(settings)) - set(nodes(settings, "--filter", "status=running")))
    if not stopped and _answers(settings):
        say(f"  cluster {settings.name} runs")
        return True
    with step(f"start cluster {settings.name} again ({len(stopped)} nodes stopped)"):
        if stopped:
            run("docker", "start", *stopped)
        end = time.monotonic() + 90
        while time.monotonic() < end:
            if _answers(settings):
                return True
            time.sleep(2)
    return False


def _answers(settings: Settings) -> bool:
    """With a fresh kubeconfig: the port of the API server may be another after a start."""
    try:
        kubeconfig(settings)
    except Failure:
        return False
    return ready(settings)


def _create(settings: Settings, image: str) -> None:
    _port_is_free(settings)
    with step(f"kind create cluster, {settings.nodes} nodes"):
        file = settings.cache / "clusters" / f"{settings.name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(config(settings))
        settings.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        chosen = ["--image", image] if image else []
        words: list[str | Path] = ["--name", settings.name, "--config", file, "--kubeconfig", settings.kubeconfig, *chosen]
        try:
            run("kind", "create", "cluster", "--retain", *words, timeout=600)
        except Failure as failure:
            logs = settings.kubeconfig.parent / f"{settings.name}-logs"
            remove(logs)
            succeeds("kind", "export", "logs", logs, "--name", settings.name, timeout=60)
            delete(settings)
            hint = f"\nThe nodes' logs are in {logs}" if logs.is_dir() else ""
            raise Failure(f"{failure}{hint}") from failure
    _kubectl_of_node(settings)
    with step("nodes Ready"):
        until("the nodes are Ready", lambda: ready(settings), 120, f"see `kind export logs --name {settings.name}`")


def _port_is_free(settings: Settings) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", settings.port))
        except OSError as error:
            raise Failure(f"Port {settings.port} of 127.0.0.1 is taken: choose another with HTTP_PORT=") from error


def ready(settings: Settings) -> bool:
    if not succeeds("kubectl", "--kubeconfig", settings.kubeconfig, "get", "--raw", "/readyz", "--request-timeout=3s", timeout=10):
        return False
    try:
        found = kubectl(
            settings,
            "get",
            "nodes",
            "-o",
            'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status} {end}',
            "--request-timeout=5s",
        ).split()
    except Failure:
        return False
    return found.count("True") == settings.nodes


def kubectl(settings: Settings, *words: str | Path, stdin: str | None = None, timeout: float = 300) -> str:
    return run("kubectl", "--kubeconfig", settings.kubeconfig, *words, stdin=stdin, timeout=timeout)


def helm(settings: Settings, *words: str | Path, stdin: str | None = None) -> str:
    return run("helm", "--kubeconfig", settings.kubeconfig, *words, stdin=stdin, timeout=600)


def kubeconfig(settings: Settings) -> None:
    settings.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    run("kind", "export", "kubeconfig", "--name", settings.name, "--kubeconfig", settings.kubeconfig)


def delete(settings: Settings) -> None:
    """End the cluster: its containers, volumes and kubeconfig."""
    _state(settings).unlink(missing_ok=True)
    found = nodes(settings)
    if found:
        with step(f"delete {len(found)} nodes"):
            run("docker", "rm", "-f", "-v", *found, timeout=120)
    remove(settings.kubeconfig)
