"""The original jupyterhub-ai-gateway (1.2.0): its usage page works here, and its weaknesses are gone.

The names carry the ids of docs/reference/compatibility-original.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from expected import ExpectedLog
from fakes.hub import ACCESS, response
from fakes.upstream import FakeUpstream, Gate, Reply, chat_chunk
from openai import AsyncOpenAI, OpenAI
from served import FULL, KEY, endpoint, served, usual
from test_accounting import rows
from test_cli import free_port, gateway

from jupyterhub_ai_gateway.app.environment import hub_options, service_prefix
from jupyterhub_ai_gateway.app.gateway_app import AIGateway

ROOT = Path(__file__).parent.parent
HI: Any = {"messages": [{"role": "user", "content": "Hi"}]}
LIMIT = {"renewal_period": "day", "calls": 2}


# The usage page

CONFIG = """
endpoints:
  - name: completions
    endpoint_type: llm/v1/completions
    model:
        provider: openai
        name: gpt-4-turbo
        config:
            openai_api_key: $OPENAI_API_KEY
            openai_api_base: {base}
  - name: chat
    endpoint_type: llm/v1/chat
    model:
        provider: openai
        name: gpt-4o-mini
        config:
            openai_api_key: $OPENAI_API_KEY
            openai_api_base: {base}
    limit:
        renewal_period: minute
        calls: 10
  - name: embeddings
    endpoint_type: llm/v1/embeddings
    model:
        provider: openai
        name: text-embedding-3-small
        config:
            openai_api_key: $OPENAI_API_KEY
            openai_api_base: {base}
"""


@pytest.mark.parametrize("style", ["long", "short", "environment"])
def test_j_25_usage_page_command_by_command(style: str, tmp_path: Path) -> None:
    """J-25 to J-30: the environment, the file, the command, then the OpenAI SDK with a server's token."""
    port = free_port()
    arguments, more = {
        "long": (["--config", "config.yaml", "--port", str(port), "--metrics"], {}),
        "short": (["-c", "config.yaml", "-p", str(port), "-m"], {}),
        "environment": (["-p", str(port)], {"JUPYTERHUB_AI_GATEWAY_CONFIG": "config.yaml"}),
    }[style]
    environ = {"OPENAI_API_KEY": KEY, "JUPYTERHUB_SERVICE_NAME": "ai-gateway", **more}
    with FakeUpstream(key=KEY) as up:
        (tmp_path / "config.yaml").write_text(CONFIG.format(base=f"{up.url}/v1"))
        with (
            gateway(tmp_path, *arguments, environ=environ, port=port) as running,
            OpenAI(base_url=f"{running.url}/v1", api_key="t-alice", max_retries=0) as ai,
        ):
            chat = ai.chat.completions.create(model="chat", messages=HI["messages"])
            assert chat.choices[0].message.content == up.text
            assert ai.completions.create(model="completions", prompt="Hi").choices[0].text == up.text
            assert len(ai.embeddings.create(model="embeddings", input="Hi").data) == 1


def test_j_25_flags_and_j_26_variables_are_there() -> None:
    names = {name for key in AIGateway.aliases for name in ((key,) if isinstance(key, str) else key)}
    assert {"host", "H", "port", "p", "config", "c"} <= names
    assert ("m", "metrics") in AIGateway.flags
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    for name in ("CONFIG", "METRICS_NAMESPACE", "DOCS_TITLE", "DOCS_DESCRIPTION"):
        assert f"JUPYTERHUB_AI_GATEWAY_{name}" in page


@pytest.mark.parametrize(
    ("method", "path", "token", "status"),
    [
        ("GET", "docs", None, 401),
        ("GET", "openapi.json", None, 200),
        ("GET", "oauth_callback", None, 400),
        ("GET", "health", None, 200),
        ("GET", "metrics", None, 401),
        ("GET", "api/2.0/endpoints/", "t-alice", 200),
        ("GET", "api/2.0/endpoints/chat", "t-alice", 200),
        ("GET", "api/2.0/gateway/routes/", "t-alice", 200),
        ("GET", "api/2.0/gateway/routes/chat", "t-alice", 200),
        ("POST", "endpoints/chat/invocations", "t-alice", 200),
        ("POST", "gateway/chat/invocations", "t-alice", 200),
        ("GET", "api/2.0/endpoints/", None, 401),
        ("POST", "v1/chat/completions", None, 401),
    ],
)
async def test_j_1_to_j_11_every_path_is_there(
    method: str, path: str, token: str | None, status: int, expected_log: ExpectedLog
) -> None:
    async with served() as running:
        answer = await running.ask(method, path, HI if method == "POST" else None, token=token)
        assert answer.status == status
        if path == "health":
            assert answer.json["status"] == "OK"
            assert answer.json["version"]
        if path == "oauth_callback":
            expected_log.take("OAuth callback")


