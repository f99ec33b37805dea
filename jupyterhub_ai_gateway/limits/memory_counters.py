"""Counters in this process: exact, and bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from typing_extensions import override

from .counters import CounterStore, Reserved, Take

MAX_COUNTERS = 200_000
_SWEEP = 2


class _Counter:
    """One counter. `used` and `reserved` are by slot, in the order of the slots; `total` adds both up."""

    __slots__ = ("expires_ms", "reserved", "total", "used")

    def __init__(self) -> None:
        self.used: dict[int, int] = {}
        self.reserved: dict[int, int] = {}
        self.total = 0
        self.expires_ms = 0

    def forget_before(self, first: int) -> None:
        """Drop the slots that are over."""
        for slots in (self.used, self.reserved):
            while slots and (slot := next(iter(slots))) < first:
                self.total -= slots.pop(slot)

    def use(self, slot: int, amount: int) -> None:
        """Add what was used, which may be later than what was used after it."""
        used = self.used
        is_late = slot not in used and used and slot < next(reversed(used))
        used[slot] = used.get(slot, 0) + amount
        self.total += amount
        if is_late:
            self.used = dict(sorted(used.items()))

    def freed_slot(self, take: Take) -> int | None:
        """Return the slot with which enough is forgotten for a request; None where nothing helps."""
        if take.amount > take.limit:
            return None
        left = self.total
        for slot in sorted({*self.used, *self.reserved}):
            left -= self.used.get(slot, 0) + self.reserved.get(slot, 0)
            if left + take.amount <= take.limit:
                return slot
        return None

    @property
    def is_reserved(self) -> bool:
        return any(self.reserved.values())


class MemoryCounters(CounterStore):
    """Keeps at most `max_counters`. Above that the one used longest ago goes, on the caller's side.

    Those whose window is over go first, and those of running requests never; `forgotten` counts the rest.
    """

    def __init__(self, max_counters: int = MAX_COUNTERS) -> None:
        self._max_counters = max_counters
        self._counters: OrderedDict[str, _Counter] = OrderedDict()
        self._open: set[str] = set()  # requests that have reserved and not settled
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._counters)

    @property
    def open_reservations(self) -> int:
        """Return how many requests have reserved and not settled."""
        return len(self._open)

    @override
    def reserve(self, name: str, takes: Sequence[Take], now_ms: int) -> Reserved:
        refused: int | None = None
        used: list[int] = []
        counters: list[_Counter] = []
        for index, take in enumerate(takes):
            counter = self._counter(take, now_ms)
            counters.append(counter)
            used.append(counter.total)
            if refused is None and not take.is_soft and counter.total + take.amount > take.limit:
                refused = index
        if refused is None:
            for take, counter in zip(takes, counters, strict=True):
                if take.amount:
                    counter.reserved[take.slot] = counter.reserved.get(take.slot, 0) + take.amount
                    counter.total += take.amount
            self._open.add(name)
            return Reserved(None, tuple(used))
        return Reserved(refused, tuple(used), counters[refused].freed_slot(takes[refused]))

    @override
    def settle(self, name: str, takes: Sequence[Take], amounts: Sequence[int], now_ms: int) -> None:
        if name not in self._open:
            return
        self._open.discard(name)
        for take, amount in zip(takes, amounts, strict=True):
            counter = self._counters.get(take.key)
            if counter is None:
                continue
            if take.slot in counter.reserved and take.amount:
                counter.reserved[take.slot] -= take.amount
                counter.total -= take.amount
                if not counter.reserved[take.slot]:
                    del counter.reserved[take.slot]
            if amount and (take.expires_ms > now_ms):
                counter.use(take.slot, amount)

    @override
    def used(self, takes: Sequence[Take], now_ms: int) -> tuple[int, ...]:
        found: list[int] = []
        for take in takes:
            counter = self._counters.get(take.key)
            if counter is not None:
                counter.forget_before(take.first)
            found.append(0 if counter is None else counter.total)
        return tuple(found)

    @override
    def seed(self, key: str, slot: int, amount: int, expires_ms: int) -> None:
        counter = self._counters.setdefault(key, _Counter())
        if slot not in counter.used:
            counter.use(slot, amount)
            counter.expires_ms = max(counter.expires_ms, expires_ms)

    def _counter(self, take: Take, now_ms: int) -> _Counter:
        counter = self._counters.get(take.key)
        if counter is None:
            self._make_room(now_ms)
            counter = self._counters[take.key] = _Counter()
        else:
            self._counters.move_to_end(take.key)
            counter.forget_before(take.first)
        if take.expires_ms > counter.expires_ms:
            counter.expires_ms = take.expires_ms
        return counter

    def _make_room(self, now_ms: int) -> None:
        """Drop a few of the counters used longest ago that are over; above the bound, any that is free."""
        counters = self._counters
        for _ in range(min(_SWEEP, len(counters))):
            key, counter = next(iter(counters.items()))
            if counter.is_reserved:
                counters.move_to_end(key)
            elif counter.expires_ms <= now_ms:
                del counters[key]
            elif len(counters) >= self._max_counters:
                del counters[key]
                self.forgotten += 1
            else:
                break
