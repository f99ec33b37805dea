"""However a request ends: one row in the ledger, everything given back, what was told was used."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from expected import ExpectedLog
from fakes import anthropic as claude
from fakes.upstream import (
    FIN,
    RESET,
    STALL,
    FakeUpstream,
    Raw,
    Reply,
    chat_chunk,
    chat_completion,
    happened,
    sse,
)
from served import KEY, WAYS, Served, endpoint, served
from test_gateway import POSTS, post

from jupyterhub_ai_gateway.limits import MemoryCounters

every_way = pytest.mark.parametrize("way", WAYS)

POLICIES = [
    {"name": "tokens", "resource": "tokens", "limit": 100_000, "window": "day"},
    {"name": "budget", "resource": "cost_usd", "limit": 5, "window": "month"},
    {"name": "slots", "resource": "concurrency", "limit": 50},
    {"name": "rate", "resource": "requests", "limit": 1_000, "window": "minute"},
]
USAGE = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
PRICE = {"input_per_mtok": 2, "output_per_mtok": 10}
COST = Decimal("0.0007")


def chat(up: FakeUpstream | None, **more: Any) -> dict[str, Any]:
    return endpoint("chat", up, price=PRICE, **more)


@asynccontextmanager
async def accounted(
    up: FakeUpstream | None,
    folder: Path,
    endpoints: Sequence[dict[str, Any]] | None = None,
    *,
    policies: Sequence[Mapping[str, Any]] = POLICIES,
    **more: Any,
) -> AsyncIterator[Served]:
    config = {
        "policies": list(policies),
        "ledger": {"url": f"sqlite:///{folder}/l.sqlite", "flush_s": 0.01},
    }
    async with served(up, endpoints or [chat(up)], config=config, **more) as running:
        yield running
        await quiet(running)
        counters = running.service.books.counters
        assert isinstance(counters, MemoryCounters)
        assert counters.open_reservations == 0


async def quiet(running: Served) -> None:
    """Wait until no request runs."""
    for _ in range(500):
        if not len(running.service._tasks):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a request still runs")


async def rows(running: Served) -> list[dict[str, Any]]:
    """Return every row of the ledger, the oldest first."""
    await quiet(running)
    ledger, database = running.service.books.ledger, running.service.books.database
    assert ledger is not None
    assert database is not None
    assert await asyncio.to_thread(ledger.flush)
    found = await asyncio.to_thread(lambda: database.requests(where={}, limit=500))
    tries = [await asyncio.to_thread(database.request, each["request_id"]) for each in found]
    return [dict(each) for each in reversed(tries) if each is not None]


async def only_row(running: Served) -> dict[str, Any]:
    (row,) = await rows(running)
    return row


async def left(running: Served) -> dict[str, Any]:
    """Return what is left of each rule."""
    answer = await running.ask("GET", "api/usage")
    assert answer.status == 200
    return {limit["rule"]: limit["remaining"] for limit in answer.json["limits"]}


@every_way
async def test_a_plain_answer(way: str, tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        up.script(Reply.json({**chat_completion("Hi"), "usage": USAGE, "model": "gpt-4o-mini-2024-07-18"}))
        async with accounted(up, tmp_path, **WAYS[way]) as running:
            answer = await running.chat()
            row = await only_row(running)
            assert row["request_id"] == answer.headers["x-request-id"]
            assert (row["caller"], row["endpoint"], row["operation"]) == ("user:alice", "chat", "chat")
            assert (row["status"], row["outcome"], row["attempts"]) == (200, "ok", 1)
            assert (row["sent_model"], row["answered_model"]) == ("gpt-4o-mini", "gpt-4o-mini-2024-07-18")
            assert (row["input_tokens"], row["output_tokens"], row["is_estimated"]) == (100, 50, False)
            assert (row["cost_nanousd"], row["price_source"]) == (700_000, "configuration")
            assert row["rules"] == "tokens, budget, slots, rate"
            assert [(each["number"], each["outcome"], each["cost_nanousd"]) for each in row["tries"]] == [
                (1, "ok", 700_000)
            ]
            assert await left(running) == {
                "tokens": 100_000 - 150,
                "budget": float(5 - COST),
                "slots": 50,
                "rate": 999,
            }
            timing = dict(
                part.strip().split(";dur=") for part in answer.headers["server-timing"].split(",")
            )
            assert list(timing) == ["auth", "queue", "upstream", "gateway"]


@every_way
async def test_a_stream(way: str, tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        chunks = sse(chat_chunk({"content": "one"}), chat_chunk({}, finish_reason="stop"))
        end = sse({**chat_chunk({}), "choices": [], "usage": USAGE})
        up.script(Reply.stream(*chunks, *end, b"data: [DONE]\n\n"))
        async with accounted(up, tmp_path, **WAYS[way]) as running:
            answer = await running.chat(stream=True)
            assert "upstream;dur=" in answer.headers["server-timing"]
            row = await only_row(running)
            assert (row["outcome"], row["is_stream"], row["output_tokens"]) == ("ok", True, 50)
            assert (row["cost_nanousd"], row["is_estimated"]) == (700_000, False)
            assert 0 < row["first_byte_ms"] <= row["took_ms"]


@every_way
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_caller_who_leaves(way: str, is_stream: bool, tmp_path: Path) -> None:
    one = sse(chat_chunk({"content": "one"}))
    script = Reply.stream(*one, STALL) if is_stream else Raw.of(STALL)
    with FakeUpstream(key=KEY) as up:
        up.script(script)
        async with accounted(up, tmp_path, **WAYS[way]) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.service.port)
            document = {**POSTS["chat"][1], "stream": is_stream}
            writer.write(post(document, "v1/chat/completions"))
            request = await up.taken()
            if is_stream:
                await reader.readuntil(b"one")
            writer.close()
            await happened(request.closed)
            row = await only_row(running)
            assert (row["status"], row["outcome"], row["attempts"]) == (499, "caller_left", 1)
            assert row["is_estimated"]
            assert row["input_tokens"] > 0
            assert (row["output_tokens"] > 0) is is_stream
            assert row["cost_nanousd"] > 0
            assert (await left(running))["slots"] == 50
            assert (await left(running))["tokens"] == 100_000 - row["input_tokens"] - row["output_tokens"]


@every_way
@pytest.mark.parametrize(
    ("script", "is_stream", "outcome", "is_charged"),
    [
        (Reply.error(500, "Oops"), False, "upstream_error", False),
        (Reply.error(429, "Slow down."), False, "upstream_rate_limited", False),
        (Reply.error(400, "No."), False, "upstream_invalid_request", False),
        (Raw.of(RESET), False, "upstream_unreachable", False),
        (Raw.of(FIN), True, "upstream_unreachable", False),
        (Reply.stream(FIN), True, "upstream_broken", False),
        (Reply.stream(*sse(chat_chunk({"content": "one"})), FIN), True, "upstream_broken", True),
        (Reply(headers=[("Content-Type", "text/html")], body=[b"<html>"]), False, "upstream_broken", False),
    ],
)
async def test_a_provider_that_fails(
    way: str,
    script: Any,
    is_stream: bool,
    outcome: str,
    is_charged: bool,
    tmp_path: Path,
    expected_log: ExpectedLog,
) -> None:
    with FakeUpstream(key=KEY) as up:
        up.script(script, script)
        async with accounted(up, tmp_path, **WAYS[way]) as running:
            await running.chat(stream=is_stream)
            row = await only_row(running)
            assert row["outcome"] == outcome
            assert (row["cost_nanousd"] is not None) is is_charged
            assert row["is_estimated"] is is_charged
            assert len(row["tries"]) == 1
            now_left = await left(running)
            assert now_left["slots"] == 50
            assert now_left["rate"] == 999
            assert (now_left["tokens"] < 100_000) is is_charged
    if outcome not in ("upstream_rate_limited", "upstream_invalid_request"):
        expected_log.take(outcome)


@every_way
async def test_a_request_that_a_rule_refuses(way: str, tmp_path: Path) -> None:
    policies = [{"name": "one", "resource": "requests", "limit": 1, "window": "day"}]
    with FakeUpstream(key=KEY) as up:
        async with accounted(up, tmp_path, policies=policies, **WAYS[way]) as running:
            await running.chat()
            answer = await running.chat()
            assert (answer.status, answer.error["code"]) == (429, "insufficient_quota")
            assert answer.error["rule"] == "one"
            assert answer.headers["x-should-retry"] == "false"
            assert int(answer.headers["retry-after"]) > 0
            assert answer.headers["x-ratelimit-remaining-requests"] == "0"
            first, second = await rows(running)
            assert first["outcome"] == "ok"
            assert (second["status"], second["outcome"], second["refused_by"]) == (
                429,
                "insufficient_quota",
                "one",
            )
            assert (second["attempts"], second["tries"], second["cost_nanousd"]) == (0, [], None)
            assert len(up.requests) == 1


async def test_a_shutdown_in_the_middle(tmp_path: Path, expected_log: ExpectedLog) -> None:
    with FakeUpstream(key=KEY) as up:
        up.script(Reply.stream(*sse(chat_chunk({"content": "one"})), STALL))
        async with accounted(up, tmp_path, drain_timeout_s=0.1) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.service.port)
            writer.write(post({**POSTS["chat"][1], "stream": True}, "v1/chat/completions"))
            await reader.readuntil(b"one")
            await running.service.stop()
            await reader.read()
            writer.close()
            database = running.service.books.database
            assert database is not None
            (row,) = database.requests(where={})
            assert (row["outcome"], row["is_estimated"]) == ("draining", True)
            assert row["output_tokens"] > 0
            database.close()
    expected_log.take("Cut off 1 request")


async def test_an_answer_without_usage_is_estimated_and_learned_from(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        without = chat_completion("x" * 4000)
        del without["usage"]
        up.script(Reply.json(without))
        async with accounted(up, tmp_path) as running:
            await running.chat()
            row = await only_row(running)
            assert row["is_estimated"]
            assert row["output_tokens"] > 400
            assert row["cost_nanousd"] > 0


async def test_what_the_provider_reports_counts_unless_the_operator_has_a_price(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        answer = {**chat_completion("Hi"), "usage": {**USAGE, "cost": 0.123}}
        up.script(Reply.json(answer), Reply.json(answer))
        endpoints = [endpoint("chat", up), {**chat(up), "name": "own"}]
        async with accounted(up, tmp_path, endpoints) as running:
            await running.chat()
            await running.chat(model="own")
            first, second = await rows(running)
            assert (first["cost_nanousd"], first["price_source"]) == (123_000_000, "provider")
            assert (second["cost_nanousd"], second["price_source"]) == (700_000, "configuration")


async def test_the_table_has_the_price_that_nobody_else_tells(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        up.script(Reply.json({**chat_completion("Hi"), "usage": USAGE}))
        async with accounted(up, tmp_path, [endpoint("chat", up)]) as running:
            await running.chat()
            row = await only_row(running)
            assert row["cost_nanousd"] == 100 * 150 + 50 * 600
            assert row["price_source"].startswith("table 20")


async def test_a_model_that_nobody_prices_is_counted_as_unpriced_not_as_free(tmp_path: Path) -> None:
    policies = [{"name": "budget", "resource": "cost_usd", "limit": 1, "window": "month"}]
    with FakeUpstream(key=KEY) as up:
        plain = endpoint("chat", up)
        plain["model"]["name"] = "our-own-llama"
        async with accounted(up, tmp_path, [plain], policies=policies) as running:
            answer = await running.chat()
            assert (answer.status, answer.error["code"]) == (403, "unpriced_model")
            assert up.requests == []
        policies[0]["unpriced"] = "allow"
        async with accounted(up, tmp_path, [plain], policies=policies) as running:
            assert (await running.chat()).status == 200
            row = (await rows(running))[-1]
            assert (row["cost_nanousd"], row["price_source"]) == (None, None)
            total = (await running.ask("GET", "api/usage")).json["total"]
            assert (total["unpriced"], total["cost_usd"]) == (1, 0)


async def test_anthropic_tells_its_caches_and_a_cut_stream_is_completed(
    tmp_path: Path, expected_log: ExpectedLog
) -> None:
    with FakeUpstream(is_strict=False) as up:
        up.script(claude.Claude(KEY), Reply.stream(*claude.events()[:5], FIN))
        config = {"anthropic_api_key": KEY, "anthropic_api_base": f"{up.url}/v1"}
        model = {"provider": "anthropic", "name": "claude-sonnet-4-5", "config": config}
        endpoints = [{"name": "claude", "endpoint_type": "llm/v1/chat", "model": model}]
        async with accounted(up, tmp_path, endpoints) as running:
            body = {"model": "claude", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
            headers = [("anthropic-version", "2023-06-01")]
            answer = await running.ask("POST", "v1/messages", {**body, "stream": True}, headers=headers)
            assert answer.headers["anthropic-ratelimit-requests-remaining"] == "999"
            assert answer.headers["anthropic-ratelimit-tokens-limit"] == "100000"
            await running.ask("POST", "v1/messages", {**body, "stream": True}, headers=headers)
            whole, cut = await rows(running)
            assert (whole["input_tokens"], whole["output_tokens"]) == (20, 9)
            assert (whole["cached_input_tokens"], whole["cache_write_tokens"]) == (11, 2)
            assert not whole["is_estimated"]
            assert (cut["input_tokens"], cut["is_estimated"]) == (20, True)
            assert cut["output_tokens"] >= 1
            assert cut["answered_model"] == "claude-sonnet-4-5"
    expected_log.take("upstream_broken")


async def test_a_project_pays(tmp_path: Path) -> None:
    policies = [
        {
            "name": "course",
            "resource": "requests",
            "limit": 1,
            "window": "month",
            "count": "group",
            "scope": {"group": "physics*"},
        }
    ]
    with FakeUpstream(key=KEY) as up:
        async with accounted(up, tmp_path, policies=policies) as running:
            token = running.knows(
                "t-bob", *running.hub.models["t-alice"]["scopes"], groups=("physics-101", "staff")
            )
            for name in ("OpenAI-Project", "x-goog-user-project", "x-ai-gateway-project"):
                answer = await running.chat(token=token, headers=[(name, "chemistry")])
                assert (answer.status, answer.error["code"]) == (403, "unknown_project")
                assert answer.error["projects"] == ["physics-101", "staff"]
            assert (await running.chat(token=token, headers=[("OpenAI-Project", "staff")])).status == 200
            assert (
                await running.chat(token=token, headers=[("OpenAI-Project", "physics-101")])
            ).status == 200
            assert (await running.chat(token=token)).status == 429  # the course is the usual payer
            assert [row["charged_group"] for row in await rows(running)][-3:] == [
                "staff",
                "physics-101",
                None,
            ]


async def test_budgets_are_taken_up_after_a_restart(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        for _ in range(2):
            up.script(Reply.json({**chat_completion("Hi"), "usage": USAGE}))
        async with accounted(up, tmp_path) as running:
            await running.chat()
        async with accounted(up, tmp_path) as running:
            assert (await left(running))["tokens"] == 100_000 - 150
            await running.chat()
            assert (await left(running))["budget"] == float(5 - 2 * COST)
            total = (await running.ask("GET", "api/usage")).json["total"]
            assert (total["requests"], total["input_tokens"], total["cost_usd"]) == (2, 200, 0.0014)


async def test_a_reload_keeps_what_was_used(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        policies = [{"name": "one", "resource": "requests", "limit": 1, "window": "day"}]
        async with accounted(up, tmp_path, policies=policies) as running:
            assert (await running.chat()).status == 200
            policies[0]["limit"] = 2
            assert await running.service.reload()
            assert (await running.chat()).status == 200
            assert (await running.chat()).status == 429


async def test_the_ledger_has_no_content(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        async with accounted(up, tmp_path) as running:
            await running.chat("a canary in the prompt")
            await rows(running)
    for path in tmp_path.glob("l.sqlite*"):
        data = path.read_bytes()
        assert b"canary" not in data
        assert KEY.encode() not in data
        assert b"t-alice" not in data


async def test_requests_stop_while_nothing_can_be_written_down(
    tmp_path: Path, expected_log: ExpectedLog
) -> None:
    with FakeUpstream(key=KEY) as up:
        async with accounted(up, tmp_path) as running:
            books = running.service.books
            assert books.ledger is not None
            books.ledger._away_since = (
                books.ledger._clock() - 7200
            )  # as a database away for two hours has it
            answer = await running.chat()
            assert (answer.status, answer.error["code"]) == (503, "ledger_unavailable")
            assert "retry-after" in answer.headers
            books.ledger._away_since = None


async def test_json_amounts_are_exact(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        up.script(
            Reply.json({**chat_completion("Hi"), "usage": {"prompt_tokens": 1, "completion_tokens": 0}})
        )
        async with accounted(up, tmp_path, [{**chat(up), "price": {"input_per_mtok": 0.001}}]) as running:
            await running.chat()
            answer = await running.ask("GET", "api/usage")
            found = json.loads(answer.body, parse_float=Decimal)
            assert found["total"]["cost_usd"] == Decimal("1E-9")


async def test_metrics_tell_what_was_spent_and_what_has_no_price(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        for _ in range(2):
            up.script(Reply.json({**chat_completion("Hi"), "usage": USAGE}))
        without = chat_completion("Hi")
        del without["usage"]
        up.script(Reply.json(without))
        bare = endpoint("bare", up)
        bare["model"]["name"] = "our-own-llama"
        async with accounted(up, tmp_path, [chat(up), bare], policies=[]) as running:
            await running.chat()
            await running.chat(model="bare")
            await running.chat(model="bare")
            await rows(running)
            text = running.service.metrics.render()[0].decode()
    space = "jupyterhub_ai_gateway"
    labels = 'endpoint="{}",model="{}",operation="chat",provider="openai"'
    mine, others = labels.format("chat", "gpt-4o-mini"), labels.format("bare", "our-own-llama")
    for line in (
        f"{space}_cost_usd_total{{{mine}}} 0.0007",
        f"{space}_requests_unpriced_total{{{mine}}} 0.0",
        f"{space}_requests_unpriced_total{{{others}}} 2.0",
        f"{space}_requests_without_usage_total{{{others}}} 1.0",
        f'{space}_ledger_requests_total{{result="written"}} 3.0',
        f"{space}_ledger_queued_requests 0.0",
        f"{space}_ledger_database_away 0.0",
    ):
        assert line in text, line


@every_way
async def test_every_answer_tells_where_the_time_went(way: str, tmp_path: Path) -> None:
    async with accounted(None, tmp_path, [endpoint("chat", None)], policies=[], **WAYS[way]) as running:
        for answer in (
            await running.chat(),
            await running.chat(stream=True),
            await running.chat(model="nope"),
            await running.chat(token=None),
            await running.ask("GET", "v1/models"),
            await running.ask("GET", "v1/nothing"),
            await running.ask("GET", "health"),
        ):
            assert "gateway;dur=" in answer.headers["server-timing"]


async def test_an_own_gpu_is_paid_by_the_second(tmp_path: Path) -> None:
    async with accounted(
        None, tmp_path, [{**endpoint("chat", None), "price": {"per_second": 3600}}], policies=[]
    ) as running:
        await running.chat()
        row = await only_row(running)
        assert row["cost_nanousd"] == pytest.approx(row["took_ms"] * 3600 * 1e6, rel=0.01)
