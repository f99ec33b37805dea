"""Which deployment first: a pure function of what is on offer and how it fares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from hashlib import blake2b
from math import ceil, log
from typing import Protocol, TypeVar

from ..config import Order
from .health import Health

FULLEST = 1.25
"""How much more than its share may run at a deployment before a key that is stuck to it goes elsewhere."""


NOBODY: frozenset[str] = frozenset()


FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
"""Before all deployments are tried again: any time up to these, as much as chance says."""
LONGEST_ASKED_PAUSE_S = 60.0
"""For how long a request waits because all its providers have asked for it."""
PACE_S = 1.0
"""For how long it is remembered who is slow."""


class Candidate(Protocol):
    """What the order looks at. `rate` is what a thousand tokens cost, None where nobody knows."""

    @property
    def name(self) -> str:
        """Return what it is called in its endpoint."""

    @property
    def priority(self) -> int:
        """Return its tier; 1 is asked first."""

    @property
    def weight(self) -> float:
        """Return its share within a tier."""

    @property
    def health(self) -> Health:
        """Return how it fares."""

    @property
    def rate(self) -> int | None:
        """Return what it costs."""


C = TypeVar("C", bound=Candidate)


def ordered(
    candidates: Sequence[C],
    order: Order,
    now: float,
    draw: Callable[[], float],
    key: bytes = b"",
    slow: Set[str] = NOBODY,
) -> list[C]:
    """Return all candidates in the order in which to try them.

    Tiers come by their priority; within a tier the `slow` ones, by their names, come after the others, and
    otherwise they come as `order` says: "weighted" by chance in proportion to the weights,
    "least_in_flight" per weight, "lowest_latency" and "cheapest" first, unknown latency before known,
    unknown cost after known; chance breaks ties. "sticky" keeps a `key` where it was. Those that are not
    ready come last, by how bad their state is, of those that rest the one whose rest ends first before the
    others: they are tried only when everything else has failed. `draw` returns a random number from 0 to 1.
    """
    ready = [each for each in candidates if not each.health.rank(now)]
    others = [each for each in candidates if each.health.rank(now)]
    if order == "sticky":
        ready = _stuck(ready, key, slow)
    else:
        by = _KEYS[order]
        ready.sort(key=lambda each: (each.priority, each.name in slow, *by(each, draw())))
    others.sort(key=lambda each: (each.health.rank(now), each.health.rests_until, each.priority))
    return [*ready, *others]


def slow_ones(candidates: Sequence[Candidate], now: float) -> frozenset[str]:
    """Return the names of those whose answers lately take by far too long to begin.

    Whole answers and streams are judged apart, each against what is usual there, and against the median of
    the tier, of two the faster. What is slow is asked after those others; once nothing has been heard of it
    for as long as a window, it is asked as before.
    """
    if len(candidates) < 2:
        return NOBODY
    slow: list[str] = []
    for kind in (0, 1):
        known = [each for each in candidates if each.health.recent_s(now, kind) is not None]
        for each in known:
            health = each.health
            if health.is_slower_than(now, kind, health.window.usual_s[kind]) or health.is_slower_than(
                now, kind, _median(each.priority, known, now, kind)
            ):
                slow.append(each.name)
    return frozenset(slow) if slow else NOBODY


def _median(priority: int, known: Sequence[Candidate], now: float, kind: int) -> float | None:
    """Return the median of a tier, of two the lesser."""
    times = [each.health.recent_s(now, kind) for each in known if each.priority == priority]
    found = sorted(time_s for time_s in times if time_s is not None)
    return found[(len(found) - 1) // 2] if found else None


def _stuck(candidates: list[C], key: bytes, slow: Set[str]) -> list[C]:
    """Order by tiers, and in a tier by the key: the same key, the same first, as long as that has room.

    Each candidate has a score for the key, by rendezvous hashing with weights: when one comes or goes, only
    the keys that were, or will be, its own move. One with more than `FULLEST` times its share of what runs
    in its tier comes after those with less, so a popular key spreads.

    Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998); Mirrokni,
    Thorup and Zadimoghaddam, "Consistent hashing with bounded loads" (2018).
    """
    found: list[C] = []
    for priority in sorted({each.priority for each in candidates}):
        tier = [each for each in candidates if each.priority == priority]
        weights = sum(each.weight for each in tier) or 1.0
        running = sum(each.health.in_flight for each in tier) + 1

        def is_full(each: C, weights: float = weights, running: int = running) -> bool:
            return each.health.in_flight >= ceil(FULLEST * running * each.weight / weights)

        found += sorted(
            tier,
            key=lambda each: (each.name in slow, is_full(each), -_score(each.name, each.weight, key)),
        )
    return found


def _score(name: str, weight: float, key: bytes) -> float:
    """Return a number that is large by chance in proportion to the weight, the same for the same key."""
    digest = blake2b(key, digest_size=8, key=name.encode()[:64]).digest()
    chance = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)
    return -weight / log(chance)


def _weighted(each: Candidate, chance: float) -> tuple[float, float]:
    # Efraimidis and Spirakis, "Weighted random sampling with a reservoir" (2006): keys u^(1/w)
    return -(chance ** (1.0 / each.weight)) if each.weight > 0 else 1.0, chance


def _least_in_flight(each: Candidate, chance: float) -> tuple[float, float]:
    return each.health.in_flight / each.weight if each.weight > 0 else float("inf"), chance


def _lowest_latency(each: Candidate, chance: float) -> tuple[float, float]:
    return each.health.latency_s or 0.0, chance


def _cheapest(each: Candidate, chance: float) -> tuple[float, float]:
    return float("inf") if each.rate is None else float(each.rate), chance


_KEYS: dict[Order, Callable[[Candidate, float], tuple[float, float]]] = {
    "weighted": _weighted,
    "least_in_flight": _least_in_flight,
    "lowest_latency": _lowest_latency,
    "cheapest": _cheapest,
}


def pause_s(turn: int, asked_s: Iterable[float], left_s: float, draw: Callable[[], float]) -> float | None:
    """Return how long to wait before all deployments are tried for the `turn`th time again.

    That is any time up to half a second, the next time up to one, then two, and so on to eight, as much as
    chance says. When each of them has asked to be left alone, for `asked_s` from now, the shortest of these
    comes before it. None when that does not end within `left_s`, or takes more than a minute.

    Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog (2015): full jitter.
    """
    jitter_s = draw() * min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (turn - 1))
    asked = max(0.0, min(asked_s, default=0.0))
    if asked > min(left_s, LONGEST_ASKED_PAUSE_S) or left_s <= 0.0:
        return None
    return asked + min(jitter_s, (left_s - asked) / 2)


class Pace:
    """Remembers for a second who is slow in an endpoint: it is asked for each request."""

    __slots__ = ("_slow", "_until")

    def __init__(self) -> None:
        self._slow: Set[str] = NOBODY
        self._until = float("-inf")

    def slow(self, candidates: Sequence[Candidate], now: float) -> Set[str]:
        """Return the names of those that are slow."""
        if now >= self._until:
            self._slow, self._until = slow_ones(candidates, now), now + PACE_S
        return self._slow


class RetryBudget:
    """Bounds how many further attempts an endpoint makes: one for each request, and `burst` besides.

    In an outage everything would otherwise be tried everywhere, again and again.
    """

    def __init__(self, burst: float = 100.0) -> None:
        self._burst = burst
        self._left = burst

    def earn(self) -> None:
        """Count a request."""
        self._left = min(self._burst, self._left + 1.0)

    def spend(self) -> bool:
        """Take one further attempt; False when there is none left."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
