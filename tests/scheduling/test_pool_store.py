"""The order in which several processes get the slots of one pool is that of one process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import databases
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from jupyterhub_ai_gateway.config import PoolConfig
from jupyterhub_ai_gateway.scheduling.fair import BATCH, INTERACTIVE, FairShare, Ticket, Who
from jupyterhub_ai_gateway.scheduling.pool_store import Numbers, PoolStore

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
        return await self.say(process, "all", tickets, len(self.stores), self.parts(**more))

    def parts(self, config: PoolConfig | None = None, stamp: float = 1.0) -> tuple[Any, ...]:
        one = config or self.config
        return stamp, one.slots, one.most_slots or 0, one.queue, one.half_life_s

    def name(self, process: int, number: int) -> str:
        return f"{self.stores[process].name}:{number}"

    def described(self, process: int, number: int, who: Who, tokens: float = 1.0) -> tuple[Any, ...]:
        weights = GROUP_WEIGHTS.get(who.group, 1.0), USER_WEIGHTS.get(who.user, 1.0)
        name = self.name(process, number)
        return (name, who.group, who.user, who.session, who.priority, tokens, *weights)

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
        lasting = {f"{self.stores[0]._root}gpus:{key}" for key in ("s", "u", "w", "at", "n", "or", "ow")}
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

    async def compare() -> None:
        async with processes(redis_server, count, slots=slots) as several:
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

    asyncio.run(compare())
