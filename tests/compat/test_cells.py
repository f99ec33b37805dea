"""The home page's cells for clients that cannot be installed beside ours, executed as they are pasted."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from fakes.upstream import FakeUpstream
from handlers.cells import cell, cells
from served import KEY, Served, endpoint, served

from .environments import environment

MAGICS = {
    "magic": ["jupyter-ai-magics==2.31.7", "langchain-openai==0.3.35", "ipython"],
    "magic3": ["jupyter-ai-magic-commands==0.0.4", "ipython"],
}
"""What is installed for a kind of cell."""
NOTEBOOK = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in sys.argv[1:]:
    done = shell.run_cell(cell)
    done.raise_error()
    print(getattr(done.result, "data", ""))
"""
PATIENCE_S = 120


async def run(running: Served, command: Sequence[str], home: Path, stdin: str = "") -> tuple[int, str]:
    """Run a program as in a server of the Hub; return how it ended and what it said."""
    environ = {
        **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
        "HOME": str(home),
        "OPENAI_BASE_URL": running.base_url,
        "OPENAI_API_KEY": running.token,
        "NO_PROXY": "127.0.0.1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it downloads a list of prices
    }
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=home,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(stdin.encode()), PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(errors="replace")


@pytest.mark.parametrize("key", MAGICS)
@pytest.mark.gen_test(timeout=180)
async def test_magic_cells_ask_the_gateway(key: str, tmp_path: Path) -> None:
    python = environment(MAGICS[key])
    with FakeUpstream(key=KEY) as up:
        async with served(None, [endpoint("chat", up)]) as running:
            command = [str(python), "-c", NOTEBOOK, *cells(key, "chat", running.base_url)]
            status, said = await run(running, command, tmp_path)
    assert status == 0, said
    assert "Hello from the fake upstream." in said
    assert "Hello!" in up.requests[0].document["messages"][-1]["content"]


@pytest.fixture(scope="module")
def rscript() -> str:
    """Find R, with what the cells' remark says that they need."""
    found = shutil.which("Rscript")
    needs = 'stopifnot(all(sapply(c("httr2", "askpass"), requireNamespace, quietly = TRUE)))'
    if found is None or subprocess.run([found, "-e", needs], capture_output=True).returncode != 0:
        if "CI" in os.environ:
            pytest.fail("R, httr2 or askpass is not installed: python tools/system_packages.py r")
        pytest.skip("needs R with httr2 and askpass: python tools/system_packages.py r")
    return found


@pytest.mark.parametrize("name", ["chat", "openai/o3:free"])
@pytest.mark.gen_test(timeout=120)
async def test_r_cell_asks_the_gateway(name: str, rscript: str, tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        async with served(None, [endpoint("one", up, aliases=[name])]) as running:
            text = cell("r", name, running.base_url)
            status, said = await run(running, [rscript, "-"], tmp_path, text)
    assert (status, said.strip()) == (0, "Hello from the fake upstream.")
    assert up.requests[0].document["messages"] == [{"role": "user", "content": "Hello!"}]


@pytest.mark.parametrize("name", ["chaat", 'it\'s "quoted" $HOME `id` \\ name'])
@pytest.mark.gen_test(timeout=120)
async def test_r_cell_says_what_is_wrong(name: str, rscript: str, tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        async with served(None, [endpoint("chat", up)]) as running:
            text = cell("r", name, running.base_url)
            status, said = await run(running, [rscript, "-"], tmp_path, text)
    assert status != 0
    assert f"There is no model {name} for you here." in said


@pytest.mark.gen_test(timeout=120)
async def test_r_cell_for_elsewhere_asks_for_the_token(rscript: str, tmp_path: Path) -> None:
    """Nobody types here: the question is answered in the place of a person."""
    with FakeUpstream(key=KEY) as up:
        async with served(None, [endpoint("chat", up)]) as running:
            text = cell("r", "chat", running.base_url, inside=False)
            typed = f'options(askpass = function(prompt) "{running.token}")\n'
            status, said = await run(running, [rscript, "-"], tmp_path, typed + text)
    assert (status, said.strip()) == (0, "Hello from the fake upstream.")
