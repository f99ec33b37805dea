"""What an answer's headers say about a limit, by the names and in the words of OpenAI's API.

Source: https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers" (read 2026-11).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from .bucket import Verdict

Headers = tuple[tuple[str, str], ...]


def rate_limit_headers(verdict: Verdict) -> Headers:
    """Return the bucket's size, what is left of it, and how long until it is full, such as `6m0s`."""
    return (
        ("x-ratelimit-limit-requests", str(verdict.limit)),
        ("x-ratelimit-remaining-requests", str(verdict.remaining)),
        ("x-ratelimit-reset-requests", duration_text(verdict.reset_s)),
    )


def anthropic_headers(verdict: Verdict, now: datetime) -> Headers:
    """Return the same by the names of Anthropic's API, where the reset is a time of day.

    Source: https://platform.claude.com/docs/en/api/rate-limits, "Response headers" (read 2026-11).
    """
    reset = now + timedelta(seconds=verdict.reset_s)
    return (
        ("anthropic-ratelimit-requests-limit", str(verdict.limit)),
        ("anthropic-ratelimit-requests-remaining", str(verdict.remaining)),
        ("anthropic-ratelimit-requests-reset", reset.isoformat(timespec="seconds").replace("+00:00", "Z")),
    )


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
