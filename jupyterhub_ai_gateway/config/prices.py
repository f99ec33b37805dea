"""The operator's prices: what an endpoint's tokens, requests or seconds cost."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation

from .model import TariffConfig
from .report import Block, Report
from .words import kind_of, shown

KINDS = {
    "input_per_mtok": "input",
    "output_per_mtok": "output",
    "cache_read_per_mtok": "cache_read",
    "cache_write_per_mtok": "cache_write",
    "cache_write_1h_per_mtok": "cache_write_1h",
    "input_audio_per_mtok": "input_audio",
    "input_image_per_mtok": "input_image",
    "output_audio_per_mtok": "output_audio",
}
"""Dollars per million tokens, and the kind of token that each is for."""

PER_REQUEST, PER_SECOND = "per_request", "per_second"
_PICO_PER_MTOK, _PICO = 10**6, 10**12
PER_UNIT = {
    "per_image": ("images", _PICO),
    "per_audio_minute": ("audio_seconds", _PICO // 60),
    "per_search_unit": ("search_units", _PICO),
}
"""Dollars per unit, the field of a usage that counts it, and picodollars of that for a dollar."""
_HOURS = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-4]):([0-5]\d)")


def read_price(value: object, path: str, report: Report) -> tuple[TariffConfig, ...] | None:
    """Read an endpoint's price: one tariff, or a list of which the last that holds counts; `0` is free."""
    if value is None:
        return None
    if value == 0 and not isinstance(value, bool):
        return (TariffConfig({}),)
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            report.error(path, "must not be an empty list; write 0 for free")
        return tuple(_tariff(entry, f"{path}[{index}]", report) for index, entry in enumerate(value))
    if not isinstance(value, Mapping):
        report.error(path, f"must be a mapping of prices, or 0 for free, found {kind_of(value)}")
        return None
    return (_tariff(value, path, report),)


def _tariff(value: object, path: str, report: Report) -> TariffConfig:
    block = Block(value, path, report)
    tariff = TariffConfig(
        rates=_rates(block),
        above=_above(block),
        request=_amount(block, PER_REQUEST, _PICO) or 0,
        second=_amount(block, PER_SECOND, _PICO) or 0,
        minutes=_minutes(block),
        units=_units(block),
    )
    block.refuse_unknown()
    if block.is_mapping and not (tariff.rates or tariff.request or tariff.second or tariff.units):
        report.error(path, "has no price; write 0 for free")
    return tariff


def _rates(block: Block) -> Mapping[str, int]:
    found = {kind: _amount(block, key, _PICO_PER_MTOK) for key, kind in KINDS.items()}
    return {kind: amount for kind, amount in found.items() if amount is not None}


def _units(block: Block) -> Mapping[str, int]:
    found = {unit: _amount(block, key, pico) for key, (unit, pico) in PER_UNIT.items()}
    return {unit: amount for unit, amount in found.items() if amount is not None}


def _above(block: Block) -> tuple[tuple[int, Mapping[str, int]], ...]:
    value = block.get("above")
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        block.error("above", f"must be a list, found {kind_of(value)}")
        return ()
    tiers: list[tuple[int, Mapping[str, int]]] = []
    for index, entry in enumerate(value):
        inner = Block(entry, f"{block.at('above')}[{index}]", block.report)
        start = inner.get("input_tokens")
        if isinstance(start, bool) or not isinstance(start, int) or start < 1:
            inner.missing("input_tokens", "must be a whole number above 0")
            start = 1
        tiers.append((start, _rates(inner)))
        inner.refuse_unknown()
    return tuple(sorted(tiers, key=lambda tier: tier[0]))


def _amount(block: Block, key: str, unit: int) -> int | None:
    value = block.get(key)
    if value is None:
        return None
    try:
        amount = Decimal(str(value)) if isinstance(value, (int, float, str)) else Decimal("NaN")
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or not 0 <= amount <= 10**6:
        block.error(key, f"must be an amount of dollars, found {shown(value)}")
        return None
    return round(amount * unit)


def _minutes(block: Block) -> tuple[int, int] | None:
    text = block.text("hours")
    if not text:
        return None
    match = _HOURS.fullmatch(text)
    if match is None:
        block.error("hours", f"must be times of the day in UTC, such as 16:30-00:30, found {shown(text)}")
        return None
    begin, end = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
    return begin, min(end, 1440)
