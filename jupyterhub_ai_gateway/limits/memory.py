"""Buckets in this process: exact, and bounded."""

from __future__ import annotations

from collections import OrderedDict

from typing_extensions import override

from .base import Store
from .bucket import Rule, Verdict, take

_SWEEP = 2


class MemoryStore(Store):
    """Keeps the buckets that are not full; a full one is what a new caller has, so it need not be kept.

    At most `max_buckets` are kept. Above that the one that was used longest ago is forgotten, which errs
    on the caller's side; `forgotten` counts those that were not full.
    """

    def __init__(self, max_buckets: int = 100_000) -> None:
        self._max_buckets = max_buckets
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._full_at)

    @override
    def take(self, key: str, rule: Rule, now: float) -> Verdict:
        buckets = self._full_at
        full_at = buckets.get(key)
        if full_at is None:
            self._make_room(now)
            full_at = now
        else:
            buckets.move_to_end(key)
        buckets[key], verdict = take(full_at, rule, now)
        return verdict

    def _make_room(self, now: float) -> None:
        """Drop a few of the buckets used longest ago that are full by now; above the bound, any."""
        buckets = self._full_at
        for _ in range(min(_SWEEP, len(buckets))):
            key = next(iter(buckets))
            if buckets[key] <= now:
                del buckets[key]
            elif len(buckets) >= self._max_buckets:
                del buckets[key]
                self.forgotten += 1
            else:
                break
