"""The answer to one line: collected in memory, and judged: is it one, is it to be asked again, and when."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Literal, NamedTuple

import msgspec

from ..dialects.faults import error_object
from ..errors import Fault

Headers = Sequence[tuple[str, str]]

TRIES = 4
"""How often a line is sent to a provider that fails, before the failure is its answer."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 300.0
"""How long a job waits before it sends a refused line again; at most so long, whatever it is told."""
_PROVIDERS_FAULT = (408, 500, 502, 504)


class Collected:
    """A reply that keeps a whole answer. Lines ask for no streams, so `begin` is a bug."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        self.status, self.body = status, body
        self.headers = {name.lower(): value for name, value in headers}

    def begin(self, status: int, headers: Headers) -> None:
        raise RuntimeError("a stream was begun for a line of a batch")

    def send(self, piece: bytes) -> Awaitable[None] | None:
        raise RuntimeError("a stream was sent for a line of a batch")

    def abort(self) -> None:
        raise RuntimeError("a stream was cut off for a line of a batch")

    def end(self) -> None:
        raise RuntimeError("a stream was ended for a line of a batch")


class Verdict(NamedTuple):
    """What to do: "keep" the answer, or send the line again after `wait_s`; "all" lines wait, or "one"."""

    action: Literal["keep", "all", "one"]
    wait_s: float = 0.0


KEEP = Verdict("keep")


def judge(reply: Collected, tries: int) -> Verdict:
    """Decide by status and headers; `tries` is how often the line has been sent, this time included.

    Limits make the whole job wait, however often: they are there to be kept. So does a gateway that cannot
    say what the limits are. A provider's failure is tried again a few times. All else is an answer.
    """
    asked_s = _asked_s(reply.headers)
    may_retry = reply.headers.get("x-should-retry") != "false"
    backoff_s = min(60.0, FIRST_WAIT_S * 2.0 ** min(tries - 1, 10))
    if reply.status in (429, 503):
        if asked_s is None and not may_retry:
            return KEEP
        wait_s = backoff_s if asked_s is None else asked_s
        return Verdict("all", min(LONGEST_WAIT_S, max(0.05, wait_s)))
    if reply.status in _PROVIDERS_FAULT and may_retry and tries < TRIES:
        return Verdict("one", min(LONGEST_WAIT_S, backoff_s if asked_s is None else asked_s))
    return KEEP


def bug() -> Collected:
    """Return the answer of a line on which the gateway itself failed."""
    reply = Collected()
    fault = Fault("Something went wrong here; the gateway's log says what.")
    reply.respond(fault.status, (), error_object(fault))
    return reply


def _asked_s(headers: dict[str, str]) -> float | None:
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "")
        if text.isascii() and text.isdigit() and len(text) < 12:
            return int(text) * unit_s
    return None


class Stop(msgspec.Struct):
    """Why a job ends before its last line."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None
