"""In which state a deployment is, of what is known about it: a calendar, probes, hooks, its own failures.

    ready        it can be asked
    queued       it waits for its machines; asked after those that are ready
    loading      it is being started, or will be by a request; asked after these
    resting      it has failed of late; asked after these
    down         it does not answer its probe; asked last
    maintenance  it is not asked

Pure: what time it is comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase
from typing import NamedTuple

from ..config import MaintenanceConfig
from ..errors import Maintenance

READY, QUEUED, LOADING, RESTING, DOWN, MAINTENANCE = (
    *("ready", "queued", "loading", "resting", "down", "maintenance"),
)
STATES = (READY, QUEUED, LOADING, RESTING, DOWN, MAINTENANCE)
"""From the best to the worst."""
RANK: Mapping[str, int] = {state: rank for rank, state in enumerate(STATES)}
UNKNOWN_END_S = 300.0
"""When to come back from a maintenance whose end nobody tells."""
_LONG_WAIT_S = 60.0
_LONGEST_RETRY_S = 7 * 86_400.0


class Found(NamedTuple):
    """What a probe, a hook or the calendar says. `until` is when it should change, None if unknown."""

    state: str
    text: str | None = None
    until: datetime | None = None


def for_deployment(
    windows: Iterable[MaintenanceConfig], endpoint: str, deployment: str
) -> tuple[MaintenanceConfig, ...]:
    """Return those windows of the calendar that are a deployment's."""
    return tuple(
        window
        for window in windows
        if _matches(window.endpoints, endpoint) and _matches(window.deployments, deployment)
    )


def _matches(patterns: tuple[str, ...], name: str) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def in_window(windows: Iterable[MaintenanceConfig], now: datetime) -> Found | None:
    """Return the maintenance of this moment, of several the one that ends last; None without one."""
    found = [(end, window.text) for window in windows if (end := _end_of(window, now)) is not None]
    if not found:
        return None
    end, text = max(found)
    return Found(MAINTENANCE, text, end)


def _end_of(window: MaintenanceConfig, now: datetime) -> datetime | None:
    """Return when a window ends in which this moment is; None where it is in none."""
    if window.starts is not None and window.ends is not None:
        return window.ends.astimezone(timezone.utc) if window.starts <= now < window.ends else None
    local = now.astimezone(window.zone)
    start, end = window.minutes
    if end <= start:
        end += 24 * 60  # it goes on after midnight
    for days_ago in (0, 1):
        midnight = (local - timedelta(days=days_ago)).replace(hour=0, minute=0, second=0, microsecond=0)
        begins, ends = midnight + timedelta(minutes=start), midnight + timedelta(minutes=end)
        if midnight.weekday() in window.days and begins <= local < ends:
            return ends.astimezone(timezone.utc)
    return None


def under_maintenance(model: str, found: Iterable[Found], now: datetime) -> Maintenance:
    """Return the fault of a model whose deployments are all under maintenance; the first to end counts."""
    first = min(found, key=lambda each: each.until or now + timedelta(days=3650))
    wait_s = UNKNOWN_END_S
    end = ""
    if first.until is not None:
        wait_s = min(_LONGEST_RETRY_S, max(1.0, (first.until - now).total_seconds()))
        end = f" It should be back at {first.until.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC."
    text = first.text.rstrip() if first.text else "The operator works on it."
    if text[-1:] not in ".!?":
        text += "."
    return Maintenance(
        f"The model {model} is under maintenance. {text}{end}",
        retry_after_s=wait_s,
        headers=[("x-should-retry", "false")] if wait_s > _LONG_WAIT_S else (),
    )
