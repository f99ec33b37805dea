"""The notebook's commands in a real IPython shell, against a real gateway."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes.hub import ACCESS
from fakes.upstream import FakeUpstream, Reply, chat_completion
from IPython.core.interactiveshell import InteractiveShell
from served import FULL, KEY, endpoint, served

import jupyterhub_ai_gateway
from jupyterhub_ai_gateway import notebook

POLICIES = [
    {"name": "daily", "resource": "tokens", "limit": 1000, "window": "day"},
    {"name": "budget", "resource": "cost_usd", "limit": 2, "window": "month", "endpoints": "chat"},
    {"name": "at-once", "resource": "concurrency", "limit": 4},
    {"name": "trial", "resource": "requests", "limit": 1, "window": "day", "shadow": True},
]


@pytest.fixture
def shell() -> InteractiveShell:
    made = InteractiveShell()
    jupyterhub_ai_gateway.load_ipython_extension(made)
    return made


async def run(shell: InteractiveShell, magic: str, line: str = "") -> Any:
    return await asyncio.to_thread(shell.run_line_magic, magic, line)


async def test_models_usage_and_limits(
    shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"policies": POLICIES, "ledger": {"url": f"sqlite:///{tmp_path}/ledger.sqlite"}}
    price = {"input_per_mtok": 1000, "output_per_mtok": 4000}
    with FakeUpstream(key=KEY) as up:
        usage = {"prompt_tokens": 200, "completion_tokens": 100}
        up.always(Reply.json({**chat_completion("Hi"), "usage": usage}))
        endpoints = [endpoint("chat", up, price=price, description="<b>Usual</b>"), endpoint("other", up)]
        async with served(up, endpoints, config=config) as gateway:
            gateway.knows("t-alice", ACCESS, FULL, name="alice", groups=("physics",))
            monkeypatch.setenv("OPENAI_BASE_URL", gateway.base_url)
            monkeypatch.setenv("OPENAI_API_KEY", "t-alice")
            await gateway.chat()
            models = await run(shell, "ai_models")
            assert [row[0] for row in models.rows] == ["chat", "other"]
            assert "$1,000.00 in, $4,000.00 out" in repr(models)
            assert "daily, budget, at-once" in repr(models)
            assert "&lt;b&gt;Usual" in models._repr_html_()
            assert [row[0] for row in (await run(shell, "ai_models", "usual")).rows] == ["chat"]
            found = await run(shell, "ai_usage")
            assert [row[:1] + row[4:] for row in found.rows[:3]] == [
                ("today", "$0.60"),
                ("this week", "$0.60"),
                ("this month", "$0.60"),
            ]
            assert "this month, chat" in repr(found)
            limits = await run(shell, "ai_limits")
            assert [row[0] for row in limits.rows] == ["daily", "budget", "at-once"]
            assert "700 of 1,000 tokens per day" in repr(limits)
            assert "$1.40 of $2.00 per month" in repr(limits)
            assert "4 of 4 requests at a time" in repr(limits)
            assert "30%" in repr(limits)
            assert not [
                text for text in re.split("<[^>]*>", limits._repr_html_()) if "$" in text.strip("$")
            ]
            assert limits.data["caller"]["name"] == "alice"
            assert limits.note == ""
            for _ in range(2):
                assert (await gateway.chat()).status == 200
            limits = await run(shell, "ai_limits")
            assert "Your budget budget (each user) is used to 90% and resets " in limits.note
            assert [row[0] for row in limits.rows] == ["daily", "budget", "at-once"]
            page = (await run(shell, "ai_usage"))._repr_html_()
            assert '<td style="text-align:right"><span>$</span>1.80</td>' in page
            monkeypatch.setenv("OPENAI_API_KEY", "t-nobody")
            with pytest.raises(notebook.GatewayError, match="answered 401"):
                await asyncio.to_thread(notebook.ai_usage)


async def test_without_a_ledger(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(None, [endpoint("chat", None)]) as gateway:
        monkeypatch.setenv("OPENAI_BASE_URL", gateway.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "t-alice")
        assert "writes nothing down" in repr(await run(shell, "ai_usage"))
        assert "No limit" in (await run(shell, "ai_limits"))._repr_html_()


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*notebook._BASES, *notebook._KEYS):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(notebook.GatewayError, match="OPENAI_BASE_URL"):
        notebook.ai_models()
    monkeypatch.setenv("OPENAI_API_KEY", "a-token")
    monkeypatch.setenv("OPENAI_BASE_URL", "file:///etc/passwd")
    with pytest.raises(notebook.GatewayError, match="http"):
        notebook.ai_models()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(notebook.GatewayError, match="cannot be asked") as raised:
        notebook.ai_models()
    assert "a-token" not in str(raised.value)


def test_the_package_costs_nothing_to_import() -> None:
    code = """
import sys
import jupyterhub_ai_gateway
ours = {name for name in sys.modules if name.startswith("jupyterhub_ai_gateway")}
assert ours == {"jupyterhub_ai_gateway", "jupyterhub_ai_gateway._version"}, ours
import jupyterhub_ai_gateway.notebook
heavy = {"tornado", "aiohttp", "sqlalchemy", "traitlets", "IPython", "msgspec", "yaml"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