async def test_j_15_tokens_stand_in_headers_alone() -> None:
    async with served() as running:
        for name, value in (
            ("Authorization", "Bearer t-alice"),
            ("Authorization", "token t-alice"),
            ("x-api-key", "t-alice"),
        ):
            answer = await running.ask("GET", "v1/models", token=None, headers=[(name, value)])
            assert answer.status == 200
        assert (await running.ask("GET", "v1/models?token=t-alice", token=None)).status == 401


# The weaknesses


async def test_jw_1_request_over_the_limit_is_refused_on_openai_s_path() -> None:
    async with served(None, [endpoint("chat", None, limit=LIMIT)]) as running:
        assert [(await running.chat()).status for _ in range(3)] == [200, 200, 429]


async def test_jw_2_limit_counts_whatever_the_path() -> None:
    async with served(None, [endpoint("chat", None, limit=LIMIT)]) as running:
        assert (await running.ask("POST", "endpoints/chat/invocations", HI)).status == 200
        assert (await running.ask("POST", "gateway/chat/invocations", HI)).status == 200
        assert (await running.chat()).status == 429


async def test_jw_3_limit_is_of_the_user_not_of_the_address() -> None:
    async with served(None, [endpoint("chat", None, limit=LIMIT)]) as running:
        bob = running.knows("t-bob", ACCESS, FULL)
        alice_again = running.knows("t-alice-2", ACCESS, FULL, name="alice")
        assert [(await running.chat()).status for _ in range(2)] == [200, 200]
        assert (await running.chat(token=alice_again)).status == 429
        assert (await running.chat(token=bob)).status == 200


async def test_jw_4_a_proxy_s_address_makes_no_difference() -> None:
    async with served(None, [endpoint("chat", None, limit=LIMIT)], xheaders=True) as running:
        statuses = [
            (await running.chat(headers=[("X-Forwarded-For", f"10.0.0.{number}")])).status
            for number in range(3)
        ]
        assert statuses == [200, 200, 429]


async def test_jw_5_refusal_is_openai_s_error_and_says_when_to_come_back() -> None:
    async with served(None, [endpoint("chat", None, limit={**LIMIT, "calls": 1})]) as running:
        await running.chat()
        answer = await running.chat()
        assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"


async def test_jw_6_refused_token_is_told_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = "secret-token-of-somebody-0123456789"
    async with served() as running:
        for path in ("v1/models", "api/2.0/endpoints/"):
            answer = await running.ask("GET", path, token=token)
            assert token not in answer.body.decode() + str(answer.headers)
    assert token not in caplog.text


