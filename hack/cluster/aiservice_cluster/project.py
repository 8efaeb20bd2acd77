"""The project's own images: built on a base that this machine can have, loaded into the nodes."""

import subprocess
from collections.abc import Sequence

from . import debian, kind
from .pypi import index_secrets, proxies
from .settings import Settings
from .shell import Failure, environment, pipe, run, say, step

LABEL = "aiservice-cluster/id"


def load(settings: Settings, names: Sequence[str]) -> None:
    """Put images of the local engine into every node; a node that has the same image already is left alone."""
    nodes = kind.nodes(settings)
    if not nodes:
        raise Failure(f"There is no cluster {settings.name}: run `make cluster` first")
    ids = {name: _id(name) for name in names}
    for node in nodes:
        held = _held(node)
        missing = [name for name in names if held.get(_full(name)) != ids[name]]
        if not missing:
            say(f"  {node} has {', '.join(names)}")
            continue
        with step(f"{', '.join(missing)} -> {node}"):
            pipe(["docker", "save", *missing], ["docker", "exec", "-i", node, "ctr", "-n", "k8s.io", "images", "import", "--digests", "-"])
            for name in missing:
                run("docker", "exec", node, "ctr", "-n", "k8s.io", "images", "label", _full(name), f"{LABEL}={ids[name]}")


def held_everywhere(settings: Settings, name: str) -> bool:
    return all(_full(name) in _held(node) for node in kind.nodes(settings))


def _id(name: str) -> str:
    try:
        return run("docker", "image", "inspect", "--format", "{{.Id}}", name).strip()
    except Failure as failure:
        raise Failure(f"The local engine has no image {name}: build it first, for example hack/cluster/build -t {name} .") from failure


def _full(name: str) -> str:
    """The name as containerd keeps it: predictor -> docker.io/library/predictor:latest."""
    if ":" not in name.rsplit("/", 1)[-1]:
        name += ":latest"
    first, _, rest = name.partition("/")
    if not rest:
        return f"docker.io/library/{name}"
    return name if "." in first or ":" in first or first == "localhost" else f"docker.io/{name}"


def _held(node: str) -> dict[str, str]:
    """Image name -> the engine's id of what was loaded under it."""
    held = {}
    for line in run("docker", "exec", node, "ctr", "-n", "k8s.io", "images", "ls").splitlines()[1:]:
        name, _, rest = line.partition(" ")
        _, found, value = rest.partition(f"{LABEL}=")
        if found:
            held[name] = value.split(",")[0].strip()
    return held


def bases(settings: Settings) -> dict[str, str]:
    """The Dockerfile's arguments BASE (has Python) and BUILD_BASE (has pip, venv and a C compiler as well)."""
    version = settings.versions["images"]["python"]
    if settings.images == "pull":
        slim = f"python:{version}-slim-{settings.versions['debian']['suite']}"
        return {"BASE": slim, "BUILD_BASE": slim}
    return {"BASE": debian.python(settings), "BUILD_BASE": debian.python_build(settings)}


def build(settings: Settings, arguments: Sequence[str]) -> int:
    """`docker build` with the bases, this machine's proxies, CA bundle and package index; the last two as secrets, so no layer keeps them."""
    words = ["docker", "build", "--network", "host", *(word for name in proxies() for word in ("--build-arg", name))]
    for name, value in bases(settings).items():
        words += ["--build-arg", f"{name}={value}"]
    with index_secrets() as secrets:
        return subprocess.run([*words, *secrets, *arguments], env=environment(), check=False).returncode
