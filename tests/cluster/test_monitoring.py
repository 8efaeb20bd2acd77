"""Alerts and dashboard against a real Prometheus: promtool plays the alerts, and one in the cluster scrapes what the chart's monitors name."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiservice.api.status import DecisionKind
from cluster import images
from cluster.kube import ROOT, SYSTEM, Kube, decided, forwarded, ready, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CHART = ROOT / "charts" / "aiservice"
RULES = CHART / "dashboards" / "rules.yaml"
PORT = 9090


def test_alerts_come_when_they_must_and_only_then(tmp_path: Path) -> None:
    for file in (RULES, Path(__file__).with_name("alerts.yaml")):
        shutil.copy(file, tmp_path)
    for words in (("check", "rules", "rules.yaml"), ("test", "rules", "alerts.yaml")):
        done = subprocess.run(
            [images.prometheus("promtool"), *words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_played() -> None:
    played = yaml.safe_load(Path(__file__).with_name("alerts.yaml").read_text())["tests"]
    raised = {c["alertname"] for t in played for c in t["alert_rule_test"] if c.get("exp_alerts")}
    assert raised == {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}


def jobs(namespace: str) -> list[dict[str, Any]]:
    """The chart's ServiceMonitor and PodMonitor as the Prometheus Operator would write them down, the pods of one namespace."""
    text = run(
        "helm", "template", "aiservice", str(CHART), "-n", SYSTEM, "--set", "monitoring.monitors=true", "-s", "templates/monitoring.yaml"
    )
    monitors = {m["kind"]: m["spec"] for m in yaml.safe_load_all(text) if m}
    (operator,), (predictors,) = monitors["ServiceMonitor"]["endpoints"], monitors["PodMonitor"]["podMetricsEndpoints"]
    keep: list[dict[str, Any]] = [
        {"action": "keep", "source_labels": [f"__meta_kubernetes_service_label_{meta(name)}"], "regex": value}
        for name, value in monitors["ServiceMonitor"]["selector"]["matchLabels"].items()
    ]
    (wanted,) = monitors["PodMonitor"]["selector"]["matchExpressions"]
    assert wanted["operator"] == "Exists"
    present = f"__meta_kubernetes_pod_labelpresent_{meta(wanted['key'])}"
    relabelled = [{"source_labels": r["sourceLabels"], "target_label": r["targetLabel"]} for r in predictors["relabelings"]]
    return [
        job("operator", "endpoints", SYSTEM, operator, [*keep, named("endpoint_port_name", operator["port"])]),
        job(
            "predictors", "pod", namespace, predictors,
            [{"action": "keep", "source_labels": [present], "regex": "true"}, named("pod_container_port_name", predictors["port"]), *relabelled],
        ),
    ]  # fmt: skip


def job(name: str, role: str, namespace: str, endpoint: dict[str, Any], relabel: list[dict[str, Any]]) -> dict[str, Any]:
    own = [
        {"source_labels": [f"__meta_kubernetes_{what}"], "target_label": label}
        for what, label in (("namespace", "namespace"), ("pod_name", "pod"))
    ]
    return {
        "job_name": name,
        "honor_labels": endpoint.get("honorLabels", False),
        "metrics_path": endpoint["path"],
        "kubernetes_sd_configs": [{"role": role, "namespaces": {"names": [namespace]}}],
        "relabel_configs": [*own, *relabel],
    }


def named(what: str, port: str) -> dict[str, Any]:
    return {"action": "keep", "source_labels": [f"__meta_kubernetes_{what}"], "regex": port}


def meta(label: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)


@pytest.fixture
def prometheus(kube: Kube) -> Iterator[str]:
    """In the test's namespace, which predictors answer. -> its URL."""
    image = images.of(images.prometheus("prometheus"))
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["/etc/prometheus/rules.yaml"],
        "scrape_configs": jobs(kube.namespace),
    }
    name = f"prometheus-{kube.namespace}"
    for namespace in (kube.namespace, SYSTEM):
        run("kubectl", "-n", namespace, "create", "rolebinding", name, "--clusterrole=view", f"--serviceaccount={kube.namespace}:default")
    container = {
        "name": "prometheus",
        "image": image,
        "args": ["--config.file=/etc/prometheus/prometheus.json", "--storage.tsdb.path=/data", "--log.level=warn"],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "config", "mountPath": "/etc/prometheus"}],
    }
    volumes = [{"name": "data", "emptyDir": {}}, {"name": "config", "configMap": {"name": "prometheus"}}]
    about = {"name": "prometheus", "namespace": kube.namespace}
    files = {"prometheus.json": json.dumps(config), "rules.yaml": RULES.read_text()}
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": files})
    kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": {"containers": [container], "volumes": volumes}})
    try:
        kube.ctl("wait", "--for=condition=Ready", "pod/prometheus", "--timeout=120s")
        with forwarded(kube.namespace, "pod/prometheus", PORT) as port:
            yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        run("kubectl", "-n", SYSTEM, "delete", "rolebinding", name)


def asked(url: str, path: str, **words: str) -> Any:
    with urllib.request.urlopen(f"{url}/{path}?{urllib.parse.urlencode(words)}", timeout=20) as answer:
        return json.load(answer)["data"]


async def test_a_prometheus_finds_everybody_fills_every_panel_and_raises_an_alert(kube: Kube, tmp_path: Path, prometheus: str) -> None:
    kube.publish(tmp_path, "v1")
    kube.publish(tmp_path, "v2", scale=-1.0, bias=1.0)
    kube.apply(kube.service("v1", replicas=2))
    await kube.until(lambda s: ready(s) and s.revisions[0].ready == 2, "two predictors serve")
    async with kube.traffic():
        kube.apply(kube.service("v2", replicas=2, replay={"requests": 50}))
        await kube.until(decided(DecisionKind.REJECTED), "a candidate that decides otherwise is rejected")
        for _ in range(60):
            lacking = await asyncio.to_thread(empty, prometheus, kube)
            if not lacking:
                break
            await asyncio.sleep(1)
    assert lacking == []
    up = asked(prometheus, "query", query="sum by (job) (up)")["result"]
    assert {one["metric"]["job"] for one in up} == {"operator", "predictors"}
    assert asked(prometheus, "query", query="up == 0")["result"] == []
    mine = 'aiservice_requests_total{job="predictors"}'
    series = asked(prometheus, "query", query=f"count by (namespace, service, revision) ({mine})")["result"]
    assert {"namespace": kube.namespace, "service": "svc", "revision": kube.status().rollout.stable} in [one["metric"] for one in series]
    (group,) = asked(prometheus, "rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    raised = [a["labels"] for a in asked(prometheus, "alerts")["alerts"] if a["labels"].get("exported_namespace") == kube.namespace]
    assert [(a["alertname"], a["service"], a["phase"]) for a in raised] == [("AIServiceModelStopped", "svc", "Rejected")]


def empty(url: str, kube: Kube) -> list[str]:
    """Titles of the dashboard's panels for which Prometheus has nothing."""
    out = []
    for panel in json.loads((CHART / "dashboards" / "aiservice.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$namespace", kube.namespace).replace("$service", "svc").replace("$__rate_interval", "30s")
            if not asked(url, "query", query=query)["result"]:
                out.append(panel["title"])
    return out
