"""One pool over several real gateways on one Redis: as many requests as it has slots, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import databases
import pytest
import requests
from databases import Redis, free_port
from fakes.hub import ACCESS
from fakes.hub_thread import hub_in_thread
from fakes.upstream import FakeUpstream, Gate, Reply, Request, chat_completion, happened
from served import FULL, KEY, WAYS, Served, endpoint, served
from test_cli import gateway
from test_gateway import POSTS, post
from test_shared import Process, gateways

ANSWER = json.dumps(chat_completion("Hi")).encode()
JSON = [("Content-Type", "application/json")]
METRICS = {"Authorization": "Bearer t-metrics"}
every_way = pytest.mark.parametrize("way", WAYS)


class Gpus:
    """What a model's server does: works on each request for `hold_s`, and knows how many there are.

    While `is_held` nothing ends. `most` is the most that there have been at a time.
    """

    def __init__(self, up: FakeUpstream, hold_s: float = 0.01) -> None:
        self.hold_s, self.is_held = hold_s, False
        self.running = self.most = 0
        self.order: list[str] = []
        self._gates: list[tuple[float, Gate]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        up.always(self._begin)

    def _begin(self, request: Request) -> Reply:
        gate = Gate()
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.order.append(request.document["messages"][0]["content"])
            self._gates.append((time.monotonic() + self.hold_s, gate))
        return Reply(headers=JSON, body=ANSWER, before=[gate])

    def _work(self) -> None:
        while not self._ended.wait(0.002):
            if not self.is_held:
                self._end(time.monotonic())

    def _end(self, now: float) -> None:
        with self._lock:
            over = [each for each in self._gates if each[0] <= now]
            self._gates = [each for each in self._gates if each[0] > now]
            self.running -= len(over)  # before the gateway hears of it, and so before the next one comes
        for _, gate in over:
            gate.set()

    @classmethod
    @contextlib.contextmanager
    def of(cls, up: FakeUpstream, **more: Any) -> Iterator[Gpus]:
        gpus = cls(up, **more)
        thread = threading.Thread(target=gpus._work)
        thread.start()
        try:
            yield gpus
        finally:
            gpus._ended.set()
            thread.join()
            gpus._end(float("inf"))


class Callers:
    """Many callers, each on a connection of its own."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def ask(self, url: str, user: str) -> int:
        body = {"model": "chat", "messages": [{"role": "user", "content": user}]}
        headers = {"Authorization": f"Bearer t-{user}"}
        async with self._session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
            await answer.read()
            return answer.status

    async def metric(self, url: str, name: str) -> float:
        async with self._session.get(f"{url}/metrics", headers=METRICS) as answer:
            return _value(await answer.text(), name)

    async def until(self, url: str, name: str, value: float) -> None:
        while await self.metric(url, name) != value:
            await asyncio.sleep(0.02)


def _value(text: str, name: str) -> float:
    (value,) = re.findall(rf'_pool_{name}{{pool="gpus"}} ([0-9.]+)', text)
    return float(value)


@asynccontextmanager
async def callers() -> AsyncIterator[Callers]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=100)
    ) as session:
        yield Callers(session)


def configuration(up: FakeUpstream, redis: str, **more: Any) -> dict[str, Any]:
    own = endpoint("chat", up, pool="gpus")
    pool = {"name": "gpus", "slots": 4, **more}
    return {"endpoints": [own], "pools": [pool], "store": {"url": redis, "timeout_s": 1}, "ledger": False}


def known(*names: str) -> dict[str, tuple[str, ...]]:
    return {"metrics": ("read:metrics",), **dict.fromkeys(names, (ACCESS, FULL))}


