"""The model answers although a provider does not: what the caller sees, who was tried, what is kept."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from expected import ExpectedLog
from fakes import anthropic as claude
from fakes.hub import ACCESS
from fakes.upstream import (
    FIN,
    RESET,
    STALL,
    FakeUpstream,
    Gate,
    Raw,
    Reply,
    chat_chunk,
    chat_completion,
    happened,
    sse,
)
from served import KEY, WAYS, Served, endpoint, served
from test_accounting import rows
from test_gateway import POSTS, post

from jupyterhub_ai_gateway.config import parse
from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.providers.registry import Providers

every_way = pytest.mark.parametrize("way", WAYS)

ERROR_EVENT = b'data: {"error":{"message":"overloaded","type":"server_error","code":"busy"}}\n\n'
ROLE = sse(chat_chunk({"role": "assistant", "content": ""}))


def deployment(name: str, up: FakeUpstream, **more: Any) -> dict[str, Any]:
    return {"name": name, "model": endpoint("x", up)["model"], **more}


def chat(*deployments: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "chat", "endpoint_type": "llm/v1/chat", "deployments": list(deployments), **more}


@asynccontextmanager
async def routed(
    folder: Path, *ups: FakeUpstream, others: list[dict[str, Any]] | None = None, **more: Any
) -> AsyncIterator[Served]:
    """Run a gateway whose endpoint tries a, b, … in this order."""
    kept = {
        name: more.pop(name)
        for name in ("retries", "fallbacks", "order", "timeouts", "health")
        if name in more
    }
    tiers = [deployment("abcd"[index], up, priority=index + 1) for index, up in enumerate(ups)]
    ledger = {"url": f"sqlite:///{folder}/l.sqlite", "flush_s": 0.01}
    endpoints = [chat(*tiers, **kept), *(others or [])]
    async with served(None, endpoints, config={"ledger": ledger}, **more) as running:
        yield running


FAILURES: list[tuple[str, Any]] = [
    ("upstream_unreachable", Raw.of(RESET)),
    ("upstream_unreachable", Raw.of(FIN)),
    ("upstream_error", Reply.error(500, "Oops")),
    ("upstream_overloaded", Reply.error(503, "Busy", headers=[("Retry-After", "9")])),
    ("upstream_rate_limited", Reply.error(429, "Slow down.")),
    ("upstream_auth_error", Reply.error(401, "Bad key")),
    ("upstream_not_found", Reply.error(404, "No such model")),
    ("upstream_broken", Reply(headers=[("Content-Type", "text/html")], body=[b"<html>"])),
    ("upstream_timeout", Raw.of(STALL)),
]
STREAM_FAILURES: list[tuple[str, Any]] = [
    ("upstream_broken", Reply.stream(FIN)),
    ("upstream_broken", Reply.stream(*ROLE, FIN)),
    ("upstream_broken", Reply.stream(*ROLE, RESET)),
    ("upstream_error", Reply.stream(ERROR_EVENT)),
    ("upstream_error", Reply.stream(*ROLE, ERROR_EVENT, b"data: [DONE]\n\n")),
    ("upstream_timeout", Reply.stream(*ROLE, STALL)),
]
QUICK = {"first_byte_s": 0.3, "idle_s": 0.3}


@every_way
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("slug", "script"), FAILURES)
async def test_another_deployment_answers(
    way: str, is_stream: bool, slug: str, script: Any, tmp_path: Path
) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        a.script(script, script)  # a client sends again on a connection that was closed before any answer
        async with routed(tmp_path, a, b, timeouts=QUICK, **WAYS[way]) as running:
            answer = await running.chat(stream=is_stream)
            assert answer.status == 200
            assert answer.headers["x-ai-gateway-deployment"] == "b"
            assert answer.headers["x-ai-gateway-attempts"] == "2"
            assert b.text.split()[0] in answer.body.decode()
            assert len(b.requests) == 1
            (row,) = await rows(running)
            assert (row["outcome"], row["attempts"]) == ("ok", 2)
            assert [(each["number"], each["outcome"]) for each in row["tries"]] == [(1, slug), (2, "ok")]


@every_way
@pytest.mark.parametrize(("slug", "script"), STREAM_FAILURES)
async def test_a_stream_that_fails_before_its_first_content_is_answered_by_another(
    way: str, slug: str, script: Any, tmp_path: Path
) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        a.script(script)
        async with routed(tmp_path, a, b, timeouts=QUICK, **WAYS[way]) as running:
            answer = await running.chat(stream=True)
            assert answer.status == 200
            assert b"overloaded" not in answer.body
            assert answer.body.count(b'"role"') == 1
            assert answer.body.endswith(b"data: [DONE]\n\n")
            (row,) = await rows(running)
            assert [each["outcome"] for each in row["tries"]] == [slug, "ok"]


@every_way
async def test_once_content_is_sent_nobody_else_is_tried(
    way: str, tmp_path: Path, expected_log: ExpectedLog
) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        a.script(Reply.stream(*ROLE, *sse(chat_chunk({"content": "one"})), FIN))
        async with routed(tmp_path, a, b, **WAYS[way]) as running:
            answer = await running.chat(stream=True)
            assert answer.headers["x-ai-gateway-deployment"] == "a"
            assert b'"upstream_broken"' in answer.body
            assert b"[DONE]" not in answer.body
            assert b.requests == []
    expected_log.take("upstream_broken")


@every_way
async def test_held_pieces_come_with_the_first_content_in_order(way: str, tmp_path: Path) -> None:
    gate = Gate()
    first, rest = sse(chat_chunk({"content": "one"})), sse(chat_chunk({}, finish_reason="stop"))
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        a.script(Reply.stream(*ROLE, *ROLE, *first, gate, *rest, b"data: [DONE]\n\n"))
        async with routed(tmp_path, a, b, **WAYS[way]) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.service.port)
            writer.write(post({**POSTS["chat"][1], "stream": True}, "v1/chat/completions"))
            begun = await reader.readuntil(b'"one"')
            assert begun.count(b'"role"') >= 2
            gate.set()
            await reader.readuntil(b"[DONE]")
            writer.close()


@every_way
async def test_a_wrong_request_is_answered_at_once(way: str, tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        a.script(Reply.error(400, "No such thing"), Reply.error(400, "No such thing"))
        async with routed(tmp_path, a, b, **WAYS[way]) as running:
            for _ in range(2):
                assert (await running.chat()).status == 400
            assert b.requests == []
            assert len(a.requests) == 2  # it does not rest either


@every_way
async def test_when_all_fail_the_last_failure_is_told(
    way: str, tmp_path: Path, expected_log: ExpectedLog
) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        a.script(Reply.error(500, "first"))
        b.script(Reply.error(503, "second"))
        async with routed(tmp_path, a, b, **WAYS[way]) as running:
            answer = await running.chat()
            assert (answer.status, answer.error["message"]) == (503, "second")
            assert answer.headers["x-ai-gateway-attempts"] == "2"
            (row,) = await rows(running)
            assert [each["status"] for each in row["tries"]] == [500, 503]
            assert row["cost_nanousd"] is None
    expected_log.take("upstream_overloaded")


async def test_who_failed_rests_and_is_found_well_by_one(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        a.script(Reply.error(503, "Busy", headers=[("retry-after-ms", "200")]))
        async with routed(tmp_path, a, b) as running:
            for _ in range(3):
                await running.chat()
            assert (len(a.requests), len(b.requests)) == (1, 3)
            await asyncio.sleep(0.25)
            assert (await running.chat()).headers["x-ai-gateway-deployment"] == "a"
            assert (await running.chat()).headers["x-ai-gateway-deployment"] == "a"


async def test_when_all_rest_they_are_tried_all_the_same(tmp_path: Path, expected_log: ExpectedLog) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        busy = Reply.error(503, "Busy", headers=[("Retry-After", "600")])
        a.script(busy)
        b.script(busy)
        async with routed(tmp_path, a, b) as running:
            assert (await running.chat()).status == 503
            assert (await running.chat()).status == 200
    expected_log.take("upstream_overloaded")


async def test_retries_try_the_same_again(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as a:
        a.script(Reply.error(500, "1"), Reply.error(500, "2"))
        async with routed(tmp_path, a, retries=2) as running:
            answer = await running.chat()
            assert (answer.status, answer.headers["x-ai-gateway-attempts"]) == (200, "3")


@every_way
async def test_a_storm_of_retries_ends_with_the_endpoint_s_budget(
    way: str, tmp_path: Path, expected_log: ExpectedLog
) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b, FakeUpstream(key=KEY) as c:
        a.script(Reply.error(500, "1"))
        b.script(Reply.error(500, "2"))
        async with routed(tmp_path, a, b, c, retries=5, **WAYS[way]) as running:
            running.service.gateway.catalogue._endpoints["chat"].budget._left = 0.0
            answer = await running.chat()  # which earns one further attempt, and no more
            assert (answer.status, answer.headers["x-ai-gateway-attempts"]) == (500, "2")
            assert c.requests == []
            assert (await running.chat()).headers["x-ai-gateway-deployment"] == "c"
    expected_log.take("upstream_error")


async def test_another_endpoint_stands_in_at_its_own_price(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        a.script(Reply.error(500, "Oops"))
        b.script(
            Reply.json({**chat_completion("Hi"), "usage": {"prompt_tokens": 1, "completion_tokens": 0}})
        )
        other = endpoint("other", b, price={"input_per_mtok": 5})
        async with routed(tmp_path, a, fallbacks=["other"], others=[other]) as running:
            assert (await running.chat()).status == 200
            (row,) = await rows(running)
            assert (row["endpoint"], row["cost_nanousd"]) == ("chat", 5_000)
            text = running.service.metrics.render()[0].decode()
            assert 'requests_total{endpoint="chat"' in text
            assert 'requests_total{endpoint="other"' not in text


@every_way
async def test_leaving_ends_the_attempt_and_no_other_follows(way: str, tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        a.script(Raw.of(STALL))
        async with routed(tmp_path, a, b, **WAYS[way]) as running:
            _, writer = await asyncio.open_connection("127.0.0.1", running.service.port)
            writer.write(post(POSTS["chat"][1], "v1/chat/completions"))
            request = await a.taken()
            writer.close()
            await happened(request.closed)
            (row,) = await rows(running)
            assert (row["outcome"], row["attempts"]) == ("caller_left", 1)
            assert b.requests == []
            health = running.service.gateway.catalogue._endpoints["chat"].deployments[0].health
            assert (health.in_flight, health.total_failures) == (0, 0)


async def test_an_overloaded_stream_goes_on_elsewhere_in_its_own_format(tmp_path: Path) -> None:
    with FakeUpstream(is_strict=False) as up:
        up.script(claude.error(529, "overloaded_error", "Overloaded"), claude.Claude(KEY))
        config = {"anthropic_api_key": KEY, "anthropic_api_base": f"{up.url}/v1"}
        model = {"provider": "anthropic", "name": "claude-sonnet-4-5", "config": config}
        places = [{"name": "b", "model": model}, {"name": "c", "model": model}]
        async with served(None, [chat(*places)]) as running:
            body = {"model": "chat", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
            answer = await running.ask("POST", "v1/messages", {**body, "stream": True})
            assert answer.status == 200
            assert answer.body.count(b"message_start") == 2  # the event's name, and its type


async def test_aliases_are_names_like_any_other(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        async with served(
            None, [{**endpoint("chat", up), "aliases": ["meta/llama:70b", "gpt-4"]}]
        ) as running:
            for name in ("chat", "meta/llama:70b", "gpt-4"):
                assert (await running.chat(model=name)).status == 200
            assert (await running.ask("GET", "v1/models/gpt-4")).json["id"] == "chat"
            assert [each["id"] for each in (await running.ask("GET", "v1/models")).json["data"]] == ["chat"]


async def test_a_reload_keeps_how_they_fare(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        a.script(Reply.error(503, "Busy", headers=[("Retry-After", "600")]))
        async with routed(tmp_path, a, b) as running:
            await running.chat()
            await running.service.reload()
            await running.chat()
            assert (len(a.requests), len(b.requests)) == (1, 2)


async def test_chaos_loses_no_request_that_somebody_could_have_served(tmp_path: Path) -> None:
    """Two of three fail at random, in every way; the third is well: all are answered, nothing is left."""
    chance = random.Random(5)

    def moody(request: Any) -> Any:
        if chance.random() < 0.5:
            kinds = STREAM_FAILURES if request.document.get("stream") else FAILURES
            return chance.choice([script for _, script in kinds[:-1]])
        if request.document.get("stream"):
            chunks = sse(chat_chunk({"content": "well"}), chat_chunk({}, finish_reason="stop"))
            return Reply.stream(*ROLE, *chunks, b"data: [DONE]\n\n")
        return Reply.json(chat_completion("well"))

    with ExitStack() as stack:
        a, b, c = (stack.enter_context(FakeUpstream(key=KEY)) for _ in range(3))
        a.always(moody)
        b.always(moody)
        places = [deployment(name, up) for name, up in (("a", a), ("b", b), ("c", c))]
        ledger = {"url": f"sqlite:///{tmp_path}/l.sqlite", "flush_s": 0.01}
        policies = [{"resource": "concurrency", "limit": 1000}]
        config = {"ledger": ledger, "policies": policies}
        async with served(None, [chat(*places)], config=config) as running:
            statuses: Counter[int] = Counter()
            for _ in range(15):
                answers = await asyncio.gather(
                    *(running.chat(stream=chance.random() < 0.5) for _ in range(20))
                )
                statuses.update(answer.status for answer in answers)
                assert all(b'"error"' not in answer.body for answer in answers)
            assert statuses == {200: 300}
            found = await rows(running)
            assert len(found) == 300
            assert {row["outcome"] for row in found} == {"ok"}
            assert all(len(row["tries"]) == row["attempts"] for row in found)
            assert max(row["attempts"] for row in found) > 1
            for each in running.service.gateway.catalogue._endpoints["chat"].deployments:
                assert each.health.in_flight == 0
                assert all(cell.in_flight == 0 for cell in each.cells.values())
            counters: Any = running.service.books.counters
            assert counters.open_reservations == 0


async def test_staff_and_metrics_see_who_rests_and_why(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        a.script(Reply.error(503, "Busy", headers=[("Retry-After", "600")]))
        async with routed(tmp_path, a, b) as running:
            await running.chat()
            token = running.knows("t-root", ACCESS, "custom:ai-gateway:admin", name="root")
            answer = await running.ask("GET", "api/deployments", token=token)
            first, second = answer.json["deployments"]
            assert (first["state"], first["reason"], first["failures"]) == (
                "resting",
                "upstream_overloaded",
                1,
            )
            assert 590 < first["rests_s"] <= 600
            assert (second["state"], second["reason"], second["in_flight"]) == ("ready", None, 0)
            assert KEY not in answer.body.decode()
            assert "127.0.0.1" not in answer.body.decode()
            text = running.service.metrics.render()[0].decode()
    space = "jupyterhub_ai_gateway_deployment"
    assert f'{space}_failures_total{{deployment="a",endpoint="chat"}} 1.0' in text
    assert f'{space}_resting{{deployment="a",endpoint="chat"}} 1.0' in text
    assert f'{space}_resting{{deployment="b",endpoint="chat"}} 0.0' in text


@every_way
async def test_who_fails_every_other_time_is_out_and_that_is_shown(way: str, tmp_path: Path) -> None:
    turns = iter(range(1000))
    oops = Reply.error(500, "Oops", headers=[("retry-after-ms", "1")])  # so that it is asked again at once

    def moody(request: Any) -> Reply:
        return oops if next(turns) % 2 else Reply.json(chat_completion("Hi"))

    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        a.always(moody)
        health = {"min_requests": 8, "rest_s": 600, "longest_rest_s": 600}
        async with routed(tmp_path, a, b, health=health, **WAYS[way]) as running:
            while len(a.requests) < 8:
                assert (await running.chat()).status == 200
            for _ in range(5):
                assert (await running.chat()).headers["x-ai-gateway-deployment"] == "b"
            assert len(a.requests) == 8
            root = running.knows("t-root", ACCESS, "custom:ai-gateway:admin", name="root")
            first, second = (await running.ask("GET", "api/deployments", token=root)).json["deployments"]
            assert (first["state"], first["reason"], first["failures"]) == ("resting", "upstream_error", 4)
            assert 590 < first["rests_s"] <= 600
            assert (second["error_rate"], second["slow"]) == (0.0, False)
            shown = (await running.ask("GET", "health", token=root)).json["deployments"]
            assert [each["error_rate"] for each in shown] == [None, 0.0]  # a rest begins a new count
            text = running.service.metrics.render()[0].decode()
    space = "jupyterhub_ai_gateway_deployment"
    assert f'{space}_error_rate{{deployment="b",endpoint="chat"}} 0.0' in text
    assert f'{space}_slow{{deployment="a",endpoint="chat"}} 0.0' in text
    assert f'{space}_latency_seconds{{deployment="b",endpoint="chat"}}' in text


@every_way
async def test_a_single_place_is_asked_however_it_fares_and_how_it_does_is_shown(
    way: str, expected_log: ExpectedLog
) -> None:
    with FakeUpstream(key=KEY) as up:
        up.script(*[Reply.error(500, "Oops")] * 12)
        async with served(None, [endpoint("chat", up)], **WAYS[way]) as running:
            for _ in range(12):
                assert (await running.chat()).status == 500
            root = running.knows("t-root", ACCESS, "custom:ai-gateway:admin", name="root")
            (found,) = (await running.ask("GET", "api/deployments", token=root)).json["deployments"]
            assert (found["state"], found["failures"], found["in_flight"]) == ("resting", 12, 0)
            assert (await running.chat()).status == 200
    expected_log.take("upstream_error")


async def test_who_became_slow_comes_after_the_others(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        places = [deployment("a", a), deployment("b", b)]
        async with served(None, [chat(*places, order="cheapest")]) as running:
            chosen = running.service.gateway.catalogue._endpoints["chat"]
            now = running.service.gateway._rooms.clock()
            for each, seconds in zip(chosen.deployments, (5.0, 0.2), strict=True):
                for _ in range(16):
                    each.health.succeeded(seconds, now, now)
            for _ in range(10):
                assert (await running.chat()).headers["x-ai-gateway-deployment"] == "b"
            root = running.knows("t-root", ACCESS, "custom:ai-gateway:admin", name="root")
            found = (await running.ask("GET", "api/deployments", token=root)).json["deployments"]
            assert [each["slow"] for each in found] == [True, False]


async def test_a_stream_is_as_fast_as_its_first_content(tmp_path: Path) -> None:
    gate = Gate()
    rest = sse(chat_chunk({"content": "two"}), chat_chunk({}, finish_reason="stop"))
    with FakeUpstream(key=KEY) as up:
        up.script(
            Reply.stream(*sse(chat_chunk({"content": "one"})), gate, *rest, b"data: [DONE]\n\n"),
        )
        async with served(None, [endpoint("chat", up)]) as running:
            health = running.service.gateway.catalogue._endpoints["chat"].deployments[0].health
            asking = asyncio.ensure_future(running.chat(stream=True))
            await asyncio.to_thread(gate.reached.wait, 10)
            began = running.service.gateway._rooms.clock()
            await asyncio.sleep(0.3)
            gate.set()
            assert (await asking).status == 200
            assert running.service.gateway._rooms.clock() - began >= 0.3
            assert health.window._counts == [0, 1]
            assert health.latency_s is not None
            assert health.latency_s < running.service.gateway._rooms.clock() - began


async def test_a_request_is_counted_where_it_was_answered_and_nowhere_runs_on(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        a.script(Reply.error(500, "Oops"))
        places = [deployment("a", a, priority=1), deployment("b", b, priority=2)]
        places[1]["model"]["name"] = "another-model"
        async with served(None, [chat(*places)]) as running:
            assert (await running.chat()).status == 200
            text = running.service.metrics.render()[0].decode()
            both = running.service.gateway.catalogue._endpoints["chat"].deployments
            running = [cell.in_flight for each in both for cell in each.cells.values()]
            assert len(running) > 2
            assert not any(running)
    assert 'requests_total{endpoint="chat",model="another-model"' in text
    assert 'requests_total{endpoint="chat",model="gpt-4o-mini"' not in text


async def test_what_a_failed_attempt_told_of_its_usage_is_not_the_next_one_s(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        told = {**chat_chunk({}), "choices": [], "usage": {"prompt_tokens": 999, "completion_tokens": 999}}
        a.script(Reply.stream(*sse(told), FIN))
        chunks = sse(chat_chunk({"content": "one"}), chat_chunk({}, finish_reason="stop"))
        b.script(Reply.stream(*chunks, b"data: [DONE]\n\n"))
        async with routed(tmp_path, a, b) as running:
            assert (await running.chat(stream=True)).status == 200
            (row,) = await rows(running)
            assert row["is_estimated"]
            assert row["output_tokens"] < 99


@every_way
async def test_a_conversation_stays_where_it_was_unless_that_fails(way: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        ups = [stack.enter_context(FakeUpstream(key=KEY)) for _ in range(3)]
        places = [deployment("abc"[index], up) for index, up in enumerate(ups)]
        async with served(None, [chat(*places, order="sticky")], **WAYS[way]) as running:
            homes: dict[str, str] = {}
            for text in ("one", "two", "three", "four", "five", "six", "seven", "eight"):
                first = [{"role": "user", "content": text}]
                longer = [
                    *first,
                    {"role": "assistant", "content": "Hi"},
                    {"role": "user", "content": "And?"},
                ]
                names = {
                    (await running.chat(messages=messages)).headers["x-ai-gateway-deployment"]
                    for messages in (first, longer, first)
                }
                (homes[text],) = names
            assert len(set(homes.values())) > 1
            session = [("x-session-id", "s-1")]
            at = {
                (await running.chat(text, headers=session)).headers["x-ai-gateway-deployment"]
                for text in homes
            }
            assert len(at) == 1
            home = homes["one"]
            ups["abc".index(home)].script(Reply.error(500, "Oops"))
            answer = await running.chat("one")
            assert answer.status == 200
            assert answer.headers["x-ai-gateway-deployment"] != home


KEYS = ["sk-first-key-0123456789", "sk-second-key-0123456789", KEY]


def with_keys(up: FakeUpstream, *keys: str) -> dict[str, Any]:
    found = endpoint("chat", up)
    found["model"]["config"]["openai_api_key"] = list(keys)
    return found


def key_of(request: Any) -> str:
    return str(request.header("authorization")).removeprefix("Bearer ")


@every_way
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_refused_key_rests_and_the_next_is_used(way: str, is_stream: bool, tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        ledger = {"url": f"sqlite:///{tmp_path}/l.sqlite", "flush_s": 0.01}
        async with served(None, [with_keys(up, *KEYS)], config={"ledger": ledger}, **WAYS[way]) as running:
            for attempts in ("3", "1"):
                answer = await running.chat(stream=is_stream)
                assert (answer.status, answer.headers["x-ai-gateway-attempts"]) == (200, attempts)
            assert [key_of(request) for request in up.requests] == [*KEYS, KEYS[2]]
            first, _ = await rows(running)
            assert [each["outcome"] for each in first["tries"]] == ["upstream_auth_error"] * 2 + ["ok"]
            token = running.knows("t-root", ACCESS, "custom:ai-gateway:admin", name="root")
            answer = await running.ask("GET", "api/deployments", token=token)
            (found,) = answer.json["deployments"]
            assert [key["state"] for key in found["keys"]] == ["resting", "resting", "ready"]
            assert (found["state"], found["failures"]) == ("ready", 0)
            assert not any(key in answer.body.decode() for key in KEYS)


async def test_a_key_without_requests_left_rests_as_long_as_it_says(tmp_path: Path) -> None:
    with FakeUpstream(key=None) as up:
        up.script(Reply.error(429, "Slow down.", headers=[("retry-after-ms", "200")]))
        async with served(None, [with_keys(up, *KEYS)]) as running:
            for _ in range(2):
                assert (await running.chat()).status == 200
            await asyncio.sleep(0.25)
            assert (await running.chat()).status == 200
            assert [key_of(request) for request in up.requests] == [KEYS[0], KEYS[1], KEYS[1], KEYS[0]]


async def test_what_is_not_a_key_s_fault_does_not_try_the_others(
    tmp_path: Path, expected_log: ExpectedLog
) -> None:
    with FakeUpstream(key=None) as up:
        up.script(Reply.error(500, "Oops"), Reply.error(400, "No such thing"))
        async with served(None, [with_keys(up, *KEYS)]) as running:
            assert (await running.chat()).status == 500
            assert (await running.chat()).status == 400
            assert [key_of(request) for request in up.requests] == [KEYS[0], KEYS[0]]
    expected_log.take("upstream_error")


async def test_when_all_keys_rest_one_is_tried_and_another_deployment_answers(tmp_path: Path) -> None:
    with FakeUpstream(key="sk-other") as a, FakeUpstream(key=KEY) as b:
        places = [
            {"name": "a", "model": with_keys(a, *KEYS)["model"]},
            deployment("b", b, priority=2),
        ]
        async with served(None, [chat(*places)]) as running:
            for _ in range(2):
                assert (await running.chat()).headers["x-ai-gateway-deployment"] == "b"
            assert len(a.requests) == 3


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ([], "openai_api_key: must be a list of 1 to 100 keys"),
        (["sk-a", 5], "openai_api_key[1]"),
        (["sk-a", "$NO_SUCH_VARIABLE"], "openai_api_key[1]"),
    ],
)
def test_a_wrong_list_of_keys_is_named(keys: list[Any], path: str) -> None:
    model = {"provider": "openai", "name": "m", "config": {"openai_api_key": keys}}
    own = {"name": "chat", "endpoint_type": "llm/v1/chat", "model": model}
    with pytest.raises(ConfigFault) as caught:
        parse({"endpoints": [own]}, Providers.installed().schemas, {})
    assert f"endpoints[0].model.config.{path}" in str(caught.value)
    assert "sk-a" not in str(caught.value)
