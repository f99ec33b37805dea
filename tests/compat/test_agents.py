"""Coding agents as people install them, each doing a small task with a tool, over every provider.

They are started by the cells of the home page, and by the files that the how-to guides show.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documented.blocks import page
from documented.hub_blocks import configured
from fakes.upstream import FakeUpstream, Reply, Request
from handlers.cells import cell
from matrix.vendors import VENDORS, Say, Seen, Vendor
from served import Served, served

PACKAGES = ("@anthropic-ai/claude-code@2.1.332", "@openai/codex@0.171.0", "opencode-ai@1.18.33")
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


WITHOUT_TALK = {
    "claude": ["-p", TASK, "--allowedTools", "Write,Bash"],
    "codex": ["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"],
    "opencode": ["run", TASK],
}
"""What makes an agent do the task and end, in place of its screen."""
QUIET = {
    "claude": {
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "model",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    },
    "codex": {},
    "opencode": {},
}


def stand_in(agents: Path, name: str, folder: Path) -> str:
    """Put a program of the agent's name first on the path, which adds the task; return the path."""
    folder.mkdir()
    given = shlex.join(WITHOUT_TALK[name])
    last = f" {shlex.quote(TASK)}" if name == "codex" else ""
    program = folder / name
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(str(agents / name))} {given} "$@"{last}\n')
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def server_environment(running: Served, name: str, path: str) -> dict[str, str]:
    """Return what a server of the Hub has in its environment."""
    return {
        "PATH": path,
        "OPENAI_BASE_URL": running.base_url,
        "OPENAI_API_KEY": running.token,
        "JUPYTERHUB_API_TOKEN": running.token,
        **QUIET[name],
    }


@every_vendor
@pytest.mark.parametrize(
    ("name", "front"),
    [("claude", "Messages"), ("codex", "Responses"), ("opencode", "chat completions")],
)
@pytest.mark.gen_test(timeout=300)
async def test_the_home_page_s_cell_starts_the_agent(
    name: str, front: str, back: str, tmp_path: Path, agents: Path
) -> None:
    path = stand_in(agents, name, tmp_path / "bin")

    def command(running: Served) -> Any:
        text = cell(name, "model", running.base_url)
        return ["bash", "-c", text], server_environment(running, name, path)

    await does_its_task(front, back, tmp_path, command)


@pytest.mark.gen_test(timeout=300)
async def test_claude_code_works_as_the_guide_says(tmp_path: Path, agents: Path) -> None:
    path = stand_in(agents, "claude", tmp_path / "bin")

    def command(running: Served) -> Any:
        block = page("howto/claude-code.md").block("python", "from jupyterhub_ai_gateway.hub_config")
        given = configured(block, running)
        given |= {"ANTHROPIC_MODEL": "model"}
        return ["claude"], {**server_environment(running, "claude", path), **given}

    await does_its_task("Messages", "Messages", tmp_path, command)


@pytest.mark.gen_test(timeout=300)
async def test_codex_works_as_the_guide_says(tmp_path: Path, agents: Path) -> None:
    path = stand_in(agents, "codex", tmp_path / "bin")

    def command(running: Served) -> Any:
        text = page("howto/codex.md").block("toml", 'model = "chat"')
        text = text.replace('model = "chat"', 'model = "model"')
        text = text.replace("http://127.0.0.1:5000/services/ai-gateway/v1", running.base_url)
        (tmp_path / ".codex").mkdir()
        (tmp_path / ".codex" / "config.toml").write_text(text)
        return ["codex"], server_environment(running, "codex", path)

    await does_its_task("Responses", "Messages", tmp_path, command)


@pytest.mark.gen_test(timeout=300)
async def test_opencode_works_as_the_guide_says(tmp_path: Path, agents: Path) -> None:
    path = stand_in(agents, "opencode", tmp_path / "bin")

    def command(running: Served) -> Any:
        text = page("howto/opencode.md").block("json", "{")
        text = text.replace('"chat": {"name": "chat"}', '"model": {"name": "model"}')
        (tmp_path / "work" / "opencode.json").write_text(text.replace("hub/chat", "hub/model"))
        return ["opencode"], server_environment(running, "opencode", path)

    await does_its_task("chat completions", "Responses", tmp_path, command)
