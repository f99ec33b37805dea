"""Slots of one's own machines: requests wait instead of failing, in turn, and leave no trace."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from fakes.hub import ACCESS
from fakes.hub_thread import hub_in_thread
from fakes.upstream import FakeUpstream, Gate, Reply, chat_chunk, chat_completion, happened, sse
from served import FULL, KEY, WAYS, Served, endpoint, served
from test_accounting import rows
from test_gateway import POSTS, post
from test_routing import chat, deployment
from test_shared import gateways

from jupyterhub_ai_gateway.config import parse
from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.providers.registry import Providers

every_way = pytest.mark.parametrize("way", WAYS)
ANSWER = json.dumps(chat_completion("Hi")).encode()
JSON = [("Content-Type", "application/json")]


def held(gate: Gate) -> Reply:
    """Answer once the gate is open."""
    return Reply(headers=JSON, body=ANSWER, before=[gate])


@asynccontextmanager
async def pooled(
    up: FakeUpstream, folder: Path, *, options: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[Served]:
    """Run a gateway with a single slot."""
    pool = {"name": "gpus", "slots": 1, **more}
    ledger = {"url": f"sqlite:///{folder}/l.sqlite", "flush_s": 0.01}
    config = {"pools": [pool], "ledger": ledger}
    async with served(
        None, [endpoint("chat", up, pool="gpus")], config=config, **(options or {})
    ) as running:
        yield running


async def waiting(running: Served, count: int) -> None:
    """Wait until so many requests wait for a slot."""
    pool = running.service.pools.get("gpus")
    assert pool is not None
    while pool.fair.waiting != count:
        await asyncio.sleep(0)


def idle(running: Served) -> bool:
    pool = running.service.pools.get("gpus")
    assert pool is not None
    return (pool.fair.in_use, pool.fair.waiting, pool._waking) == (0, 0, {})


@every_way
async def test_a_request_waits_for_a_slot_and_says_how_long(way: str, tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(held(gate))
        async with pooled(up, tmp_path, options=WAYS[way]) as running:
            first = asyncio.create_task(running.chat())
            await happened(gate.reached)
            second = asyncio.create_task(running.chat())
            await waiting(running, 1)
            assert len(up.requests) == 1
            gate.set()
            one, two = await asyncio.gather(first, second)
            assert (one.status, two.status) == (200, 200)
            queue_ms = [
                float(re.findall(r"queue;dur=([0-9.]+)", each.headers["server-timing"])[0])
                for each in (one, two)
            ]
            assert queue_ms[0] < queue_ms[1]
            found = await rows(running)
            assert sorted(row["wait_ms"] > 0.9 * queue_ms[1] for row in found) == [False, True]
            assert idle(running)
            text = running.service.metrics.render()[0].decode()
    space = "jupyterhub_ai_gateway_pool"
    assert f'{space}_waits_total{{pool="gpus"}} 1.0' in text
    assert f'{space}_slots{{pool="gpus"}} 1.0' in text
    assert f'{space}_slots_in_use{{pool="gpus"}} 0.0' in text


@every_way
async def test_a_stream_that_waits_hears_comments(way: str, tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(held(gate))
        async with pooled(up, tmp_path, options={"keepalive_s": 0.02, **WAYS[way]}) as running:
            first = asyncio.create_task(running.chat())
            await happened(gate.reached)
            reader, writer = await asyncio.open_connection("127.0.0.1", running.service.port)
            writer.write(post({**POSTS["chat"][1], "stream": True}, "v1/chat/completions"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"200 OK" in head
            for _ in range(3):
                await reader.readuntil(b": keep-alive")
            assert len(up.requests) == 1
            gate.set()
            await reader.readuntil(b"[DONE]")
            writer.close()
            assert (await first).status == 200


@every_way
async def test_who_waits_too_long_is_told_its_place(way: str, tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(held(gate))
        bounds = {"wait_s": 0.05, "stream_wait_s": 0.05}
        async with pooled(up, tmp_path, options=WAYS[way], **bounds) as running:
            first = asyncio.create_task(running.chat())
            await happened(gate.reached)
            for is_stream in (False, True):
                answer = await running.chat(stream=is_stream)
                assert (answer.status, answer.error["code"]) == (503, "queue_timeout")
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.error["queue"] == {"place": 1, "length": 1}
            gate.set()
            assert (await first).status == 200
            assert len(up.requests) == 1
            found = await rows(running)
            assert Counter(row["outcome"] for row in found) == {"ok": 1, "queue_timeout": 2}
            assert [row["attempts"] for row in found if row["outcome"] != "ok"] == [0, 0]
            assert idle(running)


async def test_a_stream_that_has_begun_to_wait_ends_with_an_error(tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(held(gate))
        async with pooled(up, tmp_path, options={"keepalive_s": 0.02}, stream_wait_s=0.2) as running:
            first = asyncio.create_task(running.chat())
            await happened(gate.reached)
            answer = await running.chat(stream=True)
            assert answer.status == 200
            assert b'"queue_timeout"' in answer.body
            assert b"[DONE]" not in answer.body
            gate.set()
            await first


@every_way
async def test_whoever_hangs_up_waits_no_longer(way: str, tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(held(gate))
        async with pooled(up, tmp_path, options=WAYS[way]) as running:
            first = asyncio.create_task(running.chat())
            await happened(gate.reached)
            _, writer = await asyncio.open_connection("127.0.0.1", running.service.port)
            writer.write(post(POSTS["chat"][1], "v1/chat/completions"))
            await waiting(running, 1)
            writer.close()
            await waiting(running, 0)
            gate.set()
            assert (await first).status == 200
            found = await rows(running)
            assert sorted((row["outcome"], row["attempts"]) for row in found) == [
                ("caller_left", 0),
                ("ok", 1),
            ]
            assert len(up.requests) == 1
            assert idle(running)


async def test_a_full_queue_refuses_the_newest_of_who_has_most(tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(held(gate))
        async with pooled(up, tmp_path, queue=2) as running:
            bob = running.knows("t-bob", ACCESS, FULL, name="bob")
            first = asyncio.create_task(running.chat())
            await happened(gate.reached)
            mine = [asyncio.create_task(running.chat())]
            await waiting(running, 1)
            mine.append(asyncio.create_task(running.chat()))
            await waiting(running, 2)
            other = asyncio.create_task(running.chat(token=bob))
            answer = await mine[1]
            assert (answer.status, answer.error["code"]) == (503, "queue_full")
            assert answer.error["queue"]["place"] == 3
            gate.set()
            answers = await asyncio.gather(first, mine[0], other)
            assert [each.status for each in answers] == [200, 200, 200]
            assert idle(running)


async def test_who_had_less_is_served_first(tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        usage = {"prompt_tokens": 5000, "completion_tokens": 5000}
        up.script(Reply.json({**chat_completion("Hi"), "usage": usage}), held(gate))
        async with pooled(up, tmp_path) as running:
            bob = running.knows("t-bob", ACCESS, FULL, name="bob")
            await running.chat()
            first = asyncio.create_task(running.chat())
            await happened(gate.reached)
            alice = asyncio.create_task(running.chat("from alice"))
            await waiting(running, 1)
            other = asyncio.create_task(running.chat("from bob", token=bob))
            await waiting(running, 2)
            gate.set()
            await asyncio.gather(first, alice, other)
            assert [each.document["messages"][0]["content"] for each in up.requests[2:]] == [
                "from bob",
                "from alice",
            ]


async def test_batch_requests_wait_for_those_of_people(tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(held(gate))
        async with pooled(up, tmp_path) as running:
            bob = running.knows("t-bob", ACCESS, FULL, name="bob")
            first = asyncio.create_task(running.chat())
            await happened(gate.reached)
            batch = [("x-ai-gateway-priority", "batch")]
            night = asyncio.create_task(running.chat("at night", headers=batch, token=bob))
            await waiting(running, 1)
            person = asyncio.create_task(running.chat("a person's"))
            await waiting(running, 2)
            gate.set()
            await asyncio.gather(first, night, person)
            asked = [each.document["messages"][0]["content"] for each in up.requests[1:]]
            assert asked == ["a person's", "at night"]


async def test_a_reload_changes_weights_of_those_who_wait(tmp_path: Path) -> None:
    gate = Gate()
    file = tmp_path / "config.yaml"

    def write(**groups: int) -> None:
        pool = {"name": "gpus", "slots": 1, "groups": groups}
        own = endpoint("chat", up, pool="gpus")
        file.write_text(json.dumps({"endpoints": [own], "pools": [pool], "ledger": False}))

    with FakeUpstream(key=KEY) as up:
        usage = {"prompt_tokens": 500, "completion_tokens": 500}
        answer = Reply.json({**chat_completion("Hi"), "usage": usage})
        up.script(answer, answer, held(gate))
        write(a=1, b=1)
        async with served(file=file) as running:
            for name in ("a", "b"):
                token = running.knows(f"t-{name}", ACCESS, FULL, name=name, groups=(name,))
                await running.chat(token=token)
            first = asyncio.create_task(running.chat())
            await happened(gate.reached)
            one = asyncio.create_task(running.chat("from a", token="t-a"))
            await waiting(running, 1)
            other = asyncio.create_task(running.chat("from b", token="t-b"))
            await waiting(running, 2)
            write(a=1, b=5)  # with the old ones a would be next, as what it had is older
            await running.service.reload()
            gate.set()
            await asyncio.gather(first, one, other)
            asked = [each.document["messages"][0]["content"] for each in up.requests[3:]]
            assert asked == ["from b", "from a"]


async def test_nobody_waits_beside_a_free_slot(tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b, FakeUpstream(key=KEY) as c:
        a.script(held(gate))
        b.script(held(gate))
        places = [
            deployment("a", a, pool="one", weight=1),
            deployment("b", b, pool="two", weight=1),
            deployment("c", c, priority=2),
        ]
        pools = [{"name": name, "slots": 1, "wait_s": 0.05} for name in ("one", "two")]
        async with served(None, [chat(*places)], config={"pools": pools}) as running:
            tasks = [asyncio.create_task(running.chat()) for _ in range(2)]
            await happened(gate.reached)
            while len(a.requests) + len(b.requests) < 2:
                await asyncio.sleep(0)
            assert (len(a.requests), len(b.requests)) == (1, 1)
            third = await running.chat()  # when both are full and time is up, the next tier
            assert (third.status, third.headers["x-ai-gateway-deployment"]) == (200, "c")
            gate.set()
            assert [each.status for each in await asyncio.gather(*tasks)] == [200, 200]


async def test_a_failure_gives_its_slot_back(tmp_path: Path, expected_log: Any) -> None:
    with FakeUpstream(key=KEY) as up:
        up.script(Reply.error(500, "Oops"), Reply.stream(*sse(chat_chunk({"content": "x"}))))
        async with pooled(up, tmp_path) as running:
            assert (await running.chat()).status == 500
            await running.chat(stream=True)
            assert (await running.chat()).status == 200
            assert idle(running)
    expected_log.take("upstream_error")
    expected_log.take("upstream_broken")


async def test_staff_see_who_has_what_and_a_wrong_priority_is_refused(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        async with pooled(up, tmp_path, groups={"physics": 3}) as running:
            token = running.knows("t-p", ACCESS, FULL, name="paul", groups=("physics",))
            await running.chat(token=token)
            await running.chat(headers=[("x-session-id", "one"), ("x-ai-gateway-priority", "batch")])
            answer = await running.chat(headers=[("x-ai-gateway-priority", "first")])
            assert (answer.status, answer.error["param"]) == (400, "x-ai-gateway-priority")
            root = running.knows("t-root", ACCESS, "custom:ai-gateway:admin", name="root")
            assert (await running.ask("GET", "api/pools")).status == 403
            (found,) = (await running.ask("GET", "api/pools", token=root)).json["pools"]
            assert (found["pool"], found["slots"], found["in_use"], found["waiting"]) == ("gpus", 1, 0, 0)
            shares = {each["group"]: each for each in found["shares"] if each["user"] is None}
            assert (shares["physics"]["weight"], shares[""]["weight"]) == (3.0, 1.0)
            assert shares["physics"]["used_tokens"] > 0


async def test_a_reload_changes_slots_and_lets_those_go_whose_pool_is_gone(tmp_path: Path) -> None:
    gate = Gate()
    file = tmp_path / "config.yaml"

    def write(**more: Any) -> None:
        own = endpoint("chat", up, **({"pool": "gpus"} if more else {}))
        pools = [{"name": "gpus", **more}] if more else []
        file.write_text(json.dumps({"endpoints": [own], "pools": pools, "ledger": False}))

    with FakeUpstream(key=KEY) as up:
        up.always(held(gate))
        write(slots=1)
        async with served(file=file) as running:
            tasks = [asyncio.create_task(running.chat()) for _ in range(4)]
            await waiting(running, 3)
            write(slots=2)
            await running.service.reload()
            await waiting(running, 2)
            write()
            await running.service.reload()
            while len(up.requests) < 4:
                await asyncio.sleep(0)
            gate.set()
            assert [each.status for each in await asyncio.gather(*tasks)] == [200] * 4


def test_what_is_wrong_is_named() -> None:
    own = {**endpoint("chat", None), "pool": "gpu"}
    pools: list[Any] = [
        {"name": "gpus", "slots": 0},
        {"name": "gpus", "slots": 4, "most_slots": 2, "groups": {"a": 0}, "wait_s": "long"},
        {"name": "x y", "groups": ["a"], "extra": 1},
    ]
    with pytest.raises(ConfigFault) as caught:
        parse({"endpoints": [own], "pools": pools}, Providers.installed().schemas, {})
    text = str(caught.value)
    for path in (
        "endpoints[0].pool: 'gpu' is none of pools; did you mean gpus?",
        "pools[0].slots",
        "pools[1].name",
        "pools[1].most_slots",
        "pools[1].groups",
        "pools[1].wait_s",
        "pools[2].name",
        "pools[2].slots: is required",
        "pools[2].groups",
        "pools[2].extra",
    ):
        assert path in text


def test_a_real_gateway_shares_its_slots(tmp_path: Path) -> None:
    """A flood of one user's and single requests of others', through a process of its own."""
    known = {"bob": (ACCESS, FULL), "metrics": ("read:metrics",)}
    with FakeUpstream(key=KEY) as up, hub_in_thread(**known) as api_url:
        own = endpoint("chat", up, pool="gpus")
        config = {"endpoints": [own], "pools": [{"name": "gpus", "slots": 2}], "ledger": False}
        with gateways(1, tmp_path, api_url, config) as (gateway,), ThreadPoolExecutor(60) as threads:

            def ask(token: str) -> requests.Response:
                body = {"model": "chat", "messages": [{"role": "user", "content": token}]}
                headers = {"Authorization": f"Bearer {token}"}
                return requests.post(
                    f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=30
                )

            opened = Gate()
            up.script(held(opened), held(opened))
            flood = [threads.submit(ask, "t-alice") for _ in range(40)]
            assert opened.reached.wait(10)
            while _metric(gateway.url, "waiting_requests") < 38:
                pass
            others = [threads.submit(ask, "t-bob") for _ in range(3)]
            while _metric(gateway.url, "waiting_requests") < 41:
                pass
            opened.set()
            assert {each.result().status_code for each in (*flood, *others)} == {200}
            order = [each.document["messages"][0]["content"] for each in up.requests]
            assert max(index for index, token in enumerate(order) if token == "t-bob") < 12
            assert _metric(gateway.url, "slots_in_use") == 0
            gateway.stop()


def _metric(url: str, name: str) -> float:
    text = requests.get(f"{url}/metrics", headers={"Authorization": "Bearer t-metrics"}, timeout=5).text
    (value,) = re.findall(rf'_pool_{name}{{pool="gpus"}} ([0-9.]+)', text)
    return float(value)
