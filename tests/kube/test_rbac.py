"""The chart grants what the operator does, and nothing more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from aiservice.api.service import GROUP, PLURAL
from aiservice.kube.main import WATCHED
from aiservice.kube.world import OWNED

CHART = Path(__file__).resolve().parents[2] / "charts" / "aiservice" / "templates"
PLURALS = {
    "InferenceService": "inferenceservices",
    "Service": "services",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "ScaledObject": "scaledobjects",
    "NetworkPolicy": "networkpolicies",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "HTTPRoute": "httproutes",
    "GRPCRoute": "grpcroutes",
}
WATCH = {"list", "watch"}
APPLY = {"create", "patch"}
"""Server-side apply of an object that may not be there yet."""


def granted(template: str = "aiservice.rules") -> set[tuple[str, str, str]]:
    text = (CHART / "_helpers.tpl").read_text()
    rules: list[dict[str, Any]] = yaml.safe_load(re.search(rf'define "{template}" -}}}}\n(.*?)\n{{{{- end', text, re.DOTALL).group(1))  # type: ignore[union-attr]
    return {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}


def used() -> set[tuple[str, str, str]]:
    out: set[tuple[str, str, str]] = set()
    for api, kind in OWNED:
        group = api.rpartition("/")[0]
        out |= {(group, PLURALS[kind], verb) for verb in {"list", "delete"} | APPLY}
    out |= {(group, plural, verb) for group, _, plural in WATCHED for verb in WATCH}
    out |= {(GROUP, PLURAL, verb) for verb in WATCH | {"get"}}
    out |= {(GROUP, f"{PLURAL}/status", "patch")}
    out |= {("", "secrets", "get"), ("", "secrets", "create"), ("gateway.networking.k8s.io", "httproutes", "get"), ("", "events", "create")}
    return out


def test_every_verb_used_is_granted_and_every_verb_granted_is_used() -> None:
    assert granted() == used()


def test_what_is_asked_of_the_whole_cluster_is_granted_and_nothing_more() -> None:
    assert granted("aiservice.clusterRules") == {
        ("apiextensions.k8s.io", "customresourcedefinitions", "list"),  # kopf: kinds that come later are watched as well
        ("apiextensions.k8s.io", "customresourcedefinitions", "watch"),
        ("gateway.networking.k8s.io", "gateways", "get"),
        ("serving.kserve.io", "clusterservingruntimes", "get"),
        ("authentication.k8s.io", "tokenreviews", "create"),
        ("authorization.k8s.io", "subjectaccessreviews", "create"),
    }