def test_a_class_of_three_hundred_and_one_users_loop_at_three_gateways(
    redis_server: Redis, tmp_path: Path
) -> None:
    students = [f"s{number}" for number in range(300)]

    async def work(urls: list[str], gpus: Gpus) -> tuple[Counter[int], Counter[int]]:
        gpus.is_held = True
        over = asyncio.Event()

        async def loop(url: str) -> list[int]:
            statuses = []
            while not over.is_set():
                statuses.append(await ask.ask(url, "alice"))
            return statuses

        async with callers() as ask:
            loops = [asyncio.ensure_future(loop(urls[number % 3])) for number in range(60)]
            await ask.until(urls[0], "all_waiting_requests", 56)
            asked = [
                asyncio.ensure_future(ask.ask(urls[number % 3], name))
                for number, name in enumerate(students)
            ]
            await ask.until(urls[1], "all_waiting_requests", 356)
            assert await ask.metric(urls[2], "slots_in_use") <= 4 == await ask.metric(urls[2], "slots")
            gpus.is_held = False
            served = Counter(await asyncio.gather(*asked))
            over.set()
            looped = Counter(status for each in await asyncio.gather(*loops) for status in each)
            await ask.until(urls[0], "all_slots_in_use", 0)
            return served, looped

    with FakeUpstream(key=KEY) as up, Gpus.of(up) as gpus, hub_in_thread(**known(*students)) as api_url:
        config = configuration(up, redis_server.url)
        with gateways(3, tmp_path, api_url, config) as running:
            served, looped = asyncio.run(work([each.url for each in running], gpus))
            for each in running:
                each.stop()
    assert served == {200: 300}
    assert set(looped) == {200}
    assert gpus.most == 4
    last = max(index for index, name in enumerate(gpus.order) if name != "alice")
    # Alice has as much as a student, and each sixteenth slot while she has waited longest: no more
    assert gpus.order[:last].count("alice") < 30


def test_slots_of_a_gateway_that_is_killed_come_back(redis_server: Redis, tmp_path: Path) -> None:
    async def work(running: list[Process], gpus: Gpus) -> None:
        gpus.is_held = True
        async with callers() as ask:
            lost = [asyncio.ensure_future(ask.ask(running[0].url, "alice")) for _ in range(8)]
            await ask.until(running[1].url, "all_waiting_requests", 4)
            asked = [asyncio.ensure_future(ask.ask(running[1 + n % 2].url, "bob")) for n in range(6)]
            await ask.until(running[1].url, "all_waiting_requests", 10)
            running[0].process.send_signal(signal.SIGKILL)
            running[0].process.wait()
            failed = await asyncio.gather(*lost, return_exceptions=True)
            assert all(isinstance(each, aiohttp.ClientError) for each in failed)
            assert gpus.running == 4  # its slots are not given to others as long as it may live
            gpus.is_held = False
            assert Counter(await asyncio.gather(*asked)) == {200: 6}
            await ask.until(running[2].url, "all_slots_in_use", 0)
            await ask.until(running[2].url, "all_waiting_requests", 0)

    with (
        FakeUpstream(key=KEY) as up,
        Gpus.of(up) as gpus,
        hub_in_thread(**known("bob")) as api_url,
        gateways(3, tmp_path, api_url, configuration(up, redis_server.url)) as running,
    ):
        asyncio.run(work(running, gpus))
        assert gpus.order[4:] == ["bob"] * 6
        for each in running[1:]:
            each.stop()


