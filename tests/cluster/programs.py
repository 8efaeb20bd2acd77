"""Programs that only tests need: as an image on the cluster's base, in every node, or as they are."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from cluster.kube import CACHE, ENV, ROOT, run

DOCKERFILE = 'ARG BASE\nARG BUILD_BASE\nFROM ${{BASE}}\nCOPY --chmod=0755 {name} /{name}\nUSER 65532:65532\nENTRYPOINT ["/{name}"]\n'


def image(program: Path) -> str:
    """-> the tag under which every node has it."""
    tag = f"{program.name}:{hashlib.sha256(program.read_bytes()).hexdigest()[:12]}"
    if not run("docker", "image", "ls", "-q", tag).strip():
        with tempfile.TemporaryDirectory() as scratch:
            shutil.copy(program, scratch)
            (Path(scratch) / "Dockerfile").write_text(DOCKERFILE.format(name=program.name))
            subprocess.run([ROOT / "hack/cluster/build", "-q", "-t", tag, scratch], env=ENV, check=True, timeout=300)
    subprocess.run([ROOT / "hack/cluster/load", tag], env=ENV, check=True, timeout=300)
    return tag


def prometheus(name: str) -> Path:
    """`prometheus` or `promtool`: the one on PATH, or Debian's, unpacked into the cluster's cache and not installed."""
    found = shutil.which(name)
    if found:
        return Path(found)
    home = CACHE / "prometheus"
    if not home.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            download = ["apt-get", "-q", "download", "prometheus"]
            try:
                if subprocess.run(download, cwd=scratch, check=False, capture_output=True, timeout=300).returncode:  # old lists
                    subprocess.run(["apt-get", "-q", "update"], check=True, capture_output=True, timeout=300)
                    subprocess.run(download, cwd=scratch, check=True, capture_output=True, timeout=300)
            except (OSError, subprocess.CalledProcessError) as error:
                raise FileNotFoundError(f"there is no {name} on PATH, and apt does not give one: {error}") from error
            (package,) = Path(scratch).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", package, Path(scratch) / "unpacked"], check=True, timeout=60)
            try:
                (Path(scratch) / "unpacked" / "usr" / "bin").rename(home)
            except OSError:
                if not home.is_dir():  # else another test was first
                    raise
    return home / name
