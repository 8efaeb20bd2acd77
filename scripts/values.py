"""Write the chart's README from values.yaml: every value, its default, its comment. A value without a comment is refused."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent.parent / "charts" / "aiservice"
HEAD = """# The chart

The operator, the AIService CRD and the ClusterServingRuntime. It needs Kubernetes 1.30 or later, KServe in Standard mode and the Gateway API with a Gateway ([docs/cluster.md](../../docs/cluster.md)).

```
helm install aiservice charts/aiservice --namespace aiservice-system --create-namespace --set gateway.name=NAME --set gateway.namespace=NAMESPACE
helm test aiservice --namespace aiservice-system --logs
helm upgrade aiservice charts/aiservice --namespace aiservice-system --reset-then-reuse-values
helm uninstall aiservice --namespace aiservice-system
```

An upgrade upgrades the CRD as well; services answer on meanwhile. After an uninstall the CRD, every AIService and all that serves stay and answer on, without rollouts; a new install takes over (under another release name: `--take-ownership`).
To remove services too: `kubectl delete ais --all -A` first, and `kubectl delete crd aiservices.aiservice.dev` last.

`make chart` judges it with helm lint, kubeconform, kube-score and checkov; what is not asked of it stands with its reason in [exceptions.toml](../exceptions.toml).

| value | default | what |
|---|---|---|
"""


def rows(lines: list[str], values: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Path, default, comment. Comments stand above their value."""
    path: list[tuple[int, str]] = []
    said: list[str] = []
    for line in lines:
        text = line.strip()
        if text.startswith("#"):
            said.append(text.removeprefix("#").strip())
            continue
        found = re.match(r"( *)([A-Za-z]+):", line)
        if found:
            indent = len(found[1])
            path = [*(p for p in path if p[0] < indent), (indent, found[2])]
            default: Any = values
            for _, name in path:
                default = default[name]
            if not text.endswith(":"):
                yield ".".join(name for _, name in path), default, " ".join(said)
        said = []


def readme() -> str:
    text = (CHART / "values.yaml").read_text()
    table = list(rows(text.splitlines(), yaml.safe_load(text)))
    bare = [name for name, _, said in table if not said]
    if bare:
        sys.exit(f"values.yaml: {', '.join(bare)}: say above it, as a comment, what it does")
    return HEAD + "".join(f"| `{name}` | `{json.dumps(default)}` | {said} |\n" for name, default, said in table)


if __name__ == "__main__":
    sys.stdout.write(readme())
