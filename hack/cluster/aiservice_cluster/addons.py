"""What stands on the cluster: Gateway API, Envoy Gateway, metrics-server, KServe. Charts and CRDs are read from the Go module cache."""

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template

from . import images, keda, kserve, storage
from .gomod import module_dir
from .kind import NODE_PORT, helm, kubectl
from .settings import HERE, Settings, key
from .shell import Failure, say, step, until

RECIPE = 1
METRICS_ARGS = "{--kubelet-insecure-tls,--metric-resolution=10s,--kubelet-request-timeout=5s}"
RECORD = "aiservice-cluster"  # a ConfigMap in kube-system: which recipe of each add-on is installed


@dataclass(frozen=True)
class Addon:
    """`install` may be run again at any time; `ready` is the truth about it."""

    name: str
    recipe: str
    install: Callable[[Settings], None]
    ready: Callable[[Settings], bool]


def up(settings: Settings) -> None:
    """Install what is missing or of another recipe, then wait for all of it."""
    recorded = _record(settings)
    addons = _addons(settings, with_keda=settings.keda or "keda" in recorded)
    for addon in addons:
        if recorded.get(addon.name) == addon.recipe:
            continue
        with step(f"install {addon.name}"):
            addon.install(settings)
            _note(settings, addon)
    for addon in addons:
        _wait(settings, addon)
    say(f"  ready: {', '.join(addon.name for addon in addons)}")


def _wait(settings: Settings, addon: Addon) -> None:
    def ready() -> bool:
        try:
            return addon.ready(settings)
        except Failure:
            return False

    if not ready():
        with step(f"{addon.name} ready"):
            until(f"{addon.name} is ready", ready, 180, "see `kubectl get pods -A` and `kubectl get events -A`")


def _addons(settings: Settings, *, with_keda: bool) -> list[Addon]:
    gateway, metrics, serving = (settings.go(program.module) for program in (images.GATEWAY, images.METRICS, images.KSERVE))
    how = (RECIPE, settings.images)
    policies = (
        []
        if settings.images == "pull"
        else [Addon("netpol", key(how, _netpol_yaml(settings)), _netpol, lambda s: rolled_out(s, "kube-system", "netpol"))]
    )
    stores = [] if settings.images == "pull" else [Addon("storage-initializer", storage.recipe(settings), storage.install, storage.ready)]
    return [
        *policies,
        Addon("gateway-api", key(how, gateway), _gateway_api, lambda s: exists(s, "crd/grpcroutes.gateway.networking.k8s.io")),
        Addon("envoy-gateway", key(how, gateway), _envoy_gateway, lambda s: available(s, "envoy-gateway-system", "envoy-gateway")),
        Addon("metrics-server", key(how, metrics, METRICS_ARGS), _metrics_server, _metrics_answer),
        Addon("gateway", key(how, _gateway_yaml(settings)), _gateway, _programmed),
        Addon("kserve", key(how, serving, kserve.RECIPE), kserve.install, kserve.answers),
        *stores,
        *([Addon("keda", keda.recipe(settings), keda.install, keda.ready)] if with_keda else []),
    ]


def _record(settings: Settings) -> dict[str, str]:
    text = kubectl(
        settings,
        "-n",
        "kube-system",
        "get",
        "configmap",
        RECORD,
        "--ignore-not-found",
        "-o",
        "go-template={{range $k, $v := .data}}{{$k}}={{$v}}\n{{end}}",
    )
    return dict(line.split("=", 1) for line in text.splitlines() if line)


def _note(settings: Settings, addon: Addon) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": RECORD, "namespace": "kube-system"},
        "data": {addon.name: addon.recipe},
    }
    kubectl(settings, "apply", "--server-side", f"--field-manager={RECORD}-{addon.name}", "-f", "-", stdin=json.dumps(body))


def exists(settings: Settings, what: str) -> bool:
    return bool(kubectl(settings, "get", what, "--ignore-not-found", "-o", "name").strip())


def available(settings: Settings, namespace: str, deployment: str) -> bool:
    path = 'jsonpath={.status.conditions[?(@.type=="Available")].status}'
    return kubectl(settings, "-n", namespace, "get", "deployment", deployment, "--ignore-not-found", "-o", path) == "True"


def rolled_out(settings: Settings, namespace: str, daemonset: str) -> bool:
    path = "jsonpath={.status.desiredNumberScheduled} {.status.numberReady}"
    wanted, _, found = kubectl(settings, "-n", namespace, "get", "daemonset", daemonset, "--ignore-not-found", "-o", path).partition(" ")
    return wanted not in ("", "0") and wanted == found


def _module(settings: Settings, module: str) -> Path:
    return module_dir(module, settings.go(module))


def _gateway_api(settings: Settings) -> None:
    crds = _module(settings, images.GATEWAY.module) / "charts" / "gateway-helm" / "charts" / "crds" / "crds"
    kubectl(settings, "apply", "--server-side", "--force-conflicts", "-R", "-f", crds)


def _envoy_gateway(settings: Settings) -> None:
    chart = _module(settings, images.GATEWAY.module) / "charts" / "gateway-helm"
    values = {
        "global.images.envoyGateway.image": images.tags(settings)["gateway"],
        "global.images.envoyGateway.pullPolicy": "IfNotPresent",
        "config.envoyGateway.provider.kubernetes.shutdownManager.image": images.tags(settings)["gateway"],
    }
    words = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    helm(
        settings, "upgrade", "--install", "eg", chart, "-n", "envoy-gateway-system", "--create-namespace", "--skip-crds",
        "-f", chart / "values.tmpl.yaml", *words,
    )  # fmt: skip


def _metrics_server(settings: Settings) -> None:
    chart = _module(settings, images.METRICS.module) / "charts" / "metrics-server"
    repository, _, tag = images.tags(settings)["metrics-server"].rpartition(":")
    helm(
        settings, "upgrade", "--install", "metrics-server", chart, "-n", "kube-system", "--set", f"image.repository={repository}", "--set", f"image.tag={tag}",
        "--set", f"args={METRICS_ARGS}", "--set", "resources.requests.cpu=20m", "--set", "resources.requests.memory=64Mi",
    )  # fmt: skip


def _metrics_answer(settings: Settings) -> bool:
    return bool(kubectl(settings, "top", "nodes", timeout=10))


def _gateway_yaml(settings: Settings) -> str:
    text = Template((HERE / "manifests" / "gateway.yaml").read_text())
    image = f"\n        container: {{image: {images.tags(settings)['envoy']}}}" if settings.images == "build" else ""
    return text.substitute(node_port=NODE_PORT, container=image)


def _netpol_yaml(settings: Settings) -> str:
    return Template((HERE / "manifests" / "netpol.yaml").read_text()).substitute(image=images.tags(settings)["netpol"])


def _netpol(settings: Settings) -> None:
    kubectl(settings, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=_netpol_yaml(settings))


def _gateway(settings: Settings) -> None:
    kubectl(settings, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=_gateway_yaml(settings))


def _programmed(settings: Settings) -> bool:
    """Envoy Gateway says so, and Envoy answers on the host's port (404 where no route is)."""
    path = 'jsonpath={.status.conditions[?(@.type=="Programmed")].status}'
    if kubectl(settings, "-n", "kserve", "get", "gateway", "gateway", "--ignore-not-found", "-o", path) != "True":
        return False
    connection = http.client.HTTPConnection("127.0.0.1", settings.port, timeout=3)
    try:
        connection.request("GET", "/", headers={"Host": "none.none.localhost"})
        return connection.getresponse().status > 0
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
