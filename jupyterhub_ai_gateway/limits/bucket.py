"""A token bucket as one number: when it will be full again.

A bucket holds `calls` and refills evenly, `calls` in every `period_s` seconds. Kept is the theoretical
arrival time of the generic cell rate algorithm: the time at which the bucket is full. A request moves it
by one interval, `period_s / calls`; it is refused when that would be more than `period_s` from now.

Source: ITU-T I.371 (GCRA); the bucket's meaning of MLflow's `limit`: docs/explanation/limits.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec


@dataclass(frozen=True, slots=True)
class Rule:
    """At most `calls` at once, refilled evenly within `period_s` seconds."""

    calls: int
    period_s: float
    interval_s: float = field(init=False)

    def __post_init__(self) -> None:
        if self.calls < 1 or self.period_s <= 0:
            raise ValueError("a bucket needs at least one call and a period above 0")
        object.__setattr__(self, "interval_s", self.period_s / self.calls)


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """Whether a request may go on, and what the caller should know.

    `remaining` is how many more may come now. `reset_s` is when the bucket will be full, `retry_after_s`
    when the next request may come: 0 where it may come now. All in seconds from now.
    """

    is_allowed: bool
    limit: int
    remaining: int
    reset_s: float
    retry_after_s: float


def take(full_at: float, rule: Rule, now: float) -> tuple[float, Verdict]:
    """Take one call from a bucket that is full at `full_at`; return when it is full then, and the verdict.

    A time further away than the rule's whole period, left by a rule that was changed meanwhile, counts
    as an empty bucket of this rule: nobody waits longer than the rule in force says.
    """
    start = full_at if full_at > now else now
    if start > now + rule.period_s:
        start = now + rule.period_s
    after = start + rule.interval_s
    wait_s = after - now - rule.period_s
    # Half a millionth of an interval is rounding: clocks and periods are floats
    if wait_s > rule.interval_s * 5e-7:
        reset_s = start - now
        return start, Verdict(False, rule.calls, 0, reset_s, wait_s)
    reset_s = after - now
    remaining = int((rule.period_s - reset_s) / rule.interval_s + 1e-6)
    return after, Verdict(True, rule.calls, remaining, reset_s, 0.0)
