"""The operator's rate limits: MLflow's `limit: {calls, renewal_period, key}`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import ConfigFault
from .model import LimitConfig, LimitKey
from .report import Block, Report
from .words import hint, listed, shown

PERIOD_UNITS_S = {
    "second": 1,
    "minute": 60,
    "hour": 3_600,
    "day": 86_400,
    "month": 30 * 86_400,
    "year": 365 * 86_400,
}
"""Each unit of a renewal period in seconds. A bucket refills evenly, so a month is 30 days, a year 365."""

LIMIT_KEYS: dict[str, LimitKey] = {"user": "user", "endpoint": "endpoint", "route": "endpoint"}
"""Whom a limit counts, in the operator's words; `route` is MLflow's older word for an endpoint."""

MOST_CALLS = 1_000_000_000
_PERIOD = re.compile(
    rf"\s*(?:(?P<count>0*[1-9][0-9]{{0,8}})\s*)?(?P<unit>{'|'.join(PERIOD_UNITS_S)})s?\s*",
    re.IGNORECASE | re.ASCII,
)


def period_s(text: str) -> float | None:
    """Read a renewal period such as `minute`, `5 minutes` or `2 Hours`, in seconds; None if it is none."""
    match = _PERIOD.fullmatch(text)
    if match is None:
        return None
    return float(int(match["count"] or 1) * PERIOD_UNITS_S[match["unit"].lower()])


def read_limit(value: object, path: str, report: Report) -> LimitConfig | None:
    """Read an endpoint's `limit`; None when it has none."""
    if value is None:
        return None
    block = Block(value, path, report)
    calls = _calls(block)
    period = block.required_text("renewal_period")
    seconds = _period_s(block, period)
    limit = LimitConfig(calls, seconds, _key(block), period)
    block.warn_unknown()
    return limit


def _calls(block: Block) -> int:
    value = block.get("calls")
    if value is None:
        block.missing("calls", "is required")
    elif isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_CALLS:
        block.error("calls", f"must be a whole number from 1 to {MOST_CALLS}, found {shown(value)}")
    else:
        return value
    return 1


def _period_s(block: Block, text: str) -> float:
    seconds = period_s(text) if text else 1.0
    if seconds is None:
        word = text.lstrip("0123456789 ")
        block.error(
            "renewal_period",
            f"must be {listed(PERIOD_UNITS_S)}, with a whole number before it if need be, "
            f'as in "5 minutes"; found {shown(text)}{hint(word, PERIOD_UNITS_S)}',
        )
    return seconds or 1.0


def _key(block: Block) -> LimitKey:
    text = block.text("key")
    key = LIMIT_KEYS.get(text.lower()) if text else "user"
    if key is None:
        block.error("key", f"must be {listed(LIMIT_KEYS)}, found {shown(text)}")
    return key or "user"


def read_limits(value: object) -> LimitConfig | None:
    """Read what MLflow's client sets: a list of limits, of which the first counts; None for none.

    `ConfigFault` says what is wrong with it.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigFault("limits", "must be a list of limits, each with calls and a renewal_period")
    if len(value) > 1:
        raise ConfigFault(
            "limits", "may have one entry: an endpoint has one limit; others are for policies"
        )
    report = Report()
    limit = read_limit(value[0], "limits[0]", report) if value else None
    if report.errors:
        raise report.fault((), lambda path: None)
    return limit
