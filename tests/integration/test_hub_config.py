"""Whether a real Hub does with `configure`'s roles what they are meant for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jupyterhub_ai_gateway.auth import TokenResolver
from jupyterhub_ai_gateway.vocabulary import OPERATIONS, Caller

from .hub import RunningHub, free_ports, start_hub

pytestmark = pytest.mark.hub

ACCESS = "access:services!service=ai-gateway"
CONFIG = """
from jupyterhub_ai_gateway.hub_config import configure
configure(
    c,
    url="http://127.0.0.1:{port}",
    api_token="a secret that the two of them share",
    groups=["ai"],
    endpoint_scopes=["premium"],
)
c.JupyterHub.load_roles.append(
    {{"name": "bobs", "scopes": ["access:services!service=ai-gateway", "custom:ai-gateway:chat:create",
      "custom:ai-gateway:premium"], "users": ["bob"]}}
)
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    (port,) = free_ports(1)
    text = CONFIG.format(port=port)
    started = start_hub(tmp_path_factory.mktemp("hub"), config_text=text, external_ports=[port])
    try:
        yield started
    finally:
        started.stop()


async def caller_of(hub: RunningHub, token: str) -> Caller:
    resolver = TokenResolver(hub.api_url, "ai-gateway", access_scopes=[ACCESS])
    try:
        return await resolver.resolve(token)
    finally:
        await resolver.close()


@pytest.mark.parametrize(
    ("user", "operations", "is_premium"),
    [("alice", set(OPERATIONS), False), ("bob", {"chat:create"}, True), ("admin", set(), False)],
)
async def test_servers_token_opens_what_its_owner_may(
    hub: RunningHub, user: str, operations: set[str], is_premium: bool
) -> None:
    hub.spawn(user)
    try:
        environment = hub.server_environment(user)
        assert environment["OPENAI_API_KEY"] == environment["JUPYTERHUB_API_TOKEN"]
        assert environment["OPENAI_BASE_URL"].endswith("/services/ai-gateway/v1")
        caller = await caller_of(hub, environment["OPENAI_API_KEY"])
        assert (caller.name, caller.operations) == (user, operations)
        assert ("custom:ai-gateway:premium" in caller.scopes) is is_premium
    finally:
        hub.stop_server(user)


async def test_hub_has_no_complaint(hub: RunningHub) -> None:
    assert (await caller_of(hub, hub.token("alice"))).operations == set(OPERATIONS)
    warnings = [line for line in hub.log_text().splitlines() if line.startswith("[W") and "ole" in line]
    assert warnings == []
