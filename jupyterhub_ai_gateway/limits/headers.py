"""What an answer's headers say about limits.

OpenAI's names tell of the tightest rule for requests and for tokens, Anthropic's the same as times of day,
and the IETF's fields of every rule that has a window.

Sources: https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers";
https://platform.claude.com/docs/en/api/rate-limits, "Response headers";
draft-ietf-httpapi-ratelimit-headers-10 (all read 2026-11).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from .bucket import Verdict

Headers = tuple[tuple[str, str], ...]

REQUESTS = ("requests",)
TOKENS = ("tokens", "input_tokens", "output_tokens")
WARNED_FROM = 0.8
"""The part of a long rule that may be used before the caller is told that it is running out."""


class State(NamedTuple):
    """Where a rule stands once a request is admitted, or was refused by it.

    `limit` and `remaining` are in the rule's unit (nanodollars for `cost_usd`), `reset_s` is when all that
    is used now will be forgotten, `window_s` its length; both None for what is counted at a time.
    """

    name: str
    resource: str
    limit: int
    remaining: int
    reset_s: float | None
    window_s: float | None
    is_long: bool = False


def state_of(verdict: Verdict, name: str, period_s: float) -> State:
    """Return a bucket's state in the same words."""
    return State(name, "requests", verdict.limit, verdict.remaining, verdict.reset_s, period_s)


def limit_headers(states: Sequence[State]) -> Headers:
    """Return OpenAI's headers and the IETF's, and a warning where a long rule is running out."""
    return (
        *_openai("requests", tightest(states, REQUESTS)),
        *_openai("tokens", tightest(states, TOKENS)),
        *_ietf(states),
        *_warning(states),
    )


def anthropic_headers(states: Sequence[State], now: datetime) -> Headers:
    """Return the same by the names of Anthropic's API, where the reset is a time of day."""
    names = {"requests": REQUESTS, "tokens": ("tokens",)}
    names.update({"input-tokens": ("input_tokens",), "output-tokens": ("output_tokens",)})
    return tuple(
        header
        for name, resources in names.items()
        for header in _anthropic(name, tightest(states, resources), now)
    )


def tightest(states: Iterable[State], resources: Sequence[str]) -> State | None:
    """Return the rule with the least left; None where there is none about these resources."""
    found = [each for each in states if each.resource in resources and each.reset_s is not None]
    return min(found, key=lambda each: each.remaining, default=None)


def _openai(kind: str, state: State | None) -> Headers:
    if state is None:
        return ()
    return (
        (f"x-ratelimit-limit-{kind}", str(state.limit)),
        (f"x-ratelimit-remaining-{kind}", str(state.remaining)),
        (f"x-ratelimit-reset-{kind}", duration_text(state.reset_s or 0.0)),
    )


def _anthropic(kind: str, state: State | None, now: datetime) -> Headers:
    if state is None:
        return ()
    reset = now + timedelta(seconds=state.reset_s or 0.0)
    return (
        (f"anthropic-ratelimit-{kind}-limit", str(state.limit)),
        (f"anthropic-ratelimit-{kind}-remaining", str(state.remaining)),
        (f"anthropic-ratelimit-{kind}-reset", reset.isoformat(timespec="seconds").replace("+00:00", "Z")),
    )


_UNITS = {"requests": "", "concurrency": ';qu="concurrent-requests"', "cost_usd": ';qu="nanodollars"'}


def _ietf(states: Sequence[State]) -> Headers:
    if not states:
        return ()
    policies, lefts = [], []
    for state in states:
        unit = _UNITS.get(state.resource, f';qu="{state.resource.replace("_", "-")}"')
        window = "" if state.window_s is None else f";w={max(1, round(state.window_s))}"
        reset = "" if state.reset_s is None else f";t={math.ceil(state.reset_s)}"
        policies.append(f'"{state.name}";q={state.limit}{unit}{window}')
        lefts.append(f'"{state.name}";r={state.remaining}{reset}')
    return (("RateLimit-Policy", ", ".join(policies)), ("RateLimit", ", ".join(lefts)))


def _warning(states: Sequence[State]) -> Headers:
    low = [each for each in states if each.is_long and each.remaining < each.limit * (1 - WARNED_FROM)]
    if not low:
        return ()
    texts = (f"{each.name}: {100 - each.remaining * 100 // max(1, each.limit)} % used" for each in low)
    return (("x-ai-gateway-budget-warning", ", ".join(texts)),)


def amount_text(resource: str, amount: int) -> str:
    """Write an amount of a resource for people: `1,000 tokens`, `2.50 dollars`, `1 request`."""
    if resource == "cost_usd":
        dollars = (Decimal(amount) / 10**9).quantize(Decimal("0.01"))
        exact = Decimal(amount) / 10**9
        return f"{dollars if dollars == exact else exact.normalize():f} dollars"
    word = {"concurrency": "request"}.get(resource, resource.removesuffix("s")).replace("_", " ")
    return f"{amount:,} {word}{'' if amount == 1 else 's'}"


def wait_text(seconds: float) -> str:
    """Write a time to wait for people: `20 seconds`, `5 hours 3 minutes`, `2 days 4 hours`."""
    whole = max(1, math.ceil(seconds))
    parts: list[str] = []
    for name, length in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count, whole = divmod(whole, length)
        if count:
            parts.append(f"{count} {name}{'' if count == 1 else 's'}")
    return " ".join(parts[:2])


def duration_text(seconds: float) -> str:
    """Write a duration as OpenAI does: `20ms`, `1.5s`, `6m0s`, `1h0m0s`; rounded up to milliseconds."""
    whole_ms = int(seconds * 1000 + 0.999)
    if whole_ms < 1000:
        return f"{whole_ms}ms"
    minutes, ms = divmod(whole_ms, 60_000)
    rest = f"{ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if not minutes:
        return rest
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}" if hours else f"{minutes}m{rest}"
