"""What batches keep in the database: files, jobs, and which process works on which job.

Everything here blocks. `StorageUnavailable` when the database is away.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from . import tables
from .database import Database
from .rows import FileRow, JobRow

ACTIVE = ("validating", "in_progress", "finalizing", "cancelling")
"""The states of jobs that somebody has yet to work on."""
MOST_LISTED = 10_000
_PURGED_AT_ONCE = 200


class JobStore:
    """The tables of batches in the ledger's database.

    A process works on a job from `claim` until `release` or `finish`, as long as it calls `beat` in time;
    after that its changes are refused, since somebody else may have the job.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._one_at_a_time = threading.Lock()  # what an SQLite file needs in the place of a server's lock

    @property
    def is_local(self) -> bool:
        """Say whether it is an SQLite file, whose jobs one process at a time works on."""
        return self._database.is_sqlite

    # Files

    def held(self, owner: str) -> tuple[int, int]:
        """Return how many files a caller has, and of how many bytes."""
        with self._database.transaction() as connection:
            return _held(connection, owner)

    def add_file(self, row: FileRow, *, most_files: int, most_bytes: int) -> bool:
        """Write a file down; False when its owner would then have too many, or too much."""
        with self._alone(row.owner) as connection:
            count, size = _held(connection, row.owner)
            if count + 1 > most_files or size + row.bytes > most_bytes:
                return False
            connection.execute(sa.insert(tables.file).values(msgspec.structs.asdict(row)))
            return True

    def file(self, file_id: str, owner: str) -> FileRow | None:
        """Return a file of this owner's."""
        table = tables.file
        query = sa.select(table).where(table.c.id == file_id, table.c.owner == owner)
        with self._database.transaction() as connection:
            row = connection.execute(query).first()
        return None if row is None else FileRow(**row._mapping)

    def files(
        self,
        owner: str,
        *,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = MOST_LISTED,
        oldest_first: bool = False,
    ) -> list[FileRow]:
        """Return an owner's files, newest first unless said, from the one that follows `after`."""
        table = tables.file
        query = sa.select(table).where(table.c.owner == owner)
        if purpose is not None:
            query = query.where(table.c.purpose == purpose)
        return [FileRow(**row) for row in self._page(query, table, owner, after, limit, oldest_first)]

    def delete_file(self, file_id: str, owner: str) -> bool:
        """Forget a file; False when its owner has none of this name."""
        table = tables.file
        with self._database.transaction() as connection:
            gone = sa.delete(table).where(table.c.id == file_id, table.c.owner == owner)
            return bool(connection.execute(gone).rowcount)

    def take_expired_files(self, now_ms: int) -> list[str]:
        """Forget some files whose time is over, and return their names."""
        table = tables.file
        with self._database.transaction() as connection:
            query = sa.select(table.c.id).where(table.c.expires_ms <= now_ms).limit(_PURGED_AT_ONCE)
            names = list(connection.execute(query).scalars())
            connection.execute(sa.delete(table).where(table.c.id.in_(names)))
        return names

    # Jobs

    def add_job(self, row: JobRow, *, most_active: int) -> bool:
        """Write a job down; False when its owner has so many that have not ended."""
        table = tables.job
        with self._alone(row.owner) as connection:
            query = sa.select(sa.func.count()).where(table.c.owner == row.owner, table.c.status.in_(ACTIVE))
            if connection.execute(query).scalar_one() >= most_active:
                return False
            connection.execute(sa.insert(table).values(msgspec.structs.asdict(row)))
            return True

    def job(self, job_id: str, owner: str) -> JobRow | None:
        """Return a job of this owner's."""
        table = tables.job
        return self._one(sa.select(table).where(table.c.id == job_id, table.c.owner == owner))

    def active_with(self, owner: str, input_: str) -> JobRow | None:
        """Return a job of this owner's that has not ended and reads this input."""
        table = tables.job
        query = sa.select(table).where(table.c.owner == owner, table.c.input == input_)
        return self._one(query.where(table.c.status.in_(ACTIVE)).limit(1))

    def jobs(
        self,
        owner: str,
        *,
        after: str | None = None,
        limit: int = MOST_LISTED,
        statuses: Sequence[str] = (),
    ) -> list[JobRow]:
        """Return an owner's jobs, newest first, from the one that follows `after`."""
        table = tables.job
        query = sa.select(table).where(table.c.owner == owner)
        if statuses:
            query = query.where(table.c.status.in_(statuses))
        return [JobRow(**row) for row in self._page(query, table, owner, after, limit, False)]

    def cancel(self, job_id: str, owner: str, now_ms: int) -> JobRow | None:
        """Ask for the end of a job, unless it ends already; None when this owner has no such job."""
        table = tables.job
        change = (
            sa.update(table)
            .where(table.c.id == job_id, table.c.owner == owner)
            .where(table.c.status.in_(("validating", "in_progress")))
            .values(status="cancelling", cancelling_ms=now_ms)
        )
        with self._database.transaction() as connection:
            connection.execute(change)
        return self.job(job_id, owner)

    # Who works on which

    def claim(self, worker: str, now_ms: int, lease_ms: int) -> JobRow | None:
        """Take the oldest job that nobody works on, until `lease_ms`."""
        table = tables.job
        free = (
            sa.select(table.c.id)
            .where(table.c.status.in_(ACTIVE), table.c.lease_ms <= now_ms)
            .order_by(table.c.created_ms, table.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._alone(None) as connection:
            job_id = connection.execute(free).scalar_one_or_none()
            if job_id is None:
                return None
            connection.execute(
                sa.update(table)
                .where(table.c.id == job_id)
                .values(worker=worker, lease_ms=lease_ms, epoch=table.c.epoch + 1)
            )
            row = connection.execute(sa.select(table).where(table.c.id == job_id)).one()
            return JobRow(**row._mapping)

    def beat(self, job: JobRow, lease_ms: int, changes: Mapping[str, Any]) -> str | None:
        """Keep a job, write changes of it down, and return its status; None when it is no longer ours.

        A job that is to be cancelled does not come to be in progress.
        """
        table = tables.job
        if changes.get("status") == "in_progress":
            kept = sa.case((table.c.status == "cancelling", "cancelling"), else_="in_progress")
            changes = {**changes, "status": kept}
        with self._database.transaction() as connection:
            change = sa.update(table).where(*_ours(job)).values(lease_ms=lease_ms, **changes)
            if not connection.execute(change).rowcount:
                return None
            query = sa.select(table.c.status).where(table.c.id == job.id)
            status: str = connection.execute(query).scalar_one()
            return status

    def release(self, job: JobRow, at_ms: int, *, crashed: bool = False) -> None:
        """Let go of a job; whoever asks from `at_ms` on gets it."""
        table = tables.job
        crashes = table.c.crashes + (1 if crashed else 0)
        with self._database.transaction() as connection:
            connection.execute(
                sa.update(table).where(*_ours(job)).values(worker=None, lease_ms=at_ms, crashes=crashes)
            )

    def finish(self, job: JobRow, changes: Mapping[str, Any], files: Sequence[FileRow]) -> bool:
        """End a job, and write its files down; False when it is no longer ours."""
        table = tables.job
        with self._database.transaction() as connection:
            change = sa.update(table).where(*_ours(job)).values(worker=None, **changes)
            if not connection.execute(change).rowcount:
                return False
            for row in files:
                connection.execute(sa.insert(tables.file).values(msgspec.structs.asdict(row)))
            return True

    def release_all(self) -> None:
        """Free every job, for a process that knows that no other one is at work."""
        with self._database.transaction() as connection:
            change = sa.update(tables.job).where(tables.job.c.status.in_(ACTIVE))
            connection.execute(change.values(worker=None, lease_ms=0))

    def take_old_jobs(self, before_ms: int) -> list[str]:
        """Forget some jobs that ended before a time, and return their names."""
        table = tables.job
        with self._database.transaction() as connection:
            query = sa.select(table.c.id).where(table.c.ended_ms <= before_ms).limit(_PURGED_AT_ONCE)
            names = list(connection.execute(query).scalars())
            connection.execute(sa.delete(table).where(table.c.id.in_(names)))
        return names

    def _one(self, query: Any) -> JobRow | None:
        with self._database.transaction() as connection:
            row = connection.execute(query).first()
        return None if row is None else JobRow(**row._mapping)

    def _page(
        self, query: Any, table: sa.Table, owner: str, after: str | None, limit: int, oldest_first: bool
    ) -> list[Mapping[str, Any]]:
        at = (table.c.created_ms, table.c.id)
        with self._database.transaction() as connection:
            if after is not None:
                where = sa.select(*at).where(table.c.id == after, table.c.owner == owner)
                place = connection.execute(where).first()
                if place is None:
                    return []
                row = sa.tuple_(*at)
                query = query.where(row > tuple(place) if oldest_first else row < tuple(place))
            order = at if oldest_first else [column.desc() for column in at]
            found = connection.execute(query.order_by(*order).limit(limit))
            return [dict(each._mapping) for each in found]

    @contextmanager
    def _alone(self, owner: str | None) -> Iterator[Connection]:
        """Open a transaction in which nobody else counts what this owner has."""
        with self._one_at_a_time, self._database.transaction() as connection:
            if owner is not None and not self._database.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(owner))))
            yield connection


def _held(connection: Connection, owner: str) -> tuple[int, int]:
    table = tables.file
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(table.c.bytes), 0))
    count, size = connection.execute(query.where(table.c.owner == owner)).one()
    return int(count), int(size)


def _ours(job: JobRow) -> tuple[Any, ...]:
    table = tables.job
    return table.c.id == job.id, table.c.worker == job.worker, table.c.epoch == job.epoch
