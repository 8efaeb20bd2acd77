"""The operator's environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from aiservice.core.world import Place


@dataclass(frozen=True, slots=True)
class Settings:
    """AISERVICE_GATEWAY, AISERVICE_GATEWAY_NAMESPACE, AISERVICE_GATEWAY_PROXIES, AISERVICE_DOMAIN, AISERVICE_GATEWAY_PORT, AISERVICE_CLIENTS, AISERVICE_LOAD_URL, AISERVICE_PROMETHEUS, AISERVICE_WATCH_NAMESPACE, POD_NAMESPACE, POD_NAME."""

    place: Place
    watch: str
    """Namespace to look after; empty: all."""
    namespace: str
    """Our own, where the Lease is."""
    identity: str
    port: int
    """Of /metrics, /healthz, /readyz."""

    @classmethod
    def of(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """Raises ValueError that names the variable."""
        namespace = env.get("POD_NAMESPACE", "default")
        return cls(
            place=Place(
                gateway=env.get("AISERVICE_GATEWAY", "gateway"),
                namespace=env.get("AISERVICE_GATEWAY_NAMESPACE", "kserve"),
                domain=env.get("AISERVICE_DOMAIN", "localhost"),
                port=_port(env, "AISERVICE_GATEWAY_PORT", 80),
                proxies=env.get("AISERVICE_GATEWAY_PROXIES", "envoy-gateway-system"),
                clients=_clients(env.get("AISERVICE_CLIENTS", ""), namespace),
                load=_url(env, "AISERVICE_LOAD_URL") or f"http://aiservice-operator.{namespace}.svc:8080",
                prometheus=_url(env, "AISERVICE_PROMETHEUS"),
            ),
            watch=env.get("AISERVICE_WATCH_NAMESPACE", ""),
            namespace=namespace,
            identity=env.get("POD_NAME") or f"{os.uname().nodename}.{os.getpid()}",
            port=_port(env, "AISERVICE_OPERATOR_PORT", 8080),
        )


def _clients(given: str, own: str) -> tuple[str, ...] | None:
    """Namespaces and address ranges, separated by commas; `*`: everyone. Our own namespace is always among them."""
    wanted = [c.strip() for c in given.split(",") if c.strip()]
    for client in wanted:
        try:
            if "/" in client:
                ip_network(client)
        except ValueError as error:
            raise ValueError(
                f"AISERVICE_CLIENTS holds {client!r}, expected namespaces and address ranges like 10.0.0.0/8: {error}"
            ) from None
    return None if "*" in wanted else (own, *wanted)


def _url(env: Mapping[str, str], name: str) -> str:
    given = env.get(name, "").rstrip("/")
    if given and not given.startswith(("http://", "https://")):
        raise ValueError(f"{name} is {given!r}, expected a URL such as http://prometheus.monitoring.svc:9090")
    return given


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    given = env.get(name, "")
    if not given:
        return default
    if not given.isdigit() or not 0 < int(given) < 65536:
        raise ValueError(f"{name} is {given!r}, expected a port from 1 to 65535")
    return int(given)
