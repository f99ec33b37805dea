"""Of several places that have a model: the one where it runs, before one where it has yet to be started."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

from .states import DOWN, LOADING, MAINTENANCE, QUEUED, READY, RESTING, Found

State = Literal["running", "queued", "free", "online", "maintenance", "offline"]
"""What is known of a model at a place: it runs; it waits to be started; there is room to start it; the
place is there; it is looked after and takes nothing; it does not answer."""

_RANK: dict[State, int] = {
    "running": 0,
    "queued": 1,
    "free": 2,
    "online": 3,
    "offline": 4,
    "maintenance": 5,
}


_WORDS: dict[str, State] = {
    READY: "running",
    QUEUED: "queued",
    LOADING: "queued",
    RESTING: "offline",
    DOWN: "offline",
    MAINTENANCE: "maintenance",
}


class Placed(Protocol):
    """What the state is of."""

    def state(self, now: float) -> Found:
        """Return the state it is in."""


P = TypeVar("P", bound=Placed)


def state_of(deployment: Placed, now: float) -> State:
    """Return a deployment's state in FIRST's words."""
    return _WORDS.get(deployment.state(now).state, "running")


def by_state(deployments: Sequence[P], now: float) -> list[P]:
    """Return deployments by their state; within one state in the order in which they come."""
    return sorted(deployments, key=lambda each: _RANK[state_of(each, now)])
