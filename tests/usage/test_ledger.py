"""Every row reaches the database once: through stops, kills, a database that is away, and full queues."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from databases import PostgreSQL, utc_day
from expected import ExpectedLog
from storage.test_database import HOUR, NOON, attempt, row

from jupyterhub_ai_gateway.storage import Batch, Counter, Database, tables
from jupyterhub_ai_gateway.usage import ledger as ledger_module
from jupyterhub_ai_gateway.usage.journal import PREFIX, Journal
from jupyterhub_ai_gateway.usage.ledger import Ledger, LedgerOptions

QUICK = LedgerOptions(flush_s=0.01, retry_s=0.05)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path}/ledger.sqlite", day_of=utc_day)
    made.check()
    yield made
    made.close()


def started(database: Database, folder: Path, options: LedgerOptions = QUICK, **more: Any) -> Ledger:
    ledger = Ledger(database, Journal(folder), options, now_ms=lambda: NOON, **more)
    ledger.start()
    return ledger


def ids(database: Database) -> list[str]:
    return sorted(each["request_id"] for each in database.requests(where={}, limit=100_000))


def journals(folder: Path) -> list[Path]:
    return list(folder.glob(f"{PREFIX}*.jsonl"))


def test_what_is_recorded_is_written_and_added_up(database: Database, tmp_path: Path) -> None:
    ledger = started(database, tmp_path)
    for number in range(5_000):
        ledger.record(row(number), [attempt(number)], [Counter("k", NOON, 2, NOON + HOUR)])
    assert ledger.flush()
    assert ledger.written == 5_000
    assert database.counters(NOON) == [Counter("k", NOON, 10_000, NOON + HOUR)]
    found = database.request("req_4999")
    assert found is not None
    assert len(found["tries"]) == 1
    ledger.stop()


def test_a_stop_loses_nothing(database: Database, tmp_path: Path) -> None:
    ledger = started(database, tmp_path, LedgerOptions(flush_s=3600))
    for number in range(3_000):
        ledger.record(row(number), (), ())
    ledger.stop()
    assert len(ids(database)) == 3_000


def test_recording_while_the_thread_writes_loses_nothing(database: Database, tmp_path: Path) -> None:
    ledger = started(database, tmp_path, LedgerOptions(flush_s=0.001))
    for number in range(5_000):
        ledger.record(row(number), (), ())
        if number % 500 == 0:
            assert ledger.flush()
    ledger.stop()
    assert len(ids(database)) == 5_000
    assert ledger.queued == 0


def test_a_database_that_is_away_is_caught_up_with(
    postgres: PostgreSQL, tmp_path: Path, expected_log: ExpectedLog
) -> None:
    database = Database(postgres.new_database(), day_of=utc_day)
    database.upgrade()
    ledger = started(database, tmp_path)
    ledger.record(row(1), (), [Counter("k", NOON, 1, NOON + HOUR)])
    assert ledger.flush()
    postgres.stop()
    ledger.record(row(2), (), [Counter("k", NOON, 1, NOON + HOUR)])
    assert ledger.flush()
    assert ledger.is_away
    assert ledger.is_open
    assert ledger.journaled == 1
    assert len(journals(tmp_path)) == 1
    expected_log.take("The ledger's database is away")
    postgres.start()
    ledger.record(row(3), (), [Counter("k", NOON, 1, NOON + HOUR)])
    ledger.stop()
    expected_log.take("The ledger's database is back")
    assert ids(database) == ["req_1", "req_2", "req_3"]
    assert database.counters(NOON)[0].amount == 3
    assert journals(tmp_path) == []
    database.close()


def test_a_journal_is_taken_over_by_the_next_process(
    database: Database, tmp_path: Path, expected_log: ExpectedLog
) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/x", day_of=utc_day)
    first = started(away, tmp_path)
    first.record(row(1), (), ())
    first.stop()
    expected_log.take("The ledger's database is away")
    (path,) = journals(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    second = started(database, tmp_path)
    second.stop()
    assert ids(database) == ["req_1"]
    assert journals(tmp_path) == []


def test_a_living_process_keeps_its_journal_to_itself(tmp_path: Path) -> None:
    mine, other = Journal(tmp_path), Journal(tmp_path)
    mine.append(Batch("b1", [row(1)], [], []))
    assert list(other.batches()) == []
    assert [batch.id for batch in mine.batches()] == ["b1"]
    mine.close()
    assert [batch.id for batch in other.batches()] == ["b1"]
    other.forget()
    assert journals(tmp_path) == []


def test_a_line_that_was_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(Batch("b1", [row(1)], [], []))
    journal.close()
    (path,) = journals(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"id":"b2","requests":[')
    assert [batch.id for batch in journal.batches()] == ["b1"]
    journal.close()


def test_a_batch_that_is_written_again_counts_once(database: Database, tmp_path: Path) -> None:
    batch = Batch("b1", [row(1)], [], [Counter("k", NOON, 5, NOON + HOUR)])
    database.write(batch, NOON)  # the answer to this one was lost
    journal = Journal(tmp_path)
    journal.append(batch)
    journal.close()
    started(database, tmp_path).stop()
    assert ids(database) == ["req_1"]
    assert database.counters(NOON)[0].amount == 5


def test_what_a_database_refuses_is_set_aside_and_the_rest_goes_on(
    database: Database, tmp_path: Path, expected_log: ExpectedLog
) -> None:
    ledger = started(database, tmp_path)
    ledger.record(row(1), (), ())
    assert ledger.flush()
    ledger.record(row(1), (), ())  # a name that is there already
    assert ledger.flush()
    expected_log.take("refused a batch")
    ledger.record(row(2), (), ())
    ledger.stop()
    assert ids(database) == ["req_1", "req_2"]
    assert (tmp_path / f"{PREFIX}refused.jsonl.txt").read_text().count("req_1") == 1


def test_requests_are_refused_once_the_database_is_away_for_too_long(
    tmp_path: Path, expected_log: ExpectedLog
) -> None:
    clock = Clock()
    away = Database("postgresql://nobody@127.0.0.1:1/x", day_of=utc_day)
    options = LedgerOptions(flush_s=0.01, fail_open_s=60, retry_s=3600)
    ledger = started(away, tmp_path, options, clock=clock)
    ledger.record(row(1), (), ())
    assert ledger.flush()
    expected_log.take("The ledger's database is away")
    assert ledger.is_open
    clock.now_s += 60
    assert not ledger.is_open
    ledger.stop()


def test_a_full_queue_refuses_requests_instead_of_rows(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "MAX_QUEUED", 3)
    ledger = Ledger(database, Journal(tmp_path), QUICK)
    for number in range(3):
        assert ledger.is_open
        ledger.record(row(number), (), ())
    assert not ledger.is_open
    ledger.start()
    ledger.stop()
    assert len(ids(database)) == 3


def test_old_rows_are_purged_while_it_runs(database: Database, tmp_path: Path) -> None:
    database.write(Batch("old", [row(1, at_ms=NOON - 48 * HOUR)], [], []), NOON)
    ledger = started(database, tmp_path, LedgerOptions(flush_s=0.01, retention_days=1))
    for _ in range(2):  # the second turn begins after the first one's purge
        ledger.record(row(2 + ledger.written), (), ())
        assert ledger.flush()
    ledger.stop()
    assert "req_1" not in ids(database)


KILLED = """
import sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}]
from storage.test_database import row
from databases import utc_day
from jupyterhub_ai_gateway.storage import Database
from jupyterhub_ai_gateway.usage.journal import Journal
from jupyterhub_ai_gateway.usage.ledger import Ledger, LedgerOptions
folder = Path({folder!r})
database = Database("sqlite:///{folder}/ledger.sqlite", day_of=utc_day)
ledger = Ledger(database, Journal(folder), LedgerOptions(flush_s=0.05))
ledger.start()
number = 0
while True:
    number += 1
    ledger.record(row(number), (), ())
    written = ledger.written
    print(number, written, flush=True)
    time.sleep(0.001)
