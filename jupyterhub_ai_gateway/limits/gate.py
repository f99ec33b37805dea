"""What the gateway asks before it sends a request."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from ..config import LimitConfig
from ..errors import LimitFault
from .base import Store
from .bucket import Rule, Verdict
from .headers import rate_limit_headers

MAX_RULES = 4096


class Gate:
    """Admits requests by the buckets of a store. Its state outlives a new configuration.

    A bucket belongs to an endpoint's name and, unless the limit's key is `endpoint`, to a caller.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._rules: dict[str, tuple[LimitConfig, Rule]] = {}  # by endpoint, of the configuration in use

    def admit(
        self, endpoint: str, limit: LimitConfig | None, caller: str
    ) -> Verdict | Awaitable[Verdict] | None:
        """Take one call of the caller's. None without a limit; `LimitFault` when there is none left."""
        if limit is None:
            return None
        # No endpoint's name holds a blank, so the keys of two cannot meet
        key = endpoint if limit.key == "endpoint" else f"{endpoint} {caller}"
        verdict = self._store.take(key, self._rule(endpoint, limit), self._clock())
        if isinstance(verdict, Verdict):
            return _checked(verdict, endpoint, limit)
        return _later(verdict, endpoint, limit)

    def _rule(self, endpoint: str, limit: LimitConfig) -> Rule:
        known = self._rules.get(endpoint)
        if known is not None and known[0] is limit:
            return known[1]
        if len(self._rules) >= MAX_RULES:  # of endpoints long gone
            self._rules.clear()
        rule = Rule(limit.calls, limit.period_s)
        self._rules[endpoint] = (limit, rule)
        return rule


async def _later(verdict: Awaitable[Verdict], endpoint: str, limit: LimitConfig) -> Verdict:
    return _checked(await verdict, endpoint, limit)


def _checked(verdict: Verdict, endpoint: str, limit: LimitConfig) -> Verdict:
    if verdict.is_allowed:
        return verdict
    whose = "all users together" if limit.key == "endpoint" else "each user"
    wait_s = max(1, math.ceil(verdict.retry_after_s))
    raise LimitFault(
        f"The model {endpoint} takes {limit.calls} calls per {limit.renewal_period} of {whose}. "
        f"Try again in {wait_s} second{'' if wait_s == 1 else 's'}.",
        retry_after_s=verdict.retry_after_s,
        headers=rate_limit_headers(verdict),
    )
