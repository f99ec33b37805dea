"""Adds requests up by hour and by day, so that reports need not read each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import add
from typing import Any

import sqlalchemy as sa

from . import tables
from .rows import RequestRow

HOUR_MS = 3_600_000


class Rollups:
    """Makes the rows that are added to the roll-ups; days are those of `day_of`."""

    def __init__(self, day_of: Callable[[int], str]) -> None:
        self._day_of = day_of

    def of(self, requests: Iterable[RequestRow]) -> list[tuple[sa.Table, list[dict[str, Any]]]]:
        """Return the rows for each table; there are none for no requests."""
        hours: dict[tuple[Any, ...], list[int]] = {}
        for row in requests:
            key = (
                row.at_ms - row.at_ms % HOUR_MS,
                row.caller,
                row.charged_group or "",
                row.endpoint,
                row.provider or "",
                row.sent_model or "",
            )
            _add(hours, key, _sums(row))
        days: dict[tuple[Any, ...], list[int]] = {}
        for (hour_ms, *rest), sums in hours.items():
            _add(days, (self._day_of(hour_ms), *rest), sums)
        found = [
            (tables.usage_hour, _rows("hour_ms", hours)),
            (tables.usage_day, _rows("day", days)),
        ]
        return [(table, rows) for table, rows in found if rows]


def _sums(row: RequestRow) -> list[int]:
    """Return the numbers of one request, in the order of `tables.SUMS`."""
    is_unknown = row.input_tokens is None and row.output_tokens is None
    is_served = row.outcome == "ok"
    return [
        1,
        0 if is_served else 1,
        1 if row.is_estimated else 0,
        1 if is_served and is_unknown else 0,
        1 if row.cost_nanousd is None and (is_served or not is_unknown) else 0,
        row.input_tokens or 0,
        row.output_tokens or 0,
        row.cached_input_tokens or 0,
        row.cache_write_tokens or 0,
        row.reasoning_tokens or 0,
        row.cost_nanousd or 0,
    ]


def _add(sums: dict[tuple[Any, ...], list[int]], key: tuple[Any, ...], numbers: list[int]) -> None:
    known = sums.get(key)
    sums[key] = numbers if known is None else list(map(add, known, numbers))


def _rows(period: str, sums: dict[tuple[Any, ...], list[int]]) -> list[dict[str, Any]]:
    names = (period, *tables.DIMENSIONS)
    return [
        {**dict(zip(names, key, strict=True)), **dict(zip(tables.SUMS, numbers, strict=True))}
        for key, numbers in sums.items()
    ]
