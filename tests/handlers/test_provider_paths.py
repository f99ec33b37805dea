"""`/PROVIDER/PATH`: the provider's own format and names, and the same story as everywhere."""

from __future__ import annotations

import json
import logging
from typing import Any

import anthropic
import openai
import pytest
from anthropic import AsyncAnthropic
from fakes.anthropic import TEXT, Claude
from fakes.hub import ACCESS
from fakes.upstream import FakeUpstream
from openai import AsyncOpenAI
from served import KEY, PREFIX, WAYS, Served, endpoint, served, usual

from jupyterhub_ai_gateway.config import fold
from jupyterhub_ai_gateway.handlers.provider_paths import RESERVED
from jupyterhub_ai_gateway.handlers.routes import rules
from jupyterhub_ai_gateway.providers.registry import Providers

MESSAGES: Any = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES}
FULL = "custom:ai-gateway:full-access"


def upstream() -> FakeUpstream:
    return FakeUpstream(key=KEY)


def claude(up: FakeUpstream, **more: Any) -> dict[str, Any]:
    config = {"anthropic_api_key": KEY, "anthropic_api_base": f"{up.url}/v1"}
    model = {"provider": "anthropic", "name": "claude-of-ours", "config": config}
    return {"name": "claude", "endpoint_type": "llm/v1/chat", "model": model, **more}


def anthropic_upstream() -> FakeUpstream:
    up = FakeUpstream(is_strict=False)
    up.always(Claude(KEY))
    return up


@pytest.mark.parametrize("way", WAYS)
async def test_real_openai_sdk(way: str) -> None:
    with upstream() as up:
        async with served(up, **WAYS[way]) as running:
            url = f"{running.url}{PREFIX}openai/v1"
            async with AsyncOpenAI(base_url=url, api_key="t-alice", max_retries=0) as ai:
                answer = await ai.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
                assert answer.choices[0].message.content == up.text
                stream = await ai.chat.completions.create(
                    model="gpt-4o-mini", messages=MESSAGES, stream=True
                )
                pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
                assert "".join(pieces) == up.text
                text = await ai.completions.create(model="gpt-3.5-turbo-instruct", prompt="Hi")
                assert text.choices[0].text == up.text
                vectors = await ai.embeddings.create(model="text-embedding-3-small", input="a")
                assert len(vectors.data) == 1
                names = [model.id async for model in ai.models.list()]
                assert names == ["gpt-4o-mini", "gpt-3.5-turbo-instruct", "text-embedding-3-small"]
                assert (await ai.models.retrieve("gpt-4o-mini")).owned_by == "openai"
                with pytest.raises(openai.NotFoundError) as raised:
                    await ai.chat.completions.create(model="gpt-5-enormous", messages=MESSAGES)
                assert raised.value.code == "model_not_found"
    assert {request.header("Authorization") for request in up.requests} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("way", WAYS)
async def test_real_anthropic_sdk(way: str) -> None:
    with anthropic_upstream() as up:
        async with served(up, [claude(up)], **WAYS[way]) as running:
            url = f"{running.url}{PREFIX}anthropic"
            async with AsyncAnthropic(
                base_url=url, auth_token="t-alice", api_key=None, max_retries=0
            ) as ai:
                message = await ai.messages.create(model="claude-of-ours", max_tokens=50, messages=MESSAGES)
                assert message.content[0].type == "text"
                async with ai.messages.stream(
                    model="claude-of-ours", max_tokens=50, messages=MESSAGES
                ) as stream:
                    assert [text async for text in stream.text_stream] == TEXT
                assert [model.id async for model in ai.models.list()] == ["claude-of-ours"]
                for wrong in ("claude-2",):
                    with pytest.raises(anthropic.NotFoundError) as raised:
                        await ai.messages.create(model=wrong, max_tokens=5, messages=MESSAGES)
                    body: Any = raised.value.body
                    assert body["type"] == "error"


async def test_answers_say_who_answered_and_how_long_it_took() -> None:
    with upstream() as up:
        async with served(up) as running:
            for is_stream in (False, True):
                answer = await running.ask(
                    "POST", "openai/v1/chat/completions", {**CHAT, "stream": is_stream}
                )
                assert answer.status == 200
                assert answer.headers["provider-name"] == "openai"
                assert answer.headers["provider-response-time"].isdigit()
            assert "provider-name" not in (await running.chat()).headers


