"""A Hub that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .hub import RunningHub, free_ports, start_hub

SERVICE_TOKEN = "the-token-of-the-service-ai-gateway"
OTHER_SERVICE_TOKEN = "the-token-of-another-service"

GATEWAY_CONFIG = """
NAME = "ai-gateway"
ACCESS = "access:services!service=" + NAME
FULL = "custom:" + NAME + ":full-access"
OPERATIONS = ["models:list", "chat:create", "completions:create", "embeddings:create", "docs:read"]
OPERATIONS = ["custom:" + NAME + ":" + operation for operation in OPERATIONS]
CHAT = "custom:" + NAME + ":chat:create"
c.JupyterHub.custom_scopes = {{
    FULL: {{"description": "Use every operation of the AI gateway", "subscopes": OPERATIONS}},
    "custom:" + NAME + ":premium": {{"description": "Use the expensive models"}},
    "custom:" + NAME + ":admin": {{"description": "Look after the gateway"}},
    **{{scope: {{"description": scope}} for scope in OPERATIONS}},
}}
c.JupyterHub.load_roles += [
    {{"name": "ai-gateway-user", "scopes": [ACCESS, FULL], "groups": ["ai"]}},
    {{"name": "ai-gateway-bot", "scopes": [ACCESS, CHAT], "services": ["bot"]}},
]
c.Spawner.server_token_scopes = ["users:activity!user", "access:servers!server", ACCESS, FULL]
c.JupyterHub.services += [
    {{
        "name": NAME,
        "url": "http://127.0.0.1:{service_port}",
        "api_token": {service_token!r},
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": OPERATIONS,
    }},
    {{"name": "bot", "api_token": {other_token!r}}},
]
"""


class GatewayHub:
    """A Hub that knows an external service ai-gateway, whose process is the test's own.

    What listens on `service_port` of 127.0.0.1 is what the Hub's proxy shows at `service_url`.
    """

    service_name = "ai-gateway"
    service_token = SERVICE_TOKEN
    bot_token = OTHER_SERVICE_TOKEN

    def __init__(self, hub: RunningHub, service_port: int) -> None:
        self.hub = hub
        self.service_port = service_port
        self.prefix = "/services/ai-gateway/"
        self.service_url = f"{hub.url}services/ai-gateway/"


@pytest.fixture(scope="session")
def gateway_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHub]:
    """Share one Hub among the tests; those that hurt it must heal it."""
    (service_port,) = free_ports(1)
    text = GATEWAY_CONFIG.format(
        service_port=service_port, service_token=SERVICE_TOKEN, other_token=OTHER_SERVICE_TOKEN
    )
    hub = start_hub(tmp_path_factory.mktemp("hub"), config_text=text, external_ports=[service_port])
    try:
        yield GatewayHub(hub, service_port)
    finally:
        hub.stop()


@pytest.fixture(scope="session")
def hub(gateway_hub: GatewayHub) -> RunningHub:
    """Return the shared Hub itself."""
    return gateway_hub.hub
