"""The real Mistral SDK against the gateway, and what it cannot see."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from expected import ExpectedLog
from fakes.hub import ACCESS
from fakes.upstream import BYTE_BY_BYTE, FIN, WHOLE, FakeUpstream, Reply, random_cuts, sse
from matrix.vendors import ChatVendor, MessagesVendor, MistralVendor, Say
from mistralai.client import Mistral, errors
from mistralai.client.utils import BackoffStrategy, RetryConfig
from served import KEY, PREFIX, WAYS, Served, endpoint, served
from test_accounting import rows

from jupyterhub_ai_gateway.vocabulary import FIM, MISTRAL_CHAT, MISTRAL_EMBED

every_way = pytest.mark.parametrize("way", WAYS)
CUTS = {"whole": WHOLE, "bytes": BYTE_BY_BYTE, **{f"seed {seed}": random_cuts(seed) for seed in range(3)}}
HI: list[Any] = [{"role": "user", "content": "Hi"}]
CHAT: dict[str, Any] = {"model": "model", "messages": HI}
SDK = [("User-Agent", "mistral-client-python/3.7.0")]
VECTORS = [[0.5, -1.0], [0.25, 2.0]]


@contextlib.asynccontextmanager
async def client(running: Served, token: str = "t-alice") -> AsyncIterator[Mistral]:
    made = Mistral(
        server_url=f"{running.url}{PREFIX}".rstrip("/"),
        api_key=token,
        retry_config=RetryConfig("none", BackoffStrategy(1, 1, 1, 1), False),
    )
    try:
        yield made
    finally:
        await made.__aexit__(None, None, None)
        made.__exit__(None, None, None)


def wire(*events: Any) -> bytes:
    return b"".join(each if isinstance(each, bytes) else sse(each)[0] for each in events)


def mistral(up: FakeUpstream, kind: str, model: str) -> dict[str, Any]:
    config = {"api_base": f"{up.url}/v1", "mistral_api_key": KEY}
    found = {"provider": "mistral", "name": model, "config": config}
    return {"name": "model", "endpoint_type": f"llm/v1/{kind}", "model": found}


def cell_of(running: Served, operation: Any) -> Any:
    return running.service.gateway.catalogue._endpoints["model"].cells[operation]


@every_way
async def test_what_the_sdk_writes_goes_to_mistral_as_it_came(way: str) -> None:
    more = {
        "random_seed": 7,
        "safe_prompt": True,
        "prompt_mode": "reasoning",
        "prediction": {"type": "content", "content": "Hello."},
        "guardrails": [{"block_on_error": True}],
        "something_new": [1],
    }
    with FakeUpstream(is_strict=False) as up:
        vendor = MistralVendor(up)
        whole = vendor.whole(Say("Hello.", thinking="Hm."))
        up.always(Reply.json(whole))
        async with served(None, [vendor.endpoint()], **WAYS[way]) as running:
            answer = await running.ask("POST", "v1/chat/completions", {**CHAT, **more}, headers=SDK)
            assert answer.json == whole
            assert "x-ai-gateway-dropped-params" not in answer.headers
            assert cell_of(running, MISTRAL_CHAT).input_tokens.total == 20
        sent = up.take()
    assert sent.path == "/v1/chat/completions"
    assert list(sent.document.items()) == list({**CHAT, **more, "model": "magistral-medium"}.items())
    for name in ("messages", *more):  # its blanks are where the caller put them
        assert json.dumps({**CHAT, **more}[name]).encode() in sent.body


@every_way
@pytest.mark.parametrize("cuts", CUTS)
async def test_a_stream_of_mistrals_comes_as_it_was_and_is_counted(way: str, cuts: str) -> None:
    with FakeUpstream(is_strict=False, cuts=CUTS[cuts]) as up:
        vendor = MistralVendor(up)
        events = list(vendor.stream(Say("Good morning.", thinking="Hm.")))
        up.always(Reply.stream(*events))
        async with served(None, [vendor.endpoint()], **WAYS[way]) as running:
            answer = await running.ask("POST", "v1/chat/completions", {**CHAT, "stream": True}, headers=SDK)
            assert answer.body == wire(*events)
            cell = cell_of(running, MISTRAL_CHAT)
            assert (cell.input_tokens.total, cell.output_tokens.total) == (20, 9)
        assert up.take().document == {**CHAT, "model": "magistral-medium", "stream": True}


@every_way
async def test_nobody_else_is_answered_so(way: str) -> None:
    """OpenAI's SDK at the same path gets the chunks that it always got, from the same model."""
    with FakeUpstream(is_strict=False) as up:
        vendor = ChatVendor(up)
        events = list(vendor.stream(Say("Hi", calls=[("callid001", "f", {"a": 1})])))
        up.always(Reply.stream(*events))
        async with served(None, [vendor.endpoint()], **WAYS[way]) as running:
            asked = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
            for agent in ("AsyncOpenAI/Python 2.0.0", "curl/8.0", ""):
                own = await running.ask(
                    "POST", "v1/chat/completions", asked, headers=[("User-Agent", agent)]
                )
                assert own.body == wire(*events)
            theirs = await running.ask("POST", "v1/chat/completions", asked, headers=SDK)
            chunks = [json.loads(line[6:]) for line in theirs.body.split(b"\n\n")[:-2]]
            calls = [choice["delta"].get("tool_calls") for each in chunks for choice in each["choices"]]
            (whole,) = [each for each in calls if each]
            assert whole == [
                {
                    "id": "callid001",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"a": 1}'},
                    "index": 0,
                }
            ]
            assert chunks[-1]["usage"]["total_tokens"] == 29
            assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_the_ledger_has_it(tmp_path: Path) -> None:
    ledger = {"url": f"sqlite:///{tmp_path}/l.sqlite", "flush_s": 0.01}
    with FakeUpstream(is_strict=False) as up:
        async with served(None, [MistralVendor(up).endpoint()], config={"ledger": ledger}) as running:
            await running.ask("POST", "v1/chat/completions", CHAT, headers=SDK)
            (row,) = await rows(running)
    told = ("operation", "provider", "input_tokens", "output_tokens")
    assert [row[name] for name in told] == ["mistral_chat", "mistral", 20, 9]


