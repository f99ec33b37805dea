"""The operator's policies: who may use how much of what, in which time.

The words are those of 2i2c's usage quotas, which hub people know: resource, limit, window, scope.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, cast, get_args
from zoneinfo import ZoneInfo

from .model import (
    COMBINES,
    RESOURCES,
    Combine,
    Count,
    PolicyConfig,
    Resource,
    ScopeConfig,
    WindowConfig,
    WindowUnit,
)
from .report import Block, Report
from .routing import read_whole
from .words import hint, kind_of, listed, shown

MOST_POLICIES = 1000
MOST = 10**15
NANO = 10**9
COUNTS: tuple[Count, ...] = get_args(Count)
UNITS: tuple[WindowUnit, ...] = get_args(WindowUnit)
GROUP_PROPERTY = "ai_gateway"
"""The key of a Hub group's properties that is ours."""

SCOPES = {
    "user": "users",
    "group": "groups",
    "service": "services",
    "role": "roles",
    "key": "keys",
    "users": "users",
    "groups": "groups",
    "services": "services",
    "roles": "roles",
    "keys": "keys",
}
"""The keys of a scope, in the singular and the plural, and where they end up."""

_SHORT: tuple[WindowUnit, ...] = ("second", "minute", "hour")
_WINDOW = re.compile(rf"\s*(?:(0*[1-9]\d{{0,5}})\s*)?({'|'.join(UNITS)})s?\s*", re.IGNORECASE | re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@ \-]{0,99}")
_PATTERN = re.compile(r"[^\x00-\x1f\x7f\[\]]{1,200}")


def read_policies(
    value: object, path: str, report: Report, *, group: str | None = None
) -> tuple[PolicyConfig, ...]:
    """Read a list of policies. Those of a Hub group's own properties are for that `group` alone."""
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        report.error(path, f"must be a list, found {kind_of(value)}")
        return ()
    if len(value) > MOST_POLICIES:
        report.error(path, f"must have {MOST_POLICIES} entries at most, found {len(value)}")
        return ()
    policies = [_policy(entry, f"{path}[{index}]", report, group) for index, entry in enumerate(value)]
    names: dict[str, str] = {}
    for policy in policies:
        first = names.setdefault(policy.name, policy.path)
        if first is not policy.path:
            report.error(f"{policy.path}.name", f"must be different for each policy: {first} has it too")
    return tuple(policies)


def _policy(entry: object, path: str, report: Report, group: str | None) -> PolicyConfig:
    block = Block(entry, path, report)
    resource = _resource(block)
    scope = ScopeConfig(groups=(group,)) if group is not None else read_scope(block)
    starts, ends = _date(block, "starts"), _date(block, "ends")
    if starts and ends and ends < starts:
        block.error("ends", "must not be before starts")
    policy = PolicyConfig(
        name=_name(block, path if group is None else f"{group}/{path}"),
        resource=resource,
        limit=_limit(block, resource),
        window=_window(block, resource, has_dates=bool(starts and ends)),
        count=_count(block, scope),
        scope=scope,
        endpoints=read_patterns(block, "endpoints"),
        priority=read_whole(block, "priority", 0, -1_000_000, 1_000_000),
        shadow=_flag(block, "shadow"),
        unpriced=cast(Any, _word(block, "unpriced", ("deny", "allow"))),
        when_store_fails=cast(Any, _word(block, "when_store_fails", ("open", "closed"))),
        starts=starts,
        ends=ends,
        path=path,
    )
    block.refuse_unknown()
    return policy


def _name(block: Block, default: str) -> str:
    name = block.text("name")
    if name is None:
        return default
    if not _NAME.fullmatch(name):
        block.error("name", "must be a short name of letters, digits and _ . : / @ -, as headers tell it")
    return name


def _resource(block: Block) -> Resource:
    text = block.required_text("resource")
    if text and text not in RESOURCES:
        block.error("resource", f"must be {listed(RESOURCES)}, found {shown(text)}{hint(text, RESOURCES)}")
    return cast(Resource, text)


def _limit(block: Block, resource: Resource) -> int:
    value = block.get("limit")
    if value is None:
        block.missing("limit", "is required")
        return 0
    if resource == "cost_usd":
        amount = _dollars(value)
        if amount is None:
            block.error("limit", f"must be an amount of dollars, such as 5 or 0.25, found {shown(value)}")
        return amount or 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST:
        block.error("limit", f"must be a whole number from 0 to {MOST}, found {shown(value)}")
        return 0
    return value


