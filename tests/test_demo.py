"""What the demonstration talks to: a key before a local server, a local server before the echo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.upstream import FakeUpstream, Reply

from demo.__main__ import NOTEBOOK, free_ports
from demo.models import choose
from jupyterhub_ai_gateway.config import parse
from jupyterhub_ai_gateway.providers.registry import Providers

NOTEBOOK_FILE = Path(__file__).parent.parent / "demo" / NOTEBOOK


def served(document: object, **environ: str) -> list[tuple[str, str, str | None]]:
    """Return name, provider and model of each endpoint, once the gateway takes the configuration."""
    config = parse({"endpoints": document}, Providers.installed().schemas, environ)
    assert config.warnings == ()
    return [(each.name, each.model.provider, each.model.name) for each in config.endpoints]


def test_key_comes_first() -> None:
    with FakeUpstream(key=None) as up:
        choice = choose({"OPENAI_API_KEY": "sk-x"}, {"Ollama": up.base_url})
    assert served(choice.endpoints, OPENAI_API_KEY="sk-x")[0] == ("chat", "openai", "gpt-4o-mini")
    assert not up.requests


def test_local_server_comes_next() -> None:
    with FakeUpstream(key=None, models=["llama3.2"]) as up:
        choice = choose({}, {"nobody": "http://127.0.0.1:9/v1", "Ollama": up.base_url})
    assert served(choice.endpoints) == [("chat", "openai-compatible", "llama3.2")]
    assert "Ollama" in choice.about


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"data":[]}', b'{"data":7}', b"[]"])
def test_something_else_that_listens_is_no_model_server(body: bytes) -> None:
    with FakeUpstream(key=None) as up:
        up.always(Reply(200, [("Content-Type", "application/json")], body))
        choice = choose({}, {"vLLM": up.base_url})
    assert {provider for _, provider, _ in served(choice.endpoints)} == {"echo"}
    assert "OPENAI_API_KEY" in choice.about


def test_ports_are_free_and_all_different() -> None:
    ports = free_ports(4, 0)
    assert len(set(ports)) == 4


def test_notebook_is_the_first_call_without_answers() -> None:
    notebook = json.loads(NOTEBOOK_FILE.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert 'client.chat.completions.create(model="chat"' in "".join(cells[0]["source"])
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    for cell in cells:
        compile("".join(cell["source"]), "cell", "exec")
