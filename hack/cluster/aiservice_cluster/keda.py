"""KEDA, where it is asked for (KEDA=1): replicas that follow requests and queries; and a Prometheus for the queries."""

import re
import tempfile
from pathlib import Path
from string import Template

from . import debian, images, project
from .engine import has_image
from .gomod import Program, module_dir, programs
from .kind import kubectl
from .settings import HERE, Settings, key

RECIPE = 1
MODULE = "github.com/kedacore/keda/v2"
PARTS = {"operator": "keda", "adapter": "keda-metrics-apiserver", "webhooks": "keda-admission-webhooks"}
"""Main package -> image."""
PATHS = {"operator": "/keda", "adapter": "/keda-adapter", "webhooks": "/keda-admission-webhooks"}
PROGRAM = Program(MODULE, tuple(f"{MODULE}/cmd/{name}" for name in PARTS), (f"{MODULE}/version.Version={{version}}",))
PROMETHEUS = HERE / "manifests" / "prometheus.yaml"
DEPLOYMENTS = ("keda-operator", "keda-metrics-apiserver", "keda-admission", "prometheus")


def recipe(settings: Settings) -> str:
    return key(RECIPE, settings.go(MODULE), settings.images, PROMETHEUS)


def install(settings: Settings) -> None:
    """Its own manifests; in build mode its three programs as images."""
    prometheus = f"docker.io/prom/prometheus:{settings.versions['images']['prometheus']}"
    if settings.images == "build":
        built = programs(settings, [PROGRAM])
        made = [images.build(images.Image(_tag(settings, PARTS[n]), str(built[n]), PATHS[n], user="65532")) for n in PARTS]
        project.load(settings, [*made, prometheus := _prometheus(settings)])
    for text in (_manifests(settings), Template(PROMETHEUS.read_text()).substitute(image=prometheus)):
        kubectl(settings, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)


def ready(settings: Settings) -> bool:
    """The API server reaches its metrics server: then HorizontalPodAutoscalers get numbers."""
    path = 'jsonpath={.status.conditions[?(@.type=="Available")].status}'
    answers = kubectl(settings, "get", "apiservice", "v1beta1.external.metrics.k8s.io", "--ignore-not-found", "-o", path) == "True"
    return answers and all(kubectl(settings, "-n", "keda", "get", "deployment", name, "-o", path) == "True" for name in DEPLOYMENTS)


def _tag(settings: Settings, image: str) -> str:
    return f"ghcr.io/kedacore/{image}:{settings.go(MODULE).removeprefix('v')}"


def _manifests(settings: Settings) -> str:
    """As the module has them, with the version's images."""
    text = kubectl(settings, "kustomize", module_dir(MODULE, settings.go(MODULE)) / "config" / "default")
    text = re.sub(r"(image: )ghcr\.io/kedacore/([-a-z]+):\S+", lambda found: found[1] + _tag(settings, found[2]), text)
    return text.replace("imagePullPolicy: Always", "imagePullPolicy: IfNotPresent")


def _prometheus(settings: Settings) -> str:
    """Debian's."""
    base = debian.with_packages(settings, "prometheus", debian.debian(settings), "prometheus")
    tag = f"aiservice-cluster/prometheus:{key(RECIPE, base)}"
    if not has_image(tag):
        with tempfile.TemporaryDirectory() as empty:
            debian.build(tag, f'FROM {base}\nUSER 65534\nENTRYPOINT ["prometheus"]\n', Path(empty))
    return tag