def _dollars(value: object) -> int | None:
    """Return nanodollars; None for what is no amount of money."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    if not amount.is_finite() or not 0 <= amount <= 10**9:
        return None
    return round(amount * NANO)


def _window(block: Block, resource: Resource, *, has_dates: bool) -> WindowConfig | None:
    text = block.text("window")
    rolling = block.get("rolling")
    if rolling is not None and not isinstance(rolling, bool):
        block.error("rolling", f"must be true or false, found {shown(rolling)}")
    if resource == "concurrency":
        if text is not None:
            block.error("window", "has no meaning for concurrency: it counts requests at a time")
        return None
    if text is None:
        block.missing("window", f"is required: {listed(UNITS)}, with a number before it if need be")
        return None
    match = _WINDOW.fullmatch(text)
    if match is None:
        if text:
            block.error("window", f'must be {listed(UNITS)}, as in "5 minutes"; found {shown(text)}')
        return None
    number, unit = int(match[1] or 1), cast(WindowUnit, match[2].lower())
    is_rolling = unit in _SHORT if rolling is None else rolling is True
    problem = _window_problem(number, unit, is_rolling, has_dates)
    if problem:
        block.error("window", problem)
    return WindowConfig(number, unit, is_rolling, text)


def _window_problem(number: int, unit: WindowUnit, is_rolling: bool, has_dates: bool) -> str | None:
    if unit == "term":
        if is_rolling or number != 1:
            return "of a term is the one between its dates: without a number, and not rolling"
        return None if has_dates else "of a term needs starts and ends beside it"
    if number > 1 and not is_rolling and unit not in _SHORT:
        return f"of several {unit}s has no place in the calendar: add rolling: true, or take one {unit}"
    return None


def _count(block: Block, scope: ScopeConfig) -> Count:
    word = cast(Count, _word(block, "count", COUNTS))
    if word in ("member", "group") and not scope.groups:
        block.error("count", f"{word} needs a scope of groups")
    return word


def read_scope(block: Block) -> ScopeConfig:
    """Read whom a rule is for."""
    value = block.get("scope")
    if value is None or value == "everyone":
        return ScopeConfig()
    if not isinstance(value, Mapping):
        block.error("scope", f"must be everyone, or a mapping of {listed(list(SCOPES)[:5])} to names")
        return ScopeConfig()
    inner = Block(value, block.at("scope"), block.report)
    found: dict[str, tuple[str, ...]] = {}
    for key, kind in SCOPES.items():
        found[kind] = found.get(kind, ()) + read_patterns(inner, key)
    inner.refuse_unknown()
    scope = ScopeConfig(**found)
    if scope.is_everyone and not inner.unknown():
        block.error("scope", "names nobody; leave it out for everyone")
    return scope


def read_patterns(block: Block, key: str) -> tuple[str, ...]:
    """Read names, in which `*` stands for anything: one, or a list of them."""
    value = block.get(key)
    if value is None:
        return ()
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, Sequence) or not entries:
        block.error(key, f"must be a name or a list of names, found {kind_of(value)}")
        return ()
    for entry in entries:
        if not isinstance(entry, str) or not _PATTERN.fullmatch(entry) or entry != entry.strip():
            block.error(key, f"must be names, in which * stands for anything; found {shown(entry)}")
            return ()
    return tuple(entries)


def _date(block: Block, key: str) -> date | None:
    text = block.text(key)
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        block.error(key, f"must be a day such as 2026-10-01, found {shown(text)}")
        return None


def _word(block: Block, key: str, words: Sequence[str]) -> str:
    """Return one of some words; the first one when there is none."""
    text = block.text(key)
    if text and text not in words:
        block.error(key, f"must be {listed(words)}, found {shown(text)}{hint(text, words)}")
    return text or words[0]


def _flag(block: Block, key: str) -> bool:
    value = block.get(key)
    if value is not None and not isinstance(value, bool):
        block.error(key, f"must be true or false, found {shown(value)}")
    return value is True


def read_combine(block: Block) -> Combine:
    """Read which of several policies about the same counts."""
    return cast(Combine, _word(block, "combine", COMBINES))


def read_time_zone(block: Block) -> str:
    """Read the name of a time zone, such as Europe/Berlin."""
    name = block.text("time_zone") or "UTC"
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        block.error("time_zone", f"must be a time zone such as Europe/Berlin, found {shown(name)}")
        return "UTC"
    return name


def group_policies(
    group: str, properties: Mapping[str, Any]
) -> tuple[tuple[PolicyConfig, ...], str | None]:
    """Read the policies that stand in a Hub group's properties, under `ai_gateway`, `policies`.

    They are for this group alone. Return them, or none and what is wrong with them.
    """
    ours = properties.get(GROUP_PROPERTY)
    if ours is None:
        return (), None
    if not isinstance(ours, Mapping):
        return (), f"{GROUP_PROPERTY} must be a mapping, found {kind_of(ours)}"
    report = Report()
    policies = read_policies(ours.get("policies"), "policies", report, group=group)
    if report.errors:
        return (), "; ".join(f"{path}: {problem}" for path, problem in report.errors)
    return policies, None
