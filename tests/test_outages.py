"""Providers that fail in every way: what the caller sees, what was tried, what is kept, what is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fakes.cluster import NotPermitted, cluster
from fakes.upstream import FIN, RESET, STALL, FakeUpstream, Raw, Reply, chat_chunk, chat_completion, sse
from served import KEY, WAYS, Served, endpoint, served
from test_accounting import rows
from test_routing import ERROR_EVENT, QUICK, ROLE, chat, deployment

from jupyterhub_ai_gateway.gateway import attempt

JSON = [("Content-Type", "application/json")]
ANSWER = json.dumps(chat_completion("Hi")).encode()
CONTENT = sse(chat_chunk({"content": "one"}))
ERROR = {"error": {"message": "overloaded", "type": "server_error", "code": "busy"}}


def endless(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


class Row(NamedTuple):
    """What a provider does to a request, and what becomes of it.

    `status` and `code` are what the caller gets; with `is_cut` the code is in the stream's last event.
    """

    name: str
    script: Any
    status: int
    code: str
    is_cut: bool = False
    retry_after: str | None = None
    is_kept: bool = False
    """True where the connection may be used again."""


NEVER_LISTENS = object()
NOT_STREAMS = (
    "begins an answer and is silent",
    "tells an error in an answer that is well",
    "never ends",
)
PLAIN = [
    Row("refuses connections", NEVER_LISTENS, 502, "upstream_unreachable"),
    Row("resets", Raw.of(RESET), 502, "upstream_unreachable"),
    Row("closes without a word", Raw.of(FIN), 502, "upstream_unreachable"),
    Row("is silent", Raw.of(STALL), 504, "upstream_timeout"),
    Row(
        "begins an answer and is silent",
        Reply(headers=JSON, body=[b'{"id":', STALL]),
        504,
        "upstream_timeout",
    ),
    Row("is cut in the head", Reply.json(chat_completion("Hi")).cut(20), 502, "upstream_broken"),
    Row("is cut in the middle", Reply.json(chat_completion("Hi")).cut(150), 502, "upstream_broken"),
    Row(
        "is reset in the middle", Reply.json(chat_completion("Hi")).cut(150, RESET), 502, "upstream_broken"
    ),
    Row("is no HTTP", Raw.of(b"SSH-2.0-OpenSSH\r\n\r\n", FIN), 502, "upstream_broken"),
    Row(
        "has no requests left, and says when",
        Reply.error(429, "Slow down.", headers=[("Retry-After", "7")]),
        *(429, "upstream_rate_limited", False, "7", True),
    ),
    Row("has no requests left", Reply.error(429, "Slow down."), 429, "upstream_rate_limited", is_kept=True),
    Row("fails", Reply.error(500, "Oops"), 500, "upstream_error", is_kept=True),
    Row(
        "is overloaded",
        Reply.error(503, "Busy", headers=[("Retry-After", "9")]),
        503,
        "upstream_overloaded",
        False,
        "9",
        True,
    ),
    Row("refuses the key", Reply.error(401, "Bad key"), 502, "upstream_auth_error", is_kept=True),
    Row("tells an error in an answer that is well", Reply.json(ERROR), 500, "busy", is_kept=True),
    Row(
        "sends a page",
        Reply(headers=[("Content-Type", "text/html")], body=b"<html>"),
        502,
        "upstream_broken",
        is_kept=True,
    ),
    Row("never ends", Reply(headers=JSON, body=endless(b"x" * 60_000)), 502, "upstream_broken"),
    Row(
        "announces too much",
        Reply(headers=[*JSON, ("Content-Length", "99999999999")], framing="none"),
        502,
        "upstream_broken",
    ),
    Row("never ends its refusal", Reply(500, JSON, body=endless(b"x" * 60_000)), 500, "upstream_error"),
]
STREAMS = [
    *(row for row in PLAIN if row.name not in NOT_STREAMS),
    Row(
        "tells an error at once",
        Reply.stream(ERROR_EVENT, b"data: [DONE]\n\n"),
        200,
        "busy",
        True,
        None,
        True,
    ),
    Row("is cut before content", Reply.stream(*ROLE, FIN), 200, "upstream_broken", is_cut=True),
    Row("is cut after content", Reply.stream(*ROLE, *CONTENT, FIN), 200, "upstream_broken", is_cut=True),
    Row(
        "is reset after content", Reply.stream(*ROLE, *CONTENT, RESET), 200, "upstream_broken", is_cut=True
    ),
    Row(
        "is silent after content",
        Reply.stream(*ROLE, *CONTENT, STALL),
        200,
        "upstream_timeout",
        is_cut=True,
    ),
    Row(
        "ends without its end",
        Reply.stream(*ROLE, *CONTENT),
        200,
        "upstream_broken",
        is_cut=True,
        is_kept=True,
    ),
    Row("tells an error after content", Reply.stream(*CONTENT, ERROR_EVENT), 200, "busy", True, None, True),
    Row(
        "answers a stream with JSON", Reply(headers=JSON, body=ANSWER), 502, "upstream_broken", is_kept=True
    ),
]
CASES = [
    pytest.param(row, is_stream, id=f"{'stream' if is_stream else 'plain'}: {row.name}")
    for is_stream, table in ((False, PLAIN), (True, STREAMS))
    for row in table
]


def prepare(up: FakeUpstream, row: Row) -> None:
    if row.script is NEVER_LISTENS:
        up.stop_listening()
    else:
        up.always(row.script)


async def nothing_is_left(running: Served, *ups: FakeUpstream, most: int) -> None:
    """Wait until no connection is open but those that may be used again; nothing runs, nothing is held."""
    while max(running.service.client.open_connections, sum(up.open_connections for up in ups)) > most:
        await asyncio.sleep(0)
    counters: Any = running.service.books.counters
    assert counters.open_reservations == 0
    for each in running.service.gateway.catalogue.all:
        for own in each.deployments:
            assert own.health.in_flight == 0
            assert [cell.in_flight for cell in own.cells.values()] == [0] * len(own.cells)


@pytest.mark.parametrize("way", ["fast", "stock"])
@pytest.mark.parametrize(("row", "is_stream"), CASES)
async def test_what_the_caller_sees_and_what_is_left(
    way: str, row: Row, is_stream: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected_log: Any
) -> None:
    monkeypatch.setattr(attempt, "MAX_ANSWER_BYTES", 200_000)
    with FakeUpstream(key=KEY) as up:
        prepare(up, row)
        ledger = {"url": f"sqlite:///{tmp_path}/l.sqlite", "flush_s": 0.01}
        config = {"ledger": ledger, "policies": [{"resource": "concurrency", "limit": 100}]}
        own = endpoint("chat", up, timeouts=QUICK)
        async with served(None, [own], config=config, **WAYS[way]) as running:
            answer = await running.chat(stream=is_stream)
            assert answer.status == row.status
            if row.is_cut:
                assert f'"code":"{row.code}"'.encode() in answer.body.replace(b'": "', b'":"')
                assert answer.body.count(b'"error"') == 1
            elif row.name == "is cut in the head" and way == "stock":
                assert answer.error["code"] == "upstream_unreachable"  # aiohttp does not tell the two apart
            else:
                assert answer.error["code"] == row.code
                assert answer.headers.get("retry-after") == row.retry_after
            (found,) = await rows(running)
            assert (found["status"], found["attempts"]) == (row.status, 1)
            assert found["outcome"] != "ok"
            assert (found["cost_nanousd"] is None) == (not row.is_cut or found["output_tokens"] is None)
            await nothing_is_left(running, up, most=1 if row.is_kept else 0)
    expected_log._recorder.lines.clear()  # a line of WARNING for each that is the provider's own


IN_ONE_PIECE = "tells an error after content"
"""When both arrive at once, another deployment can still take over."""


@pytest.mark.parametrize("way", ["fast", "stock"])
@pytest.mark.parametrize(("row", "is_stream"), [each for each in CASES if IN_ONE_PIECE not in str(each.id)])
async def test_another_deployment_serves_what_can_still_be_served(
    way: str, row: Row, is_stream: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected_log: Any
) -> None:
    monkeypatch.setattr(attempt, "MAX_ANSWER_BYTES", 200_000)
    has_content = "after content" in row.name or row.name == "ends without its end"
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        prepare(a, row)
        ledger = {"url": f"sqlite:///{tmp_path}/l.sqlite", "flush_s": 0.01}
        config = {"ledger": ledger, "policies": [{"resource": "concurrency", "limit": 100}]}
        places = [deployment("a", a), deployment("b", b, priority=2)]
        own = chat(*places, timeouts=QUICK)
        async with served(None, [own], config=config, **WAYS[way]) as running:
            for number in range(3):  # 500s in a row: who failed rests, and is not asked again
                answer = await running.chat(stream=is_stream)
                assert answer.status == 200
                if has_content and number == 0:
                    assert b'"error"' in answer.body
                else:
                    assert b'"error"' not in answer.body
            first, *others = await rows(running)
            if has_content:
                assert (first["attempts"], len(first["tries"])) == (1, 1)
            else:
                assert [each["outcome"] == "ok" for each in first["tries"]] == [False, True]
                assert [each["attempts"] for each in others] == [1, 1]
            await nothing_is_left(running, a, b, most=2 if row.is_kept else 1)
    expected_log._recorder.lines.clear()


async def test_a_whole_cluster_vanishes_and_comes_back(tmp_path: Path) -> None:
    """Its packets are lost, not refused. What it was answering, and all that comes, is served elsewhere."""
    try:
        started = cluster(KEY)
        place = started.__enter__()
    except NotPermitted as reason:
        pytest.skip(str(reason))
    try:
        with FakeUpstream(key=KEY) as rented:
            timeouts = {"connect_s": 0.3, "first_byte_s": 0.5, "idle_s": 0.5}
            places = [deployment(name, rented) for name in ("gpu1", "gpu2", "rented")]
            for own, url in zip(places, place.urls, strict=False):
                own["model"]["config"] = {**own["model"]["config"], "openai_api_base": f"{url}/v1"}
            places[2]["priority"] = 2
            ledger = {"url": f"sqlite:///{tmp_path}/l.sqlite", "flush_s": 0.01}
            async with served(
                None, [chat(*places, timeouts=timeouts)], config={"ledger": ledger}
            ) as running:

                async def ask(count: int) -> set[str]:
                    answers = await asyncio.gather(
                        *(running.chat(stream=bool(n % 2)) for n in range(count))
                    )
                    assert {each.status for each in answers} == {200}
                    assert all(b'"error"' not in each.body for each in answers)
                    return {each.headers["x-ai-gateway-deployment"] for each in answers}

                assert await ask(20) <= {"gpu1", "gpu2"}
                place.vanish()
                assert await ask(20) == {"rented"}  # over connections that were open, and new ones
                assert await ask(5) == {"rented"}
                place.come_back()
                while await ask(2) == {"rented"}:
                    await asyncio.sleep(0.05)
                found = await rows(running)
                assert {each["outcome"] for each in found} == {"ok"}
                for own in running.service.gateway.catalogue._endpoints["chat"].deployments:
                    assert own.health.in_flight == 0
    finally:
        started.__exit__(None, None, None)
