"""Which deployment first: a pure function of what is on offer and how it fares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from ..config import Order
from .health import Health


class Candidate(Protocol):
    """What the order looks at. `rate` is what a thousand tokens cost, None where nobody knows."""

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


def ordered(candidates: Sequence[C], order: Order, now: float, draw: Callable[[], float]) -> list[C]:
    """Return all candidates in the order in which to try them.

    Tiers come by their priority, and within a tier as `order` says: "weighted" by chance in proportion to
    the weights, "least_in_flight" per weight, "lowest_latency" and "cheapest" first, unknown latency before
    known, unknown cost after known; chance breaks ties. Those that rest come last, the one whose rest ends
    first before the others: they are tried only when everything else has failed. `draw` returns a random
    number from 0 to 1.
    """
    awake = [each for each in candidates if not each.health.is_resting(now)]
    resting = [each for each in candidates if each.health.is_resting(now)]
    key = _KEYS[order]
    awake.sort(key=lambda each: (each.priority, *key(each, draw())))
    resting.sort(key=lambda each: each.health.rests_until)
    return [*awake, *resting]


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
