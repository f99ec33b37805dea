"""The one place where a request is settled: what it used, what that cost, what is written down.

Every way a request can end comes through `settle`, once: served, refused by a limit, failed at the
provider, left by its caller, cut off by a stop.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType

from .dialects.dialect import ANTHROPIC, DIALECT_OF, GEMINI
from .errors import Draining, Fault, Stopped
from .limits import Admission, Gate
from .storage import AttemptRow, Counter, RequestRow
from .usage.ledger import Ledger
from .usage.price import REPORTED, Price
from .vocabulary import COUNTING, UNMETERED, Caller, Operation, Usage

CALLER_LEFT = "caller_left"
OK = "ok"
FREE = "free"
MOST_LEFT_OUT = 20
"""So many of the deployments that were left out are written down."""


class Outcome:
    """What becomes of a request that has an endpoint; until it is known, that the caller left.

    Times are of the gateway's clock, in seconds: `began`, `named` (it is known who asks), `admitted`.
    `queued_s` is how long it waited for slots. `first_byte_s` stays None for an answer that is no stream,
    `usage` where the provider told none.
    `passed_bytes` is how much of the answer went through. `is_billable` is true once it is settled that a
    provider worked on it, `cost_nanousd` is None where nobody knows what that costs. `left_out` are the
    deployments that could not serve it, and why.
    """

    status = 499
    slug = CALLER_LEFT
    admitted: float | None = None
    first_byte_s: float | None = None
    usage: Usage | None = None
    passed_bytes = 0
    took_s = 0.0
    refused_by: str | None = None
    attempts = 0
    sent_at: float | None = None
    upstream_s = 0.0
    queued_s = 0.0
    provider: str | None = None
    sent_model: str | None = None
    answered_model: str | None = None
    deployment: str | None = None
    price: Price | None = None
    tries: Sequence[AttemptRow] = ()
    left_out: Mapping[str, str] = MappingProxyType({})
    cost_nanousd: int | None = None
    is_billable = False

    def __init__(self, began: float, named: float) -> None:
        self.at_ms = time.time_ns() // 1_000_000
        self.began, self.named = began, named

    @property
    def answer_s(self) -> float:
        """Return how long the last attempt took: a stream until it began, others until they ended."""
        if self.first_byte_s is None or self.sent_at is None:
            return self.upstream_s
        return self.began + self.first_byte_s - self.sent_at

    def tried_before(self, fault: Fault) -> list[dict[str, object]]:
        """Return what was tried before a request failed, for its caller; the last is what it fails with."""
        found: list[tuple[str | None, int, str]] = [
            (each.deployment, each.status, each.outcome) for each in self.tries
        ]
        if self.attempts > len(self.tries):
            found.append((self.deployment, fault.status, fault.slug))
        return [{"deployment": name, "status": status, "code": code} for name, status, code in found]

    def done(self, status: int, slug: str = "") -> None:
        """Say how it ended."""
        self.status = status
        self.slug = slug

    def sent(self, now: float, provider: str, model: str | None, price: Price | None) -> None:
        """Say that it goes to a provider, whose price will count."""
        self.attempts += 1
        self.sent_at = now
        self.provider, self.sent_model, self.price = provider, model, price

    def tried(self, call_id: str, now: float, status: int, slug: str) -> None:
        """Say that this attempt has failed, and another one follows."""
        self.tries = [*self.tries, self.attempt_row(call_id, now, status, slug)]
        self.usage = self.answered_model = None

    def attempt_row(self, call_id: str, now: float, status: int, slug: str) -> AttemptRow:
        """Return the row of the present attempt."""
        sent_at = self.began if self.sent_at is None else self.sent_at
        return AttemptRow(
            request_id=call_id,
            number=self.attempts,
            at_ms=self.at_ms + int((sent_at - self.began) * 1000),
            provider=self.provider or "",
            sent_model=self.sent_model,
            answered_model=self.answered_model,
            status=status,
            outcome=slug or OK,
            took_ms=_ms(now - sent_at),
            deployment=self.deployment,
        )

    def heard(self, now: float) -> None:
        """Say that the provider has answered, as far as has been waited for."""
        if self.sent_at is not None:
            self.upstream_s = now - self.sent_at


def settle(
    outcome: Outcome,
    *,
    call_id: str,
    body: bytes,
    is_stream: bool,
    caller: Caller,
    endpoint: str,
    operation: Operation,
    admission: Admission | None,
    gate: Gate,
    ledger: Ledger | None,
    asked_endpoint: str | None = None,
) -> Awaitable[None] | None:
    """Settle a request with its limits and the ledger; return what to await for a store that is elsewhere.

    `asked_endpoint` is the one that the caller asked for, where `endpoint` served it in its place.
    `outcome.usage` is our own estimate afterwards, marked as one, where the provider told nothing of what
    it did.
    """
    usage = outcome.usage
    estimator = gate.estimator
    if usage is not None and not outcome.slug:
        estimator.learn(endpoint, caller.key, body, usage, outcome.passed_bytes, is_stream)
    elif operation in UNMETERED:
        if usage is None and body and _did_work(outcome):  # of a file nobody knows
            read = estimator.input_tokens(endpoint, body)
            usage = outcome.usage = Usage(read, is_estimated=True)
    elif operation not in COUNTING and _did_work(outcome):
        guess = estimator.of_cut(endpoint, body, outcome.passed_bytes, is_stream)
        usage = outcome.usage = _completed(usage, guess, operation)
    cost, source = _cost(outcome, operation, outcome.price)
    outcome.cost_nanousd = cost
    outcome.is_billable = usage is not None or (operation in UNMETERED and _did_work(outcome))
    charges: Sequence[Counter] = ()
    later: Awaitable[None] | None = None
    if admission is not None:
        charges, later = admission.settle(usage, cost, gate.now_ms())
    if ledger is not None:
        row = _request_row(outcome, call_id, caller, endpoint, operation, is_stream, usage, source)
        row.asked_endpoint = asked_endpoint
        if admission is not None:
            row.charged_group = admission.payer
            row.rules = ", ".join(admission.rules) or None
            row.shadow = ", ".join(admission.shadow) or None
        ledger.record(row, _tries(outcome, row) if outcome.tries else (), charges)
    return later


def _tries(outcome: Outcome, row: RequestRow) -> Sequence[AttemptRow]:
    """Return a row for each try of a request that took several; a single one would be the request's own."""
    if outcome.attempts == len(outcome.tries):
        return outcome.tries  # nothing was sent after the last one that failed
    last = outcome.attempt_row(row.request_id, outcome.began + outcome.took_s, row.status, outcome.slug)
    last.first_byte_ms = row.first_byte_ms
    last.input_tokens, last.output_tokens = row.input_tokens, row.output_tokens
    last.is_estimated, last.cost_nanousd = row.is_estimated, row.cost_nanousd
    return [*outcome.tries, last]


