"""How long a request may take as a whole: attempts, pauses, waits for a slot, and its answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from clouds import Cloud, chat_answer
from expected import ExpectedLog
from fakes.tokens import Tokens
from fakes.upstream import STALL, FakeUpstream, Gate, Raw, Reply, chat_chunk, chat_completion, sse
from served import KEY, WAYS, endpoint, served
from test_accounting import rows
from test_azure import azure, ways_of
from test_outages import nothing_is_left
from test_routing import ROLE, chat, deployment

from jupyterhub_ai_gateway.config import parse
from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.providers.registry import Providers

both_clients = pytest.mark.parametrize("way", ["fast", "stock"])


def books(folder: Path) -> dict[str, Any]:
    return {"ledger": {"url": f"sqlite:///{folder}/l.sqlite", "flush_s": 0.01}}


def busy(**headers: str) -> Reply:
    return Reply.error(
        503, "Busy", headers=[(name.replace("_", "-"), text) for name, text in headers.items()]
    )


@both_clients
@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_attempt_is_cut_to_what_is_left_and_that_is_no_failure_of_the_deployment(
    way: str, is_stream: bool, tmp_path: Path, expected_log: ExpectedLog
) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        a.script(busy())
        b.script(Raw.of(STALL))
        places = [deployment("a", a), deployment("b", b, priority=2)]
        own = chat(*places, deadline_s=0.5, retries=3)
        async with served(None, [own], config=books(tmp_path), **WAYS[way]) as running:
            answer = await running.chat(stream=is_stream)
            assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")
            assert answer.error["tried"] == [
                {"deployment": "a", "status": 503, "code": "upstream_overloaded"},
                {"deployment": "b", "status": 504, "code": "deadline_exceeded"},
            ]
            assert int(answer.headers["retry-after"]) >= 1
            assert "0.5 seconds" in answer.error["message"]
            (row,) = await rows(running)
            assert (row["outcome"], row["attempts"], row["deployment"]) == ("deadline_exceeded", 2, "b")
            assert row["took_ms"] >= 500
            first, second = running.service.gateway.catalogue.all[0].deployments
            assert (first.health.total_failures, second.health.total_failures) == (1, 0)
            await nothing_is_left(running, b, most=1)
    expected_log.take("deadline_exceeded")


@both_clients
async def test_an_answer_that_goes_on_for_too_long_ends_with_an_error(
    way: str, tmp_path: Path, expected_log: ExpectedLog
) -> None:
    with FakeUpstream(key=KEY) as up:
        up.script(Reply.stream(*ROLE, *sse(chat_chunk({"content": "one"})), STALL))
        own = endpoint("chat", up, deadline_s=0.5)
        async with served(None, [own], config=books(tmp_path), **WAYS[way]) as running:
            answer = await running.chat(stream=True)
            assert answer.status == 200
            assert b"one" in answer.body
            assert answer.body.count(b"deadline_exceeded") >= 1
            assert b"[DONE]" not in answer.body
            (row,) = await rows(running)
            assert row["outcome"] == "deadline_exceeded"
            await nothing_is_left(running, up, most=0)
    expected_log.take("deadline_exceeded")


@both_clients
async def test_a_retry_waits_for_as_long_as_the_provider_asks(way: str, tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        up.script(busy(retry_after_ms="400"), busy(retry_after_ms="300"))
        own = endpoint("chat", up, retries=2, deadline_s=60)
        async with served(None, [own], config=books(tmp_path), **WAYS[way]) as running:
            answer = await running.chat()
            assert (answer.status, answer.headers["x-ai-gateway-attempts"]) == (200, "3")
            (row,) = await rows(running)
            first, second, third = (each["at_ms"] + each["took_ms"] for each in row["tries"])
            begun = [each["at_ms"] for each in row["tries"]]
            assert begun[1] - first >= 398  # a millisecond is lost on either side
            assert begun[2] - second >= 298
            assert third >= second


async def test_who_did_not_ask_is_tried_again_before_who_did(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        a.script(busy(Retry_After="600"))
        b.script(busy())
        places = [deployment("a", a), deployment("b", b, priority=2)]
        async with served(None, [chat(*places, retries=1)], config=books(tmp_path)) as running:
            answer = await running.chat()
            assert (answer.status, answer.headers["x-ai-gateway-deployment"]) == (200, "b")
            assert (len(a.requests), len(b.requests)) == (1, 2)


@pytest.mark.parametrize(("deadline_s", "asks_s"), [(5, "6"), (None, "61")])
async def test_what_cannot_end_in_time_is_not_begun(
    deadline_s: float | None, asks_s: str, tmp_path: Path, expected_log: ExpectedLog
) -> None:
    with FakeUpstream(key=KEY) as up:
        up.script(busy(Retry_After=asks_s))
        own = endpoint("chat", up, retries=5, deadline_s=deadline_s)
        async with served(None, [own], config=books(tmp_path)) as running:
            answer = await running.chat()
            assert (answer.status, answer.headers["retry-after"]) == (503, asks_s)
            (tried,) = answer.error["tried"]
            assert tried == {"deployment": "1", "status": 503, "code": "upstream_overloaded"}
            (row,) = await rows(running)
            assert (row["attempts"], row["status"]) == (1, 503)
            assert [each["deployment"] for each in row["tries"]] == ["1"]
    expected_log.take("upstream_overloaded")


async def test_the_wait_for_a_slot_counts(tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(Reply.json(chat_completion("Hi"), before=[gate]))
        pools = [{"name": "gpus", "slots": 1}]
        fields = {"pool": "gpus", "deadline_s": 0.4}
        slow, own = endpoint("slow", up, pool="gpus"), endpoint("chat", up, **fields)
        config = {**books(tmp_path), "pools": pools}
        async with served(None, [slow, own], config=config) as running:
            holds = asyncio.ensure_future(running.chat(model="slow"))
            await asyncio.to_thread(gate.reached.wait, 10)
            answer = await running.chat()
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert len(up.requests) == 1
            gate.set()
            assert (await holds).status == 200
            (row,) = [each for each in await rows(running) if each["endpoint"] == "chat"]
            assert row["wait_ms"] < 30_000  # a pool's own limit is a minute


@both_clients
async def test_the_wait_for_a_provider_s_token_counts(
    way: str, tmp_path: Path, expected_log: ExpectedLog
) -> None:
    with FakeUpstream(is_strict=False) as up:
        up.script(Raw.of(STALL))
        up.always(Cloud(Tokens(), chat_answer))
        own = {**azure(up, **ways_of(up, tmp_path)["machine"]), "deadline_s": 0.4}
        async with served(None, [own], config=books(tmp_path), **WAYS[way]) as running:
            answer = await running.chat()
            assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")
            assert [request.path for request in up.requests] == ["/metadata/identity/oauth2/token"]
            (row,) = await rows(running)
            assert row["took_ms"] < 20_000  # a token's own limit is half a minute
            assert (await running.chat()).status == 200
    expected_log.take("deadline_exceeded")


async def test_without_a_deadline_only_the_timeouts_count(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        async with served(None, [endpoint("chat", up)], config={"deadline_s": 0.1}) as running:
            assert running.service.gateway.catalogue.all[0].deadline_s == 0.1
        own = endpoint("chat", up, deadline_s=None)
        async with served(None, [own], config={"deadline_s": 0.1}) as running:
            assert running.service.gateway.catalogue.all[0].deadline_s is None


@pytest.mark.parametrize("wrong", [0, -1, True, "long", 1e9, float("nan")])
def test_a_wrong_deadline_is_named(wrong: Any) -> None:
    own = {**endpoint("chat", None), "deadline_s": wrong}
    with pytest.raises(ConfigFault, match=r"endpoints\[0\].deadline_s: must be a number from 0.1 to 86400"):
        parse({"endpoints": [own]}, Providers.installed().schemas, {})
