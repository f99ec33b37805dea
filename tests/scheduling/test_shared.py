"""Pools that share a real Redis: each has its own store, as each process has."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import databases
import pytest
from expected import ExpectedLog

from jupyterhub_ai_gateway.config import PoolConfig
from jupyterhub_ai_gateway.errors import QueueFull
from jupyterhub_ai_gateway.scheduling import pool_store, shared
from jupyterhub_ai_gateway.scheduling.fair import BATCH, Ticket, Who
from jupyterhub_ai_gateway.scheduling.pool_store import PoolStore
from jupyterhub_ai_gateway.scheduling.shared import Mode, SharedPool

ALICE, BOB, CARL = (Who("", f"user:{name}") for name in ("alice", "bob", "carl"))


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, as these tests wait for it."""
    for module in (pool_store, shared):
        monkeypatch.setattr(module, "RETRY_S", 0.02)
    monkeypatch.setattr(shared, "BEAT_S", 0.05)


class Gateways(list[SharedPool]):
    """The same pool in several processes."""

    def __init__(self, url: str, config: PoolConfig, lease_s: float) -> None:
        super().__init__()
        self.url, self.config, self.lease_s = url, config, lease_s

    async def another(self) -> SharedPool:
        store = PoolStore(self.url, timeout_s=0.3)
        store.lease_s = self.lease_s
        pool = SharedPool(self.config, time.monotonic, store)
        self.append(pool)
        joined = (Mode.JOINED, len(self))
        await until(lambda: all((each.mode, each.processes) == joined for each in self))
        return pool

    async def die(self, pool: SharedPool) -> None:
        """End as a killed process does: without a word."""
        self.remove(pool)
        pool._talking.cancel()
        await pool._store.close()

    @property
    def in_use(self) -> int:
        return sum(pool.fair.in_use for pool in self)

    @property
    def waiting(self) -> int:
        return sum(pool.fair.waiting for pool in self)


@asynccontextmanager
async def gateways(
    server: databases.Redis, count: int, *, lease_s: float = 5.0, **more: Any
) -> AsyncIterator[Gateways]:
    made = Gateways(server.url, PoolConfig("gpus", **{"slots": 2, **more}), lease_s)
    try:
        for _ in range(count):
            await made.another()
        yield made
    finally:
        for pool in made:
            await pool.close()
            await pool._store.close()


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for this; the test's own limit ends it."""
    while not is_so():
        await asyncio.sleep(0.002)


def enter(
    pool: SharedPool, who: Who = ALICE, wait_s: float = 30, tokens: int = 100
) -> asyncio.Task[Ticket]:
    return asyncio.ensure_future(pool.enter(who, tokens, wait_s))


async def gather_and_leave(*asked: tuple[SharedPool, asyncio.Task[Ticket]]) -> None:
    """Give every slot back as soon as it is there."""

    async def leave(pool: SharedPool, task: asyncio.Task[Ticket]) -> None:
        pool.leave(await task, 1)

    await asyncio.gather(*(leave(*each) for each in asked))


async def numbers(pool: SharedPool) -> tuple[int, int, int]:
    """Return the slots, those in use and who waits, as the store has them now."""
    found = await pool._store.step("gpus", [("config", *pool._config())])
    return found.slots, found.in_use, found.waiting


async def test_a_request_takes_one_round_trip_where_there_is_room(redis_server: databases.Redis) -> None:
    async with gateways(redis_server, 1) as (pool,):
        steps: list[Any] = []
        step = pool._store.step

        async def counted(name: str, says: Any, now: float | None = None) -> Any:
            steps.append([said[0] for said in says if said[0] != "config"])  # which is a look's
            return await step(name, says, now)

        pool._store.step = counted  # type: ignore[method-assign]
        ticket = await pool.enter(ALICE, 100, 1)
        assert [says for says in steps if says] == [["ask"]]
        assert pool.state().waits == 0
        pool.leave(ticket, 100)
        await until(lambda: ["leave"] in steps)


