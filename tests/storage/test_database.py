"""The same statements on SQLite and on PostgreSQL, and a schema that is what the migrations make."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from databases import PostgreSQL, utc_day

from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.storage import (
    AttemptRow,
    AuditRow,
    Batch,
    Counter,
    Database,
    OverrideRow,
    RequestRow,
    StorageUnavailable,
    rollups,
    schema,
    tables,
)
from jupyterhub_ai_gateway.storage.schema import VERSION_TABLE, head

HOUR = 3_600_000
NOON = 1_795_176_000_000  # 2026-11-20 12:00 UTC
AUDIT = AuditRow(NOON, "user:admin", "override.create", "o1", "{}")


def row(number: int, **more: Any) -> RequestRow:
    values: dict[str, Any] = {
        "request_id": f"req_{number}",
        "at_ms": NOON + number,
        "caller": "user:alice",
        "endpoint": "chat",
        "operation": "chat",
        "status": 200,
        "outcome": "ok",
        "input_tokens": 10,
        "output_tokens": 5,
        "cost_nanousd": 1_500,
        **more,
    }
    return RequestRow(**values)


def attempt(number: int) -> AttemptRow:
    return AttemptRow(f"req_{number}", 1, NOON, "openai", "gpt", "gpt-1", 200, "ok", 12.5)


def override(**more: Any) -> OverrideRow:
    values: dict[str, Any] = {
        "id": "o1",
        "who": "user:alice",
        "resource": "cost_usd",
        "amount": 20_000_000_000,
        "reason": "thesis",
        "starts_ms": NOON,
        "ends_ms": NOON + HOUR,
        "created_ms": NOON,
        "created_by": "user:admin",
        **more,
    }
    return OverrideRow(**values)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.sqlite"
    server: PostgreSQL = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    made = Database(url, day_of=utc_day)
    made.upgrade()
    made.check()
    yield made
    made.close()


def total(database: Database, *by: str, **where: str) -> list[dict[str, Any]]:
    return database.usage(since="2026-01-01", until="2027-12-31", by=by, where=where)


def test_migrations_make_the_tables_that_the_code_uses(database: Database) -> None:
    with database._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, tables.metadata) == []
    assert database.version() == head()


def test_rows_have_a_field_for_each_column() -> None:
    for struct, table in (
        (RequestRow, tables.request),
        (AttemptRow, tables.attempt),
        (OverrideRow, tables.override),
        (AuditRow, tables.audit),
    ):
        assert set(struct.__struct_fields__) == {column.name for column in table.columns} - {"id"} | (
            {"id"} if struct is OverrideRow else set()
        )


def test_a_batch_is_written_once(database: Database) -> None:
    batch = Batch("b1", [row(1), row(2)], [attempt(1)], [Counter("k", NOON, 7, NOON + HOUR)])
    assert database.write(batch, NOON)
    assert not database.write(batch, NOON)
    assert database.write(Batch("b2", [row(3)], [], [Counter("k", NOON, 5, NOON + HOUR)]), NOON)
    assert [each["request_id"] for each in database.requests(where={})] == ["req_3", "req_2", "req_1"]
    assert database.counters(NOON) == [Counter("k", NOON, 12, NOON + HOUR)]
    assert database.counters(NOON + HOUR) == []
    assert total(database)[0]["requests"] == 3


def test_sums_are_those_of_the_rows_and_unknown_is_counted_apart(database: Database) -> None:
    unknown: dict[str, Any] = {"input_tokens": None, "output_tokens": None, "cost_nanousd": None}
    rows = [
        row(1, charged_group="physics"),
        row(2, caller="user:bob", **unknown),
        row(3, outcome="upstream_error", status=502, **unknown),
        row(4, is_estimated=True, at_ms=NOON + 24 * HOUR),
    ]
    database.write(Batch("b", rows, [], []), NOON)
    (everything,) = total(database)
    assert everything["requests"] == 4
    assert everything["failures"] == 1
    assert everything["unknown"] == 1
    assert everything["unpriced"] == 1
    assert everything["estimated"] == 1
    assert everything["input_tokens"] == 20
    assert everything["cost_nanousd"] == 3_000
    by_day = total(database, "day", "caller")
    assert [(each["day"], each["caller"], each["requests"]) for each in by_day] == [
        ("2026-11-20", "user:alice", 2),
        ("2026-11-20", "user:bob", 1),
        ("2026-11-21", "user:alice", 1),
    ]
    assert total(database, charged_group="physics")[0]["requests"] == 1


def test_sums_are_those_of_the_rows_however_they_come_to_be(database: Database, url: str) -> None:
    """Several write, add up and delete at once: no request is left out, none counts twice."""
    others = [Database(url, day_of=utc_day) for _ in range(3)]

    def work(number: int) -> None:
        own = others[number]
        for turn in range(12):
            first = 10_000 * number + 10 * turn
            rows = [
                row(first + each, caller=f"user:{each % 3}", at_ms=NOON + turn * HOUR) for each in range(10)
            ]
            own.write(Batch(f"{number}/{turn}", rows, [], []), NOON)
            if turn % 3 == number:
                own.sum_up()
                own.purge(NOON + (turn - 1) * HOUR, NOON)

    with ThreadPoolExecutor(len(others)) as threads:
        list(threads.map(work, range(len(others))))
    assert total(database)[0]["requests"] == 3 * 12 * 10
    assert total(database)[0]["input_tokens"] == 3 * 12 * 10 * 10
    assert sum(each["requests"] for each in total(database, "caller", "day")) == 3 * 12 * 10
    with database.transaction() as connection:
        hours = connection.execute(sa.select(sa.func.sum(tables.usage_hour.c.requests))).scalar_one()
    assert hours == 3 * 12 * 10
    for each in others:
        each.close()


def test_sums_go_on_where_all_requests_were_deleted(database: Database) -> None:
    database.write(Batch("b1", [row(1), row(2)], [], []), NOON)
    while database.purge(NOON + HOUR, NOON):
        pass
    assert database.requests(where={}) == []
    database.write(Batch("b2", [row(3)], [], []), NOON)  # SQLite numbers this one as the first one again
    assert total(database)[0]["requests"] == 3


def test_many_requests_are_added_up_in_several_transactions(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "AT_ONCE", 3)
    database.write(Batch("b", [row(number) for number in range(10)], [], []), NOON)
    assert total(database)[0]["requests"] == 10


def test_an_upgrade_takes_the_sums_of_an_older_version_for_what_they_are(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/old.sqlite", day_of=utc_day)
    database.upgrade()
    database.write(Batch("b", [row(1)], [], []), NOON)
    assert total(database)[0]["requests"] == 1
    config = schema._config()
    with database.transaction() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
    assert database.version() == "0003"
    database.check()
    assert total(database)[0]["requests"] == 1
    database.write(Batch("c", [row(2)], [], []), NOON)
    assert total(database)[0]["requests"] == 2
    database.close()


def test_a_request_is_shown_with_its_attempts(database: Database) -> None:
    tried_once = row(2, attempts=1, provider="openai", answered_model="gpt-2")
    tries = [attempt(1), msgspec.structs.replace(attempt(1), number=2, answered_model="other")]
    database.write(Batch("b", [row(1, attempts=2), tried_once, row(3)], tries, []), NOON)
    found = database.request("req_1")
    assert found is not None
    assert found["cost_nanousd"] == 1_500
    assert [(each["number"], each["answered_model"]) for each in found["tries"]] == [
        (1, "gpt-1"),
        (2, "other"),
    ]
    once = database.request("req_2")
    assert once is not None
    assert [(each["number"], each["answered_model"]) for each in once["tries"]] == [(1, "gpt-2")]
    never = database.request("req_3")
    assert never is not None
    assert never["tries"] == []
    assert database.request("req_4") is None


def test_export_reads_everything_in_order(database: Database) -> None:
    rows = [row(number) for number in range(2_500)]
    database.write(Batch("b", rows, [], []), NOON)
    exported = [each["request_id"] for each in database.export(NOON, NOON + 2_400, {})]
    assert exported == [f"req_{number}" for number in range(2_400)]
    assert list(database.export(NOON, NOON + 10, {"caller": "user:bob"})) == []


def test_old_requests_go_and_sums_stay(database: Database) -> None:
    database.write(Batch("old", [row(1), row(2)], [attempt(1)], []), NOON)
    database.write(Batch("new", [row(3, at_ms=NOON + HOUR)], [], []), NOON)
    while database.purge(NOON + HOUR, NOON + HOUR):
        pass
    assert [each["request_id"] for each in database.requests(where={})] == ["req_3"]
    assert database.request("req_1") is None
    assert total(database)[0]["requests"] == 3


def test_an_override_counts_until_it_ends_or_is_revoked(database: Database) -> None:
    database.add_override(override(), AUDIT)
    database.add_override(override(id="o2", ends_ms=NOON + 2 * HOUR), AUDIT)
    assert [each.id for each in database.overrides(NOON)] == ["o1", "o2"]
    assert [each.id for each in database.overrides(NOON + HOUR)] == ["o2"]
    assert database.revoke_override("o2", NOON + 1, AUDIT)
    assert not database.revoke_override("o2", NOON + 1, AUDIT)
    assert not database.revoke_override("o1", NOON + HOUR, AUDIT)
    assert database.overrides(NOON + HOUR) == []
    everything = database.overrides(NOON, all_of_them=True)
    assert {each.id: each.revoked_by for each in everything} == {"o1": None, "o2": "user:admin"}
    assert len(database.audit_log()) == 3


def test_a_setting_is_replaced_and_taken_back(database: Database) -> None:
    database.set("limits/chat", {"calls": 5}, AUDIT)
    database.set("limits/chat", {"calls": 7}, AUDIT)
    assert database.settings() == {"limits/chat": {"calls": 7}}
    database.set("limits/chat", None, AUDIT)
    assert database.settings() == {}
    assert [each.action for each in database.audit_log()] == ["override.create"] * 3


def test_an_sqlite_file_is_made_and_upgraded_without_asking(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/new.sqlite", day_of=utc_day)
    database.check()
    database.check()
    assert database.version() == head()
    database.close()


def test_a_server_is_upgraded_by_its_operator_alone(postgres: PostgreSQL) -> None:
    database = Database(postgres.new_database(), day_of=utc_day)
    with pytest.raises(ConfigFault, match=r"ledger\.url: the database has no tables yet: run .*db upgrade"):
        database.check()
    assert database.upgrade() == head()
    database.check()
    database.close()


def test_a_newer_database_is_refused(database: Database) -> None:
    with database._engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(ConfigFault, match="newer gateway"):
        database.check()


def test_our_version_table_stands_beside_a_hubs(database: Database) -> None:
    with database._engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('hub')"))
    database.check()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense", "is not a database URL"),
        ("mysql://x/y", "must be of sqlite or postgresql"),
        ("postgresql+nodriver://x/y", "driver"),
    ],
)
def test_a_wrong_url_is_refused_without_being_quoted(text: str, problem: str) -> None:
    with pytest.raises(ConfigFault, match=problem) as caught:
        Database(text, day_of=utc_day)
    assert text not in str(caught.value)


def test_a_database_that_is_away_says_so_without_its_password() -> None:
    database = Database("postgresql://me:secret-word@127.0.0.1:1/x", day_of=utc_day)
    with pytest.raises(StorageUnavailable) as caught:
        database.version()
    assert "secret-word" not in str(caught.value)
    with pytest.raises(ConfigFault, match="cannot be opened"):
        database.check()
    database.close()


def test_a_file_that_cannot_be_made_is_named_with_what_to_do(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/none/ledger.sqlite", day_of=utc_day)
    with pytest.raises(ConfigFault, match=r"none/ledger\.sqlite\) cannot be opened: .*ledger: false"):
        database.check()
    database.close()
