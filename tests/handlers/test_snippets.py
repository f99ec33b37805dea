"""The cells to paste, for every kind of model and every client, with names that have to be quoted."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_ai_gateway.handlers.pages import STATIC
from jupyterhub_ai_gateway.vocabulary import OPENAI_OPERATIONS, UPLOADS

NODE = shutil.which("node")
NAMES = ("chat", 'it\'s "quoted" $HOME `id` \\ name')
TYPES = {
    **{f"/v1{each.path}": [f"/v1{each.path}"] for each in OPENAI_OPERATIONS},
    "all": ["/v1/chat/completions", "/v1/messages", "/v1/responses"],
}
ASK = """
import { snippetsOf } from %s;
const [models, url] = JSON.parse(process.argv[1]);
const found = models.map((model) => [true, false].map((isInside) => snippetsOf(model, isInside, url)));
console.log(JSON.stringify(found));
"""


@pytest.fixture(scope="module")
def snippets(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, bool], list[Any]]:
    if NODE is None:
        pytest.skip("needs node")
    copy = Path(shutil.copy(STATIC / "snippets.js", tmp_path_factory.mktemp("js") / "snippets.mjs"))
    models = [{"id": name, "paths": paths} for name in NAMES for paths in TYPES.values()]
    code = ASK % json.dumps(copy.as_uri())
    given = json.dumps([models, "https://hub.example.org/services/ai-gateway/v1"])
    told = subprocess.check_output([NODE, "--input-type=module", "-e", code, given], text=True)
    keys = [(name, kind) for name in NAMES for kind in TYPES]
    return {
        (*key, is_inside): cells
        for key, both in zip(keys, json.loads(told), strict=True)
        for is_inside, cells in zip((True, False), both, strict=True)
    }


def test_every_cell_can_be_read_by_its_language(
    snippets: dict[tuple[str, str, bool], list[Any]], tmp_path: Path
) -> None:
    for (name, kind, is_inside), found in snippets.items():
        for each in found:
            for cell in each["cells"]:
                if each["key"] in ("python", "anthropic"):
                    texts = [
                        node.value for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Constant)
                    ]
                    assert name in texts, (kind, is_inside)
                elif each["key"] in ("curl", "claude", "codex", "opencode"):
                    script = re.sub(r"^%%bash\n", "", cell)
                    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


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
            script = re.sub(r"^%%bash\n", "", each["cells"][0])
            told = subprocess.check_output(["bash"], input=script, text=True, env=environment)
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
        *("python", "magic", "curl", "r", "anthropic", "claude", "codex", "opencode")
    ]