async def test_same_limits_and_ledger_as_everywhere(tmp_path: Any) -> None:
    limit = {"calls": 2, "renewal_period": "day"}
    ledger = {"ledger": {"url": f"sqlite:///{tmp_path}/l.sqlite", "flush_s": 0.01}}
    with upstream() as up:
        async with served(up, [endpoint("chat", up, limit=limit)], config=ledger) as running:
            assert (await running.chat()).status == 200
            assert (await running.ask("POST", "openai/v1/chat/completions", CHAT)).status == 200
            refused = await running.ask("POST", "openai/v1/chat/completions?x=1", CHAT)
            assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
            rows = (await running.ask("GET", "api/requests")).json["requests"]
            assert [(row["endpoint"], row["status"]) for row in rows] == [
                ("chat", 429),
                ("chat", 200),
                ("chat", 200),
            ]


async def test_unknown_comes_before_unauthenticated_before_forbidden() -> None:
    with upstream() as up:
        async with served(up) as running:
            weak = running.knows("t-bob", ACCESS, "custom:ai-gateway:models:list")
            for path in ("openai/v1/fine_tuning/jobs", "openai/v1/messages", "mistral/v1/chat/completions"):
                answer = await running.ask("POST", path, CHAT, token=None)
                assert (answer.status, answer.error["code"]) == (404, "path_not_found"), path
            answer = await running.ask("POST", "openai/v1/chat/completions", CHAT, token=None)
            assert answer.status == 401
            answer = await running.ask("POST", "openai/v1/chat/completions", CHAT, token=weak)
            assert (answer.status, answer.error["code"]) == (403, "insufficient_scope")
            assert (await running.ask("GET", "openai/v1/chat/completions")).status == 405
            assert running.hub.asked.count("t-alice") == 0  # no question for what is not there


async def test_unknown_path_is_told_in_the_format_of_the_provider() -> None:
    with anthropic_upstream() as up:
        async with served(up, [claude(up)]) as running:
            answer = await running.ask("POST", "anthropic/v1/complete", {}, token=None)
            assert answer.status == 404
            assert answer.json["type"] == "error"
            assert answer.json["error"]["type"] == "not_found_error"
            assert answer.json["request_id"] == answer.headers["x-request-id"]


async def test_every_spelling_and_without_the_version() -> None:
    with upstream() as up:
        async with served(up) as running:
            for path in ("openai/chat/completions", "OpenAI/v1/chat/completions"):
                assert (await running.ask("POST", path, CHAT)).status == 200
            assert (await running.ask("GET", "openai/models")).status == 200
            for path in ("openai/v1/models", "openai/v1/models/gpt-4o-mini"):
                authorization = ("Authorization", "Bearer t-alice")
                head = await running.raw("HEAD", f"{PREFIX}{path}", headers=[authorization])
                assert head.startswith(b"HTTP/1.1 200")
            whole = await running.raw(
                "GET", "/openai/v1/models?limit=5", headers=[("Authorization", "Bearer t-alice")]
            )
            assert whole.startswith(b"HTTP/1.1 200")


async def test_endpoints_own_name_works_as_well() -> None:
    with upstream() as up:
        async with served(up, [endpoint("chat", up, aliases=["team/best"])]) as running:
            for name in ("chat", "team/best", "gpt-4o-mini"):
                answer = await running.ask("POST", "openai/v1/chat/completions", {**CHAT, "model": name})
                assert answer.status == 200
            assert {request.document["model"] for request in up.requests} == {"gpt-4o-mini"}


async def test_only_deployments_at_the_provider_are_asked() -> None:
    def place(up: FakeUpstream, provider: str) -> dict[str, Any]:
        config = {"openai_api_key": KEY, "openai_api_base": f"{up.url}/v1"}
        if provider != "openai":
            config = {"api_key": KEY, "api_base": f"{up.url}/v1"}
        return {"name": provider, "model": {"provider": provider, "name": "gpt-4o-mini", "config": config}}

    with upstream() as first, upstream() as second:
        both = {
            "name": "chat",
            "endpoint_type": "llm/v1/chat",
            "deployments": [place(first, "openai"), place(second, "vllm")],
        }
        async with served(first, [both]) as running:
            for _ in range(6):
                assert (await running.ask("POST", "openai/v1/chat/completions", CHAT)).status == 200
            assert (len(first.requests), len(second.requests)) == (6, 0)
            assert (await running.ask("POST", "vllm/v1/chat/completions", CHAT)).status == 200
            assert len(second.requests) == 1


