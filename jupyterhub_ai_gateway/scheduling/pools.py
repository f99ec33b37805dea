"""Lets requests wait for a slot: `fair` says who is next, this wakes them up, and sends the late away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from ..config import PoolConfig
from ..errors import QueueFull
from ..metrics import PoolState
from .fair import FairShare, Share, Ticket, Who, tuned

LONGEST_RETRY_S = 600.0
PLACES_SHOWN = 50
"""How many users a pool's description names at most."""


class Pool:
    """One pool. `enter` and `leave` come in pairs; a cancelled `enter` has left already."""

    def __init__(self, config: PoolConfig, clock: Callable[[], float]) -> None:
        self.fair = FairShare(config)
        self._clock = clock
        self._waking: dict[Ticket, asyncio.Future[None]] = {}
        self._waits = 0
        self._waited_s = 0.0
        self._refused = 0

    @property
    def config(self) -> PoolConfig:
        """Return what the operator says of it."""
        return self.fair.config

    @property
    def has_room(self) -> bool:
        """Say whether a request would get a slot at once."""
        return self.fair.has_room

    async def enter(self, who: Who, tokens: int, wait_s: float) -> Ticket:
        """Get a slot, be it after a while. `QueueFull` when too many wait, or for longer than `wait_s`."""
        ticket, gone = self._ask(who, tokens)
        if ticket.is_running:
            return ticket
        if gone is not None:
            self._send_away(gone)
            if gone is ticket:
                raise self._full("queue_full", "is full", *self._standing(ticket))
        self._waking[ticket] = asyncio.get_running_loop().create_future()
        return await self._wait(ticket, wait_s)

    def _ask(self, who: Who, tokens: int) -> tuple[Ticket, Ticket | None]:
        """Return what the request got, and who has to go for it."""
        return self.fair.ask(who, tokens, self._clock())

    async def _wait(self, ticket: Ticket, wait_s: float) -> Ticket:
        """Wait until it runs; `QueueFull` when it has to go."""
        waking = self._waking[ticket]
        try:
            await asyncio.wait([waking], timeout=wait_s)
        except BaseException:
            self.leave(ticket, 0)
            hush(waking)
            raise
        finally:
            self._waking.pop(ticket, None)
            self._waits += 1
            self._waited_s += self._clock() - ticket.arrived
        if _has_slot(ticket):
            return ticket
        if waking.done():
            waking.result()
        return await self._late(ticket, wait_s)

    async def _late(self, ticket: Ticket, wait_s: float) -> Ticket:
        """Say to one that has waited for too long what place it had."""
        fault = self._full("queue_timeout", no_slot(wait_s), *self._standing(ticket))
        self.fair.quit(ticket)
        raise fault

    def leave(self, ticket: Ticket, tokens: int | None) -> None:
        """Give the slot back; `tokens` is what the request used, None where that is not known."""
        self._wake(self.fair.leave(ticket, tokens, self._clock()))

    def use(self, config: PoolConfig) -> None:
        """Take what the operator says now; those who wait go on waiting."""
        self._wake(self.fair.use(config, self._clock()))

    def tune(self, waiting: int) -> None:
        """Take in how many wait inside the model's server, where the operator lets slots be tuned."""
        fair, config = self.fair, self.fair.config
        if config.most_slots is None:
            return
        fair.slots = tuned(
            fair.slots,
            least=config.slots,
            most=config.most_slots,
            waiting=waiting,
            is_full=fair.in_use >= fair.slots,
        )
        self._wake(fair.fill(self._clock()))

    def open(self) -> None:
        """Let everybody go who waits: the pool is no more."""
        self.fair.slots = self.fair.in_use + self.fair.waiting + 1
        self._wake(self.fair.fill(self._clock()))

    def state(self) -> PoolState:
        """Return its numbers."""
        fair = self.fair
        return PoolState(
            self.config.name,
            fair.slots,
            fair.in_use,
            fair.waiting,
            self._waits,
            self._waited_s,
            self._refused,
            fair.in_use,
            fair.waiting,
        )

    async def described(self) -> dict[str, object]:
        """Describe it for those who look after it, with who has had how much."""
        fair = self.fair
        here = {"slots": fair.slots, "in_use": fair.in_use, "waiting": fair.waiting}
        return {
            "pool": self.config.name,
            **here,
            "most_slots": self.config.most_slots,
            "queue": self.config.queue,
            "usual_hold_s": round(fair.hold_s, 3),
            "processes": 1,
            "here": here,
            "is_apart": False,
            "shares": shown_shares(fair.shares(self._clock())),
        }

    async def close(self) -> None:
        """Let go of it, once nobody uses it any more."""

    def _wake(self, started: Iterable[Ticket]) -> None:
        for ticket in started:
            waking = self._waking.get(ticket)
            if waking is not None and not waking.done():
                waking.set_result(None)

    def _send_away(self, ticket: Ticket) -> None:
        """Tell one who waits that there is no room any more."""
        waking = self._waking.get(ticket)
        if waking is not None and not waking.done():
            waking.set_exception(self._full("queue_full", "is full", *self._standing(ticket)))

    def _standing(self, ticket: Ticket) -> tuple[int, int]:
        """Return its place, or that which it would have, and how many wait."""
        return self.fair.place(ticket), self.fair.waiting

    def _wait_s(self, place: int) -> float:
        """Return about how long it takes until that place has its turn."""
        return self.fair.wait_s(place)

    def _full(self, slug: str, why: str, place: int, length: int) -> QueueFull:
        self._refused += 1
        wait_s = min(LONGEST_RETRY_S, max(1.0, self._wait_s(place)))
        return QueueFull(
            f"The model's own machines are busy: the queue {why}. {length} requests wait, and yours would "
            f"be about number {place}. Try again in {wait_s:.0f} seconds.",
            slug=slug,
            retry_after_s=wait_s,
            more={"queue": {"place": place, "length": length}},
        )