@every_way
async def test_failures_are_mistrals(way: str) -> None:
    with FakeUpstream(is_strict=False) as up:
        vendor = ChatVendor(up)
        async with (
            served(None, [vendor.endpoint()], **WAYS[way]) as running,
            client(running) as ai,
            client(running, "t-nobody") as stranger,
        ):
            missing = await running.ask("POST", "v1/chat/completions", {"model": "model"}, headers=SDK)
            assert missing.json == {
                "object": "error",
                "message": "messages is missing: it must be a list of messages.",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "invalid_request",
                "request_id": missing.headers["x-request-id"],
            }
            with pytest.raises(errors.SDKError, match="nothing") as caught:
                await ai.chat.complete_async(model="nothing", messages=HI)
            assert caught.value.status_code == 404
            with pytest.raises(errors.SDKError, match="invalid_api_key") as caught:
                await stranger.chat.stream_async(model="model", messages=HI)
            assert caught.value.status_code == 401
            vendor.up.script(vendor.refuse(422, "No such role."))
            with pytest.raises(errors.MistralError) as told:
                await ai.chat.complete_async(model="model", messages=HI)
            assert "No such role." in told.value.body


async def test_a_stream_that_breaks_is_no_whole_answer(expected_log: ExpectedLog) -> None:
    with FakeUpstream(is_strict=False) as up:
        vendor = MistralVendor(up)
        up.always(Reply.stream(*list(vendor.stream(Say("Good morning.")))[:3], FIN))
        async with served(None, [vendor.endpoint()]) as running, client(running) as ai:
            events = await ai.chat.stream_async(model="model", messages=HI)
            with pytest.raises(errors.MistralError) as caught:
                async for _ in events:
                    pass
            assert "provider" in caught.value.body
            await events.__aexit__(None, None, None)
    expected_log.take("provider")


