"""The order in which several processes get the slots of one pool is that of one process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import databases
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from jupyterhub_ai_gateway.config import PoolConfig
from jupyterhub_ai_gateway.scheduling import pool_store
from jupyterhub_ai_gateway.scheduling.fair import BATCH, INTERACTIVE, FairShare, Ticket, Who
from jupyterhub_ai_gateway.scheduling.pool_store import KEPT_S, TUNER_S, Numbers, PoolStore

USERS = [
    Who(group, f"user:{user}", session, priority)
    for group in ("", "lab", "course")
    for user in "abc"
    for session in ("", "s1", "s2")
    for priority in (INTERACTIVE, BATCH)
]
GROUP_WEIGHTS, USER_WEIGHTS = {"lab": 2.0, "course": 0.5}, {"user:a": 3.0}


def pool(**more: Any) -> PoolConfig:
    usual: dict[str, Any] = {"slots": 3, "queue": 10_000, "half_life_s": 40.0}
    weights = {"groups": tuple(GROUP_WEIGHTS.items()), "users": tuple(USER_WEIGHTS.items())}
    return PoolConfig("gpus", **{**usual, **weights, **more})


@dataclass
class Processes:
    """Several processes' words, said one after the other, with a clock of the test's own."""

    stores: list[PoolStore]
    config: PoolConfig
    now: float = 1000.0
    _running: set[str] = field(default_factory=set)

    async def say(self, process: int, *said: Any) -> Numbers:
        return await self.stores[process].step("gpus", [said], self.now)

    async def join(self, process: int, tickets: Any = (), **more: Any) -> Numbers:
        return await self.say(process, "all", tickets, len(self.stores), self.parts(**more), 0)

    def parts(self, config: PoolConfig | None = None, stamp: float = 1.0) -> tuple[Any, ...]:
        one = config or self.config
        return stamp, one.slots, one.most_slots or 0, one.queue, one.half_life_s

    def name(self, process: int, number: int) -> str:
        return f"{self.stores[process].name}:{number}"

    def described(self, process: int, number: int, who: Who, tokens: float = 1.0) -> tuple[Any, ...]:
        weights = GROUP_WEIGHTS.get(who.group, 1.0), USER_WEIGHTS.get(who.user, 1.0)
        name = self.name(process, number)
        return (name, who.group, who.user, who.session, who.priority, tokens, *weights)

    async def part(self, process: int, expected: int, part: int, tickets: Any = ()) -> Numbers:
        """Come back as one that runs these, and goes by its part until the others are there."""
        return await self.say(process, "all", tickets, expected, self.parts(), part)

    async def ask(self, process: int, number: int, who: Who, tokens: float = 1.0) -> Numbers:
        return await self.say(process, "ask", *self.described(process, number, who, tokens))

    async def leave(self, process: int, number: int, tokens: float = -1) -> Numbers:
        return await self.say(process, "leave", self.name(process, number), tokens)

    async def started(self) -> set[int]:
        """Return which run that did not when this was asked before."""
        running = set()
        for store in self.stores:
            found = await store._redis.hgetall(f"{store._root}gpus:t:{store.name}")
            running |= {name for name, record in found.items() if record.startswith("R")}
        new, self._running = running - self._running, running
        return {int(name.rpartition(":")[2]) for name in new}

    async def left(self) -> set[str]:
        """Return the names of all keys of requests and of those who wait: empty when nobody is there."""
        keys = await self.stores[0]._redis.keys("*")
        lasting = {
            f"{self.stores[0]._root}gpus:{key}" for key in ("s", "u", "w", "at", "n", "or", "ow", "part")
        }
        return set(keys) - lasting


@asynccontextmanager
async def processes(
    server: databases.Redis, count: int, *, lease_s: float = 1e6, **more: Any
) -> AsyncIterator[Processes]:
    stores = [PoolStore(server.url) for _ in range(count)]
    try:
        await stores[0]._redis.flushall()
        made = Processes(stores, pool(**more))
        for store in stores:
            store.lease_s = lease_s
        for process in range(count):
            await made.join(process)
        yield made
    finally:
        for store in stores:
            await store.close()


Moves = list[tuple[int, int, float, float]]
moves = st.lists(
    st.tuples(
        st.integers(0, len(USERS) - 1),
        st.integers(0, 99),
        st.floats(1, 1000),
        st.floats(0.001, 5),
    ),
    min_size=10,
    max_size=80,
)


async def compare(server: databases.Redis, moves: Moves, count: int, slots: int, seed: int) -> None:
    """Do the same with one and with several processes; after each move the same requests must run."""
    async with processes(server, count, slots=slots) as several:
        one, dice = FairShare(pool(slots=slots)), random.Random(seed)
        tickets: dict[int, tuple[int, Ticket]] = {}
        for number, (who, chance, tokens, passed_s) in enumerate(moves):
            several.now += passed_s
            tokens += number / 1000  # no two have had the same
            started = []
            if chance < 55 or not tickets:
                process = dice.randrange(count)
                ticket, _ = one.ask(USERS[who], tokens, several.now)
                tickets[number] = process, ticket
                started = [ticket] if ticket.is_running else []
                await several.ask(process, number, USERS[who], tokens)
            else:  # one of those that run, or sometimes of those that wait, is over
                known = [each for each in tickets if tickets[each][1].is_running or chance > 90]
                gone = dice.choice(known or list(tickets))
                process, ticket = tickets.pop(gone)
                is_known, held_s = chance % 3 != 0, several.now - ticket.started
                # Less than was thought, unless that has faded so far that it were nothing at all
                tokens = ticket.tokens * (0.8 if held_s < 10 and chance % 2 else 1.3) + tokens / 100
                started = one.leave(ticket, tokens if is_known else None, several.now)
                await several.leave(process, gone, tokens if is_known else -1)
            expected = {each for each, (_, ticket) in tickets.items() if ticket in started}
            assert await several.started() == expected
        shares = {share[:2]: share[2:] for share in await several.stores[0].shares("gpus")}
        for group, user, weight, used, running, waiting in one.shares(several.now):
            if used or running or waiting:
                assert shares[group, user][0] == weight
                assert shares[group, user][2:] == (running, waiting)
        beat = await several.say(0, "config", *several.parts())
        assert (beat.in_use, beat.waiting) == (one.in_use, one.waiting)
        for number, (process, _) in tickets.items():
            await several.leave(process, number)
        assert await several.left() == set()


@settings(
    max_examples=60,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes with a real server
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(moves=moves, count=st.integers(1, 4), slots=st.integers(1, 4), seed=st.integers(0, 9))
def test_several_processes_have_the_order_of_one(
    redis_server: databases.Redis, moves: Moves, count: int, slots: int, seed: int
) -> None:
    """Arrivals, ends with other tokens than thought, hang-ups: after each, the same requests run.

    Times and tokens are such that no two have had the same, but for those that had nothing.
    """

    asyncio.run(compare(redis_server, moves, count, slots, seed))


async def test_the_order_stays_that_of_one_for_long(redis_server: databases.Redis) -> None:
    """For so long that each sixteenth slot, which goes to who has waited longest, tells."""
    dice = random.Random(7)
    moves = [
        (dice.randrange(len(USERS)), dice.randrange(95), dice.uniform(1, 1000), dice.uniform(0.001, 2))
        for _ in range(800)
    ]
    await compare(redis_server, moves, 3, 4, 7)


ANN, BEN, CLEO = (Who("", f"user:{name}") for name in ("ann", "ben", "cleo"))


async def test_when_too_many_wait_the_newest_of_who_has_most_has_to_go(
    redis_server: databases.Redis,
) -> None:
    """The same as in one process: batch before interactive, and the newcomer only if that is its user's."""
    async with processes(redis_server, 2, slots=1, queue=3) as several:
        one = FairShare(pool(slots=1, queue=3))
        asked = [
            (0, ANN),
            (0, ANN._replace(priority=BATCH)),
            (1, BEN),
            (0, ANN),
            (1, BEN),
            (1, BEN),
            (0, CLEO),
        ]
        names: dict[Ticket, int] = {}
        for number, (process, who) in enumerate(asked):
            several.now += 1
            ticket, gone = one.ask(who, 1.0, several.now)
            names[ticket] = number
            said = await several.ask(process, number, who)
            told = [each[1:] for each in said.news if each[0] == "gone"]
            if gone is not None and asked[names[gone]][0] == process:  # else the other one is told
                place = [several.name(process, names[gone]), one.place(gone), one.waiting]
                assert told == [place]
            else:
                assert told == []
            assert said.waiting == one.waiting
        assert [number for ticket, number in names.items() if ticket.is_waiting] == [2, 3, 6]