async def test_slots_are_those_of_all_and_none_is_idle(
    redis_server: databases.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "BEAT_S", 3600.0)  # they hear of it, or never know
    async with gateways(redis_server, 3, lease_s=3600) as pools:
        first = [await pools[0].enter(ALICE, 100, 1) for _ in range(2)]
        others = [enter(pools[1], BOB), enter(pools[2], CARL)]
        await until(lambda: pools.waiting == 2)
        assert await numbers(pools[0]) == (2, 2, 2)
        assert not pools[1].has_room
        pools[0].leave(first[0], 100)
        bob = await others[0]
        assert not others[1].done()
        pools[0].leave(first[1], 100)
        carl = await others[1]
        assert await numbers(pools[0]) == (2, 2, 0)
        pools[1].leave(bob, 100)
        pools[2].leave(carl, 100)
        await until(lambda: pools[0].has_room and pools[1].has_room and pools[2].has_room)
        assert await numbers(pools[0]) == (2, 0, 0)


async def test_tokens_used_at_one_count_at_all(redis_server: databases.Redis) -> None:
    async with gateways(redis_server, 2, slots=1) as (a, b):
        had = await a.enter(ALICE, 100, 1)
        a.leave(had, 50_000)
        running = await a.enter(CARL, 1, 1)
        mine = enter(b, ALICE)
        await until(lambda: b.fair.waiting == 1)
        other = enter(b, BOB)
        await until(lambda: b.fair.waiting == 2)
        a.leave(running, 1)
        ticket = await other
        assert not mine.done()
        b.leave(ticket, 100)
        b.leave(await mine, 100)


async def test_batches_come_last_wherever_they_wait(redis_server: databases.Redis) -> None:
    async with gateways(redis_server, 2, slots=1) as (a, b):
        running = await a.enter(CARL, 1, 1)
        batch = enter(a, ALICE._replace(priority=BATCH))
        await until(lambda: a.fair.waiting == 1)
        person = enter(b, BOB)
        await until(lambda: b.fair.waiting == 1)
        a.leave(running, 1)
        ticket = await person
        assert not batch.done()
        b.leave(ticket, 100)
        a.leave(await batch, 100)


async def test_whoever_hangs_up_leaves_the_queue_and_the_slot(redis_server: databases.Redis) -> None:
    async with gateways(redis_server, 2, slots=1) as (a, b):
        running = await a.enter(ALICE, 100, 1)
        waits, at_once = enter(b, BOB), enter(b, CARL)
        await asyncio.sleep(0)  # it has asked, and not heard yet
        at_once.cancel()
        await until(lambda: b.fair.waiting == 1)
        waits.cancel()
        await asyncio.wait([waits, at_once])
        await until(lambda: not b._says)
        assert await numbers(a) == (1, 1, 0)
        a.leave(running, 100)
        b.leave(await b.enter(BOB, 100, 1), 1)
        assert not b._waking
        assert not b._mine
        assert not a._mine


async def test_the_queue_is_bounded_over_all_and_who_has_most_has_to_go(
    redis_server: databases.Redis,
) -> None:
    async with gateways(redis_server, 2, slots=1, queue=3) as (a, b):
        running = await a.enter(CARL, 100, 1)
        flood = []
        for _ in range(3):
            flood.append(enter(a, ALICE))
            await until(lambda: a.fair.waiting == len(flood))
        other = enter(b, BOB)
        with pytest.raises(QueueFull) as caught:
            await flood[2]
        assert (caught.value.slug, caught.value.more["queue"]) == ("queue_full", {"place": 4, "length": 3})
        assert (a.fair.waiting, b.fair.waiting) == (2, 1)
        with pytest.raises(QueueFull):  # the newest of who has most may be the new one itself
            await a.enter(ALICE, 100, 1)
        a.leave(running, 100)
        await gather_and_leave((a, flood[0]), (a, flood[1]), (b, other))
        assert a.state().refused == 2


async def test_who_waits_too_long_is_told_the_place_among_all(redis_server: databases.Redis) -> None:
    async with gateways(redis_server, 2, slots=1) as (a, b):
        running = await a.enter(CARL, 100, 1)
        others = [enter(a, BOB), enter(a, BOB), enter(a, CARL)]
        await until(lambda: a.fair.waiting == 3)
        with pytest.raises(QueueFull) as caught:
            await b.enter(ALICE, 100, 0.05)
        assert caught.value.slug == "queue_timeout"
        assert caught.value.more["queue"] == {"place": 3, "length": 4}
        assert caught.value.retry_after_s == pytest.approx(3 * a.known.hold_s, rel=0.5)
        assert await numbers(a) == (1, 1, 3)
        a.leave(running, 100)
        await gather_and_leave(*((a, each) for each in others))


