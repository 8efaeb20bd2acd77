"""Judge the chart, and what the operator renders, without a cluster: helm lint, kubeconform, kube-score, checkov. Exceptions: charts/exceptions.toml.

Tools are built from Go modules and PyPI on demand and cached; schemas come from the OpenAPI and CRD files of the very modules that the test cluster is made of.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "hack" / "cluster"))

from aiservice_cluster import gomod, images, settings  # noqa: E402
from aiservice_cluster.gomod import Program  # noqa: E402
from aiservice_cluster.kind import HELM  # noqa: E402

CHART = ROOT / "charts" / "aiservice"
OUT = ROOT / "build" / "chart"
KUBECONFORM = Program("github.com/yannh/kubeconform", ("github.com/yannh/kubeconform/cmd/kubeconform",))
KUBE_SCORE = Program("github.com/zegl/kube-score", ("github.com/zegl/kube-score/cmd/kube-score",))
PROMETHEUS = "github.com/prometheus-operator/prometheus-operator"
MONITORING = ("monitoring.monitors=true", "monitoring.rules=true", "monitoring.dashboard=true", "monitoring.labels.team=x")
VARIANTS: dict[str, tuple[str, ...]] = {
    "default": (),
    "everything": (*MONITORING, "test.service=shop/svc", "network.clients={monitoring,10.0.0.0/8}", "imagePullSecrets[0].name=pull"),
    "one-namespace": ("watchNamespace=shop", *MONITORING),
    "bare": ("network.policies=false", "crds.install=false"),
}
"""Values by name; each is rendered and judged."""


class Loader(yaml.CSafeLoader):
    """`=` is a text in CRDs."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: str(node.value))


def main() -> int:
    chosen = settings.from_environment()
    programs = gomod.programs(chosen, [HELM, KUBECONFORM, KUBE_SCORE])
    exceptions = tomllib.loads((ROOT / "charts" / "exceptions.toml").read_text())
    schemas(chosen)
    failed = False
    made = []
    for name, values in VARIANTS.items():
        words = [w for v in values for w in ("--set", v)]
        failed |= judge(f"helm lint, {name}", programs["helm"], "lint", "--strict", "--quiet", CHART, *words)
        text = subprocess.run(
            [programs["helm"], "template", "aiservice", CHART, "-n", "aiservice-system", *words], capture_output=True, text=True, check=True
        ).stdout
        made.append(OUT / f"{name}.yaml")
        made[-1].write_text(text)
    rendered = OUT / "rendered.yaml"
    rendered.write_text(
        subprocess.run([sys.executable, "-m", "aiservice.cli", "render", "-f", EXAMPLE], capture_output=True, text=True, check=True).stdout
    )
    location = f"{OUT}/schemas/{{{{ .Group }}}}/{{{{ .ResourceKind }}}}_{{{{ .ResourceAPIVersion }}}}.json"
    failed |= judge("kubeconform", programs["kubeconform"], "-strict", "-schema-location", location, *made, rendered)
    failed |= judge("kube-score", programs["kube-score"], "score", "--exit-one-on-warning", "-o", "ci", *exceptions["kube-score"], *made)
    skip = ("--skip-check", ",".join(exceptions["checkov"]))
    files = [w for path in made for w in ("-f", path)]
    failed |= judge("checkov", checkov(chosen), "--framework", "kubernetes", "--compact", "--quiet", "--skip-download", *skip, *files)
    return int(failed)


EXAMPLE = ROOT / "examples" / "fraud-detection" / "service.yaml"


def judge(name: str, *command: str | Path) -> bool:
    """Whether it found something; then it is printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=OUT, env=os.environ | {"LOG_LEVEL": "ERROR"})
    print(f"chart: {name}: {'failed' if done.returncode else 'clean'}", flush=True)
    if done.returncode:
        print(*(line for line in (done.stdout + done.stderr).splitlines() if "[OK]" not in line and "[SKIPPED]" not in line), sep="\n")
    return done.returncode != 0


def checkov(chosen: settings.Settings) -> Path:
    """In a virtual environment of its own: it brings a hundred packages."""
    version = chosen.versions["pypi"]["checkov"]
    home = chosen.cache / f"checkov-{version}"
    program = home / "bin" / "checkov"
    if not program.exists():
        print(f"chart: installing checkov {version}", flush=True)
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([home / "bin" / "pip", "install", "-q", "--disable-pip-version-check", f"checkov=={version}"], check=True)
    return program


def schemas(chosen: settings.Settings) -> None:
    """GROUP/KIND_VERSION.json for every kind that Kubernetes, KServe, the Gateway API and the Prometheus Operator know, and ours."""
    home = OUT / "schemas"
    home.mkdir(parents=True, exist_ok=True)
    api = gomod.module_dir("k8s.io/kubernetes", chosen.kubernetes) / "api" / "openapi-spec" / "v3"
    for path in api.glob("*_openapi.json"):
        if "__v1" in path.name or "__v2" in path.name:
            builtin(json.loads(path.read_text())["components"].get("schemas", {}), home)
    crds = [ROOT / "crds"]
    crds.append(gomod.module_dir(images.KSERVE.module, chosen.go(images.KSERVE.module)) / "config" / "crd" / "full")
    crds.append(
        gomod.module_dir(images.GATEWAY.module, chosen.go(images.GATEWAY.module)) / "charts" / "gateway-helm" / "charts" / "crds" / "crds"
    )
    crds.append(gomod.module_dir(PROMETHEUS, chosen.go(PROMETHEUS)) / "example" / "prometheus-operator-crd")
    for folder in crds:
        for path in folder.glob("*.yaml"):
            for crd in yaml.load_all(path.read_text(), Loader):
                if crd and crd["kind"] == "CustomResourceDefinition":
                    custom(crd["spec"], home)


def builtin(found: dict[str, Any], home: Path) -> None:
    closed = {name: strict(schema) for name, schema in found.items()}
    for name, schema in found.items():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            whole = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": closed}}
            write(home, kind["group"], kind["version"], kind["kind"], whole)


def custom(spec: dict[str, Any], home: Path) -> None:
    for version in spec["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        schema.setdefault("properties", {}).update(
            {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
        )
        write(home, spec["group"], version["name"], spec["names"]["kind"], strict(schema))


def write(home: Path, group: str, version: str, kind: str, schema: dict[str, Any]) -> None:
    path = home / (group or version) / f"{kind.lower()}_{version}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(schema))


def strict(schema: Any) -> Any:
    """What is no field is refused, as the API server's strict validation does; unknown formats and Kubernetes' own words are left out."""
    if isinstance(schema, list):
        return [strict(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    out = dict(_kept(schema))
    closed = "properties" in schema and "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields")
    return out | {"additionalProperties": False} if closed and schema.get("type") == "object" else out


def _kept(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in schema.items():
        if name == "properties":
            yield name, {field: strict(inner) for field, inner in value.items()}
        elif name == "additionalProperties" and value is True:
            yield name, True
        elif name not in ("format", "description", "default", "example") and not name.startswith("x-kubernetes-"):
            yield name, value if name in ("required", "enum") else strict(value)


if __name__ == "__main__":
    sys.exit(main())