async def test_a_step_that_was_given_up_and_comes_late_does_nothing(redis_server: databases.Redis) -> None:
    async with processes(redis_server, 1) as several:
        await several.ask(0, 1, ANN)
        several.stores[0]._numbers = iter([1])  # type: ignore[assignment]
        late = await several.leave(0, 1)
        assert late.is_stale
        several.stores[0]._numbers = iter([100])  # type: ignore[assignment]
        assert (await several.say(0, "config", *several.parts())).in_use == 1


async def test_who_is_not_heard_of_has_to_say_anew_what_it_has(redis_server: databases.Redis) -> None:
    async with processes(redis_server, 2, lease_s=10, slots=1) as several:
        await several.join(0)
        await several.join(1)
        await several.ask(0, 1, ANN, 50)
        await several.ask(1, 2, BEN)
        several.now += 9
        assert (await several.say(1, "config", *several.parts())).in_use == 1
        await several.started()
        several.now += 2  # eleven seconds since the first one was heard of
        said = await several.say(1, "config", *several.parts())
        assert (said.in_use, said.waiting, said.processes) == (1, 0, 1)
        assert said.news == [["run", several.name(1, 2)]]
        assert not (await several.leave(0, 1)).is_known
        back = await several.join(0, [("R", 11.0, *several.described(0, 1, ANN, 50))])
        assert (back.in_use, back.processes) == (2, 2)  # it does run, whatever slots there are


