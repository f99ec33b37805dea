"""Every block of `jupyterhub_config.py` is executed as JupyterHub does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from .blocks import BLOCKS, Block
from .hub_blocks import environment, execute
from .stories import is_of_the_hub

BLOCKS_OF_THE_HUB = [
    pytest.param(block, id=block.name) for block in BLOCKS.values() if is_of_the_hub(block)
]


@pytest.mark.parametrize("block", BLOCKS_OF_THE_HUB)
def test_block_configures_the_hub(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a role grants is a scope of the Hub's, or one that the configuration defines."""
    (tmp_path / "config.yaml").write_text("endpoints: []\n")
    (tmp_path / "token").write_text("secret-of-both\n")
    monkeypatch.setenv("AI_GATEWAY_TOKEN", "secret-of-both")
    c = Config()
    c.JupyterHub.load_roles = []
    text = block.text.replace("/etc/jupyterhub-ai-gateway/token", str(tmp_path / "token"))
    if "configure(" not in text and "JupyterHub.services" not in text:
        text = f'configure(c, config_file="config.yaml")\n{text}'
    execute(text, str(tmp_path / "config.yaml"), c)
    (service,) = c.JupyterHub.services
    assert service["name"] == "ai-gateway"
    assert ("command" in service) != ("api_token" in service)
    if "api_token" in service:
        assert service["api_token"] == "secret-of-both"
    else:
        assert str(tmp_path / "config.yaml") in service["command"]
    known = set(c.JupyterHub.custom_scopes)
    for role in c.JupyterHub.load_roles:
        assert {bare(scope) for scope in role["scopes"] if scope.startswith("custom:")} <= known
    given = environment(c, "a-servers-token")
    assert given["OPENAI_API_KEY"] == "a-servers-token"
    assert given["OPENAI_BASE_URL"].endswith("/services/ai-gateway/v1")
    assert "clients=" not in text or len(given) > 2


def bare(scope: str) -> Any:
    return scope.partition("!")[0]
