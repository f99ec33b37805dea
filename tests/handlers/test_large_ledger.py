"""What the pages ask of a semester's ledger: few questions, few rows, and always by an index.

Counted, not timed: 100,000 requests of 2,000 users stand behind the pages, and a person's page asks of the
database what it would ask of an empty one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from fakes.hub import ACCESS
from served import FULL, Served, endpoint, served

from jupyterhub_ai_gateway.handlers.mine import SHOWN_DAYS
from jupyterhub_ai_gateway.storage import Batch, Database, RequestRow

USERS, REQUESTS, DAYS = 2_000, 100_000, 120
MODELS = ("chat", "small", "vectors")
ADMIN = "custom:ai-gateway:admin"
DAY_MS = 86_400_000
BESIDE = ("override", "setting", "summed")
"""What is asked besides, by way of tables of a few rows."""


def day_of(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, timezone.utc).strftime("%Y-%m-%d")


def rows(now_ms: int) -> Iterator[RequestRow]:
    """Make the requests of a semester: each user asks on every fifth day or so."""
    for number in range(REQUESTS):
        user, turn = number % USERS, number // USERS
        yield RequestRow(
            request_id=f"req_{number}",
            at_ms=now_ms - (turn // 2 * 5 + user % 5) % DAYS * DAY_MS,
            caller=f"user:u{user}",
            endpoint=MODELS[user % 3],
            operation="chat",
            status=200,
            outcome="ok",
            charged_group=f"course-{user % 40}",
            provider="openai",
            answered_model="m",
            attempts=1,
            input_tokens=100,
            output_tokens=50,
            cost_nanousd=1_000_000,
        )


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('large')}/ledger.sqlite"
    database = Database(url, day_of=day_of)
    database.upgrade()
    made = list(rows(time.time_ns() // 1_000_000))
    for start in range(0, len(made), 10_000):
        database.write(Batch(f"b{start}", made[start : start + 10_000], [], []), 0)
    database.sum_up()
    database.close()
    return url


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Served]:
    endpoints = [endpoint(name, None) for name in MODELS]
    async with served(None, endpoints, config={"ledger": {"url": url}}) as gateway:
        gateway.knows("t-u7", ACCESS, FULL, name="u7", groups=("course-7",))
        gateway.knows("t-root", ACCESS, ADMIN, name="root")
        gateway.knows("t-ira", ACCESS, "custom:ai-gateway:group-usage!group=course-7", name="ira")
        yield gateway


@contextmanager
def plans(gateway: Served) -> Iterator[list[str]]:
    """Collect how the database finds the rows of each question that is asked meanwhile."""
    database = gateway.service.books.database
    assert database is not None
    engine = database._engine
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT") and not any(name in statement for name in BESIDE):
            asked.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", note)
    found: list[str] = []
    try:
        yield found
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            found.append("; ".join(row.detail for row in plan))


async def test_a_persons_pages_ask_little_and_by_their_own_index(ledger: str) -> None:
    async with running(ledger) as gateway:
        with plans(gateway) as found:
            paths = ("summary", "requests?limit=15", "models", "usage?by=day,endpoint")
            answers = [await gateway.ask("GET", f"api/{path}", token="t-u7") for path in paths]
            summary, latest, _, use = (each.json for each in answers)
        assert len(found) == 4, found
        assert all("USING INDEX" in plan and "caller=?" in plan for plan in found), found
        assert 0 < len(summary["usage"]["days"]) <= SHOWN_DAYS * len(MODELS)
        assert summary["usage"]["periods"]["month"]["total"]["requests"] > 0
        assert len(latest["requests"]) == 15
        assert max(len(each.body) for each in answers) < 32 * 1024
        assert 0 < len(use["usage"]) <= 31 * len(MODELS)


async def test_the_pages_of_staff_get_sums_not_requests(ledger: str) -> None:
    async with running(ledger) as gateway:
        with plans(gateway) as found:
            answer = await gateway.ask(
                "GET", "api/usage?user=*&by=user&order=cost_usd&limit=100", token="t-root"
            )
            days = await gateway.ask("GET", "api/usage?user=*&by=day,group&limit=2000", token="t-root")
            latest = await gateway.ask("GET", "api/requests?user=*&limit=20", token="t-root")
            standing = await gateway.ask("GET", "api/standing", token="t-root")
        sums = [plan for plan in found if "usage_day" in plan]
        assert len(sums) == 4, found  # each question and its total
        assert all("SEARCH ai_gateway_usage_day USING INDEX" in plan for plan in sums), sums
        assert all("SCAN ai_gateway_request" not in plan or "USING INDEX" in plan for plan in found), found
        assert len(found) == 5, found
        assert len(answer.json["usage"]) == 100
        assert answer.json["is_cut"] is True
        assert answer.json["total"]["requests"] > 10_000
        assert len(days.json["usage"]) <= 31 * 40
        assert len(latest.json["requests"]) == 20
        assert standing.json["limits"] == []
        assert max(len(each.body) for each in (answer, days, latest)) < 512 * 1024


async def test_an_instructors_page_asks_by_the_groups_index(ledger: str) -> None:
    async with running(ledger) as gateway:
        with plans(gateway) as found:
            users = await gateway.ask("GET", "api/usage?group=course-7&by=user", token="t-ira")
            latest = await gateway.ask("GET", "api/requests?group=course-7&limit=20", token="t-ira")
        assert len(users.json["usage"]) == USERS // 40
        assert len(latest.json["requests"]) == 20
        assert "ai_gateway_request_group" in found[-1], found
