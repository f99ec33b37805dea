"""The real Anthropic SDK against the gateway, and what it cannot see, in every combination of parts."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic
from expected import ExpectedLog
from fakes.anthropic import TEXT, Claude, error, event, events
from fakes.hub import ACCESS
from fakes.upstream import BYTE_BY_BYTE, FIN, STALL, WHOLE, FakeUpstream, Raw, Reply, happened, random_cuts
from served import KEY, PREFIX, WAYS, Served, endpoint, served

from jupyterhub_ai_gateway.vocabulary import MESSAGES as MESSAGES_OPERATION

MESSAGES: Any = [{"role": "user", "content": "Hi"}]
CUTS = {"whole": WHOLE, "bytes": BYTE_BY_BYTE, **{f"seed {seed}": random_cuts(seed) for seed in range(3)}}
every_way = pytest.mark.parametrize("way", WAYS)


def upstream(**more: Any) -> FakeUpstream:
    up = FakeUpstream(is_strict=False, **more)
    up.always(Claude(KEY))
    return up


def claude(up: FakeUpstream, **more: Any) -> dict[str, Any]:
    config = {"anthropic_api_key": KEY, "anthropic_api_base": f"{up.url}/v1"}
    model = {"provider": "anthropic", "name": "claude-sonnet-4-5", "config": config}
    return {"name": "claude", "endpoint_type": "llm/v1/chat", "model": model, **more}


def client(running: Served, token: str = "t-alice", **more: Any) -> AsyncAnthropic:
    return AsyncAnthropic(
        base_url=f"{running.url}{PREFIX}", auth_token=token, api_key=None, max_retries=0, **more
    )


async def ask(running: Served, **more: Any) -> Any:
    headers = more.pop("headers", ())
    document = {"model": "claude", "max_tokens": 50, "messages": MESSAGES, **more}
    return await running.ask("POST", "v1/messages", document, headers=headers)


@every_way
async def test_message_streamed_and_whole(way: str) -> None:
    with upstream() as up:
        async with served(up, [claude(up)], **WAYS[way]) as running, client(running) as ai:
            message = await ai.messages.create(model="claude", max_tokens=50, messages=MESSAGES)
            assert message.content[0].type == "text"
            assert message.content[0].text == "".join(TEXT)
            assert message._request_id is not None
            assert message._request_id.startswith("req_")
            async with ai.messages.stream(model="claude", max_tokens=50, messages=MESSAGES) as stream:
                assert [text async for text in stream.text_stream] == TEXT
                assert (await stream.get_final_message()).usage.output_tokens == 9
            counted = await ai.messages.count_tokens(model="claude", messages=MESSAGES)
            assert counted.input_tokens == 20
    assert {request.document["model"] for request in up.requests} == {"claude-sonnet-4-5"}


@every_way
@pytest.mark.parametrize("cuts", CUTS)
async def test_stream_comes_as_it_was_and_usage_is_counted(way: str, cuts: str) -> None:
    with upstream(cuts=CUTS[cuts]) as up:
        async with served(up, [claude(up)], **WAYS[way]) as running:
            answer = await ask(running, stream=True)
            assert answer.body == b"".join(events())
            cell = running.service.gateway.catalogue._endpoints["claude"].cells[MESSAGES_OPERATION]
            assert (cell.input_tokens.total, cell.output_tokens.total) == (20, 9)
            assert cell.cached_input_tokens == 11
            assert cell.durations[200, ""].counts


@every_way
async def test_key_is_swapped_and_only_betas_of_the_caller_s_own_pass(way: str) -> None:
    with upstream() as up:
        async with served(up, [claude(up)], **WAYS[way]) as running:
            betas = ("anthropic-beta", "context-1m-2025-08-07, files-api-2025-04-14,\x09oops oops")
            answer = await ask(
                running, headers=[betas, ("anthropic-version", "1999-01-01"), ("x-evil", "1")]
            )
            request = up.take()
    assert answer.status == 200
    assert request.header("anthropic-beta") == "context-1m-2025-08-07"
    assert answer.headers["x-ai-gateway-dropped-params"] == "anthropic-beta: files-api-2025-04-14"
    assert request.header("x-evil") is None
    assert "t-alice" not in str(request.headers)
    assert not {"set-cookie", "anthropic-organization-id"} & set(answer.headers)
    assert answer.headers["request-id"] == answer.headers["x-request-id"]


@every_way
async def test_caller_is_a_pseudonym_and_the_rest_as_it_came(way: str) -> None:
    document = {
        "system": [{"type": "text", "text": "é", "cache_control": {"type": "ephemeral"}}],
        "temperature": 0.5,
    }
    with upstream() as up:
        async with served(up, [claude(up)], **WAYS[way]) as running:
            await ask(running, metadata={"user_id": "alice@uni.edu"}, **document)
            sent = up.take().document
    assert len(sent.pop("metadata")["user_id"]) == 32
    assert sent == {"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": MESSAGES, **document}


@pytest.mark.parametrize("field", ["mcp_servers", "container"])
async def test_field_that_reaches_beyond_the_request_is_refused(field: str) -> None:
    with upstream() as up:
        async with served(up, [claude(up)]) as running:
            answer = await ask(running, **{field: [{"url": "https://x"}]})
            assert answer.status == 400
            assert answer.json["error"]["code"] == "field_refused"
            assert "everybody here shares" in answer.json["error"]["message"]
        assert not up.requests


async def test_what_is_not_heard_is_said_once_however_often_it_is_tried() -> None:
    with upstream() as up:
        up.script(error(529, "overloaded_error", "Overloaded"), error(500, "api_error", "Oops"))
        async with served(up, [claude(up, retries=2, parameters={"drop": ["top_k"]})]) as running:
            betas = ("anthropic-beta", "files-api-2025-04-14")
            answer = await ask(running, headers=[betas], top_k=5)
    assert (answer.status, answer.headers["x-ai-gateway-attempts"]) == (200, "3")
    assert answer.headers["x-ai-gateway-dropped-params"] == "top_k, anthropic-beta: files-api-2025-04-14"


FAILURES: list[tuple[Any, type[anthropic.APIError]]] = [
    (error(400, "invalid_request_error", "bad"), anthropic.BadRequestError),
    (error(401, "authentication_error", f"bad key {KEY}"), anthropic.InternalServerError),
    (error(404, "not_found_error", "model"), anthropic.InternalServerError),
    (error(429, "rate_limit_error", "slow", ("retry-after", "3")), anthropic.RateLimitError),
    (error(529, "overloaded_error", "Overloaded"), anthropic.InternalServerError),
    (Raw.of(FIN), anthropic.InternalServerError),
]


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("script", "kind"), FAILURES)
async def test_failure_of_the_provider_raises_the_right_exception(
    is_stream: bool, script: Any, kind: type[anthropic.APIError], expected_log: ExpectedLog
) -> None:
    with upstream() as up:
        up.script(script)
        async with served(up, [claude(up)]) as running, client(running) as ai:
            with pytest.raises(kind) as caught:
                await ai.messages.create(model="claude", max_tokens=5, messages=MESSAGES, stream=is_stream)
            body: Any = caught.value.body
            assert body["type"] == "error"
            assert body["request_id"].startswith("req_")
            assert KEY not in json.dumps(body)
    if kind is anthropic.InternalServerError:
        assert KEY not in "".join(expected_log.take("provider anthropic"))


async def test_failure_of_the_caller_raises_the_right_exception() -> None:
    with upstream() as up:
        limited = claude(up, limit={"calls": 1, "renewal_period": "day"})
        async with served(up, [limited, endpoint("vectors", up, "embeddings")]) as running:
            async with client(running, "t-unknown") as ai:
                with pytest.raises(anthropic.AuthenticationError):
                    await ai.messages.create(model="claude", max_tokens=5, messages=MESSAGES)
            lister = running.knows("t-list", ACCESS, "custom:ai-gateway:models:list")
            async with client(running, lister) as ai:
                with pytest.raises(anthropic.PermissionDeniedError, match="chat:create"):
                    await ai.messages.create(model="claude", max_tokens=5, messages=MESSAGES)
            async with client(running) as ai:
                raw = await ai.messages.with_raw_response.create(
                    model="claude", max_tokens=5, messages=MESSAGES
                )
                assert raw.headers["anthropic-ratelimit-requests-remaining"] == "0"
                assert raw.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
                with pytest.raises(anthropic.RateLimitError) as caught:
                    await ai.messages.create(model="claude", max_tokens=5, messages=MESSAGES)
                assert int(caught.value.response.headers["retry-after"]) > 80_000
                with pytest.raises(anthropic.NotFoundError, match="no model"):
                    await ai.messages.create(model="nope", max_tokens=5, messages=MESSAGES)
                with pytest.raises(anthropic.BadRequestError, match="llm/v1/embeddings, called by"):
                    await ai.messages.create(model="vectors", max_tokens=5, messages=MESSAGES)


@every_way
@pytest.mark.parametrize("cuts", CUTS)
async def test_provider_that_dies_in_a_stream_is_an_error_event(
    way: str, cuts: str, expected_log: ExpectedLog
) -> None:
    with upstream() as up:
        up.script(Reply.stream(*events()[:5], events()[5][:20], FIN, cuts=CUTS[cuts]))
        async with served(up, [claude(up)], **WAYS[way]) as running:
            answer = await ask(running, stream=True)
    whole, _, last = answer.body.partition(b"event: error\ndata: ")
    assert whole == b"".join(events()[:5])
    assert json.loads(last)["error"]["type"] == "api_error"
    expected_log.take("upstream_broken")


async def test_cut_stream_raises_in_the_sdk(expected_log: ExpectedLog) -> None:
    with upstream() as up:
        up.script(Reply.stream(*events()[:5], FIN))
        async with served(up, [claude(up)]) as running, client(running) as ai:
            with pytest.raises(anthropic.APIError, match="in the middle"):
                async with ai.messages.stream(model="claude", max_tokens=5, messages=MESSAGES) as stream:
                    async for _ in stream.text_stream:
                        pass
    expected_log.take("upstream_broken")


async def test_error_event_of_the_provider_is_passed_on_and_counted() -> None:
    failure = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    with upstream() as up:
        up.script(Reply.stream(*events()[:4], failure))
        async with served(up, [claude(up)]) as running:
            answer = await ask(running, stream=True)
            assert answer.body.endswith(failure)
            cell = running.service.gateway.catalogue._endpoints["claude"].cells[MESSAGES_OPERATION]
            assert list(cell.durations) == [(200, "upstream_error_in_stream")]


@every_way
async def test_hangup_closes_the_provider_s_connection(way: str) -> None:
    with upstream() as up:
        up.script(Reply.stream(*events()[:4], STALL))
        async with served(up, [claude(up)], **WAYS[way]) as running:
            asking = asyncio.ensure_future(ask(running, stream=True))
            request = await up.taken()
            asking.cancel()
            await happened(request.closed)


async def test_models_are_listed_in_the_sdk_s_shape() -> None:
    with upstream() as up:
        both = [claude(up), endpoint("gpt", up), endpoint("vectors", up, "embeddings")]
        async with served(up, both) as running, client(running) as ai:
            models = [model async for model in ai.models.list()]
            assert [(model.id, model.type) for model in models] == [("claude", "model"), ("gpt", "model")]
            assert (await ai.models.retrieve("claude")).display_name == "claude"


async def test_local_server_that_speaks_both_is_asked_in_both() -> None:
    with upstream() as up:
        config = {
            "api_base": f"{up.url}/v1",
            "headers": {"x-api-key": KEY, "anthropic-version": "2023-06-01"},
        }
        model = {"provider": "vllm", "name": "claude-sonnet-4-5", "config": config}
        local = {"name": "claude", "endpoint_type": "llm/v1/chat", "model": model}
        async with served(up, [local]) as running:
            assert (await ask(running)).json["content"][0]["text"] == "".join(TEXT)


BASES = ("", "gateway/anthropic/", "gateway/mlflow/", "gateway/openai/", "anthropic/")
FIRSTS = ("resource_server/", "resource_server/sophia/api/")


@every_way
@pytest.mark.parametrize("version", ["", "v1"])
@pytest.mark.parametrize("base", [*BASES, *FIRSTS])
async def test_every_base_that_people_type(base: str, version: str, way: str) -> None:
    """With the version that OpenAI's clients need, and without, at each system's own paths."""
    with upstream() as up:
        placed = {"cluster": "sophia", "framework": "api"}
        async with (
            served(up, [claude(up, **placed)], **WAYS[way]) as running,
            client(running) as ai,
        ):
            there = ai.with_options(base_url=f"{running.url}{PREFIX}{base}{version}")
            message = await there.messages.create(model="claude", max_tokens=50, messages=MESSAGES)
            assert message.content[0].type == "text"
            if base not in FIRSTS:
                counted = await there.messages.count_tokens(model="claude", messages=MESSAGES)
                assert counted.input_tokens > 0
            with pytest.raises(anthropic.NotFoundError, match="nothing") as caught:
                await there.messages.create(model="nothing", max_tokens=50, messages=MESSAGES)
            assert isinstance(caught.value.body, dict)
            if base not in FIRSTS:
                assert caught.value.body["type"] == "error"
