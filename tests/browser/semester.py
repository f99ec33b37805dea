"""A semester's use, made the same each time: courses, long names, models with and without a price."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from jupyterhub_ai_gateway.storage import Batch, Database, RequestRow

DAYS = 120
LONG_USER = "maria.fernanda.de-la-cruz-villanueva@students.university.example"
LONG_GROUP = "lms-2026-autumn-introduction-to-computational-methods-in-the-social-sciences-section-04"
LONG_MODEL = "meta-llama-3.3-70b-instruct-quantized.w8a8-long-context-research-only"

COURSES = ("physics-101", "statistics-201", LONG_GROUP, None)
MODELS = ("gpt-4o-mini", "claude-sonnet", LONG_MODEL, "embeddings", "in-house")
PRICES = {  # nanodollars for a token in and out; None is a model without a price
    "gpt-4o-mini": (150, 600),
    "claude-sonnet": (3_000, 15_000),
    LONG_MODEL: (0, 0),
    "embeddings": (20, 0),
    "in-house": None,
}
HOSTS = dict(zip(MODELS, ("openai", "anthropic", "vllm", "openai", "vllm"), strict=True))
STUDENTS = ("alice", LONG_USER, "carol", *(f"student-{number:02}" for number in range(27)))


def weight_of(day: datetime, number: int) -> bool:
    """Say whether somebody works on that day: seldom on weekends, more before the end of a month."""
    share = 2 if day.weekday() > 4 else 8 if day.day > 24 else 5
    return (number * 7 + day.day * 3) % 10 < share


def requests_of(now: datetime) -> Iterator[RequestRow]:
    """Make the semester's requests, the oldest first; the newest is of an hour ago."""
    made = 0
    for back in range(DAYS, -1, -1):
        day = now - timedelta(days=back, hours=1)
        for number, who in enumerate(STUDENTS):
            if who != "alice" and not weight_of(day, number):
                continue
            for turn in range(1 + (number + day.day) % 4):
                made += 1
                yield _request(made, day - timedelta(minutes=7 * number + turn), who, number + turn)


def _request(made: int, at: datetime, who: str, number: int) -> RequestRow:
    model = MODELS[(number * number + made) % 5]
    outcome, status = "ok", 200
    if made % 29 == 0:
        outcome, status = "insufficient_quota", 429
    elif made % 97 == 0:
        outcome, status = "upstream_timeout", 504
    is_sent = status != 429
    tokens = (180 + made * 37 % 2400, 0 if model == "embeddings" else 40 + made * 53 % 900)
    price = PRICES[model]
    cost = None if price is None else tokens[0] * price[0] + tokens[1] * price[1]
    return RequestRow(
        request_id=f"req_{made:06}",
        at_ms=round(at.timestamp() * 1000),
        caller=f"user:{who}",
        endpoint=model,
        operation="embeddings" if model == "embeddings" else "chat",
        status=status,
        outcome=outcome,
        charged_group=COURSES[number % 4],
        provider=HOSTS[model] if is_sent else None,
        sent_model=model if is_sent else None,
        answered_model=model if status == 200 else None,
        attempts=1 if is_sent else 0,
        input_tokens=tokens[0] if is_sent else None,
        output_tokens=tokens[1] if is_sent else None,
        cost_nanousd=cost if is_sent else None,
        price_source="built-in" if is_sent and price is not None else None,
        took_ms=900.0 + made % 4000,
        auth_ms=0.4,
        wait_ms=made % 900 / 1.0,
        upstream_ms=700.0 + made % 3000,
        rules="course-budget, student-budget, pace",
        refused_by=None if is_sent else "student-budget",
    )


def write_semester(url: str) -> None:
    """Write it into a new ledger."""
    database = Database(
        url, day_of=lambda at_ms: datetime.fromtimestamp(at_ms / 1000, timezone.utc).strftime("%Y-%m-%d")
    )
    database.upgrade()
    rows = list(requests_of(datetime.now(timezone.utc)))
    for start in range(0, len(rows), 500):
        database.write(Batch(f"b{start}", rows[start : start + 500], [], []), 0)
    database.close()
