"""Our own client against the gateway: MLflow's words, a notebook server's environment, what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.hub import ACCESS
from fakes.upstream import FakeUpstream, Reply
from served import FULL, PREFIX, Served, endpoint, served

from jupyterhub_ai_gateway import client
from jupyterhub_ai_gateway.client import GatewayClient, GatewayError, Limit, Page

HI: Any = {"messages": [{"role": "user", "content": "Hi"}]}
VARIABLES = (
    *client.URI_VARIABLES,
    *client.TOKEN_VARIABLES,
    *(name for pair in client.SDK_VARIABLES for name in pair),
)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without an environment and a choice, and leave none."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield
    client._chosen.clear()


async def call(function: Any, *arguments: Any, **more: Any) -> Any:
    return await asyncio.to_thread(function, *arguments, **more)


def base(running: Served) -> str:
    return f"{running.url}{PREFIX}"


async def test_routes_are_mlflow_s() -> None:
    limited = endpoint("chat", None, limit={"calls": 50, "renewal_period": "minute"})
    async with served(None, [limited, endpoint("vectors", None, "embeddings")]) as running:
        ours = GatewayClient(base(running), "t-alice")
        route = await call(ours.get_route, "chat")
        assert (route.name, route.route_type) == ("chat", "llm/v1/chat")
        assert (route.model.name, route.model.provider) == ("gpt-4o-mini", "echo")
        assert route.route_url == f"{base(running)}gateway/chat/invocations"
        assert route.limit == Limit(50, "minute", "user")
        page = await call(ours.search_routes)
        assert isinstance(page, Page)
        assert ([each.name for each in page], page.token) == (["chat", "vectors"], None)
        assert page[0] == route
        assert await call(ours.search_routes, "eyJpbmRleCI6IDF9") == page[1:]


async def test_query_is_answered_by_every_kind_of_route() -> None:
    async with served() as running:
        ours = GatewayClient(base(running), "t-alice")
        chat = await call(ours.query, "chat", HI)
        assert chat["choices"][0]["message"]["content"].startswith("You said")
        old = await call(ours.query, "chat", {**HI, "candidate_count": 1})
        assert old["candidates"][0]["message"]["content"].startswith("You said")
        assert (await call(ours.query, "text", {"prompt": "Hi"}))["choices"]
        assert (await call(ours.query, "vectors", {"text": ["a"]}))["embeddings"]


@pytest.mark.parametrize(
    "environ",
    [
        {"OPENAI_BASE_URL": "{}v1", "OPENAI_API_KEY": "t-alice", "JUPYTERHUB_API_TOKEN": "t-alice"},
        {"ANTHROPIC_BASE_URL": "{}", "ANTHROPIC_AUTH_TOKEN": "t-alice", "JUPYTERHUB_API_TOKEN": "t-alice"},
        {"MLFLOW_GATEWAY_URI": "{}", "MLFLOW_TRACKING_TOKEN": "t-alice", "JUPYTERHUB_API_TOKEN": "other"},
        {"JUPYTERHUB_AI_GATEWAY_URL": "{}", "JUPYTERHUB_API_TOKEN": "t-alice"},
    ],
)
async def test_environment_of_a_server_is_enough(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served() as running:
        for name, value in environ.items():
            monkeypatch.setenv(name, value.format(base(running)))
        assert [route.name for route in await call(client.search_routes)] == ["chat", "text", "vectors"]
        assert (await call(client.get_route, "chat")).name == "chat"
        assert (await call(client.query, "chat", HI))["choices"]


def test_hub_s_token_never_goes_to_somebody_else_s_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "t-alice")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-my-own")
    with pytest.raises(GatewayError, match="not known where the gateway is"):
        GatewayClient()


async def test_redirect_is_not_followed() -> None:
    with FakeUpstream(is_strict=False) as elsewhere, FakeUpstream(is_strict=False) as up:
        target = [("Location", f"{elsewhere.url}/api/2.0/gateway/routes/chat")]
        up.always(lambda request: Reply.json({}, 302, target))
        with pytest.raises(GatewayError) as caught:
            await call(GatewayClient(up.url, "t-alice").get_route, "chat")
        assert caught.value.status == 302
        assert not elsewhere.requests
        assert up.requests[0].header("authorization") == "Bearer t-alice"


def test_gateway_uri_is_set_for_the_process() -> None:
    client.set_gateway_uri("http://hub/services/ai-gateway/")
    assert client.get_gateway_uri() == "http://hub/services/ai-gateway"
    assert GatewayClient().gateway_uri == "http://hub/services/ai-gateway"
    for wrong in ("hub/services", "ftp://hub", "file:///etc/passwd", "http://"):
        with pytest.raises(GatewayError, match="no address of a gateway"):
            client.set_gateway_uri(wrong)
        with pytest.raises(GatewayError, match="no address of a gateway"):
            GatewayClient(wrong)


async def test_limits_are_set_and_read_by_staff(tmp_path: Any) -> None:
    ledger = {"url": f"sqlite:///{tmp_path}/l.sqlite", "flush_s": 0.01}
    async with served(config={"ledger": ledger}) as running:
        staff = GatewayClient(
            base(running), running.knows("t-staff", ACCESS, FULL, "custom:ai-gateway:admin")
        )
        wanted = [{"calls": 3, "renewal_period": "hour", "key": "user"}]
        assert await call(staff.set_limits, "chat", wanted) == [Limit(3, "hour", "user")]
        assert await call(staff.get_limits, "chat") == [Limit(3, "hour", "user")]
        with pytest.raises(GatewayError) as caught:
            await call(GatewayClient(base(running), "t-alice").get_limits, "chat")
        assert (caught.value.status, caught.value.code) == (403, "insufficient_scope")


async def test_failures_say_what_to_do() -> None:
    limited = endpoint("chat", None, limit={"calls": 1, "renewal_period": "day"})
    async with served(None, [limited]) as running:
        ours = GatewayClient(base(running), "t-alice")
        with pytest.raises(GatewayError, match="route 'nope' is not present") as caught:
            await call(ours.get_route, "nope")
        assert (caught.value.status, caught.value.code) == (404, "model_not_found")
        assert (caught.value.request_id or "").startswith("req_")
        await call(ours.query, "chat", HI)
        with pytest.raises(GatewayError) as caught:
            await call(ours.query, "chat", HI)
        assert (caught.value.status, caught.value.code) == (429, "rate_limit_exceeded")
        assert (caught.value.retry_after_s or 0) >= 1
        with pytest.raises(GatewayError, match="MLFLOW_TRACKING_TOKEN"):
            await call(GatewayClient(base(running)).search_routes)
        with pytest.raises(GatewayError, match="OpenAI SDK"):
            await call(ours.query, "chat", {**HI, "stream": True})
        with pytest.raises(GatewayError, match="is this the gateway's address"):
            await call(GatewayClient(f"{base(running)}ping?", "t-alice").search_routes)
    with pytest.raises(GatewayError, match="cannot be reached"):
        await call(ours.search_routes)
    with pytest.raises(GatewayError, match="search_filter"):
        client.search_routes(search_filter="name = 'x'")


async def test_silent_gateway_is_given_up() -> None:
    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(GatewayError, match=r"within 0\.1 seconds"):
        await call(GatewayClient(f"http://127.0.0.1:{port}", "t-alice", timeout_s=0.1).search_routes)
    server.close()
    with contextlib.suppress(asyncio.CancelledError):
        await server.wait_closed()


def test_token_is_not_shown() -> None:
    assert "t-alice" not in repr(GatewayClient("http://hub", "t-alice"))


def test_client_needs_the_standard_library_alone() -> None:
    code = "import sys, jupyterhub_ai_gateway.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    others = {name for name in loaded if name not in sys.stdlib_module_names and name[0] != "_"}
    assert others - {"jupyterhub_ai_gateway"} <= site_packages_hooks()


def site_packages_hooks() -> set[str]:
    """Return what every Python of this environment loads at its start."""
    code = "import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}
