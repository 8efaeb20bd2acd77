"""The operator's environment: defaults, and an error that names the variable."""

from __future__ import annotations

import pytest

from aiservice.kube.settings import Settings


def test_defaults() -> None:
    settings = Settings.of({"POD_NAME": "op-1", "POD_NAMESPACE": "ai"})
    assert (settings.identity, settings.namespace, settings.watch) == ("op-1", "ai", "")
    assert settings.place.url("fraud", "default") == "http://fraud.default.localhost"


def test_the_port_is_part_of_the_url() -> None:
    assert Settings.of({"AISERVICE_GATEWAY_PORT": "8080"}).place.url("fraud", "pay") == "http://fraud.pay.localhost:8080"


def test_who_may_call_predictors() -> None:
    def clients(given: str) -> tuple[str, ...] | None:
        return Settings.of({"POD_NAMESPACE": "ai", "AISERVICE_CLIENTS": given}).place.clients

    assert clients("") == ("ai",)
    assert clients("monitoring, 10.0.0.0/8") == ("ai", "monitoring", "10.0.0.0/8")
    assert clients("*") is None
    with pytest.raises(ValueError, match=r"AISERVICE_CLIENTS holds '10\.0\.0\.1/8'"):
        clients("10.0.0.1/8")


@pytest.mark.parametrize("given", ["x", "0", "70000"])
def test_a_wrong_port_is_named(given: str) -> None:
    with pytest.raises(ValueError, match=f"AISERVICE_GATEWAY_PORT is '{given}'"):
        Settings.of({"AISERVICE_GATEWAY_PORT": given})
