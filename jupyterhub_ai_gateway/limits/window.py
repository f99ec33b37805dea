"""The time for which a rule counts: where it begins, and when what was used is forgotten.

A window is a row of slots. By the calendar it has one slot, which begins with the minute, day or month of
the operator's time zone. A rolling one has `SLOTS` of equal length and one more, because the oldest is
only partly in it: what is counted is never less than what was used in the window, and at most a slot more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Protocol

import msgspec

from ..config import WindowConfig

SLOTS = 60
_UNITS_MS = {
    "second": 1_000,
    "minute": 60_000,
    "hour": 3_600_000,
    "day": 86_400_000,
    "week": 7 * 86_400_000,
    "month": 30 * 86_400_000,
}


class Slot(msgspec.Struct, frozen=True, gc=False):
    """Now, in a window: what is used now goes to `start`, and slots from `first` on count.

    `end` is when what is used now is forgotten. All in milliseconds.
    """

    start: int
    first: int
    end: int


_NEVER = Slot(0, 0, 0)


class Window(Protocol):
    """Finds the slot of a time. `length_ms` is its length, the usual one where months differ."""

    @property
    def length_ms(self) -> int:
        """Return it in milliseconds."""

    def slot(self, now_ms: int) -> Slot:
        """Return where a time falls."""


@dataclass(slots=True)
class Rolling:
    """The last `length_ms`."""

    length_ms: int

    def slot(self, now_ms: int) -> Slot:
        width = max(1, self.length_ms // SLOTS)
        start = now_ms - now_ms % width
        whole = -(-self.length_ms // width) * width  # the window, in whole slots
        return Slot(start, start - whole, start + width + whole)


@dataclass(slots=True)
class Calendar:
    """The minute, hour, day, week or month that it is in a time zone. The last one is remembered."""

    unit: str
    number: int
    zone: tzinfo
    length_ms: int
    _last: Slot = _NEVER

    def slot(self, now_ms: int) -> Slot:
        last = self._last
        if last.start <= now_ms < last.end:
            return last
        now = datetime.fromtimestamp(now_ms / 1000, self.zone)
        start = _ms(self._start(now))
        self._last = Slot(start, start, max(_ms(self._next(now)), start + 1))
        return self._last

    def _start(self, now: datetime) -> datetime:
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        if self.unit == "day":
            return midnight
        if self.unit == "week":
            return _local(midnight.date() - timedelta(days=now.weekday()), self.zone)
        if self.unit == "month":
            return _local(midnight.date().replace(day=1), self.zone)
        return self._step(now)

    def _next(self, now: datetime) -> datetime:
        if self.unit == "day":
            return _local(now.date() + timedelta(days=1), self.zone)
        if self.unit == "week":
            return _local(now.date() + timedelta(days=7 - now.weekday()), self.zone)
        if self.unit == "month":
            return _local((now.date().replace(day=1) + timedelta(days=32)).replace(day=1), self.zone)
        return self._step(now) + timedelta(milliseconds=self.length_ms)

    def _step(self, now: datetime) -> datetime:
        """Return the last multiple of a short window, counted from 1970 in UTC."""
        at_ms = _ms(now)
        return datetime.fromtimestamp((at_ms - at_ms % self.length_ms) / 1000, timezone.utc)


@dataclass(slots=True)
class Term:
    """From a day to a day, both included."""

    start_ms: int
    end_ms: int

    @property
    def length_ms(self) -> int:
        return self.end_ms - self.start_ms

    def slot(self, now_ms: int) -> Slot:
        return Slot(self.start_ms, self.start_ms, self.end_ms)


@dataclass(slots=True)
class AtATime:
    """No time at all: what is in use now."""

    length_ms: int = 0

    def slot(self, now_ms: int) -> Slot:
        return _NEVER


def window_of(config: WindowConfig | None, zone: tzinfo, dates: tuple[date | None, date | None]) -> Window:
    """Make the window of a policy; `dates` are those that it is valid from and to."""
    if config is None:
        return AtATime()
    starts, ends = dates
    if config.unit == "term":
        assert starts is not None  # noqa: S101 - the configuration was checked
        assert ends is not None  # noqa: S101
        return Term(*span_ms(starts, ends, zone))
    length_ms = config.number * _UNITS_MS[config.unit]
    if config.is_rolling:
        return Rolling(length_ms)
    return Calendar(config.unit, config.number, zone, length_ms)


def span_ms(starts: date, ends: date, zone: tzinfo) -> tuple[int, int]:
    """Return when the first day begins and the last one ends."""
    return _ms(_local(starts, zone)), _ms(_local(ends + timedelta(days=1), zone))


def _local(day: date, zone: tzinfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
