"""Envoy's files: what the HTTPRoutes and GRPCRoutes ask for, and which predictors are ready -> listener, routes, clusters, endpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiservice.api.runtime import REPLAY_HEADER, REVISION_HEADER
from aiservice.core.render.route import GRPC_SERVICE

Json = dict[str, Any]
TYPE = "type.googleapis.com/envoy"
ROUTES = "routes"
OTHER_HOST = "envoy.retry_host_predicates.previous_hosts"
OTHER_HOST_TYPE = "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
"""An inference changes nothing, so one whose predictor died is put to another; a model's own 5xx is an answer and never tried again."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A revision as the gateway sees it: its two clusters and the ports of its ready predictors on this machine."""

    revision: str
    http: str
    grpc: str
    http_ports: tuple[int, ...]
    grpc_ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Routed:
    """One service as the gateway sees it."""

    name: str
    namespace: str
    timeout: float
    """Seconds that a predictor allows itself."""
    backends: tuple[Backend, ...]
    http: Mapping[str, int]
    """Cluster -> weight, from the HTTPRoute; empty: no route yet."""
    grpc: Mapping[str, int]
    control: int
    """Port of the control server, for labels."""


def files(services: Sequence[Routed], address: str, port: int, folder: str) -> dict[str, str]:
    """File name -> content. Each is replaced by rename, so that Envoy never reads half of one."""
    backends = [b for s in services for b in s.backends]
    clusters = [_cluster(b.http, folder) for b in backends] + [_cluster(b.grpc, folder, h2=True) for b in backends]
    clusters += [_cluster(_control(s.name), folder) for s in services]
    endpoints = {b.http: b.http_ports for b in backends} | {b.grpc: b.grpc_ports for b in backends}
    endpoints |= {_control(s.name): (s.control,) for s in services}
    out = {
        "lds": _resources([_listener(address, port, folder)]),
        "rds": _resources([_route_configuration(services)]),
        "cds": _resources(clusters),
    }
    return {
        f"{name}.json": text for name, text in (out | {f"eds-{c}": _resources([_assignment(c, p)]) for c, p in endpoints.items()}).items()
    }


def bootstrap(folder: str, admin: str) -> str:
    """`admin`: path of the admin socket."""

    def source(name: str) -> Json:
        return {"path_config_source": {"path": f"{folder}/{name}.json", "watched_directory": {"path": folder}}}

    return json.dumps(
        {
            "node": {"id": "local", "cluster": "aiservice"},
            "admin": {"address": {"pipe": {"path": admin, "mode": 0o600}}},
            "dynamic_resources": {"cds_config": source("cds"), "lds_config": source("lds")},
        },
        indent=1,
    )


def weights(dump: Json, services: Sequence[Routed]) -> dict[str, dict[str, int]]:
    """Service -> revision -> weight, as Envoy says that it routes now (its config dump of dynamic routes)."""
    by_cluster = {b.http: (s.name, b.revision) for s in services for b in s.backends}
    out: dict[str, dict[str, int]] = {}
    for config in dump.get("configs", ()):
        for host in config.get("route_config", {}).get("virtual_hosts", ()):
            for route in host.get("routes", ()):
                for share in route.get("route", {}).get("weighted_clusters", {}).get("clusters", ()):
                    owner = by_cluster.get(share["name"])
                    if owner:
                        out.setdefault(owner[0], {})[owner[1]] = int(share.get("weight", 0))
    return {name: {r: w for r, w in shares.items() if w} for name, shares in out.items()}


def answers(stats: Json) -> dict[str, tuple[int, int]]:
    """Cluster -> (answers 5xx, answers) that clients got, from its statistics; where a client stands (external, internal) matters not."""
    out: dict[str, list[int]] = {}
    for stat in stats.get("stats", ()):
        cluster, _, what = stat["name"].removeprefix("cluster.").rsplit(".", 2)
        out.setdefault(cluster, [0, 0])[what == "upstream_rq_completed"] += int(stat["value"])
    return {cluster: (bad, total) for cluster, (bad, total) in out.items()}


def ports(assignments: Json) -> set[int]:
    """The ports in a file of endpoints."""
    localities = [locality for a in assignments["resources"] for locality in a["endpoints"]]
    return {e["endpoint"]["address"]["socket_address"]["port_value"] for locality in localities for e in locality["lb_endpoints"]}


def _resources(items: Sequence[Json]) -> str:
    return json.dumps({"resources": items}, indent=1, sort_keys=True)


def _control(service: str) -> str:
    return f"{service}-control"


