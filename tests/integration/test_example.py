"""The example, as it stands: the first cell of a notebook on a real Hub calls a model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from .hub import PASSWORD, RunningHub, find_chp, free_ports

pytestmark = pytest.mark.hub

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "jupyterhub_config.example.py"

# The file is not touched; what a test needs besides is given beside it
BESIDE = """
load_subconfig({example!r})
c = get_config()  # noqa
c.JupyterHub.services.append({{"name": "test-admin", "api_token": {admin_token!r}}})
c.JupyterHub.load_roles.append({{"name": "test-admin", "services": ["test-admin"],
    "scopes": ["admin:users", "admin:servers", "admin:groups", "tokens", "read:hub", "proxy"]}})
"""

FIRST_CELL = """
from openai import OpenAI
messages = [{"role": "user", "content": "Hello"}]
print(OpenAI().chat.completions.create(model="chat", messages=messages).choices[0].message.content)
"""
STREAM_CELL = """
from openai import OpenAI
stream = OpenAI().chat.completions.create(
    model="chat", messages=[{"role": "user", "content": "one two"}], stream=True
)
print(sum(1 for chunk in stream if chunk.choices[0].delta.content))
"""
ASYNC_CELL = """
from openai import AsyncOpenAI
ai = AsyncOpenAI()
print([model.id async for model in ai.models.list()])
print(len((await ai.embeddings.create(model="embeddings", input="x")).data[0].embedding))
"""
CURL_CELL = """
!curl -sS $OPENAI_BASE_URL/models -H "Authorization: Bearer $OPENAI_API_KEY"
"""
CLIENT_CELL = """
from jupyterhub_ai_gateway.client import query, search_routes
print([route.name for route in search_routes()])
answer = query("chat", {"messages": [{"role": "user", "content": "Hello"}]})
print(answer["choices"][0]["message"]["content"])
"""


NEWEST, OLDEST = Path(sys.executable), Path(sys.prefix) / "oldest-hub" / "bin" / "python"
"""Environments with the newest JupyterHub and with the oldest that is supported; `make test` makes both."""


@pytest.fixture(scope="module", params=["newest", "oldest"])
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """Start the example with the real proxy and alice's server."""
    python = {"newest": NEWEST, "oldest": OLDEST}[request.param]
    if not python.exists() and "CI" not in os.environ:
        pytest.skip("make test installs the oldest JupyterHub")
    folder = tmp_path_factory.mktemp("example")
    port, hub_port, proxy_port, gateway_port = free_ports(4)
    (folder / "beside.py").write_text(BESIDE.format(example=str(EXAMPLE), admin_token="the-admin-token"))
    version = subprocess.run([python, "-m", "jupyterhub", "--version"], capture_output=True, text=True)
    assert version.stdout.startswith({"newest": "6.", "oldest": "5."}[request.param])
    command = find_chp()
    assert command is not None, "configurable-http-proxy is not installed: make test does that"
    argv = [
        str(python),
        "-m",
        "jupyterhub",
        "--config=beside.py",
        f"--JupyterHub.bind_url=http://127.0.0.1:{port}",
        f"--JupyterHub.hub_port={hub_port}",
        f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{proxy_port}",
        f"--ConfigurableHTTPProxy.command={command}",
    ]
    started = RunningHub(folder, port, hub_port, "the-admin-token", argv)
    started.environment.update(
        {"AI_GATEWAY_PORT": str(gateway_port), "DEMO_FOLDER": str(folder), "DEMO_PASSWORD": PASSWORD}
    )
    started.start()
    try:
        started.login("alice")
        started.spawn("alice")
        yield started
    finally:
        started.stop()


def test_first_cell_works(hub: RunningHub) -> None:
    said = hub.run_in_kernel("alice", FIRST_CELL)
    assert said.startswith("You said: Hello")
    assert "This is an echo and no model" in said


def test_streams_the_async_client_and_curl_work(hub: RunningHub) -> None:
    assert int(hub.run_in_kernel("alice", STREAM_CELL)) > 10
    models, size = hub.run_in_kernel("alice", ASYNC_CELL).splitlines()
    assert models == "['chat', 'embeddings']"
    assert int(size) == 256
    assert '"id": "chat"' in hub.run_in_kernel("alice", CURL_CELL)


def test_our_own_client_needs_no_address_and_no_token(hub: RunningHub) -> None:
    names, said = hub.run_in_kernel("alice", CLIENT_CELL).splitlines()[:2]
    assert names == "['chat', 'embeddings']"
    assert said.startswith("You said: Hello")


def test_server_s_environment_has_no_other_secret(hub: RunningHub) -> None:
    environment = hub.server_environment("alice")
    assert environment["OPENAI_API_KEY"] == environment["JUPYTERHUB_API_TOKEN"]
    assert environment["OPENAI_BASE_URL"].endswith("/services/ai-gateway/v1")


def test_gateway_is_behind_the_hub_s_proxy(hub: RunningHub) -> None:
    base = f"{hub.url}services/ai-gateway/"
    assert requests.get(f"{base}health", timeout=10).json()["status"] == "OK"
    token = hub.token("alice")
    models = requests.get(f"{base}v1/models", headers={"Authorization": f"Bearer {token}"}, timeout=10)
    assert [model["id"] for model in models.json()["data"]] == ["chat", "embeddings"]
    page = hub.login("alice").get(f"{base}docs", timeout=30)
    assert page.status_code == 200
    assert "alice" in page.text


def test_token_limited_to_an_operation_is_limited(hub: RunningHub) -> None:
    base = f"{hub.url}services/ai-gateway/v1"
    access = "access:services!service=ai-gateway"
    token = hub.token("alice", [access, "custom:ai-gateway:models:list"])
    headers = {"Authorization": f"Bearer {token}"}
    assert requests.get(f"{base}/models", headers=headers, timeout=10).status_code == 200
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}
    refused = requests.post(f"{base}/chat/completions", json=body, headers=headers, timeout=10)
    assert refused.status_code == 403
    assert "custom:ai-gateway:chat:create" in refused.json()["error"]["message"]