async def test_a_grant_that_nobody_heard_of_is_found(
    redis_server: databases.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PoolStore, "_tell", lambda self, text: None)
    async with gateways(redis_server, 2, slots=1) as (a, b):
        running = await a.enter(ALICE, 100, 1)
        waits = enter(b, BOB)
        await until(lambda: b.fair.waiting == 1)
        a.leave(running, 100)
        b.leave(await waits, 100)


async def test_a_grant_that_nobody_heard_of_is_found_however_much_is_said(
    redis_server: databases.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PoolStore, "_tell", lambda self, text: None)
    monkeypatch.setattr(shared, "BEAT_S", 1.0)  # it is never silent for as long
    async with gateways(redis_server, 2, slots=1) as (a, b):
        is_over = False

        async def come_and_go() -> None:
            while not is_over:
                asks = enter(b, CARL)
                await asyncio.sleep(0.001)
                asks.cancel()
                await asyncio.wait([asks])

        running = await a.enter(ALICE, 100, 1)
        waits = enter(b, BOB)
        await until(lambda: b.fair.waiting == 1)
        coming = asyncio.ensure_future(come_and_go())
        a.leave(running, 100)
        ticket = await waits
        is_over = True
        await coming
        b.leave(ticket, 100)


async def test_slots_and_places_of_one_that_died_are_free_after_its_lease(
    redis_server: databases.Redis,
) -> None:
    async with gateways(redis_server, 2, slots=2, lease_s=0.4) as pools:
        a, b = pools
        for _ in range(2):
            await a.enter(ALICE, 100, 1)
        enter(a, ALICE)
        await until(lambda: a.fair.waiting == 1)
        waits = [enter(b, BOB) for _ in range(3)]
        await until(lambda: b.fair.waiting == 3)
        await pools.die(a)
        await gather_and_leave(*((b, each) for each in waits))
        await until(lambda: b.known.in_use == 0)
        assert b.processes == 1


async def test_a_store_that_was_emptied_is_told_anew_who_runs_and_waits(
    redis_server: databases.Redis,
) -> None:
    async with gateways(redis_server, 3, slots=3) as pools:
        running = [await pool.enter(ALICE, 100, 1) for pool in pools]
        waits = [enter(pool, BOB) for pool in pools]
        await until(lambda: pools.waiting == 3)
        await pools[0]._store._redis.flushall()
        while await numbers(pools[0]) != (3, 3, 3):  # a script that knows nobody says zero
            assert pools.in_use == 3
            await asyncio.sleep(0.01)
        for pool, ticket in zip(pools, running, strict=True):
            pool.leave(ticket, 10)
        await gather_and_leave(*zip(pools, waits, strict=True))


async def test_what_the_store_lost_in_part_is_put_right(redis_server: databases.Redis) -> None:
    """As when it has too little memory, and lets go of keys that it should keep."""
    for part in ("a0", "q0:*", "t:*", "or", "ow", "s", "at", "since", "most", "m0:*", "n"):
        async with gateways(redis_server, 2, slots=2, lease_s=0.4) as pools:
            running = [await pool.enter(ALICE, 100, 1) for pool in pools]
            waits = [enter(pool, BOB) for pool in pools]
            await until(lambda: pools.waiting == 2)
            client = pools[0]._store._redis
            names = await client.keys(f"*gpus:{part}")
            assert names, part
            await client.delete(*names)
            for pool, ticket in zip(pools, running, strict=True):
                pool.leave(ticket, 10)
            await gather_and_leave(*zip(pools, waits, strict=True))
            while (await numbers(pools[0]))[1:] != (0, 0):
                await asyncio.sleep(0.01)
            await client.flushall()


