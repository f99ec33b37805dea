"""The real OpenAI SDK against the gateway: every answer, and the right exception for every failure."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from expected import ExpectedLog
from fakes.hub import ACCESS
from fakes.upstream import FIN, STALL, FakeUpstream, Raw, Reply, chat_chunk, happened
from openai import AsyncOpenAI, OpenAI
from served import FULL, KEY, Served, endpoint, served, usual

MESSAGES: Any = [{"role": "user", "content": "Hi"}]


def upstream() -> FakeUpstream:
    return FakeUpstream(key=KEY)


def client(running: Served, token: str = "t-alice", **more: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=running.base_url, api_key=token, max_retries=0, **more)


async def test_chat_completion() -> None:
    with upstream() as up:
        async with served(up) as running, client(running) as ai:
            answer = await ai.chat.completions.create(model="chat", messages=MESSAGES)
            assert answer.choices[0].message.content == up.text
            assert answer._request_id is not None
            assert answer._request_id.startswith("req_")


async def test_streamed_chat_completion() -> None:
    with upstream() as up:
        async with served(up) as running, client(running) as ai:
            stream = await ai.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
            chunks = [chunk async for chunk in stream]
            assert all(chunk.choices for chunk in chunks)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == up.text
            stream = await ai.chat.completions.create(
                model="chat", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
            )
            *_, last = [chunk async for chunk in stream]
            assert last.usage is not None
            assert last.usage.completion_tokens == 5


async def test_completion_and_embeddings_and_models() -> None:
    with upstream() as up:
        async with served(up) as running, client(running) as ai:
            text = await ai.completions.create(model="text", prompt="Hi")
            assert text.choices[0].text == up.text
            vectors = await ai.embeddings.create(model="vectors", input=["a", "b"])
            assert [len(item.embedding) for item in vectors.data] == [len(vectors.data[0].embedding)] * 2
            assert [model.id async for model in ai.models.list()] == ["chat", "text", "vectors"]
            assert (await ai.models.retrieve("chat")).owned_by == "openai"


async def test_embeddings_of_a_provider_that_sends_floats() -> None:
    data = [{"object": "embedding", "index": 0, "embedding": [0.25, -2.0]}]
    with upstream() as up:
        up.script(Reply.json({"object": "list", "data": data, "model": "x", "usage": {"prompt_tokens": 1}}))
        async with served(up) as running, client(running) as ai:
            vectors = await ai.embeddings.create(model="vectors", input="a")
            assert vectors.data[0].embedding == [0.25, -2.0]


async def test_sync_client_and_raw_response() -> None:
    with upstream() as up:
        async with served(up) as running:

            def ask() -> tuple[str | None, str | None]:
                with OpenAI(base_url=running.base_url, api_key="t-alice") as ai:
                    raw = ai.chat.completions.with_raw_response.create(model="chat", messages=MESSAGES)
                    return raw.parse().choices[0].message.content, raw.headers.get("x-request-id")

            text, request_id = await asyncio.to_thread(ask)
            assert text == up.text
            assert request_id is not None


async def test_leaving_a_stream_closes_the_provider_s() -> None:
    with upstream() as up:
        up.script(Reply.stream(chat_chunk({"content": "one"}), STALL))
        async with served(up) as running, client(running) as ai:
            async with await ai.chat.completions.create(
                model="chat", messages=MESSAGES, stream=True
            ) as stream:
                async for _ in stream:
                    break
            await happened(up.take().closed)


FAILURES: list[tuple[Any, type[openai.APIError], str | None]] = [
    (
        Reply.error(400, "bad", code="context_length_exceeded"),
        openai.BadRequestError,
        "context_length_exceeded",
    ),
    (Reply.error(409, "x"), openai.ConflictError, "upstream_invalid_request"),
    (Reply.error(422, "x"), openai.UnprocessableEntityError, "upstream_invalid_request"),
    (Reply.error(429, "x", kind="insufficient_quota"), openai.RateLimitError, "upstream_rate_limited"),
    (Reply.error(401, "x"), openai.InternalServerError, "upstream_auth_error"),
    (Reply.error(404, "x"), openai.InternalServerError, "upstream_not_found"),
    (Reply.error(500, "x"), openai.InternalServerError, "upstream_error"),
    (Raw.of(FIN), openai.InternalServerError, "upstream_unreachable"),
]


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("script", "kind", "code"), FAILURES)
async def test_failure_of_the_provider_raises_the_right_exception(
    is_stream: bool, script: Any, kind: type[openai.APIError], code: str, expected_log: ExpectedLog
) -> None:
    with upstream() as up:
        up.script(script)
        async with served(up) as running, client(running) as ai:
            with pytest.raises(kind) as caught:
                await ai.chat.completions.create(model="chat", messages=MESSAGES, stream=is_stream)
            assert caught.value.code == code
    if kind is openai.InternalServerError:
        expected_log.take("provider openai")


async def test_failure_of_the_caller_raises_the_right_exception() -> None:
    chat = endpoint("chat", None, limit={"calls": 1, "renewal_period": "day"})
    async with served(None, [chat, *usual(None)[1:], endpoint("dear", None, scope="premium")]) as running:
        async with client(running, "t-unknown") as ai:
            with pytest.raises(openai.AuthenticationError):
                await ai.models.list()
        lister = running.knows("t-list", ACCESS, "custom:ai-gateway:models:list")
        async with client(running, lister) as ai:
            with pytest.raises(openai.PermissionDeniedError, match="chat:create"):
                await ai.chat.completions.create(model="chat", messages=MESSAGES)
        async with client(running) as ai:
            await ai.chat.completions.create(model="chat", messages=MESSAGES)
            with pytest.raises(openai.RateLimitError) as limited:
                await ai.chat.completions.create(model="chat", messages=MESSAGES)
            assert limited.value.code == "rate_limit_exceeded"
            with pytest.raises(openai.NotFoundError) as missing:
                await ai.chat.completions.create(model="nope", messages=MESSAGES)
            assert missing.value.code == "model_not_found"
            with pytest.raises(openai.BadRequestError, match="llm/v1/embeddings"):
                await ai.chat.completions.create(model="vectors", messages=MESSAGES)
            with pytest.raises(openai.PermissionDeniedError, match="premium"):
                await ai.chat.completions.create(model="dear", messages=MESSAGES)


async def test_cut_stream_raises_instead_of_ending_early(expected_log: ExpectedLog) -> None:
    with upstream() as up:
        up.script(Reply.stream(chat_chunk({"content": "one"}), FIN))
        async with served(up) as running, client(running) as ai:
            stream = await ai.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
            with pytest.raises(openai.APIError, match="in the middle"):
                async for _ in stream:
                    pass
    expected_log.take("upstream_broken")


async def test_keep_alive_comments_are_invisible() -> None:
    async with served(None, [endpoint("chat", None)], keepalive_s=0.01) as running, client(running) as ai:
        stream = await ai.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text.startswith("You said: Hi")


async def test_sdk_s_own_retry_waits_as_told_and_succeeds() -> None:
    with upstream() as up:
        up.script(Reply.error(429, "slow", [("retry-after-ms", "20")]))
        async with served(up) as running, client(running).with_options(max_retries=2) as ai:
            answer = await ai.chat.completions.create(model="chat", messages=MESSAGES)
            assert answer.choices[0].message.content == up.text
    assert len(up.requests) == 2


async def test_sdk_does_not_retry_what_cannot_get_better(expected_log: ExpectedLog) -> None:
    with upstream() as up:
        up.always(Reply.error(401, "bad key"))
        async with served(up) as running, client(running).with_options(max_retries=3) as ai:
            with pytest.raises(openai.InternalServerError):
                await ai.chat.completions.create(model="chat", messages=MESSAGES)
    assert len(up.requests) == 1
    expected_log.take("upstream_auth_error")


async def test_the_sdk_s_own_project_is_the_group_that_pays() -> None:
    async with served(None, [endpoint("chat", None)]) as running:
        token = running.knows("t-carol", ACCESS, FULL, name="carol", groups=("physics-101",))
        async with client(running, token, project="physics-101") as ai:
            assert (await ai.chat.completions.create(model="chat", messages=MESSAGES)).choices
        async with client(running, token, project="chemistry") as ai:
            with pytest.raises(openai.PermissionDeniedError) as caught:
                await ai.chat.completions.create(model="chat", messages=MESSAGES)
        assert caught.value.code == "unknown_project"
        assert isinstance(caught.value.body, dict)
        assert caught.value.body["projects"] == ["physics-101"]