def _cluster(name: str, folder: str, *, h2: bool = False) -> Json:
    out: Json = {
        "@type": f"{TYPE}.config.cluster.v3.Cluster",
        "name": name,
        "type": "EDS",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "eds_cluster_config": {
            "eds_config": {"path_config_source": {"path": f"{folder}/eds-{name}.json", "watched_directory": {"path": folder}}}
        },
        "ignore_health_on_host_removal": True,
        "circuit_breakers": {
            "thresholds": [{"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 16384, "max_retries": 64}]
        },
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
    }
    if h2:
        kind = f"{TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions"
        out["typed_extension_protocol_options"] = {
            kind.removeprefix("type.googleapis.com/"): {"@type": kind, "explicit_http_config": {"http2_protocol_options": {}}}
        }
    return out


def _assignment(name: str, ports: Sequence[int]) -> Json:
    hosts = [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": p}}}} for p in ports]
    return {
        "@type": f"{TYPE}.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": hosts}] if hosts else [],
    }


def _listener(address: str, port: int, folder: str) -> Json:
    manager = {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "codec_type": "AUTO",
        "rds": {
            "route_config_name": ROUTES,
            "config_source": {"path_config_source": {"path": f"{folder}/rds.json", "watched_directory": {"path": folder}}},
        },
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router"}}
        ],
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        "stream_idle_timeout": "300s",
        "request_headers_timeout": "30s",
    }
    return {
        "@type": f"{TYPE}.config.listener.v3.Listener",
        "name": "gateway",
        "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
    }


def _route_configuration(services: Sequence[Routed]) -> Json:
    """Each service by its own host name; by path on any other; gRPC on any other host reaches the only service there is."""
    hosts: list[Json] = []
    for s in services:
        domains = [f"{s.name}.localhost", f"{s.name}.{s.namespace}.localhost"]
        hosts.append({"name": s.name, "domains": domains, "routes": [*_private(s), *_grpc(s), *_http(s, "/")]})
    shared: list[Json] = [r for s in services for r in _private(s)][:2]
    for s in services:
        shared += [r for version in ("v2", "v1") for r in _http(s, f"/{version}/models/{s.name}")]
    if len(services) == 1:
        shared += [*_grpc(services[0]), *_http(services[0], "/")]
    hosts.append({"name": "any", "domains": ["*"], "routes": shared})
    return {
        "@type": f"{TYPE}.config.route.v3.RouteConfiguration",
        "name": ROUTES,
        "ignore_port_in_host_matching": True,
        "request_headers_to_remove": [REPLAY_HEADER],
        "virtual_hosts": hosts,
    }


def _private(s: Routed) -> list[Json]:
    """The predictors' private endpoints stay private; labels go to the control server."""
    return [
        {"match": {"prefix": "/aiservice/"}, "direct_response": {"status": 404, "body": {"inline_string": '{"error": "not found"}'}}},
        {"match": {"path": "/v1/labels"}, "route": {"cluster": _control(s.name), "timeout": "30s"}},
    ]


def _weighted(s: Routed, shares: Mapping[str, int]) -> Json:
    revision = {cluster: b.revision for b in s.backends for cluster in (b.http, b.grpc)}
    told = [{"name": c, "weight": w, "response_headers_to_add": [_revision(revision[c])]} for c, w in shares.items()]
    return {
        "weighted_clusters": {"clusters": told},
        "timeout": f"{s.timeout + 5:.3f}s",
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,reset",
            "num_retries": 2,
            "retry_host_predicate": [{"name": OTHER_HOST, "typed_config": {"@type": f"{TYPE}.{OTHER_HOST_TYPE}"}}],
            "host_selection_retry_max_attempts": 5,
        },
    }


def _revision(name: str) -> Json:
    return {"header": {"key": REVISION_HEADER, "value": name}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _http(s: Routed, prefix: str) -> list[Json]:
    match: Json = {"prefix": "/"} if prefix == "/" else {"path_separated_prefix": prefix}
    if prefix.startswith("/v1/"):  # V1 predicts at /v1/models/NAME:predict
        also = {"match": {"prefix": f"{prefix}:"}, "route": _weighted(s, s.http)}
        return [{"match": match, "route": _weighted(s, s.http)}, also] if s.http else []
    return [{"match": match, "route": _weighted(s, s.http)}] if s.http else []


def _grpc(s: Routed) -> list[Json]:
    """V2 gRPC, and the reflection and health services beside it."""
    match = {"prefix": f"/{GRPC_SERVICE}/", "grpc": {}}
    return [{"match": match, "route": _weighted(s, s.grpc)}] if s.grpc else []
