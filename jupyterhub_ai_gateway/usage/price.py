"""What tokens cost: rates by kind, by the length of the input, by the hour. Pure numbers.

Rates are whole picodollars (10^-12 dollars) per token, which is a price in dollars per million tokens with
six decimals; a request's cost is whole nanodollars (10^-9), because a millionth of a dollar would round an
embedding of ten tokens to nothing. Both are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from ..vocabulary import TokenParts, Usage, utcnow

PICO_PER_MTOK = 1_000_000
"""Picodollars per token for a dollar per million tokens."""

USUAL_S = 10
"""How long a request is thought to take where its time is paid."""

USUAL_UNITS = {"audio_seconds": 60}
"""How many of a unit a request is thought to take, where that is not one."""

CONFIGURED = "configuration"
REPORTED = "provider"


@dataclass(frozen=True, slots=True)
class Rates:
    """Picodollars per token of each kind. A kind without a price of its own costs what its whole does."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    input_audio: int
    input_image: int
    output_audio: int

    @classmethod
    def of(
        cls,
        *,
        input: int = 0,
        output: int = 0,
        cache_read: int | None = None,
        cache_write: int | None = None,
        cache_write_1h: int | None = None,
        input_audio: int | None = None,
        input_image: int | None = None,
        output_audio: int | None = None,
    ) -> Rates:
        """Fill in what is not given: no discount, no surcharge."""
        write = input if cache_write is None else cache_write
        return cls(
            input,
            output,
            input if cache_read is None else cache_read,
            write,
            write if cache_write_1h is None else cache_write_1h,
            input if input_audio is None else input_audio,
            input if input_image is None else input_image,
            output if output_audio is None else output_audio,
        )

    def cost_of(self, usage: Usage) -> int:
        """Return picodollars."""
        if usage.is_plain:
            return (usage.input_tokens or 0) * self.input + (usage.output_tokens or 0) * self.output
        return self.cost(usage.parts())

    def cost(self, parts: TokenParts) -> int:
        """Return picodollars."""
        return (
            parts.input_tokens * self.input
            + parts.cache_read_tokens * self.cache_read
            + parts.cache_write_tokens * self.cache_write
            + parts.cache_write_1h_tokens * self.cache_write_1h
            + parts.input_audio_tokens * self.input_audio
            + parts.input_image_tokens * self.input_image
            + (parts.output_tokens + parts.reasoning_tokens) * self.output
            + parts.output_audio_tokens * self.output_audio
        )


@dataclass(frozen=True, slots=True)
class Period:
    """When a price is valid: from a moment on, or daily between two minutes of the day in UTC."""

    start: datetime | None = None
    minutes: tuple[int, int] | None = None

    def holds(self, at: datetime) -> bool:
        """Say whether it holds at a moment, which is aware and in UTC."""
        if self.start is not None and at < self.start:
            return False
        if self.minutes is None:
            return True
        begin, end = self.minutes
        minute = at.hour * 60 + at.minute
        return begin <= minute < end if begin <= end else minute >= begin or minute < end


@dataclass(frozen=True, slots=True)
class Tariff:
    """One list of rates. `above` are pairs of a length and the rates of *all* tokens of a request whose
    input is longer, ascending. `request` and `second` are picodollars for each request and each second
    that it took, `units` for each of what those fields of a usage count.
    """

    rates: Rates
    above: tuple[tuple[int, Rates], ...] = ()
    request: int = 0
    second: int = 0
    period: Period = field(default_factory=Period)
    units: Mapping[str, int] = field(default_factory=dict)
    needs_tokens: bool = field(init=False, repr=False)
    """True where the cost depends on tokens."""
    is_free: bool = field(init=False, repr=False)
    """True where nothing costs anything."""

    def __post_init__(self) -> None:
        rates = (self.rates, *(each for _, each in self.above))
        needs_tokens = any(any(_amounts(each)) for each in rates)
        object.__setattr__(self, "needs_tokens", needs_tokens)
        costs = self.request or self.second or any(self.units.values()) or needs_tokens
        object.__setattr__(self, "is_free", not costs)

    def rates_for(self, input_tokens: int) -> Rates:
        """Return the rates for an input of this length."""
        found = self.rates
        for start, rates in self.above:
            if input_tokens > start:
                found = rates
        return found

    def units_pico(self, usage: Usage | None) -> int | None:
        """Return what the units of a usage cost; None where one that has a price was not told."""
        cost = 0
        for unit, rate in self.units.items():
            count = None if usage is None else getattr(usage, unit)
            if count is None and rate:
                return None
            cost += round((count or 0) * rate)
        return cost


def _amounts(rates: Rates) -> tuple[int, ...]:
    return (rates.input, rates.output, rates.input_audio, rates.output_audio)


@dataclass(frozen=True, slots=True)
class Price:
    """What a deployment costs: the last tariff that holds counts. `source` says who says so."""

    tariffs: tuple[Tariff, ...]
    source: str
    _only: Tariff | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        is_always = len(self.tariffs) == 1 and self.tariffs[0].period == Period()
        object.__setattr__(self, "_only", self.tariffs[0] if is_always else None)

    @property
    def is_own(self) -> bool:
        """Say whether it is the operator's own, which counts before what a provider reports."""
        return self.source == CONFIGURED

    def cost_nanousd(self, usage: Usage | None, took_s: float, at: datetime | None = None) -> int | None:
        """Return what a request costs, in billionths of a dollar; None where that cannot be known.

        `at` is when it is over, by default now.
        """
        tariff = self._only or self.tariff(at)
        if tariff is None:
            return None
        cost = tariff.request
        if tariff.second:
            cost += round(tariff.second * took_s)
        if tariff.units:
            units = tariff.units_pico(usage)
            if units is None:
                return None
            cost += units
        if usage is not None and not _lacks(usage, tariff):
            rates = tariff.rates_for(usage.input_tokens or 0) if tariff.above else tariff.rates
            cost += rates.cost_of(usage)
        elif tariff.needs_tokens:
            return None
        return (cost + 500) // 1000

    def estimate_nanousd(self, input_tokens: int, output_tokens: int, at: datetime | None = None) -> int:
        """Return what a request of this size would cost, no token of it cached; 0 only where it is free."""
        tariff = self.tariff(at)
        if tariff is None or tariff.is_free:
            return 0
        rates = tariff.rates_for(input_tokens)
        pico = (
            tariff.request
            + tariff.second * USUAL_S
            + input_tokens * rates.input
            + output_tokens * rates.output
        )
        for unit, rate in tariff.units.items():
            pico += rate * USUAL_UNITS.get(unit, 1)
        return max(1, (pico + 500) // 1000)

    def tariff(self, at: datetime | None = None) -> Tariff | None:
        """Return the one that holds at a moment, by default now."""
        if self._only is not None:
            return self._only
        at = utcnow() if at is None else at
        return next((each for each in reversed(self.tariffs) if each.period.holds(at)), None)


def _lacks(usage: Usage, tariff: Tariff) -> bool:
    """Say whether a number is unknown that the cost depends on."""
    rates = tariff.rates
    return (usage.input_tokens is None and rates.input != 0) or (
        usage.output_tokens is None and rates.output != 0
    )


def picodollars(dollars_per_mtok: Decimal) -> int:
    """Return the rate per token of a price per million tokens; exact to six decimals."""
    return round(dollars_per_mtok * PICO_PER_MTOK)


def dollars(nanousd: int) -> Decimal:
    """Return an amount of the ledger in dollars, exact."""
    return Decimal(nanousd).scaleb(-9)
