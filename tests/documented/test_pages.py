"""What the pages tell people to type is typed, on a real Hub that the pages' own blocks configure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import migrate_samples as samples
import pytest
import requests
import yaml
from auth.test_keys import node_file
from integration.gateway import running_gateway
from integration.hub import GatewayHub, free_ports, start_hub, wait_until

from .blocks import PAGES, ROOT, Page, page
from .hub_blocks import configured
from .stories import Desk, document, environ, is_of_the_hub, told
from .world import World

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
BATCH = json.dumps({"model": "llama-8b", "messages": [{"role": "user", "content": "Hi"}]})
FILES: Mapping[str, Mapping[str, str]] = {
    "howto/first.md": {
        "questions.jsonl": BATCH,
        "srv/projects/alice/questions.jsonl": BATCH,
        "ShareGPT_V3_unfiltered_cleaned_split.json": json.dumps(SHAREGPT),
    },
    "howto/gateway-keys.md": {
        "provision/secrets/hashed-api-keys.json": json.dumps(node_file("a-key-of-the-node-gateway"))
    },
    "howto/images-and-audio.md": {"lecture.mp3": "ID3" + "sound" * 500},
    "howto/move-from-another-gateway.md": {
        "litellm.yaml": samples.LITELLM,
        "mlflow.yaml": samples.MLFLOW,
        "config.json": json.dumps(samples.OPENAI_GATEWAY_SECOND),
        "endpoints.json": json.dumps(samples.FIRST),
    },
}
"""What readers have already, by page."""
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


@dataclass
class Here:
    """The gateway, as somebody with a token sees it."""

    base_url: str
    token: str


def server_environment(found: Page, here: Here, file: Path) -> dict[str, str]:
    """Return what servers find with the Hub configured as the page says, else as the README does."""
    own = [block for block in found.blocks if is_of_the_hub(block) and "clients=" in block.text]
    usual = PAGES["README.md"].block("python", "from jupyterhub_ai_gateway.hub_config")
    return configured(own[0].text if own else usual, here, str(file))


@pytest.fixture
def desk(hub: GatewayHub, tmp_path: Path) -> Desk:
    alice, admin = hub.hub.token("alice"), hub.hub.token("admin")
    given = {"JUPYTERHUB_API_TOKEN": alice, "TOKEN": admin, "HUB": hub.hub.url.rstrip("/")}
    return Desk(tmp_path, hub.hub.url, environ(tmp_path, given))


@pytest.mark.parametrize("found", STORIES)
def test_page_works_as_it_is_typed(found: Page, hub: GatewayHub, desk: Desk) -> None:
    folder = desk.folder
    for name, content in FILES.get(found.path, {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    (folder / "gateway").mkdir()
    with World() as world:
        config = document(found, world, folder)
        if found.path == "howto/first.md":  # "where the operator has opened a folder"
            projects = f"{folder}/srv/projects/{{username}}"
            config["batches"] = {"folder": f"{folder}/batches", "input_folders": [projects]}
        for name in ("config.yaml", "ai-gateway.yaml"):
            (folder / name).write_text(yaml.safe_dump(config))
        here = Here(f"{hub.service_url}v1", desk.environ["JUPYTERHUB_API_TOKEN"])
        desk.environ.update(server_environment(found, here, folder / "config.yaml"))
        endpoints = config.pop("endpoints")
        with running_gateway(hub, folder / "gateway", endpoints, config=config):
            for block in told(found):
                said = desk.typed(block, stdin=f"{here.token}\n")
                assert '"error":' not in said, f"{block.name}\n{said}"
                assert re.search(SAYS.get(block.name, ""), said), f"{block.name}\n{said}"
                if job := re.search(r'"batch_id": *"([^"]+)"', said):
                    desk.environ["BATCH_ID"] = job[1]
                    wait_until("batch", lambda: is_complete(hub, desk.environ["BATCH_ID"]))


def is_complete(hub: GatewayHub, batch_id: str) -> bool | None:
    """The page asks once; whoever types waits. `auth login` has revoked the token that was pasted."""
    url = f"{hub.service_url}resource_server/v1/batches/{batch_id}"
    found = requests.get(url, headers={"Authorization": f"Bearer {hub.hub.token('alice')}"}, timeout=30)
    return True if found.json() == "completed" else None
