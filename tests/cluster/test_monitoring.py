"""Alerts and dashboard against a real Prometheus: promtool plays the alerts, and one in the cluster scrapes what the chart's monitors name."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiservice.api.runtime import RUNTIME
from aiservice.api.status import DecisionKind
from cluster import programs
from cluster.kube import ROOT, SYSTEM, Kube, Refused, decided, forwarded, ready, run
from local.machine import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CHART = ROOT / "charts" / "aiservice"
RULES = CHART / "dashboards" / "rules.yaml"
PORT = 9090


def test_alerts_come_when_they_must_and_only_then(tmp_path: Path) -> None:
    for file in (RULES, Path(__file__).with_name("alerts.yaml")):
        shutil.copy(file, tmp_path)
    for words in (("check", "rules", "rules.yaml"), ("test", "rules", "alerts.yaml")):
        done = subprocess.run(
            [programs.prometheus("promtool"), *words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_played() -> None:
    played = yaml.safe_load(Path(__file__).with_name("alerts.yaml").read_text())["tests"]
    raised = {c["alertname"] for t in played for c in t["alert_rule_test"] if c.get("exp_alerts")}
    assert raised == {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}


def monitors() -> dict[str, dict[str, Any]]:
    """The chart's ServiceMonitor and PodMonitor."""
    which = ("--set", "monitoring.monitors=true", "-s", "templates/monitoring.yaml")
    text = run("helm", "template", "aiservice", str(CHART), "-n", SYSTEM, *which)
    return {m["kind"]: m["spec"] for m in yaml.safe_load_all(text) if m}


def jobs(kube: Kube) -> list[dict[str, Any]]:
    """What the Prometheus Operator would make of the monitors, for the pods that there are: Debian's Prometheus cannot look for them itself."""
    found = monitors()
    operator, predictors = found["ServiceMonitor"], found["PodMonitor"]
    labels = ",".join(f"{name}={value}" for name, value in operator["selector"]["matchLabels"].items())
    (service,) = Kube(SYSTEM).get("services", "-l", labels)["items"]
    behind = Kube(SYSTEM).get("pods", "-l", ",".join(f"{name}={value}" for name, value in service["spec"]["selector"].items()))["items"]
    (present,) = predictors["selector"]["matchExpressions"]
    assert present["operator"] == "Exists"
    serving = kube.get("pods", "-l", present["key"])["items"]
    return [job("operator", operator["endpoints"], behind), job("predictors", predictors["podMetricsEndpoints"], serving)]


def job(name: str, endpoints: list[dict[str, Any]], pods: list[dict[str, Any]]) -> dict[str, Any]:
    (endpoint,) = endpoints
    return {
        "job_name": name,
        "honor_labels": endpoint.get("honorLabels", False),
        "metrics_path": endpoint["path"],
        "static_configs": [
            {"targets": [address(pod, endpoint["port"])], "labels": told(pod, endpoint.get("relabelings", ()))} for pod in pods
        ],
    }


def address(pod: dict[str, Any], port: str) -> str:
    (number,) = (p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports", ()) if p["name"] == port)
    return f"{pod['status']['podIP']}:{number}"


def told(pod: dict[str, Any], relabelings: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Labels of a target: those that the Prometheus Operator always gives, and those that the monitor takes from the pod's."""
    known = {"__meta_kubernetes_pod_label_" + re.sub(r"\W", "_", name): value for name, value in pod["metadata"]["labels"].items()}
    taken = {r["targetLabel"]: known[source] for r in relabelings for source in r["sourceLabels"]}
    return {"namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"]} | taken


@contextmanager
def prometheus(kube: Kube, folder: Path) -> Iterator[str]:
    """In the test's namespace, whose pods the predictors answer; its program comes with the models. -> its URL."""
    (folder / "bin").mkdir()
    shutil.copy(programs.prometheus("prometheus"), folder / "bin")
    kube.put(folder / "bin")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["/config/rules.yaml"],
        "scrape_configs": jobs(kube),
    }
    files = {"prometheus.json": json.dumps(config), "rules.yaml": RULES.read_text()}
    about = {"name": "prometheus", "namespace": kube.namespace}
    container = {
        "name": "prometheus",
        "image": run("kubectl", "get", "clusterservingruntime", RUNTIME, "-o", "jsonpath={.spec.containers[0].image}"),
        "command": ["/models/bin/prometheus", "--config.file=/config/prometheus.json", "--storage.tsdb.path=/data", "--log.level=warn"],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in ("models", "config", "data")],
    }
    volumes = [
        {"name": "models", "persistentVolumeClaim": {"claimName": "models"}},
        {"name": "config", "configMap": {"name": "prometheus"}},
        {"name": "data", "emptyDir": {}},
    ]
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": files})
    kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": {"containers": [container], "volumes": volumes}})
    try:
        kube.ctl("wait", "--for=condition=Ready", "pod/prometheus", "--timeout=60s")
    except Refused as refused:
        raise AssertionError(kube.ctl("logs", "pod/prometheus")) from refused
    with forwarded(kube.namespace, "pod/prometheus", PORT) as port:
        yield f"http://127.0.0.1:{port}/api/v1"


def asked(url: str, path: str, **words: str) -> Any:
    with urllib.request.urlopen(f"{url}/{path}?{urllib.parse.urlencode(words)}", timeout=20) as answer:
        return json.load(answer)["data"]


async def test_what_the_monitors_name_fills_every_panel_and_raises_an_alert(kube: Kube, tmp_path: Path) -> None:
    kube.publish(tmp_path, "v1")
    kube.publish(tmp_path, "v2", scale=-1.0, bias=1.0)
    kube.apply(kube.service("v1", replicas=2))
    await kube.until(lambda s: ready(s) and s.revisions[0].ready == 2, "two predictors serve")
    stable = kube.status().rollout.stable
    with prometheus(kube, tmp_path) as url:
        async with kube.traffic():
            kube.apply(kube.service("v2", replicas=2, replay={"requests": 50}))
            await kube.until(decided(DecisionKind.REJECTED), "a candidate that decides otherwise is rejected")
            lacking = ["every panel"]
            for _ in range(60):
                lacking = await asyncio.to_thread(empty, url, kube)
                if not lacking:
                    break
                await asyncio.sleep(1)
        assert lacking == []
        assert asked(url, "query", query="count by (job) (up == 0)")["result"] == []
        assert [s["value"][1] for s in asked(url, "query", query="count by (job) (up)")["result"]] == ["2", "2"]
        series = asked(url, "query", query="count by (namespace, service, revision) (aiservice_requests_total)")["result"]
        assert [s["metric"] for s in series] == [{"namespace": kube.namespace, "service": "svc", "revision": stable}]
        (group,) = asked(url, "rules")["groups"]
        assert {rule["health"] for rule in group["rules"]} == {"ok"}

        def raised() -> list[tuple[str, str, str]]:
            found = [a["labels"] for a in asked(url, "alerts")["alerts"] if a["labels"].get("exported_namespace") == kube.namespace]
            return [(a["alertname"], a["service"], a["phase"]) for a in found]

        await until(raised, "an alert")
        assert raised() == [("AIServiceModelStopped", "svc", "Rejected")]


def empty(url: str, kube: Kube) -> list[str]:
    """Titles of the dashboard's panels for which Prometheus has nothing."""
    out = []
    for panel in json.loads((CHART / "dashboards" / "aiservice.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$namespace", kube.namespace).replace("$service", "svc").replace("$__rate_interval", "30s")
            if not asked(url, "query", query=query)["result"]:
                out.append(panel["title"])
    return out
