"""OpenAI's Responses API by the real OpenAI SDK: answers, streams, what is refused, what is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from expected import ExpectedLog
from fakes import responses
from fakes.upstream import BYTE_BY_BYTE, FIN, STALL, FakeUpstream, Reply, random_cuts
from openai import AsyncOpenAI
from served import KEY, WAYS, Served, endpoint, served
from test_accounting import accounted, rows

every_way = pytest.mark.parametrize("way", WAYS)
CUTS = {"bytes": BYTE_BY_BYTE, **{f"seed {seed}": random_cuts(seed) for seed in range(3)}}


def upstream(**more: Any) -> FakeUpstream:
    up = FakeUpstream(is_strict=False, **more)
    up.always(responses.Responses(KEY))
    return up


def client(running: Served, **more: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=running.base_url, api_key="t-alice", max_retries=0, **more)


@every_way
async def test_an_answer(way: str, tmp_path: Path) -> None:
    with upstream() as up:
        async with accounted(up, tmp_path, policies=[], **WAYS[way]) as running, client(running) as ai:
            answer = await ai.responses.create(model="chat", input="Hi", user="alice@example.org")
            assert answer.output_text == "".join(responses.TEXT)
            sent = up.requests[0].document
            assert sent["model"] == "gpt-4o-mini"
            assert sent["store"] is False
            assert "alice" not in sent["user"]
            (row,) = await rows(running)
            assert (row["operation"], row["input_tokens"], row["output_tokens"]) == ("responses", 36, 20)
            assert (row["cached_input_tokens"], row["reasoning_tokens"]) == (30, 12)
            assert row["answered_model"] == "gpt-5-2026-01-01"


@every_way
@pytest.mark.parametrize("cuts", CUTS)
async def test_a_stream_comes_as_it_was_and_is_counted(way: str, cuts: str, tmp_path: Path) -> None:
    with upstream() as up:
        up.script(Reply.stream(*responses.events(), cuts=CUTS[cuts]))
        async with accounted(up, tmp_path, policies=[], **WAYS[way]) as running:
            answer = await running.ask(
                "POST", "v1/responses", {"model": "chat", "input": "Hi", "stream": True}
            )
            assert answer.body == b"".join(responses.events())
            (row,) = await rows(running)
            assert (row["outcome"], row["output_tokens"], row["is_estimated"]) == ("ok", 20, False)


async def test_the_sdk_reads_a_stream() -> None:
    with upstream() as up:
        async with served(up) as running, client(running) as ai:
            stream = await ai.responses.create(model="chat", input="Hi", stream=True)
            found = [event async for event in stream]
            assert "".join(each.delta for each in found if each.type == "response.output_text.delta") == (
                "".join(responses.TEXT)
            )
            assert found[-1].type == "response.completed"


async def test_the_last_event_may_be_long(tmp_path: Path) -> None:
    with upstream() as up:
        first, *_ = responses.events()
        long = responses.response(instructions="x" * 300_000)
        up.script(Reply.stream(first, responses.event("response.completed", 1, response=long)))
        async with accounted(up, tmp_path, policies=[]) as running:
            await running.ask("POST", "v1/responses", {"model": "chat", "input": "Hi", "stream": True})
            (row,) = await rows(running)
            assert (row["outcome"], row["output_tokens"]) == ("ok", 20)


@every_way
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("store", True),
        ("previous_response_id", "resp_of_somebody"),
        ("conversation", "conv_1"),
        ("background", True),
        ("background_options", {"completion_window": "2h"}),
        ("prompt", {"id": "pmpt_1"}),
        ("tools", [{"type": "file_search", "vector_store_ids": ["vs_1"]}]),
        ("tools", [{"type": "function", "name": "f"}, {"type": "mcp", "server_url": "https://x"}]),
        ("tools", [{"type": "mcp", "server_url": "https://x"}, {"type": 5}, "no object"]),
    ],
)
async def test_what_reaches_beyond_the_request_is_refused(way: str, field: str, value: Any) -> None:
    with upstream() as up:
        async with served(up, **WAYS[way]) as running:
            answer = await running.ask(
                "POST", "v1/responses", {"model": "chat", "input": "Hi", field: value}
            )
            assert (answer.status, answer.error["code"], answer.error["param"]) == (
                400,
                "field_refused",
                field,
            )
            assert up.requests == []


async def test_functions_and_reasoning_go_through() -> None:
    with upstream() as up:
        async with served(up) as running:
            document = {
                "model": "chat",
                "input": [
                    {"role": "user", "content": "Hi"},
                    {"type": "reasoning", "encrypted_content": "e"},
                ],
                "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
                "include": ["reasoning.encrypted_content"],
                "store": None,
            }
            assert (await running.ask("POST", "v1/responses", document)).status == 200
            sent = up.requests[0].document
            assert {name: sent[name] for name in ("input", "tools", "include")} == {
                name: document[name] for name in ("input", "tools", "include")
            }


async def test_tokens_are_counted_for_nothing(tmp_path: Path) -> None:
    with upstream() as up:
        async with accounted(up, tmp_path) as running, client(running) as ai:
            counted = await ai.responses.input_tokens.count(model="chat", input="Hi")
            assert counted.input_tokens == 11
            (row,) = await rows(running)
            assert (row["operation"], row["cost_nanousd"], row["price_source"]) == (
                "input_tokens",
                0,
                "free",
            )


@pytest.mark.parametrize("tail", [FIN, STALL])
async def test_a_stream_that_breaks_ends_in_an_error_that_the_sdk_raises(
    tail: Any, expected_log: ExpectedLog
) -> None:
    with upstream() as up:
        up.script(Reply.stream(*responses.events()[:3], tail))
        quick = endpoint("chat", up, timeouts={"idle_s": 0.3})
        async with served(up, [quick]) as running, client(running) as ai:
            stream = await ai.responses.create(model="chat", input="Hi", stream=True)
            with pytest.raises(openai.APIError, match="provider"):
                _ = [event async for event in stream]
    expected_log.take("upstream_")


async def test_a_failed_response_is_a_failure(expected_log: ExpectedLog) -> None:
    with upstream() as up:
        failed = responses.response("failed", error={"code": "server_error", "message": "It broke."})
        up.script(Reply.json(failed))
        async with served(up) as running:
            answer = await running.ask("POST", "v1/responses", {"model": "chat", "input": "Hi"})
            assert (answer.status, answer.error["message"]) == (500, "It broke.")
    expected_log.take("upstream_error")


async def test_a_wrong_request_is_told_what_is_wrong() -> None:
    with upstream() as up:
        async with served(up) as running:
            for document, param in (({"model": "chat"}, "input"), ({"model": "chat", "input": 7}, "input")):
                answer = await running.ask("POST", "v1/responses", document)
                assert (answer.status, answer.error["param"]) == (400, param)
