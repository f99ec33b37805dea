"""The tables as they are now. How they came to be so is in `migrations`; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    TableClause,
    Text,
    column,
    text,
)

metadata = MetaData()


_SERIAL = BigInteger().with_variant(Integer(), "sqlite")
_TOKENS = (
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "input_image_tokens",
    "output_audio_tokens",
)

request = Table(
    "ai_gateway_request",
    metadata,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("request_id", Text, nullable=False, unique=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("caller", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("server", Text),
    Column("charged_group", Text),
    Column("provider", Text),
    Column("sent_model", Text),
    Column("answered_model", Text),
    Column("is_stream", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    *(Column(name, BigInteger) for name in _TOKENS),
    Column("is_estimated", Boolean, nullable=False),
    Column("cost_nanousd", BigInteger),
    Column("price_source", Text),
    Column("took_ms", Float, nullable=False),
    Column("first_byte_ms", Float),
    Column("auth_ms", Float, nullable=False),
    Column("wait_ms", Float, nullable=False),
    Column("upstream_ms", Float, nullable=False),
    Column("rules", Text),
    Column("refused_by", Text),
    Column("shadow", Text),
    Column("asked_endpoint", Text),
    Column("deployment", Text),
    Column("left_out", Text),
    Index("ai_gateway_request_at", "at_ms"),
    Index("ai_gateway_request_caller", "caller", "at_ms"),
    Index(
        "ai_gateway_request_group",
        "charged_group",
        "at_ms",
        sqlite_where=text("charged_group IS NOT NULL"),
        postgresql_where=text("charged_group IS NOT NULL"),
    ),
)

attempt: Table = Table(
    "ai_gateway_attempt",
    metadata,
    Column("request_id", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("provider", Text, nullable=False),
    Column("sent_model", Text),
    Column("answered_model", Text),
    Column("status", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("took_ms", Float, nullable=False),
    Column("first_byte_ms", Float),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("is_estimated", Boolean, nullable=False),
    Column("cost_nanousd", BigInteger),
    Column("deployment", Text),
    PrimaryKeyConstraint("request_id", "number"),
    Index("ai_gateway_attempt_at", "at_ms"),
)
"""The tries of requests that took more than one. That of a request with one try is its own row; the view
`ai_gateway_attempts` has them all."""

attempts = TableClause("ai_gateway_attempts", *(column(each.name, each.type) for each in attempt.columns))
"""Every try of every request: a view."""

SUMS = (
    "requests",
    "failures",
    "estimated",
    "unknown",
    "unpriced",
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_nanousd",
)
"""What roll-ups add up: `unknown` counts requests whose tokens nobody knows, `unpriced` those without a
price."""

DIMENSIONS = ("caller", "charged_group", "endpoint", "provider", "model")
"""By what; an empty text where there is none."""


def _rollup(name: str, period: Column[int] | Column[str]) -> Table:
    return Table(
        name,
        metadata,
        period,
        Column("caller", Text, nullable=False),
        Column("charged_group", Text, nullable=False),
        Column("endpoint", Text, nullable=False),
        Column("provider", Text, nullable=False),
        Column("model", Text, nullable=False),
        *(Column(each, BigInteger, nullable=False) for each in SUMS),
        PrimaryKeyConstraint(period.name, *DIMENSIONS),
        Index(f"{name}_caller", "caller", period.name),
    )


usage_hour = _rollup("ai_gateway_usage_hour", Column("hour_ms", BigInteger, nullable=False))
usage_day = _rollup("ai_gateway_usage_day", Column("day", Text, nullable=False))

summed = Table(
    "ai_gateway_summed",
    metadata,
    Column("request", BigInteger, primary_key=True, autoincrement=False),
)
"""One row: the `id` of the last request that is in the roll-ups."""

counter = Table(
    "ai_gateway_counter",
    metadata,
    Column("key", Text, nullable=False),
    Column("slot_ms", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("key", "slot_ms"),
    Index("ai_gateway_counter_expires", "expires_ms"),
)

batch = Table(
    "ai_gateway_batch",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
)

override = Table(
    "ai_gateway_override",
    metadata,
    Column("id", Text, primary_key=True),
    Column("who", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("starts_ms", BigInteger, nullable=False),
    Column("ends_ms", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("policy", Text),
    Column("revoked_ms", BigInteger),
    Column("revoked_by", Text),
    Index("ai_gateway_override_ends", "ends_ms"),
)

audit = Table(
    "ai_gateway_audit",
    metadata,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Index("ai_gateway_audit_at", "at_ms"),
)

key = Table(
    "ai_gateway_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("form", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("salt", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("endpoints", Text, nullable=False),
    Column("owner", Text),
    Column("note", Text),
    Column("created_ms", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_ms", BigInteger),
    Column("revoked_ms", BigInteger),
    Column("revoked_by", Text),
    Column("used_ms", BigInteger),
    Index("ai_gateway_key_name", "name"),
    Index("ai_gateway_key_hash", "hash", unique=True),
)
"""Gateway keys, hashed. Scopes and patterns of endpoints are words with blanks between them."""

setting = Table(
    "ai_gateway_setting",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
)
"""What staff set while the gateway runs, such as the limits that MLflow's client sends; values are JSON."""

file = Table(
    "ai_gateway_file",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Index("ai_gateway_file_owner", "owner", "created_ms"),
    Index("ai_gateway_file_expires", "expires_ms"),
)
"""Files that callers uploaded, and those that their jobs wrote; what is in them is on disk."""

job = Table(
    "ai_gateway_job",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("form", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("ending", Text),
    Column("url", Text),
    Column("model", Text),
    Column("cluster", Text),
    Column("framework", Text),
    Column("project", Text),
    Column("input", Text, nullable=False),
    Column("output_folder", Text),
    Column("completion_window", Text, nullable=False),
    Column("keep_s", Integer),
    Column("notes", Text),
    Column("errors", Text),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("begun_ms", BigInteger),
    Column("finalizing_ms", BigInteger),
    Column("cancelling_ms", BigInteger),
    Column("ended_ms", BigInteger),
    Column("output_file", Text, nullable=False),
    Column("error_file", Text, nullable=False),
    Column("has_output", Boolean, nullable=False),
    Column("has_errors", Boolean, nullable=False),
    Column("worker", Text),
    Column("lease_ms", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Index("ai_gateway_job_owner", "owner", "created_ms"),
    Index("ai_gateway_job_status", "status", "lease_ms"),
)
"""Batches. The state of each line is on disk, beside the answers."""