async def test_while_the_store_is_away_each_goes_by_its_part(expected_log: ExpectedLog) -> None:
    with databases.redis() as server:
        async with gateways(server, 2, slots=5, queue=10) as (a, b):
            held = await a.enter(ALICE, 100, 1)
            server.process.kill()
            server.process.wait()
            tickets = [await a.enter(ALICE, 100, 1)]
            assert (a.mode, a.fair.slots, a.fair.queue) == (Mode.APART, 2, 5)
            assert a.state().is_apart
            assert (await a.described())["is_apart"] is True
            waits = enter(a, BOB)
            await until(lambda: a.fair.waiting == 1)
            a.leave(held, 100)  # one is over, the next runs
            tickets.append(await waits)
            assert a.fair.in_use == 2
            waits = enter(a, BOB)
            await until(lambda: b.mode is Mode.APART)
            with databases.redis(server.port):
                await until(lambda: a.mode is Mode.JOINED and b.mode is Mode.JOINED)
                assert (await numbers(a))[:2] == (5, 3)
                tickets.append(await waits)
                assert not a.state().is_apart
                assert a.fair.queue == 10
                tickets += [await a.enter(ALICE, 100, 1) for _ in range(2)]  # all slots, not a part
                more = enter(b, BOB)
                await until(lambda: b.fair.waiting == 1)
                a.leave(tickets.pop(), 1)
                b.leave(await more, 1)
                for ticket in tickets:
                    a.leave(ticket, 1)
                assert len(expected_log.take("goes by this process' own part, 2 slots")) == 2
                for pool in (a, b):  # as this server ends first
                    await pool.close()


async def test_a_store_that_stalls_is_away_too(
    redis_server: databases.Redis, expected_log: ExpectedLog
) -> None:
    async with gateways(redis_server, 2, slots=2, lease_s=1.0) as (a, b):
        redis_server.process.send_signal(signal.SIGSTOP)
        try:
            a.leave(await a.enter(ALICE, 100, 1), 10)
            assert a.mode is Mode.APART
            await until(lambda: b.mode is Mode.APART)
            await asyncio.sleep(1.0)  # the leases end while it stands
        finally:
            redis_server.process.send_signal(signal.SIGCONT)
        await until(lambda: a.mode is Mode.JOINED and b.mode is Mode.JOINED)
        assert (await numbers(a)) == (2, 0, 0)
        assert a.processes == 2
        assert len(expected_log.take("own part, 1 slots")) == 2


async def test_one_that_comes_back_first_waits_for_the_others(redis_server: databases.Redis) -> None:
    """Until it knows what they run it goes by its part, for a lease at most."""
    async with gateways(redis_server, 3, slots=3, lease_s=0.5) as pools:
        a, b, c = pools
        running = [await b.enter(BOB, 1, 1), await c.enter(BOB, 1, 1)]
        for pool in (b, c):
            pool._talking.cancel()
        await a._store._redis.flushall()
        await until(lambda: a.mode is Mode.APART)
        mine = await a.enter(ALICE, 1, 1)
        waits = enter(a, ALICE)
        await until(lambda: a.fair.waiting == 1)
        assert a.fair.slots == 1
        assert a.fair.in_use == 1
        a.leave(await waits, 1)  # they do not come back
        a.leave(mine, 1)
        assert running


async def test_slots_weights_and_bounds_change_in_all(redis_server: databases.Redis) -> None:
    async with gateways(redis_server, 2, slots=1, groups=(("a", 1.0), ("b", 1.0))) as (a, b):
        held = [await a.enter(CARL, 1, 1)]
        waits = [enter(b, BOB) for _ in range(2)]
        await until(lambda: b.fair.waiting == 2)
        a.use(replace(a.config, slots=2))  # b has not read its file yet, and gets the slot all the same
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        await until(lambda: b.known.slots == 2)
        await asyncio.sleep(0.15)  # some beats later the older words of b do not count
        assert await numbers(b) == (2, 2, 1)
        b.use(replace(b.config, slots=2))
        a.leave(held.pop(), 1)
        await gather_and_leave(*((b, each) for each in waits))

        for who in ("a", "b"):  # both have had the same
            a.leave(await a.enter(Who(who, "user:x"), 1000, 1), 1000)
        held = [await a.enter(CARL, 1, 1) for _ in range(2)]
        first = enter(a, Who("a", "user:x"))
        await until(lambda: a.fair.waiting == 1)
        second = enter(b, Who("b", "user:x"))
        await until(lambda: b.fair.waiting == 1)
        for pool in (a, b):
            pool.use(replace(pool.config, groups=(("a", 1.0), ("b", 4.0))))
            await asyncio.wait([pool._answered])
        a.leave(held.pop(), 1)
        ticket = await second
        assert not first.done()
        b.leave(ticket, 1)
        a.leave(await first, 1)
        a.leave(held.pop(), 1)


