"""The cells to paste, for every kind of model and every client, with names that have to be quoted."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from documented.blocks import page
from fakes.anthropic import TEXT, Claude
from fakes.upstream import FakeUpstream
from fakes.vendor import USAGE_TEXT
from served import KEY, Served, endpoint, served

from jupyterhub_ai_gateway.vocabulary import OPENAI_OPERATIONS, UPLOADS

from .cells import CHAT_PATHS, cell, cells, offered, script

NAMES = ("chat", 'it\'s "quoted" $HOME `id` \\ name')
TYPES = {
    **{f"/v1{each.path}": [f"/v1{each.path}"] for each in OPENAI_OPERATIONS},
    "all": list(CHAT_PATHS),
}
KINDS = {
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/images/generations": "images",
    "/v1/audio/speech": "speech",
    "/v1/audio/transcriptions": "transcriptions",
    "/v1/moderations": "moderations",
    "/v1/rerank": "rerank",
    "all": "chat",
}
"""For each kind of model that has cells, the type of its endpoint."""


@pytest.fixture(scope="module")
def snippets() -> dict[tuple[str, str, bool], list[Any]]:
    models = [{"id": name, "paths": paths} for name in NAMES for paths in TYPES.values()]
    told = offered(models, "https://hub.example.org/services/ai-gateway/v1")
    keys = [(name, kind) for name in NAMES for kind in TYPES]
    return {
        (*key, is_inside): cells
        for key, both in zip(keys, told, strict=True)
        for is_inside, cells in zip((True, False), both, strict=True)
    }


def test_every_cell_can_be_read_by_its_language(
    snippets: dict[tuple[str, str, bool], list[Any]], tmp_path: Path
) -> None:
    for (name, kind, is_inside), found in snippets.items():
        for each in found:
            for text in each["cells"]:
                if each["key"] in ("python", "anthropic"):
                    texts = [
                        node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)
                    ]
                    assert name in texts, (kind, is_inside)
                elif each["key"] in ("curl", "claude", "codex", "opencode"):
                    subprocess.run(["bash", "-n"], input=script(text), text=True, check=True)


def test_names_are_no_commands(snippets: dict[tuple[str, str, bool], list[Any]], tmp_path: Path) -> None:
    """A stand-in for each program says what it was told: the name as it is."""
    for program in ("curl", "claude", "codex", "opencode"):
        agent = tmp_path / program
        agent.write_text('#!/bin/sh\nprintf "%s\\n" "$ANTHROPIC_MODEL" "$OPENCODE_CONFIG_CONTENT" "$@"\n')
        agent.chmod(0o755)
    name = NAMES[1]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "OPENAI_BASE_URL": "u", "OPENAI_API_KEY": "k"}
    for each in snippets[name, "all", True]:
        if each["key"] in ("curl", "claude", "codex", "opencode"):
            told = subprocess.check_output(
                ["bash"], input=script(each["cells"][0]), text=True, env=environment
            )
            assert name in told or json.dumps(name)[1:-1] in told, each["key"]


def test_every_kind_of_model_has_a_cell(snippets: dict[tuple[str, str, bool], list[Any]]) -> None:
    others = {f"/v1{each.path}" for each in UPLOADS} - {"/v1/audio/transcriptions"}
    for kind in set(TYPES) - others:
        keys = [each["key"] for each in snippets["chat", kind, True]]
        assert keys[0] == "python", kind
        assert "curl" in keys
    for kind in others:  # what an endpoint serves besides its own
        assert snippets["chat", kind, True] == []
    assert [each["key"] for each in snippets["chat", "all", True]] == [
        *("python", "magic", "magic3", "curl", "r", "anthropic", "claude", "codex", "opencode")
    ]


# Pasted, and executed as they are


def providers(up: FakeUpstream) -> list[dict[str, Any]]:
    """Make an endpoint for each kind of model."""
    host = {"provider": "vllm", "name": "a-model", "config": {"api_base": f"{up.url}/v1", "api_key": KEY}}
    openai = {
        "provider": "openai",
        "name": "gpt-4o-mini",
        "config": {"openai_api_key": KEY, "openai_api_base": f"{up.url}/v1"},
    }
    others = [
        {
            "name": kind,
            "endpoint_type": f"llm/v1/{kind}",
            "model": host if kind in ("transcriptions", "rerank") else openai,
        }
        for kind in KINDS.values()
        if kind not in ("chat", "completions", "embeddings")
    ]
    own = [endpoint(kind, up, kind) for kind in ("chat", "completions", "embeddings")]
    return [*own, *others]


async def pasted(
    running: Served, command: Sequence[str], text: str, folder: Path, *, is_inside: bool
) -> str:
    """Run a cell as in a server of the Hub, or elsewhere with the token typed; return what it printed."""
    own = {"OPENAI_BASE_URL": running.base_url, "OPENAI_API_KEY": running.token} if is_inside else {}
    file = folder / "cell"
    file.write_text(text)
    process = await asyncio.create_subprocess_exec(
        *command,
        str(file),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **own},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # no terminal to ask for the token, so that it is asked for here
    )
    out, err = await process.communicate(b"" if is_inside else f"{running.token}\n".encode())
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.parametrize(
    ("kind", "is_inside"), [*((kind, True) for kind in KINDS), ("all", False), ("/v1/embeddings", False)]
)
async def test_python_and_curl_cells_work_as_pasted(kind: str, is_inside: bool, tmp_path: Path) -> None:
    (tmp_path / "recording.mp3").write_bytes(b"ID3" + bytes(2000))
    with FakeUpstream(key=KEY) as up:
        async with served(None, providers(up)) as running:
            for key, command in (("python", [sys.executable]), ("curl", ["bash"])):
                text = cell(key, KINDS[kind], running.base_url, TYPES[kind], inside=is_inside)
                said = await pasted(running, command, script(text), tmp_path, is_inside=is_inside)
                assert said.strip() or kind == "/v1/audio/speech"
                assert '"error"' not in said
                if kind == "all":
                    assert USAGE_TEXT in said
                elif kind == "/v1/audio/speech":
                    assert (tmp_path / "speech.mp3").read_bytes().startswith(b"ID3")
                    (tmp_path / "speech.mp3").unlink()
    assert [request.path for request in up.requests] == [TYPES[kind][0]] * 2


@pytest.mark.parametrize("is_inside", [True, False], ids=["in a server", "elsewhere"])
async def test_anthropic_cell_works_as_pasted(is_inside: bool, tmp_path: Path) -> None:
    with FakeUpstream(is_strict=False) as up:
        up.always(Claude(KEY))
        host = {"anthropic_api_key": KEY, "anthropic_api_base": f"{up.url}/v1"}
        model = {"provider": "anthropic", "name": "claude-sonnet-4-5", "config": host}
        async with served(
            None, [{"name": "chat", "endpoint_type": "llm/v1/chat", "model": model}]
        ) as running:
            text = cell("anthropic", "chat", running.base_url, inside=is_inside)
            said = await pasted(running, [sys.executable], text, tmp_path, is_inside=is_inside)
    assert said.strip() == "".join(TEXT)


def test_the_guide_has_the_home_page_s_cells() -> None:
    """Those for Jupyter AI and R, which `make test-compat` executes."""
    guide = [block.text.rstrip("\n") for block in page("howto/jupyter-ai-and-r.md").blocks]
    url = "https://hub.example.org/services/ai-gateway/v1"
    *lines, asked = cells("magic3", "chat", url)
    assert guide == ["\n".join(lines), asked, *cells("magic", "chat", url), cell("r", "chat", url)]
