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


@pytest.mark.parametrize("given", ["x", "0", "70000"])
def test_a_wrong_port_is_named(given: str) -> None:
    with pytest.raises(ValueError, match=f"AISERVICE_GATEWAY_PORT is '{given}'"):
        Settings.of({"AISERVICE_GATEWAY_PORT": given})
