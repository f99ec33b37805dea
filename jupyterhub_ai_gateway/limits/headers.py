"""What an answer's headers say about limits.

OpenAI's names tell of the tightest rule for requests and for tokens, Anthropic's the same as times of day,
and the IETF's fields of every rule that has a window.

Sources: https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers";
https://platform.claude.com/docs/en/api/rate-limits, "Response headers";
draft-ietf-httpapi-ratelimit-headers-10 (all read 2026-11).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from math import ceil

import msgspec

from ..vocabulary import money_text

Headers = tuple[tuple[str, str], ...]

REQUESTS = ("requests",)
TOKENS = ("tokens", "input_tokens", "output_tokens")
WARNING = "x-ai-gateway-budget-warning"
WARNED_FROM = 0.8
"""The part of a long rule that may be used before the caller is told that it is running out."""
_UNWARNED = 1 - WARNED_FROM
_KINDS = {"requests": "requests", **dict.fromkeys(TOKENS, "tokens")}


class State(msgspec.Struct, frozen=True, gc=False):
    """Where a rule stands once a request is admitted, or was refused by it.

    `limit` and `remaining` are in the rule's unit (nanodollars for `cost_usd`), `reset_s` is when all that
    is used now will be forgotten, None for what is counted at a time. `policy` is what `policy_text` makes
    of the rule.
    """

    name: str
    resource: str
    limit: int
    remaining: int
    reset_s: float | None
    is_long: bool
    policy: str


def policy_text(name: str, resource: str, limit: int, window_s: float | None) -> str:
    """Describe a rule as the field `RateLimit-Policy` does; it does not change from request to request."""
    unit = _UNITS.get(resource, f';qu="{resource.replace("_", "-")}"')
    window = "" if window_s is None else f";w={max(1, round(window_s))}"
    return f'"{name}";q={limit}{unit}{window}'


_UNITS = {"requests": "", "concurrency": ';qu="concurrent-requests"', "cost_usd": ';qu="nanodollars"'}


def limit_headers(states: Sequence[State]) -> Headers:
    """Return OpenAI's headers and the IETF's, and a warning where a long rule is running out."""
    if not states:
        return ()
    by_kind: dict[str, State] = {}  # the tightest about requests, and about tokens
    policies: list[str] = []
    lefts: list[str] = []
    low: list[str] = []
    for state in states:
        name, remaining, reset_s = state.name, state.remaining, state.reset_s
        policies.append(state.policy)
        if reset_s is None:
            lefts.append(f'"{name}";r={remaining}')
            continue
        lefts.append(f'"{name}";r={remaining};t={ceil(reset_s)}')
        kind = _KINDS.get(state.resource)
        if kind is not None and (kind not in by_kind or remaining < by_kind[kind].remaining):
            by_kind[kind] = state
        if state.is_long and remaining < state.limit * _UNWARNED:
            low.append(f"{name}: {100 - remaining * 100 // max(1, state.limit)} % used")
    headers = [("RateLimit-Policy", ", ".join(policies)), ("RateLimit", ", ".join(lefts))]
    for kind in by_kind:
        headers += _openai(kind, by_kind[kind])
    if low:
        headers.append((WARNING, ", ".join(low)))
    return tuple(headers)


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


def _openai(kind: str, state: State) -> Headers:
    limit, remaining, reset = _OPENAI[kind]
    return (
        (limit, str(state.limit)),
        (remaining, str(state.remaining)),
        (reset, duration_text(state.reset_s or 0.0)),
    )


_OPENAI = {
    kind: (f"x-ratelimit-limit-{kind}", f"x-ratelimit-remaining-{kind}", f"x-ratelimit-reset-{kind}")
    for kind in ("requests", "tokens")
}


def _anthropic(kind: str, state: State | None, now: datetime) -> Headers:
    if state is None:
        return ()
    reset = now + timedelta(seconds=state.reset_s or 0.0)
    return (
        (f"anthropic-ratelimit-{kind}-limit", str(state.limit)),
        (f"anthropic-ratelimit-{kind}-remaining", str(state.remaining)),
        (f"anthropic-ratelimit-{kind}-reset", reset.isoformat(timespec="seconds").replace("+00:00", "Z")),
    )


def amount_text(resource: str, amount: int) -> str:
    """Write an amount of a resource for people: `1,000 tokens`, `$2.50`, `1 request`."""
    if resource == "cost_usd":
        return money_text(Decimal(amount) / 10**9)
    word = {"concurrency": "request"}.get(resource, resource.removesuffix("s")).replace("_", " ")
    return f"{amount:,} {word}{'' if amount == 1 else 's'}"


def wait_text(seconds: float) -> str:
    """Write a time to wait for people: `20 seconds`, `5 hours 3 minutes`, `2 days 4 hours`."""
    whole = max(1, ceil(seconds))
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
