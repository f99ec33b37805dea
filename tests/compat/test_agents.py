"""Coding agents as people install them, each doing a small task with a tool, over every provider."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.upstream import FakeUpstream, Reply, Request
from matrix.vendors import VENDORS, Say, Seen, Vendor
from served import PREFIX, Served, served

PACKAGES = ("@anthropic-ai/claude-code", "@openai/codex", "opencode-ai")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jupyterhub-ai-gateway" / "agents"
TASK = "Write the word kestrel into the file bird.txt, then say done."
PATIENCE_S = 240

every_vendor = pytest.mark.parametrize("back", ["chat completions", "Messages", "Responses", "Gemini"])


@pytest.fixture(scope="session")
def agents() -> Iterator[Path]:
    """Install the agents from npm, once for this machine."""
    CACHE.mkdir(parents=True, exist_ok=True)
    install = ["npm", "install", "--no-fund", "--no-audit", "--prefix", str(CACHE), *PACKAGES]
    subprocess.run(install, check=True, capture_output=True, timeout=600)
    yield CACHE / "node_modules" / ".bin"


class Scripted:
    """Lets a vendor's model do the task: call the tool that there is, and be done once it gave a result.

    What was translated is held to the vendor's published types; what passed as it came is the agent's own,
    preview fields included.
    """

    def __init__(self, vendor: Vendor, file: Path, *, is_strict: bool) -> None:
        self.vendor = vendor
        self._is_strict = is_strict
        self.complaints: list[str] = []
        command = f"printf kestrel > {file}"
        self._tools: dict[str, dict[str, Any]] = {
            "Write": {"file_path": str(file), "content": "kestrel"},
            "write": {"filePath": str(file), "content": "kestrel"},
            "exec_command": {"cmd": command},
            "shell_command": {"command": command},
            "shell": {"command": ["bash", "-lc", command]},
            "Bash": {"command": command, "description": "Write the file"},
        }
        vendor.up.always(self)

    def __call__(self, request: Request) -> Reply:
        if request.method == "GET":
            return Reply.json({"object": "list", "data": []})
        document = request.document
        wrong = self.vendor.check(request, document) if self._is_strict else None
        if wrong is not None:
            self.complaints.append(wrong)
            return self.vendor.refuse(400, f"strict: {wrong}")
        say = self._say(self.vendor.read(document))
        if self.vendor.is_stream(request, document):
            return Reply.stream(*self.vendor.stream(say))
        return Reply.json(self.vendor.whole(say))

    def _say(self, seen: Seen) -> Say:
        tool = next((name for name in self._tools if name in seen.tools), None)
        if tool is None:
            return Say("A bird.")
        if any(name == tool for _, name, _ in seen.calls):
            return Say("done")
        return Say("I write it.", [("call_write_1", tool, self._tools[tool])])


async def run(command: list[str], home: Path, **env: str) -> str:
    """Run an agent in an empty home, and return what it said."""
    own = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=home / "work",
        env={**own, "HOME": str(home), "NO_PROXY": "127.0.0.1", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out.decode(errors="replace")


async def does_its_task(front: str, back: str, tmp_path: Path, command: Any) -> None:
    """Let an agent do the task over a vendor; `command` makes its command line and environment."""
    (tmp_path / "work").mkdir()
    file = tmp_path / "work" / "bird.txt"
    with FakeUpstream(is_strict=False) as up:
        scripted = Scripted(VENDORS[back](up), file, is_strict=front != back)
        async with served(None, [scripted.vendor.endpoint()]) as running:
            line, env = command(running)
            said = await run(line, tmp_path, **env)
    assert scripted.complaints == []
    assert file.exists(), said[-3000:]
    assert file.read_text() == "kestrel"
    assert "done" in said


@every_vendor
@pytest.mark.gen_test(timeout=300)
async def test_claude_code(back: str, tmp_path: Path, agents: Path) -> None:
    def command(running: Served) -> Any:
        line = [str(agents / "claude"), "-p", TASK, "--model", "model", "--allowedTools", "Write,Bash"]
        return line, {
            "ANTHROPIC_BASE_URL": f"{running.url}{PREFIX}",
            "ANTHROPIC_AUTH_TOKEN": "t-alice",
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": "model",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }

    await does_its_task("Messages", back, tmp_path, command)


@every_vendor
@pytest.mark.gen_test(timeout=300)
async def test_codex(back: str, tmp_path: Path, agents: Path) -> None:
    def command(running: Served) -> Any:
        folder = tmp_path / ".codex"
        folder.mkdir()
        (folder / "config.toml").write_text(
            f"""
model = "model"
model_provider = "hub"
web_search = "disabled"

[model_providers.hub]
name = "The Hub"
base_url = "{running.base_url}"
env_key = "JUPYTERHUB_API_TOKEN"
wire_api = "responses"
"""
        )
        line = [str(agents / "codex"), "exec", "--skip-git-repo-check"]
        line += ["--dangerously-bypass-approvals-and-sandbox", TASK]
        return line, {"JUPYTERHUB_API_TOKEN": "t-alice"}

    await does_its_task("Responses", back, tmp_path, command)


@every_vendor
@pytest.mark.gen_test(timeout=300)
async def test_opencode(back: str, tmp_path: Path, agents: Path) -> None:
    def command(running: Served) -> Any:
        hub = {
            "npm": "@ai-sdk/openai-compatible",
            "name": "The Hub",
            "options": {"baseURL": running.base_url, "apiKey": "{env:JUPYTERHUB_API_TOKEN}"},
            "models": {"model": {"name": "model"}},
        }
        config = {"provider": {"hub": hub}, "model": "hub/model", "small_model": "hub/model"}
        config |= {"autoupdate": False, "share": "disabled"}
        (tmp_path / "work" / "opencode.json").write_text(json.dumps(config))
        line = [str(agents / "opencode"), "run", "--model", "hub/model", TASK]
        return line, {"JUPYTERHUB_API_TOKEN": "t-alice"}

    await does_its_task("chat completions", back, tmp_path, command)
