"""The price table that ships with the package: what public providers charge, as of its date.

`prices.json` is written by `python -m tools.prices`; where it is from and of when stands in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from importlib.resources import files
from typing import Any

from .price import Period, Price, Rates, Tariff, picodollars

_REQUESTS = "thousand_requests"
_DATED = re.compile(r"-(20\d{2})-?(\d{2})-?(\d{2})$")


class PriceTable:
    """Finds the public price of a provider's model. Read once, when it is made."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.date: str = document["date"]
        self.version: str = document["version"]
        self._providers: Mapping[str, Any] = document["providers"]

    @classmethod
    def shipped(cls) -> PriceTable:
        """Read the one of the package."""
        text = files(__package__).joinpath("prices.json").read_text(encoding="utf-8")
        return cls(json.loads(text))

    def find(self, provider: str, model: str | None) -> Price | None:
        """Return the price of what a provider of ours calls `model`; None where the table has none."""
        if model is None:
            return None
        name = model.lower()
        entry = self._entry(provider, name) or self._entry(provider, _DATED.sub("", name))
        if entry is None:
            return None
        tariffs = tuple(_tariff(each) for each in entry["prices"])
        return Price(tariffs, f"table {self.date}")

    def _entry(self, provider: str, name: str) -> Mapping[str, Any] | None:
        known = self._providers.get(provider)
        if known is None:
            return None
        for entry in known["models"]:
            if re.match(entry["match"], name):
                found: Mapping[str, Any] = entry
                return found
        others = (self._entry(other, name) for other in known["others"])
        return next((entry for entry in others if entry is not None), None)


def _tariff(entry: Mapping[str, Any]) -> Tariff:
    requests = Decimal(entry.get(_REQUESTS, "0"))
    return Tariff(
        _rates(entry),
        tuple((start, _rates(rates)) for start, rates in entry.get("above", ())),
        request=round(requests * 10**9),
        period=_period(entry),
    )


def _rates(entry: Mapping[str, Any]) -> Rates:
    kinds = {kind: picodollars(Decimal(value)) for kind, value in entry.items() if kind in _KINDS}
    return Rates.of(**kinds)


_KINDS = frozenset(Rates.__dataclass_fields__)


def _period(entry: Mapping[str, Any]) -> Period:
    start, hours = entry.get("from"), entry.get("hours")
    return Period(
        None if start is None else datetime.fromisoformat(start).replace(tzinfo=timezone.utc),
        None if hours is None else (_minute(hours[0]), _minute(hours[1])),
    )


def _minute(text: str) -> int:
    hour, _, minute = text.partition(":")
    return int(hour) * 60 + int(minute)
