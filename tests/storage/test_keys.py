"""Keys in both databases: what is written, in which order, and what nobody can read out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from databases import PostgreSQL, utc_day

from jupyterhub_ai_gateway.auth import KeyBook, KeyProblem, Wish
from jupyterhub_ai_gateway.storage import Database, KeyRow, KeyTable, tables

NOON = 1_795_176_000_000
HOUR = 3_600_000


class Clock:
    now_ms = NOON

    def __call__(self) -> int:
        self.now_ms += 1
        return self.now_ms


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/ledger.sqlite"
    else:
        server: PostgreSQL = request.getfixturevalue("postgres")
        url = server.new_database()
    made = Database(url, day_of=utc_day)
    made.upgrade()
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(database: Database, clock: Clock) -> KeyBook:
    return KeyBook(KeyTable(database), clock)


def wish(name: str = "ci", **more: Any) -> Wish:
    return Wish(**{"name": name, "scopes": ["chat:create"], "expires": "90d", **more})


def test_rows_have_a_field_for_each_column() -> None:
    assert set(KeyRow.__struct_fields__) == {column.name for column in tables.key.columns}


def test_made_listed_and_ended(database: Database, book: KeyBook) -> None:
    row, text = book.create(wish(owner="alice", note="nightly", endpoints=["gpt-*", "o1"]), "user:admin")
    assert book.rows() == [row]
    assert (row.endpoints, row.scopes, row.owner) == ("gpt-* o1", "chat:create", "alice")
    assert not book.revoke("nobody", "user:admin")
    assert book.revoke("ci", "user:admin")
    assert not book.revoke("ci", "user:admin")
    assert book.rows() == []
    (ended,) = book.rows(all_of_them=True)
    assert ended.revoked_by == "user:admin"
    audit = database.audit_log()
    assert [each.action for each in audit] == ["key.revoke", "key.create"]
    assert text.reveal() not in str(audit) + str(ended)


def test_each_change_is_seen_by_its_version(database: Database, book: KeyBook) -> None:
    table = KeyTable(database)
    seen = [table.version()]
    book.create(wish(), "a")
    seen.append(table.version())
    book.rotate("ci", "a")
    seen.append(table.version())
    book.revoke("ci", "a")
    seen.append(table.version())
    assert seen[0] is None
    assert len(set(seen)) == 4
    table.note_uses({"x": NOON})
    assert table.version() == seen[-1]
    assert isinstance(database.settings()["keys/version"], str)  # settings can still be read


def test_a_name_is_had_once(book: KeyBook) -> None:
    book.create(wish(), "a")
    with pytest.raises(KeyProblem, match="already"):
        book.create(wish(), "a")
    book.revoke("ci", "a")
    book.create(wish(), "a")


def test_ended_name_is_free_again(book: KeyBook, clock: Clock) -> None:
    book.create(wish(expires="1h"), "a")
    clock.now_ms += 2 * HOUR
    assert book.rows() == []
    book.create(wish(), "a")


def test_rotation_at_once_and_with_a_grace(book: KeyBook, clock: Clock) -> None:
    old, _ = book.create(wish(owner="alice"), "a")
    new, _ = book.rotate("ci", "b")
    assert [row.id for row in book.rows()] == [new.id]
    assert (new.scopes, new.owner, new.created_by) == (old.scopes, "alice", "b")
    assert new.expires_ms is not None
    assert old.expires_ms is not None
    assert new.expires_ms - new.created_ms == old.expires_ms - old.created_ms
    third, _ = book.rotate(new.id, "b", "24h")
    assert {row.id for row in book.rows()} == {new.id, third.id}
    clock.now_ms += 25 * HOUR
    assert [row.id for row in book.rows()] == [third.id]
    for problem in ("nobody", "ci"):
        with pytest.raises(KeyProblem):
            book.rotate(problem, "b", "forever" if problem == "ci" else None)


def test_uses_are_noted(database: Database, book: KeyBook) -> None:
    row, _ = book.create(wish(), "a")
    KeyTable(database).note_uses({row.id: NOON + 5, "gone": NOON})
    assert book.rows()[0].used_ms == NOON + 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "a b"),
        ("name", "x" * 101),
        ("name", "../x"),
        ("endpoints", ["a b"]),
        ("endpoints", ["ü"]),
        ("owner", "x" * 501),
        ("note", "a\nb"),
        ("scopes", []),
        ("scopes", ["admin"]),
        ("expires", "tomorrow"),
    ],
)
def test_what_cannot_be_names_its_field(book: KeyBook, field: str, value: Any) -> None:
    with pytest.raises(KeyProblem) as raised:
        book.create(wish(**{field: value}), "a")
    assert raised.value.param == field
    assert book.rows(all_of_them=True) == []


def test_there_is_a_bound(book: KeyBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jupyterhub_ai_gateway.storage.keys.MAX_KEYS", 1)
    book.create(wish(), "a")
    with pytest.raises(KeyProblem, match="as many"):
        book.create(wish("cron"), "a")


def test_node_keys_are_all_taken_or_none(book: KeyBook) -> None:
    def entry(user: str) -> dict[str, Any]:
        scopes = [{"method": "post", "path": "/openai/v1/chat/completions"}]
        return {"username": user, "salt": "ZmFrZQ==", "scopes": scopes}

    assert [row.name for row in book.import_node({"a" * 64: entry("x"), "b" * 64: entry("y")}, "a")] == [
        "x",
        "y",
    ]
    with pytest.raises(KeyProblem, match="already"):
        book.import_node({"c" * 64: entry("z"), "d" * 64: entry("y")}, "a")
    assert {row.name for row in book.rows()} == {"x", "y"}
