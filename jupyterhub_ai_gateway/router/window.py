"""What happened at a deployment of late: requests, errors, times until an answer began. Pure and bounded.

Time is cut into slices, of which a few are kept: the window slides by a slice at a time. What leaves it
goes into a slow mean, which is what is usual.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

SLICES = 6
"""Of how many slices a window is made; this is all that is ever kept."""
SLOWEST_RATE = 0.01
"""How much of what is usual one more slice changes, once there have been many."""
_LOOKS = 8
"""After how many answers in a slice the means are computed anew."""


class _Slice(NamedTuple):
    """The sums of one slice, which began at `began`; times by kind: of whole answers, of streams."""

    began: float
    requests: int
    errors: int
    counts: tuple[int, int]
    sums_s: tuple[float, float]


class Window:
    """One deployment's. Times are in seconds, of a clock that never goes back; it comes in as `now`.

    `recent_s` are the means of the window, of whole answers and of streams, each None where there are fewer
    than `least`; they hold until `recent_until`. `usual_s` are those of what left it, None before anything
    has.
    """

    __slots__ = (
        "_began",
        "_counts",
        "_ends",
        "_errors",
        "_least",
        "_old",
        "_requests",
        "_slice_s",
        "_slices_left",
        "_sums_s",
        "recent_s",
        "recent_until",
        "usual_s",
    )

    def __init__(self, window_s: float, least: int) -> None:
        self._old: deque[_Slice] = deque()
        self._slices_left = [0, 0]
        self.recent_s: list[float | None] = [None, None]
        self.usual_s: list[float | None] = [None, None]
        self.recent_until = 0.0
        self._ends = float("-inf")
        self.use(window_s, least)
        self._begin(0.0)

    def use(self, window_s: float, least: int) -> None:
        """Take another length, and another least number of requests; what is known is kept."""
        self._slice_s, self._least = window_s / SLICES, least

    def _begin(self, now: float) -> None:
        self._began = now
        self._requests = self._errors = 0
        self._counts = [0, 0]
        self._sums_s = [0.0, 0.0]

    def failed(self, now: float) -> None:
        """Count a request that failed."""
        if now >= self._ends:
            self._turn(now)
        self._requests += 1
        self._errors += 1

    def answered(self, now: float, seconds: float, kind: int) -> None:
        """Count an answer that began after so many seconds; `kind` is 1 for a stream, 0 for a whole one."""
        if now >= self._ends:
            self._turn(now)
        self._requests += 1
        counts = self._counts
        counts[kind] += 1
        self._sums_s[kind] += seconds
        if counts[kind] % _LOOKS == 0:
            self._look(now)

    def counts(self, now: float) -> tuple[int, int]:
        """Return how many requests there were in the window, and how many of them failed."""
        if now >= self._ends:
            self._turn(now)
        requests, errors = self._requests, self._errors
        for each in self._old:
            requests += each.requests
            errors += each.errors
        return requests, errors

    def clear(self) -> None:
        """Forget the window; what is usual stays."""
        self._old.clear()
        self._begin(self._began)
        self.recent_s = [None, None]

    def _turn(self, now: float) -> None:
        """Begin a slice, part with those that are too old, and look at what there is."""
        if self._requests:
            self._old.append(
                _Slice(
                    self._began,
                    self._requests,
                    self._errors,
                    (self._counts[0], self._counts[1]),
                    (self._sums_s[0], self._sums_s[1]),
                )
            )
        oldest = now - self._slice_s * SLICES
        while self._old and (self._old[0].began <= oldest or len(self._old) >= SLICES):
            self._learn(self._old.popleft())
        self._begin(now)
        self._ends = now + self._slice_s
        self._look(now)

    def _learn(self, gone: _Slice) -> None:
        for kind in (0, 1):
            if gone.counts[kind]:
                mean, known = gone.sums_s[kind] / gone.counts[kind], self.usual_s[kind]
                seen = self._slices_left[kind] = self._slices_left[kind] + 1
                rate = max(SLOWEST_RATE, 1.0 / seen)
                self.usual_s[kind] = mean if known is None else known + rate * (mean - known)

    def _look(self, now: float) -> None:
        for kind in (0, 1):
            count, sum_s = self._counts[kind], self._sums_s[kind]
            for each in self._old:
                count += each.counts[kind]
                sum_s += each.sums_s[kind]
            self.recent_s[kind] = sum_s / count if count >= self._least else None
        self.recent_until = now + self._slice_s * SLICES
