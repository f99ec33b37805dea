"""What stores of counters do: reserve for all rules of a request at once, or for none; settle later.

A counter is kept by key and slot. What counts against a limit is what was used in the slots of the window
that are not over, and what is reserved now.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Sequence

import msgspec


class Take(msgspec.Struct, frozen=True, gc=False):
    """What one rule reserves for one request.

    `slot` and `first` are those of `window.Slot`, in milliseconds; from `expires_ms` on nobody asks for
    this slot. A `is_soft` rule counts and never refuses.
    """

    key: str
    slot: int
    first: int
    expires_ms: int
    limit: int
    amount: int
    is_soft: bool


class Reserved(msgspec.Struct, frozen=True, gc=False):
    """What became of a reservation: `refused` is the place of the first rule that had too little left.

    `used` is what counted for each rule before this request, reservations included. Nothing is reserved
    when a rule refused; then `freed_slot` is the slot that has to be forgotten until there is enough left,
    None where that would not help.
    """

    refused: int | None
    used: tuple[int, ...]
    freed_slot: int | None = None


class CounterStore(abc.ABC):
    """Keeps counters. Each method is atomic, whoever else calls one at the same time.

    A store that has to ask somebody returns awaitables.
    """

    @abc.abstractmethod
    def reserve(self, name: str, takes: Sequence[Take], now_ms: int) -> Reserved | Awaitable[Reserved]:
        """Reserve for the request `name`, for every rule or for none."""

    @abc.abstractmethod
    def settle(
        self, name: str, takes: Sequence[Take], amounts: Sequence[int], now_ms: int
    ) -> Awaitable[None] | None:
        """Put what was used in the place of what was reserved. A second time for a request does nothing."""

    @abc.abstractmethod
    def used(self, takes: Sequence[Take], now_ms: int) -> tuple[int, ...] | Awaitable[tuple[int, ...]]:
        """Return what counts for each rule, without reserving anything."""

    @abc.abstractmethod
    def seed(self, key: str, slot: int, amount: int, expires_ms: int) -> Awaitable[None] | None:
        """Say what the ledger knows of a counter; one that is there already stays as it is."""

    def renew(self, now_ms: int) -> Awaitable[None] | None:
        """Say that this process's requests still run. A shared store gives up those that nobody renews."""
        return None

    async def close(self) -> None:  # noqa: B027 - most have none
        """Let go of every connection."""