def test_redis_is_killed_and_started_again_under_load(tmp_path: Path) -> None:
    async def work(urls: list[str], gpus: Gpus, port: int, redis: Redis) -> Counter[int]:
        over = asyncio.Event()

        async def loop(ask: Callers, number: int) -> list[int]:
            statuses = []
            while not over.is_set():
                statuses.append(await ask.ask(urls[number % 3], ("alice", "bob")[number % 2]))
            return statuses

        async with callers() as ask:
            loops = [asyncio.ensure_future(loop(ask, number)) for number in range(24)]
            await passed(gpus, 100)
            assert gpus.most == 6
            redis.process.kill()
            redis.process.wait()
            for url in urls:
                await ask.until(url, "apart", 1)
            await passed(gpus, 100)
            assert gpus.running <= 6  # each has a third
            with databases.redis(port):
                for url in urls:
                    await ask.until(url, "apart", 0)
                    await ask.until(url, "all_waiting_requests", 18)
                await passed(gpus, 20)
                gpus.most = 0
                await passed(gpus, 200)
                assert gpus.most == 6
                over.set()
                done = Counter(status for each in await asyncio.gather(*loops) for status in each)
                await ask.until(urls[0], "all_slots_in_use", 0)
                return done

    async def passed(gpus: Gpus, count: int) -> None:
        until = len(gpus.order) + count
        while len(gpus.order) < until:
            await asyncio.sleep(0.01)

    with (
        databases.redis() as redis,
        FakeUpstream(key=KEY) as up,
        Gpus.of(up) as gpus,
        hub_in_thread(**known("bob")) as api_url,
        gateways(3, tmp_path, api_url, configuration(up, redis.url, slots=6)) as running,
    ):
        urls = [each.url for each in running]
        assert set(asyncio.run(work(urls, gpus, redis.port, redis))) == {200}
        for each in running:
            each.stop()
            text = each.log.read_text()
            assert text.count("goes by this process' own part, 2 slots") == 1
            assert text.count("is shared again by 3 processes") == 1


def test_workers_share_a_pool_and_take_a_new_one(redis_server: Redis, tmp_path: Path) -> None:
    async def work(url: str, gpus: Gpus, file: Path, config: dict[str, Any], reload: Any) -> None:
        gpus.is_held = True
        async with callers() as ask:
            asked = [asyncio.ensure_future(ask.ask(url, "alice")) for _ in range(12)]
            await ask.until(url, "all_waiting_requests", 10)
            assert [await ask.metric(url, "slots") for _ in range(4)] == [2.0] * 4  # not of both added up
            assert await ask.metric(url, "waiting_requests") == 10
            config["pools"][0]["slots"] = 5
            file.write_text(json.dumps(config))
            reload()
            while gpus.running < 5:
                await asyncio.sleep(0.01)
            await ask.until(url, "all_waiting_requests", 7)
            gpus.is_held = False
            assert await asyncio.gather(*asked) == [200] * 12
            assert gpus.most == 5

    port, file = free_port(), tmp_path / "config.yaml"
    with FakeUpstream(key=KEY) as up, Gpus.of(up) as gpus:
        config = configuration(up, redis_server.url, slots=2)
        file.write_text(json.dumps(config))
        settings = ["--AIGateway.reload_poll_s=0", "--AIGateway.authenticate_prometheus=False"]
        command = [
            "start",
            "-c",
            str(file),
            "-H",
            "127.0.0.1",
            "-p",
            str(port),
            "--workers",
            "2",
            *settings,
        ]
        with gateway(tmp_path, *command, port=port) as running:
            running.until(
                "workers", lambda: "_pool_slots{" in requests.get(f"{running.url}/metrics", timeout=5).text
            )

            def reload() -> None:
                running.process.send_signal(signal.SIGHUP)

            asyncio.run(work(running.url, gpus, file, config, reload))


@asynccontextmanager
async def two(up: FakeUpstream, redis: Redis, **more: Any) -> AsyncIterator[tuple[Served, Served]]:
    """Run two gateways in this process that share a single slot."""
    options = more.pop("options", {})
    document = configuration(up, redis.url, slots=1, **more)
    endpoints = document.pop("endpoints")
    async with (
        served(None, endpoints, config=document, **options) as a,
        served(None, endpoints, config=document, **options) as b,
    ):
        yield a, b


def held(gate: Gate) -> Reply:
    return Reply(headers=JSON, body=ANSWER, before=[gate])


async def waiting(running: Served, count: int) -> None:
    pool = running.service.pools.get("gpus")
    assert pool is not None
    while pool.fair.waiting != count:
        await asyncio.sleep(0.001)


