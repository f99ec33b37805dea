"""Lets requests wait for a slot: `fair` says who is next, this wakes them up, and sends the late away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..config import PoolConfig
from ..errors import QueueFull
from ..metrics import PoolState
from .fair import FairShare, Ticket, Who, tuned

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
        ticket, gone = self.fair.ask(who, tokens, self._clock())
        if ticket.is_running:
            return ticket
        if gone is not None:
            self._send_away(gone)
            if gone is ticket:
                raise self._full("is full", "queue_full", ticket)
        waking = self._waking[ticket] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait([waking], timeout=wait_s)
        except BaseException:
            self.leave(ticket, 0)
            waking.cancel()
            raise
        finally:
            self._waking.pop(ticket, None)
            self._waits += 1
            self._waited_s += self._clock() - ticket.arrived
        if self._has_slot(ticket):
            return ticket
        if waking.done():
            waking.result()
        fault = self._full(f"had no slot for {wait_s:.0f} s", "queue_timeout", ticket)
        self.fair.quit(ticket)
        raise fault

    @staticmethod
    def _has_slot(ticket: Ticket) -> bool:
        """Say whether it runs by now."""
        return ticket.is_running

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
        )

    def described(self) -> dict[str, object]:
        """Describe it for those who look after it, with who has had how much."""
        fair = self.fair
        shares = [
            {
                "group": group,
                "user": user,
                "weight": weight,
                "used_tokens": round(used),
                "running": running,
                "waiting": waiting,
            }
            for group, user, weight, used, running, waiting in fair.shares(self._clock())
        ]
        shares.sort(key=lambda each: (each["user"] is not None, -_number(each["used_tokens"])))
        groups = sum(each["user"] is None for each in shares)
        return {
            "pool": self.config.name,
            "slots": fair.slots,
            "most_slots": self.config.most_slots,
            "in_use": fair.in_use,
            "waiting": fair.waiting,
            "queue": self.config.queue,
            "usual_hold_s": round(fair.hold_s, 3),
            "shares": shares[: groups + PLACES_SHOWN],
        }

    def _wake(self, started: Iterable[Ticket]) -> None:
        for ticket in started:
            waking = self._waking.get(ticket)
            if waking is not None and not waking.done():
                waking.set_result(None)

    def _send_away(self, ticket: Ticket) -> None:
        """Tell one who waits that there is no room any more."""
        waking = self._waking.get(ticket)
        if waking is not None and not waking.done():
            waking.set_exception(self._full("is full", "queue_full", ticket))

    def _full(self, why: str, slug: str, ticket: Ticket) -> QueueFull:
        self._refused += 1
        place, length = self.fair.place(ticket), self.fair.waiting
        wait_s = min(LONGEST_RETRY_S, max(1.0, self.fair.wait_s(place)))
        return QueueFull(
            f"The model's own machines are busy: the queue {why}. {length} requests wait, and yours would "
            f"be about number {place}. Try again in {wait_s:.0f} seconds.",
            slug=slug,
            retry_after_s=wait_s,
            more={"queue": {"place": place, "length": length}},
        )


def _number(value: object) -> float:
    return value if isinstance(value, (int, float)) else 0.0


@dataclass(slots=True)
class Pools:
    """All pools by name. They outlive a new configuration."""

    clock: Callable[[], float]
    _pools: dict[str, Pool]

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
                self._pools[name] = Pool(config, self.clock)
            else:
                known.use(config)

    def states(self) -> list[PoolState]:
        """Return the numbers of all."""
        return [pool.state() for pool in self._pools.values()]
