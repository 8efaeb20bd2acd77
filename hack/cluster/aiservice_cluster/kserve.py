"""KServe from its own charts, with what cert-manager would have done: a webhook certificate and its caBundle."""

import base64
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from .gomod import module_dir
from .kind import helm, kubectl
from .settings import HERE, Settings, key
from .shell import run

MODULE = "github.com/kserve/kserve"
SERVICE = "kserve-webhook-server-service.kserve.svc"
VALUES = {
    "kserve.controller.deploymentMode": "Standard",
    "kserve.controller.gateway.domain": "localhost",
    "kserve.controller.gateway.domainTemplate": "{{ .Name }}.{{ .Namespace }}.{{ .IngressDomain }}",
    "kserve.controller.gateway.disableIstioVirtualHost": "true",
    "kserve.controller.gateway.ingressGateway.enableGatewayApi": "true",
    "kserve.controller.gateway.ingressGateway.kserveGateway": "kserve/gateway",
    "kserve.controller.imagePullPolicy": "IfNotPresent",
    "kserve.controller.resources.requests.cpu": "50m",
    "kserve.controller.resources.limits.cpu": "2",
    "kserve.inferenceservice.resources.requests.cpu": "50m",
    "kserve.inferenceservice.resources.requests.memory": "128Mi",
}
LEFT_OUT = ("Certificate", "Issuer")  # cert-manager's
LAST = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "ClusterStorageContainer")  # only when the controller answers
RECIPE = key(VALUES, LEFT_OUT, LAST, HERE / "manifests" / "kserve-kustomization.yaml", 1)


def install(settings: Settings) -> None:
    """CRDs, then the controller, then (when it answers) the webhooks and what they check."""
    charts = module_dir(MODULE, settings.go(MODULE)) / "charts"
    _apply(settings, _render(settings, "kserve-crd", charts / "kserve-crd", {}))
    resources = _patched(settings, _render(settings, "kserve", charts / "kserve-resources", VALUES))
    _apply(settings, [text for text in resources if _kind(text) not in LAST])
    kubectl(settings, "-n", "kserve", "rollout", "status", "deployment/kserve-controller-manager", "--timeout=180s")
    _apply(settings, [text for text in resources if _kind(text) in LAST])


def answers(settings: Settings) -> bool:
    """Its webhook judges an InferenceService (which is not kept)."""
    probe = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "probe", "namespace": "default"},
        "spec": {"predictor": {"containers": [{"name": "kserve-container", "image": "none"}]}},
    }
    return bool(kubectl(settings, "apply", "--server-side", "--dry-run=server", "-f", "-", stdin=json.dumps(probe), timeout=20))


def _render(settings: Settings, release: str, chart: Path, values: dict[str, str]) -> list[str]:
    text = helm(settings, "template", release, chart, "-n", "kserve", "-f", "-", stdin=json.dumps(_nested(values)))
    return [part for part in _documents(text) if _kind(part) not in LEFT_OUT]


def _nested(values: dict[str, str]) -> dict[str, Any]:
    """{"a.b": c} -> {"a": {"b": c}}; true is a boolean."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = True if value == "true" else value
    return tree


def _documents(text: str) -> list[str]:
    return [part for part in re.split(r"^---\s*$", text, flags=re.M) if _kind(part)]


def _kind(text: str) -> str:
    found = re.search(r"^kind: *\"?(\w+)", text, flags=re.M)
    return found.group(1) if found else ""


def _patched(settings: Settings, rendered: list[str]) -> list[str]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "rendered.yaml").write_text("\n---\n".join(rendered))
        shutil.copy(HERE / "manifests" / "kserve-kustomization.yaml", folder / "kustomization.yaml")
        _certificate(settings, folder)
        return _documents(kubectl(settings, "kustomize", folder))


def _certificate(settings: Settings, folder: Path) -> None:
    """tls.crt and tls.key: the ones in the cluster, or new ones (the controller would see a change only after a minute)."""
    held = kubectl(settings, "-n", "kserve", "get", "secret", "kserve-webhook-server-cert", "--ignore-not-found", "-o", "json")
    if held:
        for name, value in json.loads(held)["data"].items():
            (folder / name).write_bytes(base64.b64decode(value))
        return
    subject = ["-subj", f"/CN={SERVICE}", "-addext", f"subjectAltName=DNS:{SERVICE}"]
    key_type = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650"]
    run("openssl", "req", "-x509", *key_type, *subject, "-keyout", "tls.key", "-out", "tls.crt", cwd=folder)


def _apply(settings: Settings, documents: list[str]) -> None:
    kubectl(settings, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin="\n---\n".join(documents))
