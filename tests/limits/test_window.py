"""Where windows begin and end: by the calendar of a time zone, or rolling."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_ai_gateway.config import WindowConfig
from jupyterhub_ai_gateway.limits.window import SLOTS, Rolling, Slot, window_of

BERLIN = ZoneInfo("Europe/Berlin")
UNITS = ("second", "minute", "hour", "day", "week", "month")


def ms(text: str, zone: ZoneInfo = BERLIN) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


def slot(unit: str, at: str, number: int = 1) -> Slot:
    window = window_of(WindowConfig(number, unit, False, unit), BERLIN, (None, None))  # type: ignore[arg-type]
    return window.slot(ms(at))


@pytest.mark.parametrize(
    ("unit", "number", "at", "start", "end"),
    [
        ("minute", 1, "2026-11-20T12:34:56", "2026-11-20T12:34", "2026-11-20T12:35"),
        ("minute", 5, "2026-11-20T12:34:56", "2026-11-20T12:30", "2026-11-20T12:35"),
        ("hour", 1, "2026-11-20T12:34:56", "2026-11-20T12:00", "2026-11-20T13:00"),
        ("day", 1, "2026-11-20T00:00:00", "2026-11-20", "2026-11-21"),
        ("day", 1, "2026-11-20T23:59:59.999", "2026-11-20", "2026-11-21"),
        ("day", 1, "2026-03-29T12:00", "2026-03-29", "2026-03-30"),  # 23 hours
        ("day", 1, "2026-10-25T12:00", "2026-10-25", "2026-10-26"),  # 25 hours
        ("week", 1, "2026-11-20T12:00", "2026-11-16", "2026-11-23"),
        ("week", 1, "2026-11-16T00:00", "2026-11-16", "2026-11-23"),
        ("month", 1, "2026-11-20T12:00", "2026-11-01", "2026-12-01"),
        ("month", 1, "2026-12-31T23:59", "2026-12-01", "2027-01-01"),
        ("month", 1, "2028-02-29T12:00", "2028-02-01", "2028-03-01"),
    ],
)
def test_calendar(unit: str, number: int, at: str, start: str, end: str) -> None:
    found = slot(unit, at, number)
    assert found == Slot(ms(start), ms(start), ms(end))


def test_days_around_a_change_of_the_clock_have_their_own_lengths() -> None:
    hours = [slot("day", f"2026-{day}T12:00") for day in ("03-29", "10-25", "11-20")]
    assert [(each.end - each.start) // 3_600_000 for each in hours] == [23, 25, 24]


@given(st.sampled_from(UNITS), st.integers(0, 4_102_444_800_000))
def test_every_moment_is_in_its_window_and_windows_meet(unit: str, at_ms: int) -> None:
    window = window_of(WindowConfig(1, unit, False, unit), BERLIN, (None, None))  # type: ignore[arg-type]
    found = window.slot(at_ms)
    assert found.start <= at_ms < found.end
    assert window.slot(found.end).start == found.end
    assert window.slot(found.end - 1) == found


@given(st.integers(1_000, 10**10), st.integers(0, 4_102_444_800_000), st.integers(0, 10**10))
def test_rolling_counts_all_of_the_window_and_at_most_a_slot_more(
    length_ms: int, used_ms: int, later_ms: int
) -> None:
    window = Rolling(length_ms)
    used, now = window.slot(used_ms), window.slot(used_ms + later_ms)
    counts = used.start >= now.first
    width = max(1, length_ms // SLOTS)
    if later_ms <= length_ms:
        assert counts
    if later_ms >= length_ms + 3 * width:
        assert not counts
    assert counts == (used_ms + later_ms < used.end)


def test_a_term_is_from_its_first_day_to_its_last() -> None:
    dates = (date(2026, 10, 1), date(2027, 3, 31))
    window = window_of(WindowConfig(1, "term", False, "term"), BERLIN, dates)
    found = window.slot(ms("2026-11-20T12:00"))
    assert found == Slot(ms("2026-10-01"), ms("2026-10-01"), ms("2027-04-01"))
