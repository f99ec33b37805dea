"""One suite for every store of counters: in this process, and in a real Redis."""

from __future__ import annotations

import asyncio
import inspect
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from databases import Redis, redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from jupyterhub_ai_gateway.limits import (
    CounterStore,
    MemoryCounters,
    Reserved,
    Rule,
    StoreUnavailable,
    Take,
)
from jupyterhub_ai_gateway.limits.redis_store import LEASE_MS, RedisStore
from jupyterhub_ai_gateway.limits.window import Rolling

T = TypeVar("T")
DAY = 86_400_000
NOW = time.time_ns() // 1_000_000 // DAY * DAY + DAY // 2  # noon: a Redis knows what is past


async def got(value: T | Awaitable[T]) -> T:
    """Return what a store answers, at once or later."""
    return await value if inspect.isawaitable(value) else value  # type: ignore[no-any-return]


def take(amount: int, limit: int = 100, *, key: str = "k", slot: int = NOW, **more: Any) -> Take:
    values = {"first": slot, "expires_ms": slot + DAY if slot else 0, "is_soft": False, **more}
    return Take(key, slot, values["first"], values["expires_ms"], limit, amount, values["is_soft"])


@pytest.fixture(params=["memory", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def shared_redis() -> Any:
    with redis() as server:
        yield server


PREFIXES = iter(range(10**6))


@asynccontextmanager
async def store(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[CounterStore]:
    if kind == "memory":
        yield MemoryCounters()
        return
    server: Redis = request.getfixturevalue("shared_redis")
    made = RedisStore(server.url, prefix=f"t{next(PREFIXES)}")
    try:
        yield made
    finally:
        await made.close()


Suite = Callable[[CounterStore], Awaitable[None]]


async def reserves_until_it_is_full(counters: CounterStore) -> None:
    for number in range(4):
        reserved = await got(counters.reserve(f"r{number}", [take(25)], NOW))
        assert reserved == Reserved(None, (25 * number,))
    assert await got(counters.reserve("r4", [take(25)], NOW)) == Reserved(0, (100,), NOW)
    assert await got(counters.used([take(0)], NOW)) == (100,)


async def reserves_for_all_rules_or_for_none(counters: CounterStore) -> None:
    takes = [take(1, key="a"), take(1, 0, key="b"), take(1, key="c")]
    assert await got(counters.reserve("r1", takes, NOW)) == Reserved(1, (0, 0, 0), None)
    assert await got(counters.used(takes, NOW)) == (0, 0, 0)


async def soft_rules_count_and_never_refuse(counters: CounterStore) -> None:
    takes = [take(7, 5, is_soft=True)]
    assert (await got(counters.reserve("r1", takes, NOW))).refused is None
    assert (await got(counters.reserve("r2", takes, NOW))) == Reserved(None, (7,))


async def settling_puts_use_in_the_place_of_the_reservation(counters: CounterStore) -> None:
    takes = [take(50), take(1, 1, key="slots", slot=0)]
    await got(counters.reserve("r1", takes, NOW))
    assert (await got(counters.reserve("r2", takes, NOW))).refused == 1
    await got(counters.settle("r1", takes, [3, 0], NOW))
    assert await got(counters.used(takes, NOW)) == (3, 0)


async def settling_twice_counts_once(counters: CounterStore) -> None:
    takes = [take(50)]
    await got(counters.reserve("r1", takes, NOW))
    await got(counters.settle("r1", takes, [3], NOW))
    await got(counters.settle("r1", takes, [3], NOW))
    assert await got(counters.used(takes, NOW)) == (3,)


async def a_window_that_is_over_counts_no_more(counters: CounterStore) -> None:
    takes = [take(50)]
    await got(counters.reserve("r1", takes, NOW))
    tomorrow = [take(60, slot=NOW + DAY)]
    assert (await got(counters.reserve("r2", tomorrow, NOW + DAY))).refused is None
    await got(counters.settle("r1", takes, [50], NOW + DAY))  # of a request that ran over midnight
    assert await got(counters.used(tomorrow, NOW + DAY)) == (60,)


async def a_rolling_window_gives_back_slot_by_slot(counters: CounterStore) -> None:
    window = Rolling(60_000)

    def at(ms: int, amount: int) -> list[Take]:
        slot = window.slot(ms)
        return [Take("k", slot.start, slot.first, slot.end, 100, amount, False)]

    for number, ms in enumerate((NOW, NOW + 10_000, NOW + 20_000)):
        takes = at(ms, 40 if number < 2 else 20)
        assert (await got(counters.reserve(f"r{number}", takes, ms))).refused is None
        await got(counters.settle(f"r{number}", takes, [takes[0].amount], ms))
    refused = await got(counters.reserve("r3", at(NOW + 30_000, 30), NOW + 30_000))
    assert refused == Reserved(0, (100,), NOW)
    assert await got(counters.used(at(NOW + 60_000, 0), NOW + 60_000)) == (100,)
    assert await got(counters.used(at(NOW + 61_000, 0), NOW + 61_000)) == (60,)
    assert await got(counters.used(at(NOW + 71_000, 0), NOW + 71_000)) == (20,)


async def seeds_what_the_ledger_knows_and_nothing_twice(counters: CounterStore) -> None:
    await got(counters.seed("k", NOW, 90, NOW + DAY) or _nothing())
    await got(counters.seed("k", NOW, 90, NOW + DAY) or _nothing())
    assert await got(counters.used([take(0)], NOW)) == (90,)
    assert (await got(counters.reserve("r1", [take(11)], NOW))).refused == 0


async def names_and_keys_are_any_text(counters: CounterStore) -> None:
    takes = [take(5, key="tokens/1 day/gpt-*,ä b/user#user:zoë x")]
    await got(counters.reserve("req 1:ü", takes, NOW))
    await got(counters.settle("req 1:ü", takes, [2], NOW))
    assert await got(counters.used(takes, NOW)) == (2,)


async def large_amounts_stay_exact(counters: CounterStore) -> None:
    amount = 2**53 - 2
    takes = [take(amount, 10**17)]
    await got(counters.reserve("r1", takes, NOW))
    await got(counters.settle("r1", takes, [amount], NOW))
    assert await got(counters.used(takes, NOW)) == (amount,)


async def _nothing() -> None:
    return None


SUITE: Sequence[Suite] = (
    reserves_until_it_is_full,
    reserves_for_all_rules_or_for_none,
    soft_rules_count_and_never_refuse,
    settling_puts_use_in_the_place_of_the_reservation,
    settling_twice_counts_once,
    a_window_that_is_over_counts_no_more,
    a_rolling_window_gives_back_slot_by_slot,
    seeds_what_the_ledger_knows_and_nothing_twice,
    names_and_keys_are_any_text,
    large_amounts_stay_exact,
)


@pytest.mark.parametrize("check", SUITE, ids=lambda check: check.__name__)
async def test_store(check: Suite, kind: str, request: pytest.FixtureRequest) -> None:
    async with store(kind, request) as counters:
        await check(counters)


async def test_many_at_once_never_pass_a_limit(kind: str, request: pytest.FixtureRequest) -> None:
    async with store(kind, request) as counters:
        takes = [take(7, 100)]
        found = await asyncio.gather(*(got(counters.reserve(f"r{n}", takes, NOW)) for n in range(60)))
        assert sum(reserved.refused is None for reserved in found) == 14


async def test_a_process_that_dies_gives_back_what_it_had_reserved(shared_redis: Redis) -> None:
    dead, alive = (RedisStore(shared_redis.url, prefix="lease") for _ in range(2))
    takes = [take(60)]
    await dead.reserve("r1", takes, NOW)
    assert (await alive.reserve("r2", takes, NOW)).refused == 0
    await dead.renew(NOW + LEASE_MS - 1)
    assert (await alive.reserve("r3", takes, NOW + LEASE_MS)).refused == 0
    later = NOW + 2 * LEASE_MS
    assert (await alive.reserve("r4", takes, later)).refused is None
    await dead.settle("r1", takes, [10], later)  # it was alive after all: what it used counts, once
    assert await alive.used(takes, later) == (70,)
    await dead.close()
    await alive.close()


async def test_a_server_that_is_away_says_so(redis_server: Redis) -> None:
    counters = RedisStore(redis_server.url, timeout_s=0.5)
    await counters.reserve("r1", [take(1)], NOW)
    redis_server.process.kill()
    redis_server.process.wait()
    for asking in (
        counters.reserve("r2", [take(1)], NOW),
        counters.settle("r1", [take(1)], [1], NOW),
        counters.used([take(1)], NOW),
        counters.take("b", Rule(1, 1.0)),
    ):
        with pytest.raises(StoreUnavailable):
            await asking
    await counters.close()


async def test_buckets_of_a_shared_store_are_one_bucket(shared_redis: Redis) -> None:
    one, other = (RedisStore(shared_redis.url, prefix="buckets") for _ in range(2))
    limit = Rule(3, 3600.0)
    verdicts = [await each.take("chat alice", limit) for each in (one, other, one, other)]
    assert [verdict.is_allowed for verdict in verdicts] == [True, True, True, False]
    assert [verdict.remaining for verdict in verdicts] == [2, 1, 0, 0]
    assert 1199 < verdicts[3].retry_after_s <= 1200
    await one.close()
    await other.close()


WORKER = """
import asyncio, sys
from jupyterhub_ai_gateway.limits import Take
from jupyterhub_ai_gateway.limits.redis_store import RedisStore
async def main(url, worker):
    store = RedisStore(url, prefix="race")
    takes = [Take("budget", {now}, {now}, {now} + 86400000, 1000, 7, False)]
    used = 0
    async def one(n):
        nonlocal used
        name = f"{{worker}}-{{n}}"
        reserved = await store.reserve(name, takes, {now})
        if reserved.refused is None:
            await asyncio.sleep(0)
            await store.settle(name, takes, [5], {now})
            used += 5
    for start in range(0, 200, 20):
        await asyncio.gather(*(one(start + n) for n in range(20)))
    print(used)
    await store.close()
asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


def test_many_processes_share_one_budget(shared_redis: Redis) -> None:
    program = WORKER.format(now=NOW)
    processes = [
        subprocess.Popen([sys.executable, "-c", program, shared_redis.url, str(n)], stdout=subprocess.PIPE)
        for n in range(4)
    ]
    used = [int(process.communicate()[0]) for process in processes]
    # Each reserves 7 of 1000 and uses 5: nobody is admitted once less than 7 are left
    assert sum(used) == 995
    assert all(process.returncode == 0 for process in processes)


def test_counters_in_memory_are_bounded_and_keep_those_that_run() -> None:
    counters = MemoryCounters(max_counters=50)
    running = [take(1, key="running")]
    counters.reserve("r", running, NOW)
    for number in range(500):
        takes = [take(1, key=f"k{number}")]
        counters.reserve(f"r{number}", takes, NOW)
        counters.settle(f"r{number}", takes, [1], NOW)
    assert len(counters) <= 51
    assert counters.used(running, NOW) == (1,)
    assert counters.forgotten > 0


def test_counters_whose_window_is_over_go_first() -> None:
    counters = MemoryCounters(max_counters=1000)
    for number in range(500):
        at_ms = NOW + number * DAY
        takes = [take(1, key=f"k{number}", slot=at_ms)]
        counters.reserve(f"r{number}", takes, at_ms)
        counters.settle(f"r{number}", takes, [1], at_ms)
    assert len(counters) < 10
    assert counters.forgotten == 0


class Interleavings(RuleBasedStateMachine):
    """Admissions, settlements, hang-ups and time, in any order, against a model that adds up."""

    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.counters = MemoryCounters()
        self.window = Rolling(60_000)
        self.now_ms = NOW
        self.names = iter(range(10**9))
        self.used: list[tuple[int, int]] = []  # when it was admitted, and how much it used
        self.open: dict[str, list[Take]] = {}
        self.settled: set[str] = set()
        self.slips = 0  # by how much requests used more than they had reserved

    def takes(self, amount: int) -> list[Take]:
        slot = self.window.slot(self.now_ms)
        rolling = Take("tokens", slot.start, slot.first, slot.end, 100, amount, False)
        return [rolling, Take("slots", 0, 0, 0, 3, 1, False)]

    @rule(target=running, amount=st.integers(1, 60))
    def admit(self, amount: int) -> str:
        name, takes = f"r{next(self.names)}", self.takes(amount)
        reserved = self.counters.reserve(name, takes, self.now_ms)
        if reserved.refused is None:
            self.open[name] = takes
            assert reserved.used[0] + amount <= 100
            assert reserved.used[1] < 3
        return name

    @rule(name=consumes(running), amount=st.integers(0, 80))
    def settle(self, name: str, amount: int) -> None:
        takes = self.open.pop(name, None)
        if takes is None:
            return
        self.settled.add(name)
        self.counters.settle(name, takes, [amount, 0], self.now_ms)
        self.counters.settle(name, takes, [amount, 0], self.now_ms)
        self.used.append((takes[0].slot, amount))

    @rule(seconds=st.integers(0, 90))
    def wait(self, seconds: int) -> None:
        self.now_ms += seconds * 1000

    @invariant()
    def adds_up(self) -> None:
        takes = self.takes(0)
        first = takes[0].first
        used = sum(amount for slot, amount in self.used if slot >= first)
        reserved = sum(each[0].amount for each in self.open.values() if each[0].slot >= first)
        assert self.counters.used(takes, self.now_ms) == (used + reserved, len(self.open))
        assert self.counters.open_reservations == len(self.open)

    def teardown(self) -> None:
        for name, takes in self.open.items():
            self.counters.settle(name, takes, [0, 0], self.now_ms)
        assert self.counters.open_reservations == 0
        assert self.counters.used(self.takes(0), self.now_ms)[1] == 0


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_redis_and_memory_say_the_same(shared_redis: Redis) -> None:
    """The same random requests in both stores have the same verdicts and the same sums."""
    chance = random.Random(7)

    async def compare() -> None:
        memory, shared = MemoryCounters(), RedisStore(shared_redis.url, prefix="twins")
        window = Rolling(60_000)
        now_ms, running = NOW, {}
        for number in range(400):
            now_ms += chance.choice([0, 0, 100, 5_000, 40_000])
            slot = window.slot(now_ms)
            takes = [
                Take("t", slot.start, slot.first, slot.end, 100, chance.randint(1, 60), False),
                Take("s", 0, 0, 0, 4, 1, chance.random() < 0.2),
            ]
            if running and chance.random() < 0.5:
                name = chance.choice(list(running))
                amounts = [chance.randint(0, 80), 0]
                memory.settle(name, running[name], amounts, now_ms)
                await shared.settle(name, running.pop(name), amounts, now_ms)
            else:
                mine = memory.reserve(f"r{number}", takes, now_ms)
                assert await shared.reserve(f"r{number}", takes, now_ms) == mine
                if mine.refused is None:
                    running[f"r{number}"] = takes
            await shared.renew(now_ms)
            assert await shared.used(takes, now_ms) == memory.used(takes, now_ms)
        await shared.close()

    asyncio.run(compare())
