"""What an operator may say about health, deadlines, names and addresses, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from jupyterhub_ai_gateway.config import DnsConfig, GatewayConfig, HealthConfig, parse
from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.providers.registry import Providers

SCHEMAS = Providers.installed().schemas


def read(
    top: dict[str, Any] | None = None, model: dict[str, Any] | None = None, **own: Any
) -> GatewayConfig:
    echo = {"provider": "echo", **(model or {})}
    endpoint = {"name": "chat", "endpoint_type": "llm/v1/chat", "model": echo, **own}
    return parse({"endpoints": [endpoint], **(top or {})}, SCHEMAS, {})


def test_what_is_said_at_the_top_is_for_all_and_an_endpoint_may_differ() -> None:
    top = {"health": {"window_s": 30, "max_error_rate": 0.2}, "deadline_s": 60}
    (endpoint,) = read(top).endpoints
    assert endpoint.health == HealthConfig(window_s=30.0, max_error_rate=0.2)
    assert endpoint.deadline_s == 60.0
    own = {"health": {"max_error_rate": None, "slow_factor": 2, "min_requests": 5}, "deadline_s": 5}
    (endpoint,) = read(top, **own).endpoints
    assert endpoint.health == HealthConfig(
        window_s=30.0, max_error_rate=None, slow_factor=2.0, min_requests=5
    )
    assert endpoint.deadline_s == 5.0
    assert read().endpoints[0].health == HealthConfig()


@pytest.mark.parametrize(
    ("health", "path"),
    [
        ({"window_s": 0}, "window_s"),
        ({"window_s": "long"}, "window_s"),
        ({"min_requests": 0}, "min_requests"),
        ({"min_requests": 1.5}, "min_requests"),
        ({"max_error_rate": 50}, "max_error_rate"),
        ({"max_error_rate": True}, "max_error_rate"),
        ({"rest_s": -1}, "rest_s"),
        ({"rest_s": 600}, "rest_s"),
        ({"longest_rest_s": 5}, "longest_rest_s"),
        ({"slow_factor": 1}, "slow_factor"),
        ({"slow_factor": float("nan")}, "slow_factor"),
        ({"windows": 5}, "windows"),
    ],
)
def test_what_is_wrong_about_health_is_named(health: dict[str, Any], path: str) -> None:
    for place, given in (("endpoints[0].", {"health": health}), ("", {"top": {"health": health}})):
        with pytest.raises(ConfigFault) as caught:
            read(**given)
        assert caught.value.path == f"{place}health.{path}"


def test_names() -> None:
    assert read().dns == DnsConfig()
    assert read({"dns": {}}).dns == DnsConfig()
    found = read({"dns": {"ttl_s": 0, "family": "ipv4", "connection_age_s": None}}).dns
    assert found == DnsConfig(0.0, "ipv4", None)


@pytest.mark.parametrize(
    ("dns", "path"),
    [
        ({"ttl_s": -1}, "ttl_s"),
        ({"ttl_s": True}, "ttl_s"),
        ({"family": "ipv5"}, "family"),
        ({"connection_age_s": 0}, "connection_age_s"),
        ({"servers": ["9.9.9.9"]}, "servers"),
    ],
)
def test_what_is_wrong_about_names_is_named(dns: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigFault) as caught:
        read({"dns": dns})
    assert caught.value.path == f"dns.{path}"


def test_addresses() -> None:
    assert not read().endpoints[0].model.public_only
    assert not read(model={"addresses": "any"}).endpoints[0].model.public_only
    assert read(model={"addresses": "public"}).endpoints[0].model.public_only
    with pytest.raises(ConfigFault, match=r"model.addresses: must be any or public, found 'pubic'"):
        read(model={"addresses": "pubic"})


def test_addresses_that_a_proxy_finds_cannot_have_to_be_public() -> None:
    with pytest.raises(ConfigFault, match=r"endpoints\[0\].model.addresses: cannot be public with proxy_"):
        read({"proxy_from_environment": True}, model={"addresses": "public"})
