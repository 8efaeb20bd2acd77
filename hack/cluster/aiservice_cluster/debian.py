"""Base images where nothing can be pulled: debootstrap's Debian, and what apt adds to it."""

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from .engine import has_image
from .pypi import index_secrets, proxies
from .settings import HERE, Settings, key
from .shell import Failure, atomic, remove, run, step

RECIPE = 2
PROBE = "python:3.11-slim-bookworm"  # asked for its manifest only
NET_PACKAGES = "conntrack iptables nftables iproute2 kmod ethtool"
NODE_PACKAGES = (
    "systemd systemd-sysv util-linux mount libseccomp2 pigz e2fsprogs bash ca-certificates curl jq procps runc containernetworking-plugins"
)
UNWANTED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian", "var/lib/apt/lists", "var/log")
APT = (
    "apt-get update -q && "
    "DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends {packages} && "
    "rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /usr/share/doc /usr/share/man /usr/share/locale /var/log/*"
)


def _mirror() -> str:
    """Where this machine's apt takes its packages from: the same place serves debootstrap."""
    found = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").split()
    if not found:
        raise Failure("apt has no package lists: run `apt-get update` first")
    return found[0]


def debian(settings: Settings) -> str:
    """The tag of a minimal Debian image."""
    suite = settings.versions["debian"]["suite"]
    tag = f"aiservice-base/debian:{suite}-{key(RECIPE, suite, UNWANTED)}"
    if has_image(tag):
        return tag
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failure("Building images needs root on Debian (debootstrap). Where Docker can pull, say IMAGES=pull instead")
    if not shutil.which("debootstrap"):
        with step("install debootstrap"):
            run("apt-get", "update", "-q")
            run("apt-get", "install", "-qy", "--no-install-recommends", "debootstrap", env={"DEBIAN_FRONTEND": "noninteractive"})
    with step(f"debootstrap {suite}"):
        with atomic(settings.cache / "rootfs.tar") as archive:
            _bootstrap(settings, suite, archive)
        run("docker", "import", settings.cache / "rootfs.tar", tag)
        remove(settings.cache / "rootfs.tar")
    return tag


def _bootstrap(settings: Settings, suite: str, archive: Path) -> None:
    debs, root = settings.cache / "debs", settings.cache / "rootfs"
    debs.mkdir(parents=True, exist_ok=True)
    remove(root)
    try:
        run("nice", "-n", "10", "debootstrap", "--variant=minbase", f"--cache-dir={debs}", suite, root, _mirror(), timeout=900)
        for name in UNWANTED:
            for path in (root / name).glob("*"):
                remove(path)
        for deb in (root / "var/cache/apt/archives").glob("*.deb"):
            deb.unlink()
        run("tar", "--numeric-owner", "-C", root, "-cf", archive, ".")
    finally:
        remove(root)


def with_packages(settings: Settings, name: str, base: str, packages: str) -> str:
    """`base` with Debian packages added; apt is set up as on this machine (proxy variables pass through)."""
    tag = f"aiservice-base/{name}:{key(RECIPE, base, packages, APT)}"
    if not has_image(tag):
        with step(f"image {name}"):
            build(tag, f"FROM {base}\nRUN {APT.format(packages=packages)}\n")
    return tag


def python(settings: Settings) -> str:
    """Debian's Python: the base for the project's own images in build mode."""
    version = settings.versions["images"]["python"]
    return with_packages(settings, "python", debian(settings), f"python{version} python3-minimal ca-certificates")


def python_build(settings: Settings) -> str:
    """The same with pip, venv and a C compiler: for a Dockerfile's first stage."""
    version = settings.versions["images"]["python"]
    return with_packages(settings, "python-build", python(settings), f"python3-pip python3-venv gcc libc6-dev python{version}-dev")


def build(tag: str, dockerfile: str, context: Path | None = None, *, packages: bool = False) -> None:
    """`docker build` of a text, with the network and the proxies of this machine; `packages`: with its Python index as well."""
    words = [word for name in proxies() for word in ("--build-arg", name)]
    with ExitStack() as stack:
        secrets = stack.enter_context(index_secrets()) if packages else []
        command = ["docker", "build", "-q", "--network", "host", *words, *secrets, "-t", tag, "-f", "-"]
        run(*command, context or HERE / "node", stdin=dockerfile, timeout=900)
