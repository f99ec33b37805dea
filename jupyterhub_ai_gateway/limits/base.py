"""Where buckets live: in this process, or in a store that several processes share."""

from __future__ import annotations

import abc
from collections.abc import Awaitable

from .bucket import Rule, Verdict


class StoreUnavailable(Exception):  # noqa: N818 - the store's state, told to the gate
    """A store that others share did not answer."""


class Store(abc.ABC):
    """Keeps buckets by key. A taking is atomic, whoever else takes at the same time."""

    @abc.abstractmethod
    def take(self, key: str, rule: Rule, now: float) -> Verdict | Awaitable[Verdict]:
        """Take one call from the bucket of `key`; a store that has to ask returns an awaitable.

        `now` is of the gate's clock; a shared store goes by a clock of its own.
        """
