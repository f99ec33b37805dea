"""A ledger that is not empty: the requests of months, written as the gateway writes them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from jupyterhub_ai_gateway.storage import Batch, Database, RequestRow

CALLERS, DAYS, AT_ONCE = 2_000, 120, 20_000


def fill(file: Path, count: int) -> None:
    """Make an SQLite ledger with so many requests, the sums of them included."""
    database = Database(f"sqlite:///{file}", day_of=_day_of)
    database.check()
    now_ms = time.time_ns() // 1_000_000
    for number, start in enumerate(range(0, count, AT_ONCE)):
        rows = list(_rows(start, min(count, start + AT_ONCE), now_ms - DAYS * 86_400_000, count))
        database.write(Batch(f"filled-{number}", rows, [], []), now_ms)
    database.sum_up()
    database.close()


def _rows(start: int, end: int, first_ms: int, count: int) -> Iterator[RequestRow]:
    for number in range(start, end):
        yield RequestRow(
            request_id=f"req_filled_{number:x}",
            at_ms=first_ms + number * (DAYS * 86_400_000) // count,
            caller=f"user:u-{number * 7919 % CALLERS:06d}",
            endpoint="m-000000",
            operation="chat",
            status=200,
            outcome="ok",
            provider="openai",
            sent_model="gpt-4o-mini",
            answered_model="gpt-4o-mini-2024-07-18",
            attempts=1,
            input_tokens=19,
            output_tokens=10,
            cost_nanousd=8_850,
            price_source="configuration",
            took_ms=512.0,
            rules="m-000000",
        )


def _day_of(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, timezone.utc).strftime("%Y-%m-%d")
