"""Policies for the groups and roles of a real Hub, and those that stand in its groups' properties."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from served import endpoint

from .gateway import RunningGateway, running_gateway
from .hub import GatewayHub, start_gateway_hub, wait_until

pytestmark = pytest.mark.hub

ROLES = """
c.JupyterHub.load_roles += [
    {"name": "tutors", "scopes": [], "users": ["bob"]},
    {"name": "heavy", "scopes": [], "groups": ["ai"]},
    {"name": "everybody", "scopes": [ACCESS, FULL], "users": ["alice", "bob", "admin"]},
    {
        "name": "ai-gateway-directory",
        "scopes": [
            "list:groups", "read:groups", "read:roles:groups", "read:roles:users", "read:roles:services"
        ],
        "services": [NAME],
    },
]
"""
BODY = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}


def rule(name: str, limit: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "resource": "requests", "limit": limit, "window": "day", **more}


CONFIG = {
    "policies_from_groups": True,
    "policies": [
        rule("everyone", 100),
        rule("tutors", 200, scope={"role": "tutors"}),
        rule("heavy", 300, scope={"role": "heavy"}),
        rule("bots", 400, scope={"service": "bot"}),
    ],
}


@pytest.fixture(scope="module")
def own_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHub]:
    started = start_gateway_hub(tmp_path_factory.mktemp("hub"), more=ROLES)
    yield started
    started.hub.stop()


@pytest.fixture(scope="module")
def gateway(own_hub: GatewayHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("gateway")
    endpoints = [endpoint("chat", None)]
    with running_gateway(own_hub, folder, endpoints, "--AIGateway.auth_ttl_s=1", config=CONFIG) as running:
        yield running


def limit_of(hub: GatewayHub, token: str) -> tuple[str, str]:
    """Return the tightest rule about requests, and all rules that counted."""
    answer = requests.post(
        f"{hub.service_url}v1/chat/completions",
        json=BODY,
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    return answer.headers["x-ratelimit-limit-requests"], answer.headers["RateLimit-Policy"]


def test_roles_of_users_groups_and_services_count(own_hub: GatewayHub, gateway: RunningGateway) -> None:
    tokens = {name: own_hub.hub.token(name) for name in ("alice", "bob", "admin")}
    assert limit_of(own_hub, tokens["admin"])[0] == "100"
    assert limit_of(own_hub, tokens["bob"])[0] == "200"
    assert limit_of(own_hub, tokens["alice"])[0] == "300"  # by her group's role
    assert limit_of(own_hub, own_hub.bot_token)[0] == "400"


def test_a_groups_properties_are_policies_once_they_are_read(
    own_hub: GatewayHub, gateway: RunningGateway
) -> None:
    alice, bob = own_hub.hub.token("alice"), own_hub.hub.token("bob")
    own = {"resource": "requests", "limit": 7, "window": "week", "name": "of-the-group"}
    own_hub.hub.api("PUT", "groups/ai/properties", {"ai_gateway": {"policies": [own]}})
    gateway.process.send_signal(signal.SIGHUP)

    def counts() -> bool | None:
        return True if "of-the-group" in limit_of(own_hub, alice)[1] else None

    wait_until("policy of the group", counts)
    assert "of-the-group" not in limit_of(own_hub, bob)[1]
    own_hub.hub.api("PUT", "groups/ai/properties", {"ai_gateway": {"policies": [{"limit": "x"}]}})
    gateway.process.send_signal(signal.SIGHUP)
    text = "The policies of the group 'ai' do not count: policies[0].resource: is required"
    wait_until("warning", lambda: True if text in gateway.log.read_text() else None)
    assert "of-the-group" not in limit_of(own_hub, alice)[1]
