"""The real gateway on a real Hub: who may what, revoking, and a Hub that goes away under load."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from served import endpoint

from .gateway import RunningGateway, running_gateway
from .hub import GatewayHub, start_gateway_hub

pytestmark = pytest.mark.hub

ACCESS = "access:services!service=ai-gateway"
BODY = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(scope="module")
def own_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHub]:
    started = start_gateway_hub(tmp_path_factory.mktemp("hub"))
    yield started
    started.hub.stop()


@pytest.fixture(scope="module")
def gateway(own_hub: GatewayHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    endpoints = [endpoint("chat", None), endpoint("dear", None, scope="premium")]
    folder = tmp_path_factory.mktemp("gateway")
    with running_gateway(own_hub, folder, endpoints, "--AIGateway.auth_ttl_s=1") as running:
        yield running


def ask(hub: GatewayHub, token: str, **more: Any) -> requests.Response:
    """Call through the Hub's proxy."""
    headers = {"Authorization": f"Bearer {token}"}
    return requests.post(
        f"{hub.service_url}v1/chat/completions", json=BODY | more, headers=headers, timeout=30
    )


def test_user_s_service_s_and_limited_tokens(own_hub: GatewayHub, gateway: RunningGateway) -> None:
    alice = own_hub.hub.token("alice")
    assert ask(own_hub, alice).status_code == 200
    assert ask(own_hub, own_hub.bot_token).status_code == 200
    refused = ask(own_hub, own_hub.hub.token("bob"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
    refused = ask(own_hub, alice, model="dear")
    assert refused.status_code == 403
    assert "custom:ai-gateway:premium" in refused.json()["error"]["message"]
    lister = own_hub.hub.token("alice", [ACCESS, "custom:ai-gateway:models:list"])
    assert ask(own_hub, lister).status_code == 403
    assert ask(own_hub, "no-such-token").status_code == 401


def test_server_s_token_works_and_is_named_in_the_refusal(
    own_hub: GatewayHub, gateway: RunningGateway
) -> None:
    own_hub.hub.spawn("alice")
    try:
        token = own_hub.hub.server_environment("alice")["JUPYTERHUB_API_TOKEN"]
        assert ask(own_hub, token).status_code == 200
        refused = ask(own_hub, token, model="dear")
        assert "stop the server and start it again" in refused.json()["error"]["message"]
    finally:
        own_hub.hub.stop_server("alice")
    wait_for_status(own_hub, token, 401)


def test_revoked_token_stops_working(own_hub: GatewayHub, gateway: RunningGateway) -> None:
    model = own_hub.hub.mint("alice")
    assert ask(own_hub, model["token"]).status_code == 200
    own_hub.hub.revoke("alice", model["id"])
    wait_for_status(own_hub, model["token"], 401)


def wait_for_status(hub: GatewayHub, token: str, status: int) -> None:
    for _ in range(100):
        if ask(hub, token).status_code == status:
            return
        time.sleep(0.1)
    raise AssertionError(f"never answered {status}")


def test_hub_restart_under_load_fails_no_call(own_hub: GatewayHub, gateway: RunningGateway) -> None:
    """Known callers go on while the Hub is away; the gateway itself is asked, as the proxy goes as well."""
    token = own_hub.hub.token("alice")
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{gateway.url}v1/chat/completions"
    assert requests.post(url, json=BODY, headers=headers, timeout=30).status_code == 200
    is_over, seen = threading.Event(), Counter[int]()

    def load() -> None:
        with requests.Session() as session:
            while not is_over.is_set():
                seen[session.post(url, json=BODY, headers=headers, timeout=30).status_code] += 1

    callers = [threading.Thread(target=load) for _ in range(4)]
    for caller in callers:
        caller.start()
    try:
        own_hub.hub.external_ports = ()
        own_hub.hub.restart()
    finally:
        is_over.set()
        for caller in callers:
            caller.join()
    assert set(seen) == {200}
    assert seen[200] > 20
    unknown = requests.post(url, json=BODY, headers={"Authorization": "Bearer new"}, timeout=30)
    assert unknown.status_code in (401, 503)
    wait_for_status(own_hub, own_hub.hub.token("alice"), 200)


def test_frozen_hub_is_503_for_strangers_and_nothing_for_friends(
    own_hub: GatewayHub, gateway: RunningGateway
) -> None:
    token = own_hub.hub.token("alice")
    url = f"{gateway.url}v1/chat/completions"
    known = {"Authorization": f"Bearer {token}"}
    assert requests.post(url, json=BODY, headers=known, timeout=30).status_code == 200
    with own_hub.hub.frozen():
        stranger = requests.post(url, json=BODY, headers={"Authorization": "Bearer x"}, timeout=30)
        assert (stranger.status_code, stranger.json()["error"]["code"]) == (503, "hub_unavailable")
        assert int(stranger.headers["retry-after"]) >= 1
        assert requests.post(url, json=BODY, headers=known, timeout=30).status_code == 200
