"""The proxies' counters: which backend, whose route, which answers; never another service's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiservice.core.world import Place
from aiservice.kube import proxies

TEXT = """# TYPE envoy_cluster_external_upstream_rq_completed counter
envoy_cluster_external_upstream_rq_completed{envoy_cluster_name="httproute/pay/fraud/rule/0/backend/0"} 90
envoy_cluster_internal_upstream_rq_completed{envoy_cluster_name="httproute/pay/fraud/rule/0/backend/0"} 5
envoy_cluster_external_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="httproute/pay/fraud/rule/0/backend/0"} 2
envoy_cluster_external_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="httproute/pay/fraud/rule/0/backend/0"} 88
envoy_cluster_external_upstream_rq_completed{envoy_cluster_name="httproute/pay/fraud/rule/0/backend/1"} 10
envoy_cluster_external_upstream_rq_completed{envoy_cluster_name="grpcroute/pay/fraud/rule/0/backend/1"} 7
envoy_cluster_external_upstream_rq_completed{envoy_cluster_name="httproute/pay/fraud-2/rule/0/backend/1"} 1000
envoy_cluster_external_upstream_rq_completed{envoy_cluster_name="httproute/other/fraud/rule/0/backend/1"} 1000
envoy_cluster_upstream_rq_completed{envoy_cluster_name="httproute/pay/fraud/rule/0/backend/0"} 95
"""


def test_answers_by_backend() -> None:
    assert proxies.answers(TEXT, "pay", "fraud") == {("httproute", 0): (2, 95), ("httproute", 1): (0, 10), ("grpcroute", 1): (0, 7)}


def test_one_source_for_each_proxy_and_backend() -> None:
    seen = {"a.0": proxies.answers(TEXT, "pay", "fraud"), "b.1": {("httproute", 1): (1, 3), ("httproute", 2): (0, 9)}}
    found = proxies.totals(seen, ["r1", "r2", None])
    assert {source: (t.revision, t.counts.errors, t.arrivals) for source, t in found.items()} == {
        "gateway.a.0/httproute/0": ("r1", (2, 95), True),
        "gateway.a.0/httproute/1": ("r2", (0, 10), True),
        "gateway.a.0/grpcroute/1": ("r2", (0, 7), True),
        "gateway.b.1/httproute/1": ("r2", (1, 3), True),
    }


@given(st.text())
def test_anything_else_is_nothing(text: str) -> None:
    assert proxies.answers(text, "pay", "fraud") == {}


def test_whose_proxies() -> None:
    assert set(proxies.labels(Place("gw", "infra")).values()) == {"gw", "infra"}