async def test_what_cannot_be_said_is_named_or_refused() -> None:
    with FakeUpstream(is_strict=False) as up:
        vendor = MessagesVendor(up)
        async with served(None, [vendor.endpoint()]) as running, client(running) as ai:
            tuned = {
                "safe_prompt": True,
                "metadata": {"a": 1},
                "prediction": {"type": "content", "content": "x"},
                "random_seed": 3,
                "min_tokens": 2,
                "repetition_penalty": 1.1,
            }
            answer = await running.ask("POST", "v1/chat/completions", {**CHAT, **tuned}, headers=SDK)
            assert answer.status == 200
            dropped = set(answer.headers["x-ai-gateway-dropped-params"].split(", "))
            assert dropped == set(tuned)
            plain = await running.ask(
                "POST", "v1/chat/completions", {**CHAT, "safe_prompt": False}, headers=SDK
            )
            assert "x-ai-gateway-dropped-params" not in plain.headers
            prefix = [*HI, {"role": "assistant", "content": "He", "prefix": True}]
            for refused in ({"messages": prefix}, {"guardrails": [{}]}, {"prompt_logprobs": True}):
                with pytest.raises(errors.SDKError, match="cannot_translate"):
                    await ai.chat.complete_async(**{**CHAT, **refused})


async def test_tools_of_the_account_are_refused_by_mistral_itself_too() -> None:
    with FakeUpstream(is_strict=False) as up:
        async with served(None, [MistralVendor(up).endpoint()]) as running, client(running) as ai:
            shared: list[Any] = [
                {"type": "document_library", "library_ids": ["l"]},
                {"type": "connector", "connector_id": "c"},
            ]
            for tool in shared:
                with pytest.raises(errors.SDKError, match="field_refused"):
                    await ai.chat.complete_async(model="model", messages=HI, tools=[tool])
        assert up.requests == []


@every_way
async def test_embeddings(way: str) -> None:
    data = [{"object": "embedding", "index": at, "embedding": each} for at, each in enumerate(VECTORS)]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    vectors = {"id": "e", "object": "list", "data": data, "model": "mistral-embed", "usage": usage}
    with FakeUpstream(is_strict=False) as up:
        up.always(Reply.json(vectors))
        own, other = mistral(up, "embeddings", "mistral-embed"), endpoint("vectors", up, "embeddings")
        async with served(None, [own, other], **WAYS[way]) as running, client(running) as ai:
            asked: dict[str, Any] = {"inputs": ["a", "b"], "output_dimension": 2}
            found = await ai.embeddings.create_async(model="model", **asked, output_dtype="float")
            assert [each.embedding for each in found.data] == VECTORS
            assert up.take().document == {
                "model": "mistral-embed",
                "input": ["a", "b"],
                "output_dimension": 2,
                "output_dtype": "float",
            }
            assert cell_of(running, MISTRAL_EMBED).input_tokens.total == 4
            found = await ai.embeddings.create_async(model="vectors", **asked, metadata={"a": 1})
            assert [each.embedding for each in found.data] == VECTORS
            assert found.usage.prompt_tokens == 4
            assert up.take().document == {
                "model": "text-embedding-3-small",
                "input": ["a", "b"],
                "encoding_format": "float",
                "dimensions": 2,
            }
            with pytest.raises(errors.SDKError, match="output_dtype"):
                await ai.embeddings.create_async(model="vectors", inputs="a", output_dtype="int8")
            packed = {"model": "vectors", "input": "a", "encoding_format": "base64"}
            answer = await running.ask("POST", "v1/embeddings", packed, headers=SDK)
            assert answer.json["data"][0]["embedding"] == "AAAAPwAAgL8="