async def test_jw_7_token_that_is_not_known_is_401() -> None:
    async with served() as running:
        for token in ("no-such-token", None):
            answer = await running.ask("GET", "v1/models", token=token)
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("answer", [b"", response(200, b"<html>not the Hub</html>", "text/html")])
async def test_jw_8_hub_that_is_away_is_503(answer: bytes, expected_log: ExpectedLog) -> None:
    async with served() as running:
        running.hub.answer = answer
        refused = await running.chat()
        assert (refused.status, refused.error["code"]) == (503, "hub_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
    expected_log.take("Hub")


async def test_jw_9_hub_is_asked_once_for_many_requests() -> None:
    async with served() as running:
        answers = await asyncio.gather(*(running.chat() for _ in range(20)))
        assert {answer.status for answer in answers} == {200}
        assert running.hub.asked.count("t-alice") == 1


async def test_jw_10_access_operations_and_endpoints_have_scopes_of_their_own() -> None:
    ends = [endpoint("chat", None), endpoint("dear", None, scope="premium")]
    async with served(None, ends) as running:
        no_access = running.knows("t-1", FULL)
        lists_only = running.knows("t-2", ACCESS, "custom:ai-gateway:models:list")
        rich = running.knows("t-3", ACCESS, FULL, "custom:ai-gateway:premium")
        assert (await running.chat(token=no_access)).status == 403
        assert (await running.chat(token=lists_only)).status == 403
        assert (await running.chat(model="dear")).status == 403
        assert (await running.chat(model="dear", token=rich)).status == 200


@pytest.mark.parametrize("prefix", ["/services/ai-gateway/", "/services/ai-gateway", "services/ai-gateway"])
def test_jw_11_hub_s_own_environment_is_enough(prefix: str) -> None:
    environ = {"JUPYTERHUB_OAUTH_CALLBACK_URL": "/services/ai-gateway/oauth_callback"}
    options = hub_options(
        environ,
        service_name="ai-gateway",
        prefix=service_prefix(prefix),
        api_url="http://hub:8081/hub/api",
        api_token="t",
        public_url="",
        public_hub_url="",
        ssl_context=None,
    )
    assert options.prefix == "/services/ai-gateway/"
    assert options.redirect_uri == "/services/ai-gateway/oauth_callback"


async def test_jw_12_nobody_can_exchange_codes_with_the_service_s_secret() -> None:
    async with served() as running:
        running.hub.codes["a-code"] = "a-token"
        answer = await running.ask("POST", "get_token", token=None, body=b"code=a-code")
        assert (answer.status, answer.error["code"]) == (404, "path_not_found")
        assert "a-code" in running.hub.codes


async def test_jw_13_metrics_need_a_scope_and_scans_make_no_series() -> None:
    async with served() as running:
        assert (await running.ask("GET", "metrics", token=None)).status == 401
        assert (await running.ask("GET", "metrics")).status == 403
        scraper = running.knows("t-prometheus", "read:metrics")
        await running.chat(stream=True)
        before = (await running.ask("GET", "metrics", token=scraper)).body.decode()
        for number in range(20):
            await running.ask("GET", f"scan/{number}")
            await running.chat(model=f"scan-{number}")
        after = (await running.ask("GET", "metrics", token=scraper)).body.decode()
        assert "scan" not in after
        first_tokens = re.search(r"gen_ai_server_time_to_first_token_seconds_count\{[^}]*\} (\S+)", before)
        assert first_tokens is not None
        assert float(first_tokens[1]) == 1
        assert len(after.splitlines()) - len(before.splitlines()) < 20


async def test_jw_14_new_configuration_drops_no_stream(tmp_path: Path) -> None:
    gate, file = Gate(), tmp_path / "config.yaml"
    with FakeUpstream(key=KEY) as up:
        up.script(
            Reply.stream(chat_chunk({"content": "a"}), gate, chat_chunk({}, finish_reason="stop"), "[DONE]")
        )
        file.write_text(json.dumps({"endpoints": [endpoint("chat", up)]}))
        async with served(file=file) as running:
            streaming = asyncio.create_task(running.chat(stream=True))
            await asyncio.to_thread(gate.reached.wait, 10)
            file.write_text(json.dumps({"endpoints": [endpoint("other", up)]}))
            assert await running.service.reload()
            assert (await running.chat()).status == 404
            gate.set()
            assert (await streaming).body.endswith(b"data: [DONE]\n\n")


async def test_jw_15_models_can_be_listed_as_far_as_one_may_use_them() -> None:
    ends = [*usual(None), endpoint("dear", None, scope="premium")]
    async with (
        served(None, ends) as running,
        AsyncOpenAI(base_url=running.base_url, api_key="t-alice", max_retries=0) as ai,
    ):
        assert [model.id async for model in ai.models.list()] == ["chat", "text", "vectors"]


def test_jw_16_mlflow_is_not_needed() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    needed = project.partition("\ndependencies = [")[2].partition("]\n")[0]
    assert "tornado" in needed
    assert "mlflow" not in needed
    for path in (ROOT / "jupyterhub_ai_gateway").rglob("*.py"):
        assert not re.search(r"^\s*(?:import|from) mlflow", path.read_text(), re.MULTILINE), path


async def test_jw_17_streams_fall_back_and_everything_is_written_down(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as broken, FakeUpstream(key=KEY) as well:
        broken.always(lambda request: Reply.error(500, "oops"))
        ends = [endpoint("chat", broken, fallbacks=["spare"]), endpoint("spare", well)]
        ledger = {"url": f"sqlite:///{tmp_path}/l.sqlite", "flush_s": 0.01}
        async with served(None, ends, config={"ledger": ledger}) as running:
            answer = await running.chat(stream=True)
            assert answer.body.endswith(b"data: [DONE]\n\n")
            assert answer.headers["x-ai-gateway-attempts"] == "2"
            (row,) = await rows(running)
            assert (row["caller"], row["outcome"], row["is_stream"]) == ("user:alice", "ok", True)


def test_jw_18_pages_need_nothing_from_elsewhere() -> None:
    folder = ROOT / "jupyterhub_ai_gateway" / "handlers"
    for path in (*folder.glob("templates/*.html"), *folder.glob("static/*.css")):
        assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?https?:", path.read_text()), path


@pytest.mark.parametrize("http_client", ["lean", "aiohttp"])
async def test_jw_19_connections_to_providers_are_kept(http_client: str) -> None:
    with FakeUpstream(key=KEY) as up:
        async with served(up, http_client=http_client) as running:
            for _ in range(5):
                assert (await running.chat()).status == 200
        assert Counter(request.connection for request in up.requests).most_common(1)[0][1] == 5


async def test_jw_20_unknown_model_is_404_on_every_path() -> None:
    async with served() as running:
        for answer in (
            await running.chat(model="nope"),
            await running.ask("POST", "endpoints/nope/invocations", HI),
        ):
            assert (answer.status, answer.error["code"]) == (404, "model_not_found")
