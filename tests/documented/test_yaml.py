"""Every configuration that the documentation shows is started, listed, and asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.hub import ACCESS
from served import FULL, Answer, Served, served

from jupyterhub_ai_gateway.config import parse
from jupyterhub_ai_gateway.providers.registry import Providers

from .blocks import PAGES, Block
from .lists import CANNOT
from .world import SECRETS, World, configuration, is_reachable

HI: Any = [{"role": "user", "content": "Hi"}]
ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "llm/v1/chat": ("v1/chat/completions", {"messages": HI}),
    "llm/v1/completions": ("v1/completions", {"prompt": "Hi"}),
    "llm/v1/embeddings": ("v1/embeddings", {"input": "Hi"}),
    "llm/v1/images": ("v1/images/generations", {"prompt": "A cat"}),
    "llm/v1/speech": ("v1/audio/speech", {"input": "Hi", "voice": "alloy"}),
    "llm/v1/moderations": ("v1/moderations", {"input": "Hi"}),
    "llm/v1/rerank": ("v1/rerank", {"query": "Hi", "documents": ["Hello", "Good bye"]}),
}
YAMLS = [
    pytest.param(block, id=block.name)
    for page in PAGES.values()
    for block in page.all("yaml")
    if block.name not in CANNOT
]


@pytest.mark.parametrize("block", YAMLS)
def test_configuration_is_taken_as_it_stands(block: Block, tmp_path: Path) -> None:
    """Nothing is replaced but the paths of keys."""
    (tmp_path / "key").write_text("sk-example")
    text = block.text
    for there in ("/srv/jupyterhub/openai.key", "/opt/tljh/config/openai.key"):
        text = text.replace(there, str(tmp_path / "key"))
    assert parse(yaml.safe_load(text), Providers.installed().schemas, SECRETS).warnings == ()


@pytest.mark.parametrize("block", YAMLS)
async def test_configuration_serves_what_it_offers(block: Block, tmp_path: Path) -> None:
    with World() as world:
        document = configuration(block.text, world, tmp_path)
        for each in document.get("maintenance", ()):  # a calendar would make this a test of the day
            each["endpoints"] = "none-of-these"
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(document))
        async with served(file=file) as running:
            scopes = [
                f"custom:ai-gateway:{each['scope']}" for each in document["endpoints"] if "scope" in each
            ]
            running.knows("t-all", ACCESS, FULL, *scopes, name="alice")
            running.token = "t-all"
            listed = [each["id"] for each in (await running.ask("GET", "v1/models")).json["data"]]
            for endpoint in document["endpoints"]:
                if "*" not in endpoint["name"]:
                    assert endpoint["name"] in listed
                if all(is_reachable(each["model"]) for each in endpoint.get("deployments") or [endpoint]):
                    answer = await ask(running, endpoint)
                    assert answer.status == 200, answer.body


async def ask(running: Served, endpoint: dict[str, Any]) -> Answer:
    kind, name = endpoint["endpoint_type"], endpoint["name"].replace("*", "a-model")
    if kind == "llm/v1/transcriptions":
        field = b"--b\r\nContent-Disposition: form-data; name="
        form = field + b'"model"\r\n\r\n' + name.encode() + b"\r\n"
        form += field + b'"file"; filename="a.mp3"\r\n\r\nID3\r\n--b--\r\n'
        headers = [("Content-Type", "multipart/form-data; boundary=b")]
        return await running.ask("POST", "v1/audio/transcriptions", body=form, headers=headers)
    path, body = ASKS[kind]
    return await running.ask("POST", path, {"model": name, **body})
