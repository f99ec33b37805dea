"""Adds requests up by hour and by day, so that reports need not read each of them.

Not with each batch, where many callers would mean as many sums to change as there are rows, but now and
then and before a report: `ai_gateway_summed` says up to which request the sums are those of the rows, and
changes with them in one transaction. So they are exact, whoever is killed at whatever moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import add
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from . import tables

HOUR_MS = 3_600_000
AT_ONCE = 200_000
"""How many requests one transaction adds up at most."""

Sums = dict[tuple[Any, ...], list[int]]


class Rollups:
    """Brings the roll-ups up to date; days are those of `day_of`. `mark` is the driver's placeholder."""

    def __init__(self, day_of: Callable[[int], str], mark: str) -> None:
        self._day_of = day_of
        self._add = {
            table.name: adding_text(table, tables.SUMS, mark)
            for table in (tables.usage_hour, tables.usage_day)
        }

    def pending(self, connection: Connection) -> tuple[int, int]:
        """Return the last request that is in the sums, and the last one that there is."""
        newest = sa.select(sa.func.coalesce(sa.func.max(tables.request.c.id), 0)).scalar_subquery()
        row = connection.execute(sa.select(tables.summed.c.request, newest)).one()
        return row[0], row[1]

    def sum_up(self, connection: Connection, newest: int) -> bool:
        """Add up the requests up to one, as far as they are not in the sums; False when there are more.

        Every request up to `newest` has to be there for good.
        """
        column = tables.summed.c.request
        # Changes nothing but locks the row, so that whoever else adds up waits here
        last: int = connection.execute(
            sa.update(tables.summed).values(request=column).returning(column)
        ).scalar_one()
        if newest <= last:
            return True
        until = min(newest, last + AT_ONCE)
        found = connection.execute(_BY_HOUR, {"last": last, "until": until}).all()
        hours = [tuple(row) for row in found]
        if hours:
            connection.exec_driver_sql(self._add[tables.usage_hour.name], hours)
            connection.exec_driver_sql(self._add[tables.usage_day.name], self._days(hours))
        connection.execute(sa.update(tables.summed).values(request=until))
        return until == newest

    def step_back(self, connection: Connection) -> None:
        """Follow requests that were deleted: SQLite gives the number of the last one again."""
        _, newest = self.pending(connection)
        column = tables.summed.c.request
        connection.execute(sa.update(tables.summed).where(column > newest).values(request=newest))

    def _days(self, hours: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        days: Sums = {}
        names: dict[int, str] = {}
        start = 1 + len(tables.DIMENSIONS)
        for hour_ms, *rest in hours:
            day = names.get(hour_ms) or names.setdefault(hour_ms, self._day_of(hour_ms))
            key, numbers = (day, *rest[: start - 1]), rest[start - 1 :]
            known = days.get(key)
            days[key] = numbers if known is None else list(map(add, known, numbers))
        return [(*key, *numbers) for key, numbers in days.items()]


def adding_text(table: sa.Table, sums: Iterable[str], mark: str) -> str:
    """Write an insert of all columns of a table that adds to the row which is there."""
    names = [column.name for column in table.columns]
    keys = ", ".join(column.name for column in table.primary_key.columns)
    changes = ", ".join(f"{name} = {table.name}.{name} + excluded.{name}" for name in sums)
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join([mark] * len(names))}) "  # noqa: S608 - names of ours
        f"ON CONFLICT ({keys}) DO UPDATE SET {changes}"
    )


def _by_hour() -> sa.Select[Any]:
    """Return the question for the sums of some requests: the columns of `usage_hour`, in its order."""
    row = tables.request.c
    is_unknown = row.input_tokens.is_(None) & row.output_tokens.is_(None)
    is_served = row.outcome == "ok"
    is_unpriced = row.cost_nanousd.is_(None) & (is_served | ~is_unknown)
    counts = (
        sa.func.count(),
        sa.func.count().filter(~is_served),
        sa.func.count().filter(row.is_estimated),
        sa.func.count().filter(is_served & is_unknown),
        sa.func.count().filter(is_unpriced),
    )
    added = tables.SUMS[len(counts) :]
    sums = (sa.cast(sa.func.coalesce(sa.func.sum(row[name]), 0), sa.BigInteger) for name in added)
    hour = (row.at_ms - row.at_ms % HOUR_MS).label("hour_ms")
    by = (
        hour,
        row.caller,
        sa.func.coalesce(row.charged_group, "").label("by_group"),
        row.endpoint,
        sa.func.coalesce(row.provider, "").label("by_provider"),
        sa.func.coalesce(row.sent_model, "").label("by_model"),
    )
    found = sa.select(*by, *counts, *sums).where(
        row.id > sa.bindparam("last"), row.id <= sa.bindparam("until")
    )
    # By place: PostgreSQL would take an expression with parameters for another one each time
    return found.group_by(*(sa.text(str(place + 1)) for place in range(len(by))))


_BY_HOUR = _by_hour()
