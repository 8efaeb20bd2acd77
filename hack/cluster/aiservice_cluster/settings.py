"""What the user may choose (environment), what is fixed (versions.toml), and where things lie."""

import hashlib
import os
import platform
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .shell import Failure

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _versions() -> dict[str, dict[str, str]]:
    with (HERE / "versions.toml").open("rb") as file:
        return tomllib.load(file)


@dataclass(frozen=True)
class Settings:
    """One run's choices. `images` is empty until the probe has decided between pull and build."""

    name: str = "aiservice"
    images: str = ""
    workers: int | None = None
    """Worker nodes beside the control plane; None: as many as the cluster has, or none."""
    port: int = 8080
    keda: bool = False
    """Install KEDA; one that is there stays."""
    cache: Path = Path.home() / ".cache" / "aiservice-cluster"
    versions: dict[str, dict[str, str]] = field(default_factory=_versions)

    def go(self, module: str) -> str:
        return self.versions["go"][module]

    @property
    def nodes(self) -> int:
        return 1 + (self.workers or 0)

    @property
    def kubeconfig(self) -> Path:
        folder = ROOT / "build" / "cluster"
        return folder / ("kubeconfig" if self.name == Settings.name else f"{self.name}.kubeconfig")

    @property
    def kubernetes(self) -> str:
        return self.go("k8s.io/kubernetes")

    @property
    def tools(self) -> Path:
        """kind, helm, kubectl and the fitting docker client, as links: first on PATH of all that is run."""
        return self.cache / "tools"


def from_environment(env: Mapping[str, str] = os.environ) -> Settings:
    """CLUSTER, IMAGES, WORKERS, HTTP_PORT, KEDA, CLUSTER_CACHE; refused with a sentence where they make no sense."""
    images = env.get("IMAGES", "")
    if images not in ("", "pull", "build"):
        raise Failure(f"IMAGES={images}: it is pull, build, or left out (then the harness chooses)")
    workers, port = env.get("WORKERS", ""), env.get("HTTP_PORT") or "8080"
    if workers and not (workers.isdigit() and 0 <= int(workers) <= 8):
        raise Failure(f"WORKERS={workers}: a number from 0 (one node does everything) to 8")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise Failure(f"HTTP_PORT={port}: a free TCP port of this machine")
    if env.get("KEDA", "") not in ("", "0", "1"):
        raise Failure(f"KEDA={env['KEDA']}: it is 1 (install KEDA), or left out")
    cache = Path(env["CLUSTER_CACHE"]).resolve() if env.get("CLUSTER_CACHE") else Settings.cache
    return Settings(
        name=env.get("CLUSTER") or "aiservice",
        images=images,
        workers=int(workers) if workers else None,
        port=int(port),
        keda=env.get("KEDA") == "1",
        cache=cache,
    )


def key(*parts: object) -> str:
    """A short content key: the same parts give the same key. Paths count by their content."""
    digest = hashlib.sha256(ARCH.encode())
    for part in parts:
        if isinstance(part, Path):
            for path in sorted(part.rglob("*")) if part.is_dir() else [part]:
                if path.is_file():
                    digest.update(path.name.encode() + b"\0" + path.read_bytes())
        else:
            digest.update(b"\0" + repr(part).encode())
    return digest.hexdigest()[:12]