@every_way
async def test_filling_in_is_for_mistrals_own_models(way: str) -> None:
    with FakeUpstream(is_strict=False) as up:
        vendor = MistralVendor(up)
        said = Reply.stream(*vendor.stream(Say("return a")))
        text = {**endpoint("text", up, "completions")}
        async with (
            served(None, [mistral(up, "completions", "codestral-latest"), text], **WAYS[way]) as running,
            client(running) as ai,
        ):
            asked: dict[str, Any] = {"prompt": "def f(a):", "suffix": "\n", "random_seed": 3}
            up.script(Reply.json(vendor.whole(Say("return a"))))
            found = await ai.fim.complete_async(model="model", **asked)
            assert found.choices[0].message is not None
            assert found.choices[0].message.content == "return a"
            up.script(said)
            events = await ai.fim.stream_async(model="model", **asked)
            words = [choice.delta.content async for event in events for choice in event.data.choices]
            assert "".join(map(str, words)) == "return a"
            await events.__aexit__(None, None, None)
            assert cell_of(running, FIM).input_tokens.total == 40
            first, second = up.requests
            assert first.path == second.path == "/v1/fim/completions"
            assert second.document == {"model": "codestral-latest", **asked, "stream": True}
            assert first.document == {"model": "codestral-latest", **asked, "stream": False}
            with pytest.raises(errors.SDKError, match="does not speak this format") as caught:
                await ai.fim.complete_async(model="text", **asked)
            assert caught.value.status_code == 400


async def test_models_in_mistrals_shape() -> None:
    with FakeUpstream(is_strict=False) as up:
        chat = ChatVendor(up).endpoint(context_length=32000, capabilities=["tools", "vision"])
        code = {**mistral(up, "completions", "codestral-latest"), "name": "code", "aliases": ["c"]}
        async with served(None, [chat, code]) as running, client(running) as ai:
            found = await ai.models.list_async()
            assert found.data is not None
            first, second = found.data
            assert (first.id, first.type, first.max_context_length) == ("model", "base", 32000)
            assert (first.capabilities.completion_chat, first.capabilities.vision) == (True, True)
            assert (first.capabilities.function_calling, first.capabilities.reasoning) == (True, False)
            assert (second.capabilities.completion_fim, second.aliases) == (True, ["c"])
            assert second.capabilities.completion_chat is False
            one = await ai.models.retrieve_async(model_id="code")
            assert one.capabilities.completion_fim is True


async def test_the_scopes_are_those_of_chats_completions_and_embeddings() -> None:
    with FakeUpstream(is_strict=False) as up:
        code = {**mistral(up, "completions", "codestral-latest"), "name": "code"}
        async with served(None, [MistralVendor(up).endpoint(), code]) as running:
            chats = running.knows("t-chat", ACCESS, "custom:ai-gateway:chat:create")
            texts = running.knows("t-text", ACCESS, "custom:ai-gateway:completions:create")
            for token, path, document, status in (
                (chats, "chat/completions", CHAT, 200),
                (texts, "chat/completions", CHAT, 403),
                (chats, "fim/completions", {"model": "code", "prompt": "a"}, 403),
                (texts, "fim/completions", {"model": "model", "prompt": "a"}, 400),
            ):
                answer = await running.ask("POST", f"v1/{path}", document, token=token, headers=SDK)
                assert answer.status == status, (path, answer.json)


async def test_who_comes_back_after_a_translation_meets_mistral_itself() -> None:
    thoughts: list[Any] = [
        {
            "type": "thinking",
            "thinking": [{"type": "text", "text": "Hm."}],
            "signature": "aig1.anthropic.c2ln",
        },
        {"type": "thinking", "thinking": [], "signature": "aig1.openai.c2ln"},
        {
            "type": "thinking",
            "thinking": [{"type": "text", "text": "So."}],
            "signature": "aig1.mistral.own",
        },
    ]
    said = {"role": "assistant", "content": [*thoughts, {"type": "text", "text": "Hello."}]}
    with FakeUpstream(is_strict=False) as up:
        vendor = MistralVendor(up)
        up.always(Reply.json(vendor.whole(Say("Hello."))))
        async with served(None, [vendor.endpoint()]) as running:
            asked = {**CHAT, "messages": [*HI, said, *HI]}
            assert (await running.ask("POST", "v1/chat/completions", asked, headers=SDK)).status == 200
        sent = up.take().document["messages"][1]["content"]
    assert [each.get("signature") for each in sent] == [None, "own", None]
    assert [each["type"] for each in sent] == ["thinking", "thinking", "text"]
