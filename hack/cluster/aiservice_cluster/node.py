"""kind's node image where nothing can be pulled: built as kind builds its own, with every image of the cluster inside."""

import shutil
import tempfile
from pathlib import Path

from . import debian, images
from .engine import has_image
from .gomod import programs
from .settings import HERE, Settings, key
from .shell import pipe, run, step, succeeds, until

RECIPE = 1


def build(settings: Settings) -> str:
    """The tag of the node image."""
    inside = images.build_all(settings)
    ids = run("docker", "image", "inspect", "--format", "{{.Id}}", *inside).split()
    base = _base(settings)
    tag = f"aiservice-cluster/node:{key(RECIPE, base, ids)}"
    if not has_image(tag):
        with step(f"node image, {len(inside)} images inside"):
            _fill(base, inside, tag)
        _forget_others(tag)
    return tag


def _forget_others(tag: str) -> None:
    """Node images that no container uses any more (the engine keeps those that one does)."""
    found = run("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", tag.partition(":")[0]).split()
    for other in found:
        if other != tag:
            succeeds("docker", "image", "rm", other, timeout=60)


def _base(settings: Settings) -> str:
    """The node without images."""
    parent = debian.with_packages(settings, "node", debian.debian(settings), f"{debian.NET_PACKAGES} {debian.NODE_PACKAGES}")
    built = programs(settings, [images.KUBERNETES, images.CONTAINERD])
    files = images.kind_files(settings)
    versions = [settings.kubernetes, settings.go(images.CONTAINERD.module), settings.go("sigs.k8s.io/kind")]
    mine = [HERE / "node" / name for name in ("Dockerfile", "pod-network", "pod-network.service", "default-storage.yaml")]
    tag = f"aiservice-cluster/node-base:{key(RECIPE, parent, versions, *mine)}"
    if has_image(tag):
        return tag
    with step("node without images"), tempfile.TemporaryDirectory(dir=settings.cache) as scratch:
        context = Path(scratch)
        shutil.copytree(files, context / "files", copy_function=shutil.copyfile)
        for folder in [context / "files", *(context / "files").rglob("*")]:
            folder.chmod(0o755 if folder.is_dir() else 0o644)
        shutil.copytree(HERE / "node", context / "node")
        (context / "bin").mkdir()
        for name in ("kubeadm", "kubelet", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr"):
            shutil.copy(built[name], context / "bin" / name)
        arguments = ["--build-arg", f"BASE={parent}", "--build-arg", f"KUBERNETES={settings.kubernetes}"]
        run("docker", "build", "-q", *arguments, "-t", tag, "-f", context / "node" / "Dockerfile", context, timeout=900)
    return tag


def _fill(base: str, inside: list[str], tag: str) -> None:
    """Start containerd in the node once, import the images, keep the result. Not unpacked: overlay on overlay is refused."""
    container = run("docker", "run", "-d", "--rm", "--privileged", "--network", "none", "--entrypoint", "sleep", base, "3600").strip()
    try:
        run("docker", "exec", "-d", container, "containerd")
        until("containerd in the node", lambda: _answers(container), 30, "look at `docker logs`", pause=0.5)
        sink = [
            "docker",
            "exec",
            "-i",
            container,
            "ctr",
            "-n",
            "k8s.io",
            "images",
            "import",
            "--all-platforms",
            "--no-unpack",
            "--digests",
            "-",
        ]
        pipe(["docker", "save", *inside], sink)
        run("docker", "exec", container, "pkill", "containerd")
        run(
            "docker",
            "commit",
            "--change",
            'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]',
            "--change",
            "CMD []",
            container,
            tag,
            timeout=600,
        )
    finally:
        run("docker", "rm", "-f", container)


def _answers(container: str) -> bool:
    return succeeds("docker", "exec", container, "ctr", "version")
