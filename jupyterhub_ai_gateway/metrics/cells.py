"""The counting on the path of every request: plain integers in lists, nothing else."""

from __future__ import annotations

import re
from bisect import bisect_left

from ..vocabulary import Usage
from .families import DURATION_S, FIRST_TOKEN_S, PER_TOKEN_S, TOKENS, Buckets

OTHER = "other"
MAX_OUTCOMES = 64
"""Pairs of status and outcome per cell, and operations, statuses and outcomes of refused requests."""

_SLUG = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Histogram:
    """Counts per bucket, not added up; the last is for what is beyond every bound."""

    __slots__ = ("counts", "total")

    def __init__(self, bounds: Buckets) -> None:
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def copy(self) -> Histogram:
        twin = Histogram(())
        twin.counts, twin.total = self.counts.copy(), self.total
        return twin

    def add(self, other: Histogram) -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class Cell:
    """The counts of one endpoint and operation. `begin` and `end` come in pairs, whatever happens."""

    __slots__ = (
        "cached_input_tokens",
        "cost_nanousd",
        "durations",
        "first_token",
        "in_flight",
        "input_tokens",
        "labels",
        "output_tokens",
        "per_token",
        "reasoning_tokens",
        "unknown_usages",
        "unpriced",
    )

    def __init__(self, labels: tuple[str, str, str, str]) -> None:
        self.labels = labels
        self.in_flight = 0
        self.unknown_usages = 0
        self.cost_nanousd = 0
        self.unpriced = 0
        self.cached_input_tokens = 0
        self.reasoning_tokens = 0
        self.durations: dict[tuple[int, str], Histogram] = {}  # (status, slug) → how long these took
        self.first_token = Histogram(FIRST_TOKEN_S)
        self.per_token = Histogram(PER_TOKEN_S)
        self.input_tokens = Histogram(TOKENS)
        self.output_tokens = Histogram(TOKENS)

    def begin(self) -> None:
        """Count a request that has been admitted to this endpoint, or is about to ask for admission."""
        self.in_flight += 1

    def move(self, other: Cell) -> Cell:
        """Let another cell have a request that this one began; return it."""
        self.in_flight -= 1
        other.in_flight += 1
        return other

    def end(
        self,
        status: int,
        slug: str,
        duration_s: float,
        first_byte_s: float | None,
        usage: Usage | None,
    ) -> None:
        """Count the same request when its answer is over, or nobody is left to read it.

        `slug` is the fault's, "" for a success. `first_byte_s` is None for an answer that is no stream.
        Both times begin when the request has arrived. `usage` is None when it is unknown.
        """
        self.in_flight -= 1
        histogram = self.durations.get((status, slug))
        if histogram is None:
            histogram = self._histogram(status, slug)
        histogram.counts[bisect_left(DURATION_S, duration_s)] += 1
        histogram.total += duration_s
        output_tokens = None
        if usage is not None:
            output_tokens = usage.output_tokens
            self._count(usage, output_tokens)
        elif not slug:
            self.unknown_usages += 1
        if first_byte_s is not None and not slug:
            self._pace(duration_s, first_byte_s, output_tokens)

    def charge(self, cost_nanousd: int | None) -> None:
        """Count what a request cost that a provider worked on; None where nobody knows."""
        if cost_nanousd is None:
            self.unpriced += 1
        else:
            self.cost_nanousd += cost_nanousd

    def _count(self, usage: Usage, output_tokens: int | None) -> None:
        input_tokens = usage.input_tokens
        if input_tokens is not None:
            histogram = self.input_tokens
            histogram.counts[bisect_left(TOKENS, input_tokens)] += 1
            histogram.total += input_tokens
        if output_tokens is not None:
            histogram = self.output_tokens
            histogram.counts[bisect_left(TOKENS, output_tokens)] += 1
            histogram.total += output_tokens
        if usage.cached_input_tokens:
            self.cached_input_tokens += usage.cached_input_tokens
        if usage.reasoning_tokens:
            self.reasoning_tokens += usage.reasoning_tokens

    def _pace(self, duration_s: float, first_byte_s: float, output_tokens: int | None) -> None:
        histogram = self.first_token
        histogram.counts[bisect_left(FIRST_TOKEN_S, first_byte_s)] += 1
        histogram.total += first_byte_s
        if output_tokens is not None and output_tokens > 1:
            per_token_s = (duration_s - first_byte_s) / (output_tokens - 1)
            histogram = self.per_token
            histogram.counts[bisect_left(PER_TOKEN_S, per_token_s)] += 1
            histogram.total += per_token_s

    def _histogram(self, status: int, slug: str) -> Histogram:
        """Make the histogram of an outcome seen for the first time, or find the one it falls under."""
        key = (status, known_outcome(slug) if slug else "")
        if key not in self.durations and len(self.durations) >= MAX_OUTCOMES:
            key = (status // 100 * 100, OTHER)
        return self.durations.setdefault(key, Histogram(DURATION_S))

    def copy(self) -> Cell:
        """Return what is counted so far; the copy does not change."""
        twin = Cell(self.labels)
        twin.in_flight, twin.unknown_usages = self.in_flight, self.unknown_usages
        twin.cost_nanousd, twin.unpriced = self.cost_nanousd, self.unpriced
        twin.cached_input_tokens = self.cached_input_tokens
        twin.reasoning_tokens = self.reasoning_tokens
        twin.durations = {key: histogram.copy() for key, histogram in self.durations.items()}
        twin.first_token, twin.per_token = self.first_token.copy(), self.per_token.copy()
        twin.input_tokens, twin.output_tokens = self.input_tokens.copy(), self.output_tokens.copy()
        return twin


def known_outcome(text: str) -> str:
    """Pass what looks like a word of ours; anything else could be anybody's text."""
    return text if _SLUG.fullmatch(text) else OTHER