async def test_parts_are_kept_free_for_those_who_go_by_them(redis_server: databases.Redis) -> None:
    async with processes(redis_server, 2, slots=3, lease_s=10) as several:
        await several.stores[0]._redis.flushall()
        first = await several.part(0, 2, 2)
        assert not first.is_whole
        second = await several.part(1, 2, 1)
        assert second.is_whole
        await several.join(1)
        for number in (1, 2):
            await several.ask(1, number, ANN)
        assert await several.started() == {1}  # two are the first one's, though the store knows of none
        await several.join(0, [("R", 1.0, *several.described(0, 3, BEN))])
        assert await several.started() == {2, 3}


async def test_a_lease_is_enough_to_wait_for_those_who_do_not_come_back(
    redis_server: databases.Redis,
) -> None:
    async with processes(redis_server, 2, lease_s=10) as several:
        await several.stores[0]._redis.flushall()
        assert not (await several.part(0, 2, 1)).is_whole
        several.now += 9
        assert not (await several.part(0, 2, 1)).is_whole
        several.now += 1
        assert (await several.part(0, 2, 1)).is_whole


async def test_another_tunes_once_nothing_is_heard_of_the_first(redis_server: databases.Redis) -> None:
    async with processes(redis_server, 2, slots=8, most_slots=64) as several:
        several.config = pool(slots=8, most_slots=64)
        tuned = []
        for number in range(8):
            await several.ask(0, number, ANN)
        for process, passed_s in ((0, 1), (1, 1), (0, TUNER_S - 1), (1, 1), (1, TUNER_S), (0, 1)):
            several.now += passed_s
            tuned.append((await several.say(process, "tune", 0)).slots)
            for number in range(100 * len(tuned), 100 * len(tuned) + 1):
                await several.ask(0, number, ANN)
        assert tuned == [9, 9, 10, 10, 11, 11]
        await several.say(1, "tune", 3)
        assert (await several.say(1, "tune", 3)).slots == 9


async def test_what_is_remembered_is_bounded(
    redis_server: databases.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pool_store._CONSTANTS, "MAX_NODES", 50)
    async with processes(redis_server, 1, slots=1) as several:
        for number in range(300):
            several.now += 1
            await several.ask(0, number, Who("", f"user:{number % 80}", f"s{number}"), 10.0 + number)
            await several.leave(0, number, 10.0 + number)
        client, root = several.stores[0]._redis, f"{several.stores[0]._root}gpus"
        assert await client.zcard(f"{root}:u") <= 53
        kept = await client.zrange(f"{root}:u", 0, -1)
        assert "\x1fuser:59\x1fs299" in kept  # who had most stays


async def test_nothing_is_kept_for_ever_once_all_are_gone(redis_server: databases.Redis) -> None:
    async with processes(redis_server, 2) as several:
        await several.ask(0, 1, Who("lab", "user:a"), 10)
        await several.leave(0, 1, 10)
        await several.say(0, "bye")
        client, root = several.stores[0]._redis, f"{several.stores[0]._root}gpus"
        assert await client.ttl(f"{root}:u") == -1
        await several.say(1, "bye")
        left = await client.keys("*")
        assert {name: 0 < await client.ttl(name) <= KEPT_S for name in left} == dict.fromkeys(left, True)
        await several.join(0)
        assert await client.ttl(f"{root}:u") == -1


async def test_a_clock_that_was_put_back_or_far_ahead_stops_nothing(redis_server: databases.Redis) -> None:
    async with processes(redis_server, 1, slots=1) as several:
        for number, at in enumerate((5000.0, 10.0, 2e9, 100.0)):
            several.now = at
            if not (await several.say(0, "config", *several.parts())).is_known:
                await several.join(0)
            await several.ask(0, number, ANN, 10)
            await several.leave(0, number, 10)
        assert await several.left() == set()


async def test_names_may_be_anything(redis_server: databases.Redis) -> None:
    """What groups, users and sessions are called comes from elsewhere."""
    from jupyterhub_ai_gateway.scheduling.shared import SharedPool

    store = PoolStore(redis_server.url)
    shared = SharedPool(pool(slots=1), lambda: 0.0, store)
    odd = ["a\x1fb", "\ud800", "%s %d", "\x00", "ü\n", "x" * 300, "*", ""]
    for group in odd:
        ticket = await shared.enter(Who(group, f"user:{group}", group), 10, 5)
        waits = [asyncio.ensure_future(shared.enter(Who("", f"user:{each}", each), 1, 5)) for each in odd]
        while shared.known.waiting < len(odd):
            await asyncio.sleep(0.001)
        shared.leave(ticket, 10)
        for each in asyncio.as_completed(waits):
            shared.leave(await each, 1)
    assert shared.mode.value == "joined"
    names = await store._redis.keys("*") + await store._redis.zrange(f"{store._root}gpus:u", 0, -1)
    assert not any("x" * 300 + "\x1f" + "x" in name for name in names)
    assert all(len(name.rpartition("\x1f")[2]) <= 16 for name in names if name.count("\x1f") == 2)
    await shared.close()
    await store.close()
