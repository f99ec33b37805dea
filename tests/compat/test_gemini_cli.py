"""Gemini CLI as people install it, doing a small task with a tool, over providers of every format."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.upstream import FakeUpstream, Reply, Request
from matrix.vendors import VENDORS, GeminiVendor, Say, Seen, Vendor
from served import PREFIX, Served, served

from .test_agents import CACHE, TASK, run

PACKAGE = "@google/gemini-cli@0.61.0"
FORGOTTEN = ("temperature", "top_p", "top_k")
"""What Claude 4.5 takes, and Anthropic's SDK does not know any more since newer models do not."""


@pytest.fixture(scope="session")
def gemini_cli() -> Iterator[Path]:
    """Install it from npm, once for this machine."""
    CACHE.mkdir(parents=True, exist_ok=True)
    install = ["npm", "install", "--no-fund", "--no-audit", "--prefix", str(CACHE), PACKAGE]
    subprocess.run(install, check=True, capture_output=True, timeout=600)
    yield CACHE / "node_modules" / ".bin" / "gemini"


class Scripted:
    """Lets a vendor's model do the task: call the tool that writes files, and be done with its result."""

    def __init__(self, vendor: Vendor, file: Path) -> None:
        self.vendor = vendor
        self._file = file
        self.complaints: list[str] = []
        self.asked: list[Request] = []
        vendor.up.always(self)

    def __call__(self, request: Request) -> Reply:
        self.asked.append(request)
        document = request.document
        if not isinstance(self.vendor, GeminiVendor):
            plain = {name: value for name, value in document.items() if name not in FORGOTTEN}
            wrong = self.vendor.check(request, plain)
            if wrong is not None:
                self.complaints.append(wrong)
                return self.vendor.refuse(400, f"strict: {wrong}")
        say = self._say(self.vendor.read(document))
        if self.vendor.is_stream(request, document):
            return Reply.stream(*self.vendor.stream(say))
        return Reply.json(self.vendor.whole(say))

    def _say(self, seen: Seen) -> Say:
        if "write_file" not in seen.tools:
            return Say("A bird.")
        if any(name == "write_file" for _, name, _ in seen.calls):
            return Say("done")
        given = {"file_path": str(self._file), "content": "kestrel"}
        return Say("I write it.", [("call_write_1", "write_file", given)])


@pytest.mark.parametrize("back", ["Gemini", "chat completions", "Messages", "Responses"])
@pytest.mark.gen_test(timeout=300)
async def test_gemini_cli(back: str, tmp_path: Path, gemini_cli: Path) -> None:
    (tmp_path / "work").mkdir()
    file = tmp_path / "work" / "bird.txt"
    with FakeUpstream(is_strict=False) as up:
        scripted = Scripted(VENDORS[back](up), file)
        async with served(None, [scripted.vendor.endpoint()]) as running:
            line, env = command(running, tmp_path, gemini_cli)
            said = await run(line, tmp_path, **env)
    assert scripted.complaints == []
    assert file.exists(), said[-3000:]
    assert file.read_text() == "kestrel"
    assert "done" in said


def command(running: Served, home: Path, program: Path) -> tuple[list[str], dict[str, Any]]:
    """Return the command line and the environment, with the settings that its page tells of."""
    folder = home / ".gemini"
    folder.mkdir()
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {"disableAutoUpdate": True, "enableAutoUpdate": False},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    line = [str(program), "--model", "model", "--yolo", "--skip-trust", "--prompt", TASK]
    return line, {
        "GOOGLE_GEMINI_BASE_URL": f"{running.url}{PREFIX}".rstrip("/"),
        "GEMINI_API_KEY": "t-alice",
        "GEMINI_CLI_NO_RELAUNCH": "1",
        "TERM": os.environ.get("TERM", "dumb"),
    }
