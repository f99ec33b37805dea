"""What was used, as people and their programs read it: names, dollars, FOCUS columns. No SQL here."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from typing import Any

from .price import dollars

GROUPINGS: Mapping[str, str] = {
    "day": "day",
    "user": "caller",
    "group": "charged_group",
    "endpoint": "endpoint",
    "provider": "provider",
    "model": "model",
}
"""By what usage can be grouped, and the column of the ledger that has it."""

FOCUS_COLUMNS = (
    "BilledCost",
    "BillingAccountId",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "EffectiveCost",
    "ProviderName",
    "PublisherName",
    "ResourceId",
    "ResourceName",
    "ServiceCategory",
    "ServiceName",
    "SkuId",
    "SubAccountId",
    "SubAccountName",
    "Tags",
)
"""The columns of the FinOps Open Cost and Usage Specification that a gateway can fill.

Source: focus.finops.org, specification 1.2, "Columns" (read 2026-11).
"""

_HIDDEN = ("id", "cost_nanousd")


def usage_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sum of the ledger in the words of the API, its cost in dollars."""
    names = {column: name for name, column in GROUPINGS.items()}
    shown = {names.get(key, key): value for key, value in row.items() if key not in _HIDDEN}
    for name in ("group", "provider", "model"):
        if name in shown:
            shown[name] = shown[name] or None
    return {**shown, "cost_usd": dollars(row["cost_nanousd"])}


def request_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request of the ledger: times as texts, cost in dollars, None what is unknown."""
    shown = {
        key: round(value, 3) if isinstance(value, float) else value
        for key, value in row.items()
        if key not in ("id", "at_ms", "cost_nanousd", "tries", "left_out")
    }
    cost = row["cost_nanousd"]
    return {
        "at": time_text(row["at_ms"]),
        **shown,
        "cost_usd": None if cost is None else dollars(cost),
    }


def explained(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request with all that is known of its way: rules, tries, waits."""
    shown = request_row(row)
    for name in ("rules", "shadow"):
        shown[name] = shown[name].split(", ") if shown[name] else []
    shown["timing_ms"] = {
        "auth": shown.pop("auth_ms"),
        "queue": shown.pop("wait_ms"),
        "upstream": shown.pop("upstream_ms"),
        "first_byte": shown.pop("first_byte_ms"),
        "total": shown.pop("took_ms"),
    }
    lines = (row["left_out"] or "").splitlines()
    shown["left_out"] = {name: reason for name, _, reason in (line.partition(" ") for line in lines)}
    shown["tries"] = [request_row(each) for each in row["tries"]]
    return shown


def focus_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a day's sum by caller, group, endpoint, provider and model in FOCUS' columns."""
    day = date.fromisoformat(row["day"])
    month = day.replace(day=1)
    next_month = (month + timedelta(days=32)).replace(day=1)
    cost = f"{dollars(row['cost_nanousd']):f}"
    tokens = row["input_tokens"] + row["output_tokens"]
    return {
        "BilledCost": cost,
        "BillingAccountId": row["charged_group"] or row["caller"],
        "BillingCurrency": "USD",
        "BillingPeriodEnd": _midnight(next_month),
        "BillingPeriodStart": _midnight(month),
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{row['requests']} requests to {row['endpoint']}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": _midnight(day + timedelta(days=1)),
        "ChargePeriodStart": _midnight(day),
        "ConsumedQuantity": tokens,
        "ConsumedUnit": "Tokens",
        "EffectiveCost": cost,
        "ProviderName": row["provider"],
        "PublisherName": row["provider"],
        "ResourceId": row["endpoint"],
        "ResourceName": row["endpoint"],
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Large language models",
        "SkuId": row["model"],
        "SubAccountId": row["caller"],
        "SubAccountName": row["caller"].partition(":")[2],
        "Tags": f'{{"group": "{row["charged_group"]}"}}' if row["charged_group"] else "{}",
    }


def csv_lines(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> Iterator[str]:
    """Write rows as CSV, the head first; what a spreadsheet would take for a formula is made a text."""
    names = list(columns)
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(names)
    for row in rows:
        yield _taken(buffer)
        writer.writerow([_cell(row.get(name)) for name in names])
    yield _taken(buffer)


def _cell(value: object) -> object:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text


def time_text(at_ms: int) -> str:
    """Write a time of the ledger as ISO 8601 has it, in UTC, to the millisecond."""
    at = datetime.fromtimestamp(at_ms / 1000, timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"
