"""Every statement about gateway keys. What is written was hashed before: no key comes here."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from . import tables
from .database import Database
from .rows import AuditRow, KeyRow

VERSION = "keys/version"
"""The setting that is another one after each change."""
MAX_KEYS = 10_000
"""How many may count at a time: a gateway has all of them in memory."""


class KeyTable:
    """The keys in a database. A change and its line of the audit log are one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def version(self) -> str | None:
        """Return what is another text after each change; None before the first."""
        columns = tables.setting.c
        with self._database.transaction() as connection:
            return connection.execute(sa.select(columns.value).where(columns.name == VERSION)).scalar()

    def rows(self, *, all_of_them: bool = False) -> list[KeyRow]:
        """Return the keys that are not revoked, or those as well, newest first."""
        table = tables.key
        query = sa.select(table).order_by(table.c.created_ms.desc(), table.c.id).limit(2 * MAX_KEYS)
        if not all_of_them:
            query = query.where(table.c.revoked_ms.is_(None))
        with self._database.transaction() as connection:
            return [KeyRow(**row._mapping) for row in connection.execute(query)]

    def add(self, rows: Iterable[KeyRow], audit: AuditRow) -> list[str]:
        """Write keys, all or none; return the names that others have already, which is why none was."""
        values = [msgspec.structs.asdict(row) for row in rows]
        table = tables.key
        with self._database.transaction() as connection:
            query = sa.select(table.c.name).where(_is_active(audit.at_ms))
            names = list(connection.execute(query).scalars())
            taken = sorted({each["name"] for each in values}.intersection(names))
            if not taken and len(names) + len(values) <= MAX_KEYS and values:
                connection.execute(sa.insert(table), values)
                self._changed(connection, audit)
            return taken

    def replace(self, name: str, row: KeyRow, old_until_ms: int, audit: AuditRow) -> bool:
        """Write a key in the place of all of that name, which count until then; False without any."""
        with self._database.transaction() as connection:
            if not self._end(connection, name, old_until_ms, audit):
                return False
            connection.execute(sa.insert(tables.key).values(msgspec.structs.asdict(row)))
            self._changed(connection, audit)
            return True

    def revoke(self, name: str, audit: AuditRow) -> bool:
        """End the keys of a name, or the one of an id; False when there is none that still counts."""
        with self._database.transaction() as connection:
            if not self._end(connection, name, audit.at_ms, audit):
                return False
            self._changed(connection, audit)
            return True

    def note_uses(self, uses: Mapping[str, int]) -> None:
        """Write down when keys were last used, by id."""
        table = tables.key
        change = (
            sa.update(table)
            .where(table.c.id == sa.bindparam("key_id"))
            .values(used_ms=sa.bindparam("at_ms"))
        )
        with self._database.transaction() as connection:
            connection.execute(change, [{"key_id": each, "at_ms": at} for each, at in uses.items()])

    def _end(self, connection: Connection, name: str, until_ms: int, audit: AuditRow) -> bool:
        table = tables.key
        mine = sa.and_(sa.or_(table.c.name == name, table.c.id == name), _is_active(audit.at_ms))
        if until_ms <= audit.at_ms:
            change = sa.update(table).values(revoked_ms=audit.at_ms, revoked_by=audit.actor)
            return connection.execute(change.where(mine)).rowcount > 0
        later = sa.or_(table.c.expires_ms.is_(None), table.c.expires_ms > until_ms)
        found = connection.execute(sa.select(sa.func.count()).select_from(table).where(mine)).scalar_one()
        connection.execute(sa.update(table).values(expires_ms=until_ms).where(mine, later))
        return bool(found)

    def _changed(self, connection: Connection, audit: AuditRow) -> None:
        version = msgspec.json.encode(uuid.uuid4().hex).decode()
        row = {"name": VERSION, "value": version, "at_ms": audit.at_ms, "by": audit.actor}
        connection.execute(self._database.upsert(tables.setting, row))
        connection.execute(sa.insert(tables.audit).values(msgspec.structs.asdict(audit)))


def _is_active(now_ms: int) -> Any:
    columns = tables.key.c
    return sa.and_(
        columns.revoked_ms.is_(None), sa.or_(columns.expires_ms.is_(None), columns.expires_ms > now_ms)
    )