def shown_shares(shares: Iterable[Share]) -> list[dict[str, object]]:
    """Describe the groups, and as many users as may be shown, each by what they have had."""
    ordered = sorted(shares, key=lambda each: (each[1] is not None, -each[3]))
    groups = sum(user is None for _, user, *_ in ordered)
    return [
        {
            "group": group,
            "user": user,
            "weight": weight,
            "used_tokens": round(used),
            "running": running,
            "waiting": waiting,
        }
        for group, user, weight, used, running, waiting in ordered[: groups + PLACES_SHOWN]
    ]


def hush(waking: asyncio.Future[None]) -> None:
    """Take in what it would have said, as nobody waits to hear it any more."""
    if not waking.cancel():
        waking.exception()


def _has_slot(ticket: Ticket) -> bool:
    """Say whether it runs by now."""
    return ticket.is_running


def no_slot(wait_s: float) -> str:
    return f"had no slot for {wait_s:.0f} s"


class Sharing(Protocol):
    """Makes pools that several processes share; `shared.PoolStore` is one."""

    def make(self, config: PoolConfig, clock: Callable[[], float]) -> Pool:
        """Return one that takes part in what the others have."""

    async def close(self) -> None:
        """Let go, once no pool is used any more."""


@dataclass(slots=True)
class Pools:
    """All pools by name. They outlive a new configuration. With `sharing` other processes have them too."""

    clock: Callable[[], float]
    _pools: dict[str, Pool]
    sharing: Sharing | None = None

    @classmethod
    def none(cls, clock: Callable[[], float]) -> Pools:
        """Return those of a gateway that has none yet."""
        return cls(clock, {})

    @property
    def is_empty(self) -> bool:
        """Say whether there are none, as is usual."""
        return not self._pools

    def get(self, name: str | None) -> Pool | None:
        """Return one; None for a deployment that has none."""
        return None if name is None else self._pools.get(name)

    @property
    def all(self) -> list[Pool]:
        """Return all, in the order in which they came."""
        return list(self._pools.values())

    def use(self, configs: Iterable[PoolConfig]) -> None:
        """Take the pools of a configuration; who waits in one that is gone goes on at once."""
        wanted = {config.name: config for config in configs}
        for name in self._pools.keys() - wanted.keys():
            self._pools.pop(name).open()
        for name, config in wanted.items():
            known = self._pools.get(name)
            if known is None:
                self._pools[name] = self._made(config)
            else:
                known.use(config)

    def _made(self, config: PoolConfig) -> Pool:
        return Pool(config, self.clock) if self.sharing is None else self.sharing.make(config, self.clock)

    async def close(self) -> None:
        """Let go of all, once nobody uses them any more."""
        for pool in self._pools.values():
            await pool.close()
        if self.sharing is not None:
            await self.sharing.close()

    def states(self) -> list[PoolState]:
        """Return the numbers of all."""
        return [pool.state() for pool in self._pools.values()]