async def test_the_looks_of_one_alone_tune_the_slots_of_all(redis_server: databases.Redis) -> None:
    async with gateways(redis_server, 2, slots=8, most_slots=64) as (a, b):
        tickets = [await a.enter(ALICE, 1, 1) for _ in range(8)]
        a.tune(0)
        await until(lambda: b.known.slots == 9)
        b.tune(5)
        await until(lambda: not b._says)
        assert (await numbers(b))[0] == 9
        a.tune(3)
        await until(lambda: a.known.slots == 8)
        for ticket in tickets:
            a.leave(ticket, 1)


async def test_a_pool_that_is_gone_lets_everybody_go(redis_server: databases.Redis) -> None:
    async with gateways(redis_server, 2, slots=1) as pools:
        a, b = pools
        running = await a.enter(ALICE, 1, 1)
        waits = [enter(a, BOB) for _ in range(2)]
        await until(lambda: a.fair.waiting == 2)
        other = enter(b, CARL)
        await until(lambda: b.fair.waiting == 1)
        a.open()
        tickets = [await each for each in waits]
        b.leave(await other, 1)
        for ticket in (running, *tickets):
            a.leave(ticket, 1)
        assert a.fair.in_use == 0


async def test_staff_see_what_all_have(redis_server: databases.Redis) -> None:
    async with gateways(redis_server, 2, slots=2, groups=(("lab", 3.0),)) as (a, b):
        running = await a.enter(Who("lab", "user:x"), 4000, 1)
        a.leave(await a.enter(BOB, 10, 1), 700)
        held = await b.enter(CARL, 5, 1)
        waits = enter(b, ALICE)
        await until(lambda: b.fair.waiting == 1)
        found = await a.described()
        assert (found["slots"], found["in_use"], found["waiting"], found["processes"]) == (2, 2, 1, 2)
        assert found["here"] == {"slots": 2, "in_use": 1, "waiting": 0}
        shares: Any = found["shares"]
        named = {(each["group"], each["user"]): each for each in shares}
        assert named["lab", None]["weight"] == 3.0
        assert named["lab", None]["used_tokens"] == pytest.approx(4000, rel=0.01)
        assert named["", None]["used_tokens"] == pytest.approx(705, rel=0.01)
        assert named["", "user:carl"]["running"] == 1
        assert named["", "user:alice"]["waiting"] == named["", None]["waiting"] == 1
        state = a.state()
        assert (state.slots, state.in_use, state.waiting) == (2, 1, 0)
        await until(lambda: a.state()[-3:] == (2, 1, False))
        a.leave(running, 4000)
        b.leave(await waits, 1)
        b.leave(held, 1)


async def test_nobody_starves_and_slots_are_kept_over_three(redis_server: databases.Redis) -> None:
    """A class of sixty and one user's loop of forty, over three pools: the loop gets its group's half."""
    async with gateways(redis_server, 3, slots=4, groups=(("course", 1.0), ("lab", 1.0))) as pools:
        served: Counter[str] = Counter()
        most = 0

        async def ask(pool: SharedPool, who: Who, times: int) -> None:
            nonlocal most
            for _ in range(times):
                ticket = await pool.enter(who, 100, 50)
                most = max(most, pools.in_use)
                await asyncio.sleep(0.002)
                pool.leave(ticket, 100)
                served[who.user] += 1

        loop = [asyncio.ensure_future(ask(pools[n % 3], Who("lab", "user:loop"), 1000)) for n in range(40)]
        await until(lambda: pools.waiting >= 36)
        course = [ask(pools[n % 3], Who("course", f"user:s{n}"), 3) for n in range(60)]
        await asyncio.gather(*course)
        for task in loop:
            task.cancel()
        await asyncio.wait(loop)
        assert sum(count for user, count in served.items() if user != "user:loop") == 180
        assert 90 < served["user:loop"] < 280
        assert most == 4
        await until(lambda: not any(pool._mine for pool in pools))
