"""How a page's code is run: in a server's environment, against the page's own configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from .blocks import Block, Page
from .lists import CANNOT, ELSEWHERE, WHOLE_PAGES
from .world import World, configuration

PROGRAMS = Path(sys.executable).parent
IPYTHON = """
import sys
from IPython.core.interactiveshell import InteractiveShell
done = InteractiveShell.instance().run_cell(sys.stdin.read())
done.raise_error()
print(done.result)
"""
PATIENCE_S = 120
USUAL = """
endpoints:
  - {name: chat, endpoint_type: llm/v1/chat, model: {provider: openai, name: gpt-4o-mini}}
  - {name: vectors, endpoint_type: llm/v1/embeddings, model: {provider: openai, name: embed-3-small}}
"""
"""What there is where a page does not say."""


def is_of_the_hub(block: Block) -> bool:
    """Say whether a block of Python belongs into `jupyterhub_config.py`."""
    return block.language == "python" and ("configure(" in block.text or "c.JupyterHub" in block.text)


def told(page: Page) -> list[Block]:
    """Return the blocks of a page that callers and operators type, in their order."""
    if page.path in WHOLE_PAGES:
        return []
    return [
        block
        for block in page.all("python", "ipython", "bash", "shell")
        if not is_of_the_hub(block) and block.name not in CANNOT and block.name not in ELSEWHERE
    ]


def document(page: Page, world: World, folder: Path) -> dict[str, Any]:
    """Join all configurations of a page into one; of two endpoints with a name the first counts."""
    joined: dict[str, Any] = {"endpoints": []}
    for text in [*(block.text for block in page.all("yaml")), USUAL]:
        found = configuration(text, world, folder)
        joined["endpoints"] += found.pop("endpoints")
        joined |= found
    by_name: dict[str, Any] = {}
    for endpoint in joined["endpoints"]:
        by_name.setdefault(endpoint["name"], endpoint)
    joined["endpoints"] = list(by_name.values())
    joined.setdefault("ledger", {"url": f"sqlite:///{folder}/ledger.sqlite"})
    joined["ledger"].setdefault("flush_s", 0.05)
    return joined


@dataclass
class Desk:
    """Where somebody types: a folder, a Hub's address, and the environment of a server."""

    folder: Path
    hub_url: str
    environ: dict[str, str]

    def typed(self, block: Block, *, stdin: str = "") -> str:
        """Run a block, and return what it printed; it has to end with 0."""
        text = self._here(block.text)
        commands = {
            "python": [sys.executable, "-c", text],
            "ipython": [sys.executable, "-c", IPYTHON],
        }
        command = commands.get(block.language, ["bash", "-euo", "pipefail", "-c", text])
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environ,
            input=text if block.language == "ipython" else stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            start_new_session=True,  # no terminal that could be asked
        )
        assert done.returncode == 0, f"{block.name}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def _here(self, text: str) -> str:
        """Put this machine in the place of what readers replace by their own."""
        hub = self.hub_url.rstrip("/")
        end = (date.today() + timedelta(days=30)).isoformat()
        for theirs, ours in {
            "https://hub.example.org": hub,
            "https://HUB": hub,
            "sudo /opt/tljh/hub/bin/": "",
            "/opt/tljh/config/": f"{self.folder}/",
            "/srv/jupyterhub/": f"{self.folder}/",
            "/projects/alice": f"{self.folder}/srv/projects/alice",
            "2026-12-18": end,
            "time.sleep(10)": "time.sleep(0.2)",
            "--num-prompts 1000": "--num-prompts 20",
            'token="…"': f"token={self.environ['TOKEN']!r}",
        }.items():
            text = text.replace(theirs, ours)
        return text


def environ(folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of somebody who types: little of ours, and our programs."""
    return {
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "BROWSER": "true",
        **given,
    }
