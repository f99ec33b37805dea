"""Making, listing and ending gateway keys, for the command line and the API. Blocks: it asks a database."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from ..config import Secret
from ..storage import AuditRow, KeyRow, KeyTable
from .keys import KeyProblem, new_key, node_keys, read_scopes

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@\-]{0,99}")
_ENDPOINT = re.compile(r"[A-Za-z0-9_.:/*?\-]{1,200}")
_SPAN = re.compile(r"([1-9][0-9]{0,4})\s*(h|d|w|y)")
_UNITS_MS = {"h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000, "y": 365 * 86_400_000}
MAX_GRACE_MS = 90 * 86_400_000
MAX_TEXT = 500


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants a key to be, in their words. `expires` is a day, a time, `30d`, or `never`."""

    name: str
    scopes: Sequence[str]
    expires: str
    endpoints: Sequence[str] = ()
    owner: str | None = None
    note: str | None = None


class KeyBook:
    """The keys of a database. `actor` is who asks, for the audit log: never a word of a key."""

    def __init__(
        self, table: KeyTable, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._table = table
        self._now_ms = now_ms

    def create(self, wish: Wish, actor: str) -> tuple[KeyRow, Secret]:
        """Make a key; its text is not to be had again. `KeyProblem` when it cannot be made."""
        now_ms, key = self._now_ms(), new_key()
        row = KeyRow(
            id=key.id,
            form="jaig",
            name=_name(wish.name),
            salt=key.salt,
            hash=key.hash,
            scopes=read_scopes(wish.scopes),
            endpoints=_endpoints(wish.endpoints),
            created_ms=now_ms,
            created_by=actor,
            owner=_text("owner", wish.owner),
            note=_text("note", wish.note),
            expires_ms=read_expiry(wish.expires, now_ms),
        )
        self._add([row], AuditRow(now_ms, actor, "key.create", row.name, _detail(row)))
        return row, key.text

    def rotate(self, name: str, actor: str, grace: str | None = None) -> tuple[KeyRow, Secret]:
        """Make another key in the place of one, which counts for `grace` longer (`24h`), or no more."""
        now_ms, key = self._now_ms(), new_key()
        old = next((row for row in self.rows() if name in (row.name, row.id)), None)
        if old is None:
            raise KeyProblem("name", f"there is no key {name[:64]} that still counts")
        row = KeyRow(
            id=key.id,
            form="jaig",
            name=old.name,
            salt=key.salt,
            hash=key.hash,
            scopes=old.scopes,
            endpoints=old.endpoints,
            created_ms=now_ms,
            created_by=actor,
            owner=old.owner,
            note=old.note,
            expires_ms=_same_span(old, now_ms),
        )
        until_ms = now_ms + (0 if grace is None else _grace_ms(grace))
        audit = AuditRow(now_ms, actor, "key.rotate", row.name, _detail(row))
        if not self._table.replace(old.name, row, until_ms, audit):
            raise KeyProblem("name", f"there is no key {name[:64]} that still counts")
        return row, key.text

    def revoke(self, name: str, actor: str) -> bool:
        """End the keys of a name, or the one of an id; False when there is none that still counts."""
        return self._table.revoke(name, AuditRow(self._now_ms(), actor, "key.revoke", name[:100], "{}"))

    def rows(self, *, all_of_them: bool = False) -> list[KeyRow]:
        """Return the keys that count, or all that there ever were, newest first."""
        now_ms = self._now_ms()
        found = self._table.rows(all_of_them=all_of_them)
        return [row for row in found if all_of_them or row.expires_ms is None or row.expires_ms > now_ms]

    def import_node(self, document: object, actor: str) -> list[KeyRow]:
        """Take over the keys of a Node gateway: those who have one go on using it."""
        now_ms = self._now_ms()
        rows = [
            KeyRow(
                id=f"node-{hash_[:16]}",
                form="node",
                name=_name(user),
                salt=salt,
                hash=hash_,
                scopes=read_scopes(scopes),
                endpoints="",
                created_ms=now_ms,
                created_by=actor,
                note="from a Node gateway",
            )
            for hash_, salt, user, scopes in node_keys(document)
        ]
        names = ", ".join(row.name for row in rows)
        self._add(rows, AuditRow(now_ms, actor, "key.import", names[:MAX_TEXT], "{}"))
        return rows

    def _add(self, rows: list[KeyRow], audit: AuditRow) -> None:
        twice = sorted({row.name for row in rows if sum(row.name == each.name for each in rows) > 1})
        taken = twice or self._table.add(rows, audit)
        if taken:
            text = f"there is a key {taken[0]} already; revoke or rotate it, or choose another name"
            raise KeyProblem("name", text)
        if rows and rows[0].id not in {row.id for row in self._table.rows()}:
            raise KeyProblem("name", "there are as many keys as there may be; revoke some")


def read_expiry(text: str, now_ms: int) -> int | None:
    """Read when a key ends: `never`, `30d` (h, d, w, y), a day or a time. A day counts to its end."""
    word = text.strip().lower()
    if word == "never":
        return None
    match = _SPAN.fullmatch(word)
    if match is not None:
        return now_ms + int(match[1]) * _UNITS_MS[match[2]]
    try:
        at = datetime.fromisoformat(word.upper().replace("Z", "+00:00"))
    except ValueError:
        text = "must be never, a time from now such as 90d or 12h, or a day such as 2027-01-31"
        raise KeyProblem("expires", text) from None
    aware = at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)
    day_ms = _UNITS_MS["d"] if len(word) == 10 else 0
    ends_ms = round(aware.timestamp() * 1000) + day_ms
    if ends_ms <= now_ms:
        raise KeyProblem("expires", "is in the past")
    return ends_ms


def _grace_ms(text: str) -> int:
    match = _SPAN.fullmatch(text.strip().lower())
    span_ms = 0 if match is None else int(match[1]) * _UNITS_MS[match[2]]
    if not 0 < span_ms <= MAX_GRACE_MS:
        raise KeyProblem("grace", "must be a time such as 24h or 7d, of 90 days at most")
    return span_ms


def _same_span(old: KeyRow, now_ms: int) -> int | None:
    return None if old.expires_ms is None else now_ms + old.expires_ms - old.created_ms


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise KeyProblem("name", "must be letters, digits, _, -, . and @, up to 100")
    return text


def _endpoints(patterns: Iterable[str]) -> str:
    words = [word.strip() for text in patterns for word in text.split(",") if word.strip()]
    for word in words:
        if not _ENDPOINT.fullmatch(word):
            raise KeyProblem("endpoints", f"{word[:64]!r} is no name of an endpoint, in which * may stand")
    return " ".join(dict.fromkeys(words))


def _text(param: str, value: str | None) -> str | None:
    if value is None or not value.strip():
        return None
    if len(value) > MAX_TEXT or not value.isprintable():
        raise KeyProblem(param, f"must be text of one line, up to {MAX_TEXT} characters")
    return value.strip()


def _detail(row: KeyRow) -> str:
    return json.dumps({"id": row.id, "scopes": row.scopes.split(), "endpoints": row.endpoints.split()})
