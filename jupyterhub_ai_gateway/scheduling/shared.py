"""A pool that several processes share: the store says whose turn it is, for all of them.

Requests wait here, as in any pool, but who gets a slot is decided there. What is to be said is gathered
while a step is under way and said in the next one, in order, so a request takes one round trip where there
is room. Every step has a number, and after one that was lost the whole is said anew: the store's view and
this one cannot drift apart.

While the store does not answer, the process goes by its own part: the slots divided by the processes that
there were. Once the store is back it waits until all of these are back too, or their lease is over.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2s

from typing_extensions import override

from ..config import PoolConfig
from ..metrics import PoolState
from .fair import Ticket, Who
from .pool_store import BEAT_S, RETRY_S, SEPARATOR, Numbers, PoolStore, Said, StoreAway, ended
from .pools import Pool, hush, no_slot, shown_shares

log = logging.getLogger(__name__)


class Mode(enum.Enum):
    """How slots are given out: by the store, as soon as it says so, here, or to everybody."""

    JOINED = "joined"
    JOINING = "joining"
    APART = "apart"
    OPEN = "open"


_CONTROLS = dict.fromkeys(range(32), " ")
_ASKS_STORE = (Mode.JOINED, Mode.JOINING)


class SharedPool(Pool):
    """One pool, of which other processes have their part. Needs a running loop."""

    def __init__(self, config: PoolConfig, clock: Callable[[], float], store: PoolStore) -> None:
        super().__init__(config, clock)
        self.mode = Mode.JOINING
        self.fair.slots = 0  # those are given out by the store
        self.known = Numbers(slots=config.slots)
        self.processes = store.processes
        self._store = store
        self._stamp = time.time()
        self._mine: dict[str, Ticket] = {}
        self._made = 0
        self._says: list[Said] = []
        self._has_words = asyncio.Event()
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asking = 0  # asked, and not answered yet
        self._places: dict[str, tuple[int, int]] = {}
        self._is_away = False
        self._look_at = clock() + BEAT_S
        self._talking = asyncio.ensure_future(self._talk())

    # What requests and operators want

    @property
    @override
    def has_room(self) -> bool:
        if self.mode not in _ASKS_STORE:
            return self.fair.has_room
        known = self.known
        return known.in_use + self._asking < known.slots and not known.waiting

    @override
    async def enter(self, who: Who, tokens: int, wait_s: float) -> Ticket:
        if self.mode not in _ASKS_STORE:
            return await super().enter(who, tokens, wait_s)
        ticket = self.fair.join(who, tokens, self._clock())
        self._name(ticket)
        self._waking[ticket] = asyncio.get_running_loop().create_future()
        self._asking += 1
        self._say("ask", *self._described(ticket))
        try:
            await asyncio.wait([self._answered])
        except BaseException:
            hush(self._waking.pop(ticket))
            self.leave(ticket, 0)
            raise
        if ticket.is_waiting:
            return await self._wait(ticket, wait_s)
        waking = self._waking.pop(ticket)
        waking.result()  # there was no room to wait
        return ticket

    @override
    def _ask(self, who: Who, tokens: int) -> tuple[Ticket, Ticket | None]:
        ticket, gone = super()._ask(who, tokens)
        self._name(ticket)
        if gone is not None:
            self._mine.pop(gone.name, None)
        return ticket, gone

    @override
    def leave(self, ticket: Ticket, tokens: int | None) -> None:
        if not ticket.is_waiting and not ticket.is_running:
            return
        self._mine.pop(ticket.name, None)
        super().leave(ticket, tokens)
        self._say("leave", ticket.name, -1 if tokens is None else tokens)

    @override
    async def _late(self, ticket: Ticket, wait_s: float) -> Ticket:
        self._say("late", ticket.name)
        try:
            if self.mode in _ASKS_STORE:
                await asyncio.wait([self._answered])
        except BaseException:
            self._places.pop(ticket.name, None)
            self.leave(ticket, 0)
            raise
        if ticket.is_running:  # at the last moment
            return ticket
        place = self._places.pop(ticket.name, None) or self._standing(ticket)
        self.leave(ticket, 0)
        raise self._full("queue_timeout", no_slot(wait_s), *place)

    @override
    def use(self, config: PoolConfig) -> None:
        if config != self.config:
            self._stamp = time.time()
        if self.mode in _ASKS_STORE:
            self.fair.weigh(config)
            self._say("config", *self._config())
            self._say("weigh", self._weights())
        else:
            self.fair.weigh(config)
            self._go_by_part()

    @override
    def tune(self, waiting: int) -> None:
        if self.config.most_slots is not None:
            self._say("tune", waiting)

    @override
    def open(self) -> None:
        self.mode = Mode.OPEN
        self._says.clear()
        self._answer()
        super().open()
        self._store.forget(self.config.name)
        self._talking = asyncio.ensure_future(self._say_goodbye(self._talking))

    @override
    async def close(self) -> None:
        await self._say_goodbye(self._talking)

    @override
    def state(self) -> PoolState:
        known = self.known
        own = super().state()
        return own._replace(
            slots=known.slots,
            all_in_use=max(known.in_use, own.in_use),
            all_waiting=max(known.waiting, own.waiting),
            is_apart=self.mode is Mode.APART,
        )

    @override
    async def described(self) -> dict[str, object]:
        own = await super().described()
        known, is_apart = self.known, self.mode is Mode.APART
        if is_apart:
            return {**own, "slots": known.slots, "processes": self.processes, "is_apart": True}
        try:
            shares = await self._store.shares(self.config.name)
        except StoreAway:
            shares = list(self.fair.shares(self._clock()))
        groups = [share for share in shares if share[1] is None]
        here = {"slots": known.slots, "in_use": self.fair.in_use, "waiting": self.fair.waiting}
        return {
            **own,
            "slots": known.slots,
            "in_use": sum(running for *_, running, _ in groups),
            "waiting": sum(waiting for *_, waiting in groups),
            "usual_hold_s": round(known.hold_s, 3),
            "processes": self.processes,
            "here": here,
            "shares": shown_shares(shares),
        }

    @override
    def _standing(self, ticket: Ticket) -> tuple[int, int]:
        place, length = super()._standing(ticket)
        return place, length if self.mode is Mode.APART else max(length, self.known.waiting)

    @override
    def _wait_s(self, place: int) -> float:
        if self.mode in _ASKS_STORE:
            return place * self.known.hold_s / max(1, self.known.slots)
        return super()._wait_s(place)

    # Talking with the store

    def _say(self, *said: object) -> None:
        if self.mode in _ASKS_STORE:
            self._says.append(said)
            self._has_words.set()

    async def _talk(self) -> None:
        await self._store.listen(self.config.name, self._overhear, self._has_words.set)
        while self.mode is not Mode.OPEN:
            try:
                if self.mode is Mode.JOINED:
                    await self._wait_for_words()
                    await self._say_all()
                elif not await self._join():
                    await asyncio.sleep(RETRY_S)
            except StoreAway as error:
                self._part(error)
                await asyncio.sleep(RETRY_S)

    async def _wait_for_words(self) -> None:
        beat = asyncio.get_running_loop().call_later(BEAT_S, self._has_words.set)
        try:
            await self._has_words.wait()
        finally:
            beat.cancel()
        self._has_words.clear()

    async def _say_all(self) -> None:
        """Say what has gathered, and every `BEAT_S` look whether the store knows the same."""
        says, now = self._says, self._clock()
        is_beat = not says or now >= self._look_at
        if is_beat:
            says.append(("config", *self._config()))
            self._look_at = now + BEAT_S
        mine, running = len(self._mine), self.fair.in_use
        numbers = await self._step(says)
        if not numbers.is_known:
            self.mode = Mode.JOINING  # it was given up, or the store was emptied
            return
        run = running + sum(word == "run" for word, *_ in numbers.news)
        mine -= sum(word != "run" for word, *_ in numbers.news)
        if is_beat and (numbers.mine, numbers.running, numbers.queued) != (mine, run, mine - run):
            self._say(*self._all(with_waiting=True))  # something that it told was not heard

    async def _step(self, says: list[Said]) -> Numbers:
        """Say this, and what is said meanwhile in the next step."""
        self._says = []
        asking = self._asking
        answered, self._answered = self._answered, asyncio.get_running_loop().create_future()
        try:
            numbers = await self._store.step(self.config.name, says)
            if numbers.is_stale:
                raise StoreAway("it took a step of this process twice")
            self._asking -= min(asking, self._asking)
            if numbers.is_known:
                self._hear(numbers)
                if self.mode is Mode.JOINED:
                    self.processes = max(1, numbers.processes)
            return numbers
        finally:
            if not answered.done():
                answered.set_result(None)

    def _overhear(self, numbers: Numbers) -> None:
        """Take in what came of another process' step; ask anew where one has come or gone."""
        self._hear(numbers)
        if numbers.processes != self.processes:
            self._has_words.set()

    def _hear(self, numbers: Numbers) -> None:
        """Take in what the store says: who runs, who has to go, and its numbers."""
        if numbers.step > self.known.step or self.mode is not Mode.JOINED:
            self.known = numbers  # what is told may come later than what was answered
        for word, name, *standing in numbers.news:
            ticket = self._mine.get(str(name))
            if ticket is None or not ticket.is_waiting:
                continue
            if word == "run":
                self.fair.begin(ticket, self._clock())
                self._wake([ticket])
            elif word == "late":
                self._places[ticket.name] = (int(standing[0]), int(standing[1]))
                self._quit(ticket)
            else:
                self._quit(ticket)
                waking = self._waking.get(ticket)
                if waking is not None and not waking.done():
                    place, length = int(standing[0]), int(standing[1])
                    waking.set_exception(self._full("queue_full", "is full", place, length))

    def _quit(self, ticket: Ticket) -> None:
        self.fair.quit(ticket)
        self._mine.pop(ticket.name, None)

    # Apart, and together again

    async def _join(self) -> bool:
        """Take part again; False where some of the others are not back yet."""
        numbers = await self._step([self._all(with_waiting=False)])
        if not numbers.is_whole:
            self._part(None)
            return False
        self.mode = Mode.JOINING  # nobody is started here alone from now on
        self.fair.slots = 0
        self.fair.queue = self.config.queue
        self._has_words.clear()
        await self._step([self._all(with_waiting=True)])
        self.mode, self.processes = Mode.JOINED, max(1, self.known.processes)
        if self._is_away:
            log.info("The pool %s is shared again by %d processes", self.config.name, self.processes)
        self._is_away = False
        return True

    def _part(self, error: StoreAway | None) -> None:
        """Go by this process' own part, until the store is back."""
        self.mode = Mode.APART
        self._says = []
        self._asking = 0
        self._go_by_part()
        if error is not None and not self._is_away:
            self._is_away = True
            log.warning(
                "The pool %s goes by this process' own part, %d slots, until the store answers again: %s",
                self.config.name,
                self.fair.slots,
                error,
            )
        self._answer()

    def _go_by_part(self) -> None:
        self.fair.slots = self._part_slots
        self.fair.queue = -(-self.config.queue // self.processes)
        self._wake(self.fair.fill(self._clock()))

    @property
    def _part_slots(self) -> int:
        """Return this process' own part of the slots."""
        most = max(self.config.slots, self.config.most_slots or 0)
        return max(1, max(self.config.slots, min(self.known.slots, most)) // self.processes)

    def _answer(self) -> None:
        """Let those go on who wait to hear of the store."""
        answered, self._answered = self._answered, asyncio.get_running_loop().create_future()
        if not answered.done():
            answered.set_result(None)

    async def _say_goodbye(self, talking: asyncio.Task[None]) -> None:
        await ended(talking)
        with suppress(StoreAway):
            await self._store.step(self.config.name, [("bye",)])

    # What is said

    def _name(self, ticket: Ticket) -> None:
        self._made += 1
        ticket.name = f"{self._store.name}:{self._made}"
        self._mine[ticket.name] = ticket

    def _config(self) -> tuple[float, int, int, int, float]:
        config = self.config
        return self._stamp, config.slots, config.most_slots or 0, config.queue, config.half_life_s

    def _described(self, ticket: Ticket) -> tuple[object, ...]:
        """Say whose request it is, by what is needed to share: of a session only which it is."""
        who, user = ticket.who, ticket.leaf.parent
        assert user is not None  # noqa: S101 - a leaf is a session
        assert user.parent is not None  # noqa: S101 - a user has a group
        session = blake2s(who.session.encode("utf-8", "replace"), digest_size=8).hexdigest()
        return (
            ticket.name,
            _clean(who.group),
            _clean(who.user),
            session if who.session else "",
            who.priority,
            ticket.tokens,
            user.parent.weight,
            user.weight,
        )

    def _all(self, *, with_waiting: bool) -> Said:
        now = self._clock()
        tickets = [
            ("R", now - each.started, *self._described(each))
            if each.is_running
            else ("W", now - each.arrived, *self._described(each))
            for each in self._mine.values()
            if each.is_running or with_waiting
        ]
        return "all", tickets, self.processes, self._config(), 0 if with_waiting else self._part_slots

    def _weights(self) -> list[tuple[str, str | None, float]]:
        """Say what the groups and users weigh whose requests run or wait here."""
        found: dict[str, tuple[str, str | None, float]] = {}
        for _, group, user, _, _, _, group_weight, user_weight in map(self._described, self._mine.values()):
            path = f"{group}{SEPARATOR}{user}"
            found[str(group)] = (str(group), None, float(str(group_weight)))
            found[path] = (path, str(group), float(str(user_weight)))
        return list(found.values())


@dataclass(frozen=True, slots=True)
class SharedPools:
    """Makes the pools of a store."""

    store: PoolStore

    def make(self, config: PoolConfig, clock: Callable[[], float]) -> Pool:
        """Return one that takes part in what the others have."""
        return SharedPool(config, clock, self.store)

    async def close(self) -> None:
        """Let go of the store."""
        await self.store.close()


def _clean(name: str) -> str:
    """Return a name that can be part of a path: without what separates, and what the script cannot read."""
    return name.encode("utf-8", "replace").decode().translate(_CONTROLS)