"""


def test_a_kill_loses_only_what_was_not_yet_flushed(database: Database, tmp_path: Path) -> None:
    program = KILLED.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    written = 0
    for line in process.stdout:
        written = int(line.split()[1])
        if written > 200:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()
    found = ids(database)
    assert len(found) >= written
    assert set(found) == {f"req_{number}" for number in range(1, len(found) + 1)}  # nothing in between
    (sums,) = database.usage(since="2026-01-01", until="2027-12-31", by=(), where={})
    assert sums["requests"] == len(found)


def test_roll_ups_are_kept_up_to_date_without_a_report(database: Database, tmp_path: Path) -> None:
    clock = Clock()
    ledger = Ledger(database, Journal(tmp_path), QUICK, now_ms=lambda: NOON, clock=clock)
    ledger._turn()  # as its thread does, which has not begun; the first one throws away what is old
    ledger.record(row(1), (), ())
    ledger._turn()
    assert summed(database) == 0
    clock.now_s += ledger_module.SUM_EVERY_S
    ledger.record(row(2), (), ())
    ledger._turn()
    assert summed(database) == 2
    ledger.record(row(3), (), ())
    ledger._turn()
    assert summed(database) == 2
    ledger.start()
    ledger.stop()
    assert summed(database) == 3


def summed(database: Database) -> int:
    """Return how many requests are in the roll-ups as they are, without asking for a report."""
    with database.transaction() as connection:
        sums = connection.execute(sa.select(sa.func.sum(tables.usage_day.c.requests))).scalar_one()
    return int(sums or 0)