def _did_work(outcome: Outcome) -> bool:
    """Say whether a provider will have done something that it did not tell of."""
    if outcome.sent_at is None:
        return False
    is_cut = outcome.slug in (CALLER_LEFT, Draining.slug, Stopped.slug)
    return not outcome.slug or is_cut or outcome.passed_bytes > 0


def _completed(usage: Usage | None, guess: Usage, operation: Operation) -> Usage:
    """Join what was told of an answer that was cut with what is guessed of it.

    Anthropic tells the input at the start of a stream, with an output that has hardly begun, and Google
    tells again with each piece what there is so far; OpenAI's format tells all of it at the end.
    """
    if usage is None:
        return guess
    if DIALECT_OF[operation] not in (ANTHROPIC, GEMINI):
        return usage
    output = max(usage.output_tokens or 0, guess.output_tokens or 0)
    into = guess.input_tokens if usage.input_tokens is None else usage.input_tokens
    return usage._replace(input_tokens=into, output_tokens=output, is_estimated=True)


def _cost(outcome: Outcome, operation: Operation, price: Price | None) -> tuple[int | None, str | None]:
    """Return nanodollars, and who says so: the operator, else the provider, else the table."""
    if operation in COUNTING:
        return 0, FREE
    usage = outcome.usage
    if outcome.sent_at is None or (usage is None and outcome.slug):
        return None, None  # nothing was done, as far as anybody says
    if usage is not None and usage.reported_nanousd is not None and (price is None or not price.is_own):
        return usage.reported_nanousd, REPORTED
    if price is None:
        return None, None
    cost = price.cost_nanousd(usage, outcome.took_s)
    return cost, None if cost is None else price.source


def _request_row(
    outcome: Outcome,
    call_id: str,
    caller: Caller,
    endpoint: str,
    operation: Operation,
    is_stream: bool,
    usage: Usage | None,
    price_source: str | None,
) -> RequestRow:
    admitted, first_byte_s = outcome.admitted, outcome.first_byte_s
    used = _UNKNOWN if usage is None else usage
    # In the order of the fields, which is the fastest way; times as `_ms` has them
    return RequestRow(
        request_id=call_id,
        at_ms=outcome.at_ms,
        caller=caller.key,
        endpoint=endpoint,
        operation=operation.name,
        status=outcome.status,
        outcome=outcome.slug or OK,
        server=caller.server_name,
        provider=outcome.provider,
        sent_model=outcome.sent_model,
        answered_model=outcome.answered_model,
        is_stream=is_stream,
        attempts=outcome.attempts,
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        cached_input_tokens=used.cached_input_tokens,
        cache_write_tokens=used.cache_write_tokens,
        cache_write_1h_tokens=used.cache_write_1h_tokens,
        reasoning_tokens=used.reasoning_tokens,
        input_audio_tokens=used.input_audio_tokens,
        input_image_tokens=used.input_image_tokens,
        output_audio_tokens=used.output_audio_tokens,
        is_estimated=used.is_estimated,
        cost_nanousd=outcome.cost_nanousd,
        price_source=price_source,
        took_ms=outcome.took_s * 1000.0,
        first_byte_ms=None if first_byte_s is None else first_byte_s * 1000.0,
        auth_ms=(outcome.named - outcome.began) * 1000.0,
        wait_ms=0.0 if admitted is None else (admitted - outcome.named + outcome.queued_s) * 1000.0,
        upstream_ms=outcome.upstream_s * 1000.0,
        refused_by=outcome.refused_by,
        deployment=outcome.deployment,
        left_out=_lines(outcome.left_out) if outcome.left_out else None,
    )


_UNKNOWN = Usage()


def _lines(left_out: Mapping[str, str]) -> str:
    """Return a line for each deployment that was left out; of many the first ones."""
    return "\n".join(f"{name} {reason}" for name, reason in islice(left_out.items(), MOST_LEFT_OUT))


def _ms(seconds: float) -> float:
    return seconds * 1000.0
