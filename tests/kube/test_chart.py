"""The chart speaks of what is there: metrics that are exported, values that its schema knows, a CRD and a runtime that outlive it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from aiservice.api.status import Phase
from aiservice.kube.telemetry import Telemetry

CHART = Path(__file__).resolve().parents[2] / "charts" / "aiservice"
PREDICTORS = CHART.parents[1] / "predictors" / "aiservice_predictor"
METRIC = re.compile(r"\baiservice_[a-z_]+\b")
SUFFIX = re.compile(r"_(total|bucket|sum|count|created)$")


def expressions() -> list[str]:
    dashboard = json.loads((CHART / "dashboards" / "aiservice.json").read_text())
    rules = yaml.safe_load((CHART / "dashboards" / "rules.yaml").read_text())
    asked = [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", ())]
    asked += [v["query"] for v in dashboard["templating"]["list"]]
    return asked + [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def test_dashboard_and_alerts_ask_for_metrics_that_are_exported() -> None:
    operator = {family.name for family in Telemetry().registry.collect()}
    predictor = set(re.findall(r'"(aiservice_[a-z_]+)"', (PREDICTORS / "metrics.py").read_text()))
    predictor |= {SUFFIX.sub("", n) for n in re.findall(r"# TYPE (aiservice_[a-z_]+) ", (PREDICTORS / "workers" / "totals.py").read_text())}
    asked = {SUFFIX.sub("", name) for text in expressions() for name in METRIC.findall(text)}
    assert asked
    assert asked <= operator | predictor


def test_alerts_name_phases_that_there_are() -> None:
    named = {phase for text in expressions() for found in re.findall(r'phase=~"([^"]+)"', text) for phase in found.split("|")}
    assert named <= {p.value for p in Phase}
    assert "RolledBack" in named


def test_panels_do_not_overlap() -> None:
    panels = json.loads((CHART / "dashboards" / "aiservice.json").read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for place in (p["gridPos"] for p in panels):
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells


def unknown(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> list[str]:
    """Values that the schema does not know, and maps in it that let anything through."""
    out = []
    for name, value in values.items():
        known = schema.get("properties", {}).get(name)
        if known is None:
            out.append(f"{path}{name}")
        elif isinstance(value, dict) and "properties" in known:
            out += unknown(value, known, f"{path}{name}.") + (
                [] if known.get("additionalProperties") is False else [f"{path}{name} is open"]
            )
    return out


def test_the_schema_knows_every_value_and_nothing_else() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert unknown(values, schema) == []
    assert set(schema["properties"]) - {"global"} == set(values)


def test_what_serves_outlives_the_chart() -> None:
    for file in ("crd.yaml", "runtime.yaml"):
        assert "annotations: {helm.sh/resource-policy: keep}" in (CHART / "files" / file).read_text()
