"""The cells that the home page offers, as the page's own module makes them: by node."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_ai_gateway.handlers.pages import STATIC

CHAT_PATHS = ("/v1/chat/completions", "/v1/messages", "/v1/responses")
"""What a chat model is asked by, as the page's list of models says."""
_ASK = """
import { snippetsOf } from %s;
const [models, url] = JSON.parse(process.argv[1]);
const found = models.map((model) => [true, false].map((isInside) => snippetsOf(model, isInside, url)));
console.log(JSON.stringify(found));
"""


def offered(models: Sequence[Mapping[str, Any]], url: str) -> Any:
    """Return for each model the cells for a server of the Hub, and those for elsewhere."""
    node = shutil.which("node")
    if node is None:
        if "CI" in os.environ:
            pytest.fail("node is not installed, so no cell was tried")
        pytest.skip("needs node")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(STATIC / "snippets.js", Path(folder, "snippets.mjs")))
        code = _ASK % json.dumps(copy.as_uri())
        asked = [node, "--input-type=module", "-e", code, json.dumps([list(models), url])]
        return json.loads(subprocess.check_output(asked, text=True))


def cells(
    key: str, model: str, url: str, paths: Sequence[str] = CHAT_PATHS, *, inside: bool = True
) -> list[str]:
    """Return what is pasted for a model by one kind of client."""
    ((within, beyond),) = offered([{"id": model, "paths": list(paths)}], url)
    (found,) = [each["cells"] for each in (within if inside else beyond) if each["key"] == key]
    return list(found)


def cell(key: str, model: str, url: str, paths: Sequence[str] = CHAT_PATHS, *, inside: bool = True) -> str:
    """Return the one cell that is pasted for a model by one kind of client."""
    (found,) = cells(key, model, url, paths, inside=inside)
    return found


def script(text: str) -> str:
    """Return what bash gets of a cell: a notebook takes its first line for itself."""
    return re.sub(r"^%%bash\n", "", text)
