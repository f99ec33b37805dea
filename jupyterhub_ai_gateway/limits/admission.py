"""One request's stay under the limits: what it reserved, and what it gives back.

An admission is settled exactly once, whatever becomes of the request; a second time does nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import datetime

import msgspec

from ..storage import Counter
from ..vocabulary import Usage
from .counters import CounterStore, Take
from .headers import Headers, State, anthropic_headers, limit_headers
from .rules import QuotaRule


class Estimate(msgspec.Struct, frozen=True, gc=False):
    """How large a request is thought to be. `cost_nanousd` is None where its price is unknown."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_nanousd: int | None = None


class Admission:
    """What a request may go on with. `states` are those of every rule that counts for it.

    `rules` are the names of the rules that were asked, `shadow` of those that would have refused it.
    """

    __slots__ = ("_is_settled", "_name", "_rules", "_store", "_takes", "payer", "shadow", "states")

    def __init__(
        self,
        name: str,
        store: CounterStore | None = None,
        rules: Sequence[QuotaRule] = (),
        takes: Sequence[Take] = (),
        states: Sequence[State] = (),
        *,
        payer: str | None = None,
        shadow: Sequence[str] = (),
    ) -> None:
        self._name = name
        self._store = store
        self._rules = rules
        self._takes = takes
        self._is_settled = store is None or not takes
        self.states = states
        self.payer = payer
        self.shadow = shadow

    @property
    def rules(self) -> list[str]:
        """Return the names of the rules that count for it."""
        return [state.name for state in self.states]

    @property
    def is_open(self) -> bool:
        """Say whether something is still reserved."""
        return not self._is_settled

    def headers(self) -> Headers:
        """Return what the caller should know, in OpenAI's words and the IETF's."""
        return limit_headers(self.states)

    def anthropic_headers(self, now: datetime) -> Headers:
        """Return it in Anthropic's words."""
        return anthropic_headers(self.states, now)

    def settle(
        self, usage: Usage | None, cost_nanousd: int | None, now_ms: int
    ) -> tuple[Sequence[Counter], Awaitable[None] | None]:
        """Put what was used in the place of what was reserved.

        Return what the ledger has to know of it, and what to await where the store is elsewhere. What is
        unknown counts as nothing here: whoever calls estimates it before.
        """
        if self._is_settled:
            return (), None
        self._is_settled = True
        store = self._store
        assert store is not None  # noqa: S101 - it would be settled
        amounts: list[int] = []
        kept: list[Counter] = []
        for rule, take in zip(self._rules, self._takes):  # noqa: B905 - of one length
            amount = _amount(rule.resource, usage, cost_nanousd)
            amounts.append(amount)
            if amount and rule.is_kept:
                kept.append(Counter(take.key, take.slot, amount, take.expires_ms))
        return kept, store.settle(self._name, self._takes, amounts, now_ms)

    def release(self, now_ms: int) -> Awaitable[None] | None:
        """Give everything back, as if the request had never come."""
        if self._is_settled:
            return None
        self._is_settled = True
        store = self._store
        assert store is not None  # noqa: S101 - it would be settled
        return store.settle(self._name, self._takes, [0] * len(self._takes), now_ms)


def _amount(resource: str, usage: Usage | None, cost_nanousd: int | None) -> int:
    """Return how much of a resource a request used."""
    if resource == "requests":
        return 1
    if resource == "cost_usd":
        return cost_nanousd or 0
    if usage is None or resource == "concurrency":
        return 0
    return _tokens(resource, usage.input_tokens or 0, usage.output_tokens or 0)


def _tokens(resource: str, into: int, out: int) -> int:
    if resource == "tokens":
        return into + out
    return into if resource == "input_tokens" else out


def reserved_amount(rule: QuotaRule, estimate: Estimate) -> int:
    """Return how much of a rule about tokens or cost to reserve: what is expected, at most all there is.

    A request that is thought to be larger than the whole limit has it all to itself; one of which nothing
    is known counts as something, so that an empty limit refuses it.
    """
    resource = rule.resource
    if resource == "cost_usd":
        amount = estimate.cost_nanousd or 0
    else:
        amount = _tokens(resource, estimate.input_tokens, estimate.output_tokens)
    return max(1, min(amount, rule.limit))
