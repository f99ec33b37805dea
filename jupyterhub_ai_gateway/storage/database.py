"""Every statement: what the ledger writes, what reports ask, what staff set."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec.structs import astuple
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from ..errors import ConfigFault
from . import schema, tables
from .rollups import Rollups, adding_text
from .rows import AttemptRow, AuditRow, Batch, Counter, OverrideRow, RequestRow

BATCH_MEMORY_MS = 7 * 86_400_000
"""How long a batch's name is kept, so that it is not written twice."""
PURGED_AT_ONCE = 1000
ROWS_AT_ONCE = 25
"""How many rows one statement inserts: as many as every SQLite takes, with its 999 parameters or more."""
_CONNECT_S = 5


class StorageUnavailable(Exception):  # noqa: N818 - the database's state, told to the ledger
    """The database cannot be reached, or refuses to work now."""


class StorageRefused(Exception):  # noqa: N818
    """The database is there and says that a statement is wrong: a bug, or a table that was changed."""


class Database:
    """One database, by URL: `sqlite:///FILE` or `postgresql+psycopg://…`.

    `day_of` turns a time in milliseconds into a day, such as `2026-11-20`, of the operator's time zone.
    """

    def __init__(self, url: str, *, day_of: Callable[[int], str], path: str = "ledger.url") -> None:
        self._url = _checked_url(url, path)
        self._path = path
        self._day_of = day_of
        self._insert: Callable[..., Any] = (
            sqlite.insert if self._url.get_backend_name() == "sqlite" else postgresql.insert
        )
        self._engine = _engine(self._url)
        # As the driver wants them: building each row's parameters costs more than writing it
        mark = "?" if self.is_sqlite else "%s"
        self._insert_request = _insert_text(tables.request, RequestRow, mark)
        self._insert_several = _insert_text(tables.request, RequestRow, mark, ROWS_AT_ONCE)
        self._insert_attempt = _insert_text(tables.attempt, AttemptRow, mark)
        self._insert_batch = (
            f"INSERT INTO {tables.batch.name} (id, at_ms) VALUES ({mark}, {mark}) ON CONFLICT DO NOTHING"  # noqa: S608
        )
        self._add_counter = adding_text(tables.counter, ("amount",), mark)
        self._rollups = Rollups(day_of, mark)

    @property
    def is_sqlite(self) -> bool:
        """Say whether it is a file of ours alone, which is upgraded without asking."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def folder(self) -> Path:
        """Return where a journal belongs: beside the file, or here for a server."""
        name = self._url.database
        return Path(name).absolute().parent if self.is_sqlite and name else Path.cwd()

    def check(self) -> None:
        """Make sure that the tables are those of this version. `ConfigFault` says what to do.

        An SQLite file is made and upgraded; on a server that is for the operator to do.
        """
        try:
            with self._connection() as connection:
                found = schema.current(connection)
        except StorageUnavailable as error:
            where = f" ({self._url.database})" if self.is_sqlite else ""
            hint = (
                "; name another with ledger.url, or keep none with ledger: false" if self.is_sqlite else ""
            )
            raise ConfigFault(self._path, f"the database{where} cannot be opened: {error}{hint}") from None
        newest = schema.head()
        if found == newest:
            return
        if found is not None and not schema.is_known(found):
            text = f"the database is of a newer gateway (version {found}, this one knows {newest})"
            raise ConfigFault(self._path, f"{text}; install that gateway, or name another database")
        if not self.is_sqlite:
            state = "has no tables yet" if found is None else f"is of version {found}, not {newest}"
            raise ConfigFault(
                self._path, f"the database {state}: run `jupyterhub-ai-gateway db upgrade` first"
            )
        self.upgrade()

    def upgrade(self) -> str:
        """Make or upgrade the tables; return the version that they have then."""
        try:
            schema.upgrade(self._engine)
        except SQLAlchemyError as error:
            raise ConfigFault(self._path, f"the database cannot be upgraded: {_reason(error)}") from None
        return schema.head()

    def version(self) -> str | None:
        """Return the version of the tables; None when there are none."""
        with self._connection() as connection:
            return schema.current(connection)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    # What the ledger writes

    def write(self, batch: Batch, now_ms: int) -> bool:
        """Write a batch in one transaction; False when it was there already."""
        with self._connection() as connection:
            if not connection.exec_driver_sql(self._insert_batch, (batch.id, now_ms)).rowcount:
                return False
            if batch.requests:
                self._insert_requests(connection, list(map(astuple, batch.requests)))
            if batch.attempts:
                connection.exec_driver_sql(self._insert_attempt, list(map(astuple, batch.attempts)))
            if batch.counters:
                connection.exec_driver_sql(self._add_counter, list(map(tuple, batch.counters)))
            return True

    def _insert_requests(self, connection: Connection, rows: list[tuple[Any, ...]]) -> None:
        """Insert rows; in SQLite several by one statement, as after each one the thread gives the lock of
        the interpreter away, and has to wait for it."""
        whole = len(rows) - len(rows) % ROWS_AT_ONCE if self.is_sqlite else 0
        if whole:
            starts = range(0, whole, ROWS_AT_ONCE)
            several = [tuple(chain.from_iterable(rows[at : at + ROWS_AT_ONCE])) for at in starts]
            connection.exec_driver_sql(self._insert_several, several)
        if len(rows) > whole:
            connection.exec_driver_sql(self._insert_request, rows[whole:])

    def sum_up(self) -> None:
        """Add up what was written since the last time, whoever wrote it; reports do so by themselves."""
        with self._connection() as connection:
            last, newest = self._rollups.pending(connection)
        if newest > last and not self.is_sqlite:
            # Rows of transactions that have not ended have lower numbers than the newest one: wait for them
            with self._connection() as connection:
                connection.exec_driver_sql(f"LOCK TABLE {tables.request.name} IN SHARE MODE")
                newest = self._rollups.pending(connection)[1]
        is_done = newest <= last
        while not is_done:
            with self._connection() as connection:
                is_done = self._rollups.sum_up(connection, newest)

    def counters(self, now_ms: int) -> list[Counter]:
        """Return what has been used of every window that is not over."""
        columns = tables.counter.c
        query = sa.select(columns.key, columns.slot_ms, columns.amount, columns.expires_ms)
        with self._connection() as connection:
            return [Counter(*row) for row in connection.execute(query.where(columns.expires_ms > now_ms))]

    def purge(self, before_ms: int, now_ms: int) -> int:
        """Delete a few rows of requests from before a time, and what nobody asks for; return how many."""
        self.sum_up()
        summed = sa.select(tables.summed.c.request).scalar_subquery()  # others may have written meanwhile
        is_old_request = (tables.request.c.at_ms < before_ms) & (tables.request.c.id <= summed)
        oldest = (
            (tables.request, tables.request.c.id, is_old_request),
            (tables.attempt, tables.attempt.c.request_id, tables.attempt.c.at_ms < before_ms),
            (tables.counter, tables.counter.c.key, tables.counter.c.expires_ms < now_ms - BATCH_MEMORY_MS),
            (tables.batch, tables.batch.c.id, tables.batch.c.at_ms < now_ms - BATCH_MEMORY_MS),
        )
        deleted = 0
        for table, key, is_old in oldest:
            with self._connection() as connection:
                some = sa.select(key).where(is_old).limit(PURGED_AT_ONCE).scalar_subquery()
                deleted += connection.execute(sa.delete(table).where(key.in_(some), is_old)).rowcount
                if table is tables.request:
                    self._rollups.step_back(connection)
        return deleted

    # What reports ask

    def usage(
        self,
        *,
        since: str,
        until: str,
        by: Sequence[str],
        where: Mapping[str, str],
        order: str | None = None,
        limit: int = 10_000,
    ) -> list[dict[str, Any]]:
        """Add up days from `since` to `until`, both included, in groups of `by`: "day" or a dimension.

        The largest come first where `order` names a sum (`tokens` is input and output).
        """
        self.sum_up()
        table = tables.usage_day
        groups = [table.c[name] for name in by]
        sums = [sa.func.sum(table.c[name]).label(name) for name in tables.SUMS]
        query = sa.select(*groups, *sums).where(table.c.day >= since, table.c.day <= until)
        for name, value in where.items():
            query = query.where(table.c[name] == value)
        largest = [] if order is None else [_summed(order).desc()]
        query = query.group_by(*groups).order_by(*largest, *groups).limit(limit)
        with self._connection() as connection:
            found = [dict(row._mapping) for row in connection.execute(query)]
        return [_numbers(row) for row in found if row["requests"] is not None]  # a sum of no rows is null

    def requests(
        self, *, where: Mapping[str, str], before_ms: int | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Return the newest requests that fit, newest first."""
        table = tables.request
        query = sa.select(table).order_by(table.c.at_ms.desc(), table.c.id.desc()).limit(limit)
        for name, value in where.items():
            query = query.where(table.c[name] == value)
        if before_ms is not None:
            query = query.where(table.c.at_ms < before_ms)
        with self._connection() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def request(self, request_id: str) -> dict[str, Any] | None:
        """Return one request with its attempts; None when it is not there."""
        table, tries = tables.request, tables.attempts
        with self._connection() as connection:
            row = connection.execute(sa.select(table).where(table.c.request_id == request_id)).first()
            if row is None:
                return None
            query = sa.select(tries).where(tries.c.request_id == request_id).order_by(tries.c.number)
            attempts = [dict(each._mapping) for each in connection.execute(query)]
        return {**row._mapping, "tries": attempts}

    def export(self, since_ms: int, until_ms: int, where: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Return every request of a time, oldest first, a thousand at once."""
        table = tables.request
        last = 0
        while True:
            query = sa.select(table).where(table.c.id > last, table.c.at_ms >= since_ms)
            query = query.where(table.c.at_ms < until_ms).order_by(table.c.id).limit(1000)
            for name, value in where.items():
                query = query.where(table.c[name] == value)
            with self._connection() as connection:
                rows = [dict(row._mapping) for row in connection.execute(query)]
            if not rows:
                return
            last = rows[-1]["id"]
            yield from rows

    # What staff set

    def add_override(self, row: OverrideRow, audit: AuditRow) -> None:
        """Write an override, and who made it."""
        with self._connection() as connection:
            connection.execute(sa.insert(tables.override).values(_columns(row)))
            connection.execute(sa.insert(tables.audit).values(_columns(audit)))

    def revoke_override(self, override_id: str, now_ms: int, audit: AuditRow) -> bool:
        """End an override; False when there is none that still counts."""
        table = tables.override
        change = (
            sa.update(table)
            .where(table.c.id == override_id, table.c.revoked_ms.is_(None), table.c.ends_ms > now_ms)
            .values(revoked_ms=now_ms, revoked_by=audit.actor)
        )
        with self._connection() as connection:
            if not connection.execute(change).rowcount:
                return False
            connection.execute(sa.insert(tables.audit).values(_columns(audit)))
            return True

    def overrides(self, now_ms: int, *, all_of_them: bool = False) -> list[OverrideRow]:
        """Return the overrides that count now or will, or all that there ever were, newest first."""
        table = tables.override
        query = sa.select(table).order_by(table.c.created_ms.desc())
        if not all_of_them:
            query = query.where(table.c.ends_ms > now_ms, table.c.revoked_ms.is_(None))
        with self._connection() as connection:
            return [OverrideRow(**row._mapping) for row in connection.execute(query.limit(10_000))]

    def note(self, audit: AuditRow) -> None:
        """Write down what somebody with rights did."""
        with self._connection() as connection:
            connection.execute(sa.insert(tables.audit).values(_columns(audit)))

    def day_of(self, at_ms: int) -> str:
        """Return the day of the ledger that a time belongs to."""
        return self._day_of(at_ms)

    def audit_log(self, *, limit: int = 100) -> list[AuditRow]:
        """Return what staff did, newest first."""
        table = tables.audit
        query = sa.select(table).order_by(table.c.id.desc()).limit(limit)
        with self._connection() as connection:
            rows = [dict(row._mapping) for row in connection.execute(query)]
        return [AuditRow(**{name: row[name] for name in AuditRow.__struct_fields__}) for row in rows]

    def settings(self) -> dict[str, Any]:
        """Return what staff set, by name."""
        table = tables.setting
        with self._connection() as connection:
            rows = connection.execute(sa.select(table.c.name, table.c.value)).all()
        return {name: msgspec.json.decode(value) for name, value in rows}

    def set(self, name: str, value: Any, audit: AuditRow) -> None:
        """Set something, or with None set it back, and write down who did."""
        table = tables.setting
        with self._connection() as connection:
            connection.execute(sa.delete(table).where(table.c.name == name))
            if value is not None:
                text = msgspec.json.encode(value).decode()
                row = {"name": name, "value": text, "at_ms": audit.at_ms, "by": audit.actor}
                connection.execute(sa.insert(table).values(row))
            connection.execute(sa.insert(tables.audit).values(_columns(audit)))

    def transaction(self) -> AbstractContextManager[Connection]:
        """Open a transaction for the other statements of this room."""
        return self._connection()

    def upsert(self, table: sa.Table, row: Mapping[str, Any]) -> Any:
        """Return an insert that replaces the row which is there."""
        statement = self._insert(table).values(row)
        keys = [column.name for column in table.primary_key.columns]
        changed = {name: statement.excluded[name] for name in row if name not in keys}
        return statement.on_conflict_do_update(index_elements=keys, set_=changed)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Open a transaction; `StorageUnavailable` when the database is away or cannot work now."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except (OperationalError, InterfaceError, InternalError, OSError) as error:
            raise StorageUnavailable(_reason(error)) from error
        except (DataError, IntegrityError, ProgrammingError) as error:
            raise StorageRefused(_reason(error)) from None  # the statement would quote its values
        except sa.exc.TimeoutError as error:
            raise StorageUnavailable("no connection is free") from error


def new_id(prefix: str) -> str:
    """Return a name that nobody else has."""
    return f"{prefix}_{uuid.uuid4().hex}"


def _summed(name: str) -> Any:
    """Return what to order by: one of the sums, or all tokens."""
    columns = tables.usage_day.c
    if name == "tokens":
        return sa.func.sum(columns.input_tokens + columns.output_tokens)
    return sa.func.sum(columns[name])


def _columns(row: msgspec.Struct) -> dict[str, Any]:
    return msgspec.structs.asdict(row)


def _insert_text(table: sa.Table, row: type[msgspec.Struct], mark: str, count: int = 1) -> str:
    """Write an insert of so many rows with all of their fields, which are named as the columns are."""
    names = row.__struct_fields__
    values = ", ".join([f"({', '.join([mark] * len(names))})"] * count)
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {values}"  # noqa: S608 - names of ours


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with plain integers; PostgreSQL adds bigints up to decimals."""
    return {name: int(value) if name in tables.SUMS else value for name, value in row.items()}


def _reason(error: BaseException) -> str:
    """Say what a driver says, in one line: without the statement, whose values are not for a log."""
    origin = getattr(error, "orig", None) or error
    text = str(origin).strip().splitlines()
    return f"{type(origin).__name__}: {text[0]}" if text else type(origin).__name__


def _checked_url(text: str, path: str) -> URL:
    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except ArgumentError:
        raise ConfigFault(
            path, "is not a database URL, such as sqlite:///ledger.sqlite or postgresql://…"
        ) from None
    if backend == "postgresql" and url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if backend not in ("sqlite", "postgresql"):
        raise ConfigFault(path, f"must be of sqlite or postgresql, found {backend}")
    try:
        url.get_dialect().import_dbapi()
    except (ImportError, NoSuchModuleError):
        hint = "pip install 'jupyterhub-ai-gateway[postgres]'"
        raise ConfigFault(path, f"needs a driver that is not installed: {hint}") from None
    return url


def _engine(url: URL) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": 30})
        sa.event.listen(engine, "connect", _set_pragmas)
        return engine
    return sa.create_engine(
        url, pool_size=4, max_overflow=4, pool_pre_ping=True, connect_args={"connect_timeout": _CONNECT_S}
    )


def _set_pragmas(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
