"""What the pages tell people to type is typed, on a real Hub that the pages' own blocks configure."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from integration.gateway import running_gateway
from integration.hub import GatewayHub, free_ports, start_hub

from .blocks import BLOCKS, PAGES, ROOT, Page, page
from .hub_blocks import configured
from .stories import Desk, document, environ, is_of_the_hub, told
from .world import SECRETS, World

pytestmark = pytest.mark.hub

TOKEN = "the-secret-that-the-hub-and-the-gateway-share"
PEOPLE = """
c.JupyterHub.load_groups = {{
    "ai-staff": {{"users": ["admin"]}},
    "physics-101": {{"users": ["alice"]}},
    "nbgrader-physics-101": {{"users": ["alice"]}},
}}
c.Authenticator.allowed_users |= {{"ira"}}
os.environ["AI_GATEWAY_TOKEN"] = {token!r}
"""
SHAREGPT = [
    {
        "conversations": [
            {"from": "human", "value": "What is a Hub?"},
            {"from": "gpt", "value": "A place " * 20},
        ]
    }
] * 20
NODE_KEYS = {
    "0f" * 32: {"salt": "73616c74", "scopes": ["get:/openai/v1/models"], "name": "build"},
}
FILES: Mapping[str, Mapping[str, Callable[[], object]]] = {}
SAYS: Mapping[str, str] = {}
STORIES = [pytest.param(each, id=each.path) for each in PAGES.values() if told(each)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHub]:
    """Start a Hub whose configuration is that of the guides for Docker and for staff."""
    (port,) = free_ports(1)
    beside = page("howto/docker.md").block("python", "import os")
    beside = beside.replace("http://ai-gateway:5000", f"http://127.0.0.1:{port}")
    staff = [block.text for block in page("howto/look-after-it.md").all("python")]
    text = "\n".join([PEOPLE.format(token=TOKEN), beside, *staff])
    started = start_hub(
        tmp_path_factory.mktemp("hub"),
        config_text=text,
        external_ports=[port],
        environment={"PYTHONPATH": str(ROOT)},
    )
    found = GatewayHub(started, port)
    found.service_token = TOKEN
    yield found
    started.stop()


def server_environment(found: Page, hub: GatewayHub, token: str, file: Path) -> dict[str, str]:
    """Return what servers find there when the Hub is configured as the page says, else as the README does."""

    class Here:
        base_url = f"{hub.service_url}v1"

        def __init__(self) -> None:
            self.token = token

    own = [block for block in found.blocks if is_of_the_hub(block) and "clients=" in block.text]
    text = (
        own[0].text if own else PAGES["README.md"].block("python", "from jupyterhub_ai_gateway.hub_config")
    )
    return configured(text, Here(), str(file))


@pytest.mark.parametrize("found", STORIES)
def test_page_works_as_it_is_typed(found: Page, hub: GatewayHub, tmp_path: Path) -> None:
    for name, content in FILES.get(found.path, {}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        given = content()
        (tmp_path / name).write_bytes(given if isinstance(given, bytes) else str(given).encode())
    alice, admin = hub.hub.token("alice"), hub.hub.token("admin")
    with World() as world:
        config = document(found, world, tmp_path)
        for name in ("config.yaml", "ai-gateway.yaml"):
            (tmp_path / name).write_text(yaml.safe_dump(config))
        given = server_environment(found, hub, alice, tmp_path / "config.yaml")
        given |= {
            "JUPYTERHUB_API_TOKEN": alice,
            "TOKEN": admin,
            "HUB": hub.hub.url.rstrip("/"),
            **SECRETS,
            **given,
        }
        desk = Desk(tmp_path, hub.hub.url, environ(tmp_path, given))
        (tmp_path / "gateway").mkdir()
        endpoints = config.pop("endpoints")
        with running_gateway(hub, tmp_path / "gateway", endpoints, config=config):
            for block in told(found):
                said = desk.typed(block, stdin=f"{alice}\n")
                assert '"error":' not in said, f"{block.name}\n{said}"
                assert re.search(SAYS.get(block.name, ""), said), f"{block.name}\n{said}"