@every_way
async def test_a_stream_that_waits_for_another_gateways_slot_hears_comments(
    way: str, redis_server: Redis
) -> None:
    gate = Gate()
    options = {"keepalive_s": 0.02, **WAYS[way]}
    with FakeUpstream(key=KEY) as up:
        up.script(held(gate))
        async with two(up, redis_server, options=options) as (a, b):
            first = asyncio.create_task(a.chat())
            await happened(gate.reached)
            reader, writer = await asyncio.open_connection("127.0.0.1", b.service.port)
            writer.write(post({**POSTS["chat"][1], "stream": True}, "v1/chat/completions"))
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            for _ in range(3):
                await reader.readuntil(b": keep-alive")
            assert len(up.requests) == 1
            gate.set()
            await reader.readuntil(b"[DONE]")
            writer.close()
            assert (await first).status == 200


@every_way
async def test_whoever_hangs_up_waits_no_longer_anywhere(way: str, redis_server: Redis) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(held(gate))
        async with two(up, redis_server, options=WAYS[way]) as (a, b):
            first = asyncio.create_task(a.chat())
            await happened(gate.reached)
            _, writer = await asyncio.open_connection("127.0.0.1", b.service.port)
            writer.write(post(POSTS["chat"][1], "v1/chat/completions"))
            await waiting(b, 1)
            writer.close()
            await waiting(b, 0)
            gate.set()
            assert (await first).status == 200
            assert (await a.chat()).status == (await b.chat()).status == 200
            assert len(up.requests) == 3


async def test_a_wait_is_bounded_and_the_place_is_among_all(redis_server: Redis) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(held(gate))
        async with two(up, redis_server, wait_s=0.2, stream_wait_s=30) as (a, b):
            bob = a.knows("t-bob", ACCESS, FULL, name="bob")
            root = b.knows("t-root", ACCESS, "custom:ai-gateway:admin", name="root")
            first = asyncio.create_task(a.chat())
            await happened(gate.reached)
            other = asyncio.create_task(a.chat(token=bob, stream=True))
            await waiting(a, 1)
            answer = await b.chat()
            assert (answer.status, answer.error["code"]) == (503, "queue_timeout")
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.error["queue"] == {"place": 2, "length": 2}
            (found,) = (await b.ask("GET", "api/pools", token=root)).json["pools"]
            assert (found["slots"], found["in_use"], found["waiting"], found["processes"]) == (1, 1, 1, 2)
            assert found["here"] == {"slots": 1, "in_use": 0, "waiting": 0}
            assert {each["user"] for each in found["shares"]} == {None, "user:alice", "user:bob"}
            gate.set()
            assert (await first).status == (await other).status == 200


async def test_nobody_waits_beside_a_free_slot_of_another_pool(redis_server: Redis) -> None:
    """What another gateway runs is known here, so the deployment with room is asked."""
    gate = Gate()
    with FakeUpstream(key=KEY) as one, FakeUpstream(key=KEY) as other:
        for up in (one, other):
            up.always(held(gate))
        places = [
            {"name": name, "pool": name, "weight": 1, "model": endpoint("x", up)["model"]}
            for name, up in (("one", one), ("other", other))
        ]
        endpoints = [{"name": "chat", "endpoint_type": "llm/v1/chat", "deployments": places}]
        pools = [{"name": name, "slots": 1} for name in ("one", "other")]
        config = {"pools": pools, "store": {"url": redis_server.url}, "ledger": False}
        async with served(None, endpoints, config=config) as a, served(None, endpoints, config=config) as b:
            first = asyncio.create_task(a.chat())
            await happened(gate.reached)
            taken, free = ("one", "other") if one.requests else ("other", "one")
            pool = b.service.pools.get(taken)
            assert pool is not None
            while pool.has_room:
                await asyncio.sleep(0.001)
            second = asyncio.create_task(b.chat())
            while not (one.requests and other.requests):
                await asyncio.sleep(0.001)
            gate.set()
            assert (await second).headers["x-ai-gateway-deployment"] == free
            assert (await first).status == 200