async def test_of_several_endpoints_with_one_model_the_first_open_one_serves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with upstream() as up:
        points = [
            endpoint("premium", up, scope="premium"),
            endpoint("chat", up),
            endpoint("h", up, hidden=True),
        ]
        async with served(up, points, log_requests=True) as running:
            assert (await running.ask("POST", "openai/v1/chat/completions", CHAT)).status == 200
            card = (await running.ask("GET", "openai/v1/models")).json["data"]
            assert [each["id"] for each in card] == ["gpt-4o-mini"]
            assert "user:alice chat chat: 200" in caplog.text
        async with served(up, points[:1]) as running:
            refused = await running.ask("POST", "openai/v1/chat/completions", CHAT)
            assert refused.status == 403
            assert "custom:ai-gateway:premium" in refused.error["message"]
            assert (await running.ask("GET", "openai/v1/models")).json["data"] == []
            assert (await running.ask("GET", "openai/v1/models/gpt-4o-mini")).status == 404


async def test_paths_come_and_go_with_the_configuration(tmp_path: Any) -> None:
    file = tmp_path / "config.yaml"
    with upstream() as up, anthropic_upstream() as other:
        file.write_text(json.dumps({"endpoints": usual(up)}))
        async with served(file=file) as running:
            assert (await running.ask("GET", "openai/v1/models")).status == 200
            assert (await running.ask("GET", "anthropic/v1/models")).status == 404
            file.write_text(json.dumps({"endpoints": [claude(other)]}))
            assert await running.service.reload()
            assert (await running.ask("GET", "openai/v1/models")).status == 404
            assert (await running.ask("GET", "anthropic/v1/models")).status == 200


async def made(running: Served, *scopes: str) -> str:
    running.knows("t-root", ACCESS, "custom:ai-gateway:admin", name="root")
    name = f"k{len(running.hub.asked)}-{abs(hash(scopes))}"
    wish = {"name": name, "scopes": list(scopes), "expires": "1d"}
    answer = await running.ask("POST", "api/keys", wish, token="t-root")
    key: str = answer.json["key"]
    return key


async def test_a_key_for_single_paths_opens_these_alone(tmp_path: Any) -> None:
    config = {"ledger": {"url": f"sqlite:///{tmp_path}/l.sqlite"}, "keys": {"enabled": True}}
    embed = {"model": "text-embedding-3-small", "input": "a"}
    with upstream() as up:
        async with served(up, config=config) as running:
            key = await made(running, "post:/openai/v1/chat/completions")
            lister = await made(running, "get:/openai/v1/models")
            assert (await running.ask("POST", "openai/v1/chat/completions", CHAT, token=key)).status == 200
            for method, path, document, token in (
                ("POST", "openai/v1/embeddings", embed, key),
                ("POST", "openai/chat/completions", CHAT, key),
                ("POST", "v1/chat/completions", {**CHAT, "model": "chat"}, key),
                ("GET", "openai/v1/models", None, key),
                ("GET", "v1/models", None, lister),
                ("POST", "openai/v1/chat/completions", CHAT, lister),
            ):
                refused = await running.ask(method, path, document, token=token)
                assert refused.status == 403, (method, path)
            listed = await running.ask("GET", "openai/v1/models", token=lister)
            assert len(listed.json["data"]) == 3


async def test_no_provider_is_called_like_a_path_of_ours() -> None:
    patterns = [pattern.lstrip("/") for pattern, _, _ in rules("/")]
    deep = {pattern.split("/")[0] for pattern in patterns if "/" in pattern}
    assert {"v1", "api", "endpoints"} <= deep
    assert {fold(name) for name in Providers.installed().schemas}.isdisjoint(deep | RESERVED)
    assert {"v1", "api", "gateway", "endpoints", "resource_server", "health", "metrics"} <= RESERVED
