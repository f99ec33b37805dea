"""Translation as callers see it: what is left out, what is refused, what it costs, who answers instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cohere
import openai
import pytest
from expected import ExpectedLog
from fakes.strictly import as_arguments
from fakes.upstream import STALL, FakeUpstream, Reply, Request, chat_chunk, sse
from matrix.vendors import USAGE, VENDORS, ChatVendor, MessagesVendor, Say, Vendor
from openai import AsyncOpenAI
from served import KEY, served
from test_accounting import rows

HI = [{"role": "user", "content": "Hi"}]


def places(*vendors: Vendor, **more: Any) -> dict[str, Any]:
    deployments = [
        {"name": each.provider, "model": each.endpoint()["model"], "priority": number}
        for number, each in enumerate(vendors, 1)
    ]
    return {"name": "model", "endpoint_type": "llm/v1/chat", "deployments": deployments, **more}


async def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    with FakeUpstream(is_strict=False) as up:
        vendor = MessagesVendor(up)
        async with served(None, [vendor.endpoint()]) as running:
            answer = await running.chat(model="model", seed=7, logit_bias={"1": 2})
            assert answer.status == 200
            assert answer.headers["x-ai-gateway-dropped-params"] == "seed, logit_bias"
            streamed = await running.chat(model="model", seed=7, stream=True)
            assert streamed.headers["x-ai-gateway-dropped-params"] == "seed"
            plain = await running.chat(model="model")
            assert "x-ai-gateway-dropped-params" not in plain.headers


async def test_what_cannot_be_said_is_refused_in_the_caller_s_words() -> None:
    with FakeUpstream(is_strict=False) as up, FakeUpstream(is_strict=False) as other:
        claude, chat = MessagesVendor(up), ChatVendor(other)
        endpoints = [claude.endpoint(), {**chat.endpoint(), "name": "qwen"}]
        async with served(None, endpoints) as running:
            answer = await running.chat(model="model", n=2)
            assert (answer.status, answer.error["code"], answer.error["param"]) == (
                400,
                "cannot_translate",
                "n",
            )
            assert "the deployment model/" in answer.error["message"]
            tools = [{"type": "web_search_20250305", "name": "web_search"}]
            body = {"model": "qwen", "max_tokens": 9, "messages": HI, "tools": tools}
            answer = await running.ask("POST", "v1/messages", body)
            assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
            assert answer.json["error"]["message"].startswith("tools[0] is a tool of the type web_search")
            assert up.requests == other.requests == []


async def test_who_can_serve_it_is_asked_instead() -> None:
    with FakeUpstream(is_strict=False) as up, FakeUpstream(is_strict=False) as other:
        claude, chat = MessagesVendor(up), ChatVendor(other)
        async with served(None, [places(claude, chat)]) as running:
            answer = await running.chat(model="model", n=1)
            assert answer.headers["x-ai-gateway-deployment"] == "anthropic"
            answer = await running.chat(model="model", n=2)
            assert answer.status == 200
            assert answer.headers["x-ai-gateway-deployment"] == "tgi"
            assert chat.documents[0]["n"] == 2


async def test_a_fallback_speaks_another_format(tmp_path: Path) -> None:
    with FakeUpstream(is_strict=False) as up, FakeUpstream(is_strict=False) as other:
        chat, claude = ChatVendor(up), MessagesVendor(other)
        greeting = sse(chat_chunk({"role": "assistant", "content": ""}))
        up.script(
            Reply.error(503, "Busy"),
            Reply.stream(*greeting, b'data: {"error": {"message": "no GPU", "code": 503}}\n\n'),
        )
        for number in range(2):
            async with served(None, [places(chat, claude)]) as running:
                claude.says.append(Say("Claude here."))
                body = {"model": "model", "max_output_tokens": 90, "input": "Hi", "stream": number == 1}
                answer = await running.ask("POST", "v1/responses", body)
                assert answer.status == 200
                assert b"Claude here." in answer.body
                assert answer.headers["x-ai-gateway-deployment"] == "anthropic"
        assert len(up.requests) == 2


async def test_a_conversation_changes_hands() -> None:
    with FakeUpstream(is_strict=False) as up, FakeUpstream(is_strict=False) as other:
        chat, claude = ChatVendor(up), MessagesVendor(other)
        chat.says.append(Say("Ho.", thinking="Hm."))
        async with served(None, [chat.endpoint(), {**claude.endpoint(), "name": "claude"}]) as running:
            body = {"max_tokens": 90, "messages": HI}
            first = (await running.ask("POST", "v1/messages", {**body, "model": "model"})).json
            assert [block["type"] for block in first["content"]] == ["thinking", "text"]
            turns = [*HI, {"role": "assistant", "content": first["content"]}, *HI]
            second = await running.ask(
                "POST", "v1/messages", {**body, "messages": turns, "model": "claude"}
            )
            assert second.status == 200
            assert claude.documents[0]["messages"][1]["content"] == first["content"][1:]


async def test_tokens_are_estimated_where_nobody_counts_them() -> None:
    with FakeUpstream(is_strict=False) as up:
        async with served(None, [ChatVendor(up).endpoint()]) as running:
            body = {"model": "model", "messages": [{"role": "user", "content": "word " * 400}]}
            answer = await running.ask("POST", "v1/messages/count_tokens", body)
            assert (answer.status, answer.headers["x-ai-gateway-estimated"]) == (200, "true")
            assert answer.json["estimated"] is True
            assert 200 < answer.json["input_tokens"] < 1200
            items = {"model": "model", "input": "Hi"}
            answer = await running.ask("POST", "v1/responses/input_tokens", items)
            assert answer.json["object"] == "response.input_tokens"
            assert up.requests == []


async def test_completions_of_a_model_that_only_chats() -> None:
    with FakeUpstream(is_strict=False) as up:
        vendor = MessagesVendor(up)
        async with served(None, [vendor.endpoint("completions")]) as running:
            body = {"model": "model", "prompt": "Say hello", "max_tokens": 20}
            answer = await running.ask("POST", "v1/completions", body)
            assert answer.json["choices"][0] == {
                "text": "Hello from the vendor.",
                "index": 0,
                "logprobs": None,
                "finish_reason": "stop",
            }
            assert vendor.seen[0].said == ["Say hello"]
            streamed = await running.ask("POST", "v1/completions", {**body, "stream": True})
            lines = [
                line[6:] for line in streamed.body.decode().split("\n\n") if line and "[DONE]" not in line
            ]
            words = "".join(choice["text"] for line in lines for choice in json.loads(line)["choices"])
            assert words == "Hello from the vendor."
            assert (await running.chat(model="model")).status == 400


async def test_what_it_used_is_written_down(tmp_path: Path) -> None:
    ledger = {"url": f"sqlite:///{tmp_path}/l.sqlite", "flush_s": 0.01}
    with FakeUpstream(is_strict=False) as up:
        vendor = MessagesVendor(up)
        async with served(None, [vendor.endpoint()], config={"ledger": ledger}) as running:
            for stream in (False, True):
                assert (await running.chat(model="model", stream=stream)).status == 200
            for row in await rows(running):
                assert (row["input_tokens"], row["output_tokens"]) == (USAGE["input"], USAGE["output"])
                assert row["cached_input_tokens"] == USAGE["cached"]
                assert not row["is_estimated"]
                assert row["answered_model"] == "claude-sonnet-4-5-20250929"


async def test_no_word_of_it_enters_the_log(
    caplog: pytest.LogCaptureFixture, expected_log: ExpectedLog
) -> None:
    secret = "canary-7f3a"
    with FakeUpstream(is_strict=False) as up:
        vendor = ChatVendor(up)
        vendor.says.append(Say(secret, [("c1", secret, {secret: secret})], secret))
        up.script(Reply.stream(f'data: {{"choices": "{secret}"'.encode()))
        async with served(None, [vendor.endpoint()], log_requests=True) as running:
            body = {"model": "model", "max_tokens": 9, "messages": [{"role": "user", "content": secret}]}
            answer = await running.ask("POST", "v1/messages", {**body, "stream": True})
            assert answer.status == 502
            answer = await running.ask("POST", "v1/messages", body)
            assert secret in answer.body.decode()
    assert secret not in "".join(expected_log.take("upstream_broken"))
    assert secret not in caplog.text


async def test_embeddings_of_a_host_with_a_format_of_its_own() -> None:
    with FakeUpstream(is_strict=False) as up:
        meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 4}}
        vectors = {"id": "e", "embeddings": {"float": [[0.5, -1.0], [0.25, 2.0]]}, "meta": meta}
        up.always(Reply.json(vectors))
        config = {"cohere_api_base": f"{up.url}/v2", "cohere_api_key": KEY}
        model = {"provider": "cohere", "name": "embed-v4.0", "config": config}
        endpoint = {"name": "vectors", "endpoint_type": "llm/v1/embeddings", "model": model}
        async with (
            served(None, [endpoint]) as running,
            AsyncOpenAI(base_url=running.base_url, api_key="t-alice", max_retries=0) as ai,
        ):
            found = await ai.embeddings.create(model="vectors", input=["a", "b"], dimensions=2)
            assert [each.embedding for each in found.data] == [[0.5, -1.0], [0.25, 2.0]]
            assert found.usage.prompt_tokens == 4
            sent = up.requests[0].document
            assert as_arguments(sent, cohere.ClientV2.embed, set()) is None
            assert (sent["texts"], sent["output_dimension"]) == (["a", "b"], 2)
            assert up.requests[0].path == "/v2/embed"
            more = {"input_type": "search_query"}
            await ai.embeddings.create(model="vectors", input="a", extra_body=more)
            assert up.requests[1].document["input_type"] == "search_query"
            with pytest.raises(openai.BadRequestError, match="tokens"):
                await ai.embeddings.create(model="vectors", input=[1, 2])


def predictions(*found: Any) -> Any:
    """Script a scoring server, which checks what it is sent and answers these one after the other."""
    answers = iter(found)

    def answer(request: Request) -> Reply:
        assert request.path == "/invocations"
        document = request.document
        is_known = set(document) == {"inputs", "params"} or set(document) >= {"messages"}
        return Reply.json({"predictions": next(answers)}) if is_known else Reply.error(400, "strict")

    return answer


async def test_a_served_mlflow_model() -> None:
    with FakeUpstream(is_strict=False) as up:
        up.always(predictions(["Ho."], {"choices": [{"message": {"content": "Ha."}}]}, [[1.0, 2.0]], ["x"]))
        config = {"model_server_url": up.url}
        model = {"provider": "mlflow-model-serving", "config": config}
        chatty = {**model, "config": {**config, "model_server_format": "chat"}}
        endpoints = [
            {"name": "plain", "endpoint_type": "llm/v1/chat", "model": model},
            {"name": "chatty", "endpoint_type": "llm/v1/chat", "model": chatty},
            {"name": "vectors", "endpoint_type": "llm/v1/embeddings", "model": model},
            {"name": "text", "endpoint_type": "llm/v1/completions", "model": model},
        ]
        async with served(None, endpoints) as running:
            answer = await running.chat(model="plain", messages=HI, temperature=0.5)
            assert answer.json["choices"][0]["message"]["content"] == "Ho."
            assert up.requests[0].document == {"inputs": ["Hi"], "params": {"temperature": 0.5}}
            answer = await running.chat(model="chatty", messages=HI * 2)
            assert answer.json["choices"][0]["message"]["content"] == "Ha."
            assert up.requests[1].document == {"messages": [{"role": "user", "content": "Hi\n\nHi"}]}
            answer = await running.ask("POST", "v1/embeddings", {"model": "vectors", "input": "a"})
            assert answer.json["data"][0]["embedding"] == [1.0, 2.0]
            answer = await running.ask("POST", "v1/completions", {"model": "text", "prompt": "Hi"})
            assert answer.json["choices"][0]["text"] == "x"
            for more, part in (({"stream": True}, "stream"), ({"messages": HI * 2}, "messages")):
                answer = await running.chat(model="plain", **{"messages": HI, **more})
                assert (answer.status, answer.error["param"]) == (400, part)


async def test_older_completions_of_a_host_that_chats() -> None:
    with FakeUpstream(is_strict=False) as up:
        vendor = ChatVendor(up)
        for provider in ("mistral", "ai21labs"):
            config = {"api_base": f"{up.url}/v1", "api_key": KEY}
            model = {"provider": provider, "name": "m", "config": config}
            endpoint = {"name": "text", "endpoint_type": "llm/v1/completions", "model": model}
            async with served(None, [endpoint]) as running:
                answer = await running.ask("POST", "v1/completions", {"model": "text", "prompt": "Hi"})
                assert answer.json["choices"][0]["text"] == "Hello from the vendor."
        assert [seen.said for seen in vendor.seen] == [["Hi"], ["Hi"]]


async def test_an_error_is_told_at_once_although_the_provider_says_no_more(
    expected_log: ExpectedLog,
) -> None:
    with FakeUpstream(is_strict=False) as up:
        vendor = MessagesVendor(up)
        events = list(vendor.stream(Say("Good morning.", breaks=True)))
        up.script(Reply.stream(b"".join(events), STALL))
        async with served(None, [vendor.endpoint()]) as running:
            answer = await running.chat(model="model", stream=True)
            assert b"Good" in answer.body
            assert b"Overloaded" in answer.body
            assert b"[DONE]" not in answer.body
    expected_log.take("upstream_overloaded")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", VENDORS)
async def test_what_a_provider_garbles_is_counted_and_logged(
    kind: str, stream: bool, expected_log: ExpectedLog
) -> None:
    """It is nobody's answer: the caller is told, the log says which provider, the metric says how often."""
    with FakeUpstream(is_strict=False) as up:
        vendor = VENDORS[kind](up)
        events = list(vendor.stream(Say("Good morning.")))
        up.always(Reply.stream(*events[:-2], b"data: {garbled\n\n", *events[-2:]) if stream else _garbled())
        async with served(None, [vendor.endpoint()]) as running:
            path = "v1/responses" if kind != "Responses" else "v1/messages"
            body = {"input": "Hi"} if kind != "Responses" else {"messages": HI, "max_tokens": 9}
            answer = await running.ask("POST", path, {"model": "model", "stream": stream, **body})
            assert b"upstream_broken" in answer.body
            assert answer.status == (200 if stream else 502)
            (line,) = expected_log.take("upstream_broken")
            assert "Good morning" not in line
            assert "garbled" not in line
            metrics = running.service.metrics.render()[0].decode()
    counted = [each for each in metrics.splitlines() if "upstream_errors_total{" in each]
    assert len(counted) == 1
    assert 'outcome="upstream_broken"' in counted[0]
    assert counted[0].endswith(" 1.0") or counted[0].endswith(" 1")


def _garbled() -> Reply:
    return Reply(headers=[("Content-Type", "application/json")], body=[b'{"choices": [{"garbled'])
