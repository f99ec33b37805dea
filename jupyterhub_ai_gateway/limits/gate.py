"""What the gateway asks before it sends a request: may this one, now, and what is left then.

First all rules of the policies at once, then the endpoint's own bucket; whoever refuses, nothing stays
reserved and nothing was used.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

import msgspec

from ..config import LimitConfig
from ..errors import Fault, Forbidden, LimitFault, LimitsUnavailable
from ..vocabulary import Caller
from .admission import Admission, Estimate, reserved_amount
from .base import Store, StoreUnavailable
from .bucket import Rule, Verdict
from .counters import CounterStore, Reserved, Take
from .estimate import Estimator
from .headers import State, amount_text, limit_headers, policy_text, wait_text
from .rules import QuotaRule, RuleBook

log = logging.getLogger(__name__)

MAX_RULES = 4096
BUDGET_USED_UP = "insufficient_quota"
"""How a fault is called that waiting is no help for: too little is left of money, or of days."""
LONG_WAIT_S = 60.0
"""From here on the SDKs had better not wait and try again by themselves."""
_COMPLAINT_EVERY_S = 60.0


class Demand(msgspec.Struct, frozen=True, gc=False):
    """What the gate has to know of a request. `estimate` is asked only where a rule needs it.

    `project` is the group that the caller chose to pay.
    """

    name: str
    caller: Caller
    endpoint: str
    limit: LimitConfig | None
    estimate: Callable[[], Estimate]
    project: str | None = None


@dataclass(slots=True)
class _Plan:
    """The rules that count for one request, with what each reserves."""

    payer: str | None
    rules: list[QuotaRule]
    takes: list[Take]
    now_ms: int
    has_soft: bool = False


class Gate:
    """Admits requests by the operator's rules. Its counters outlive a new configuration.

    `buckets` keeps the endpoints' own limits, `counters` those of policies, `book` says which policies
    count; `clock` is monotonic in seconds, `now_ms` the time of day.
    """

    def __init__(
        self,
        buckets: Store,
        counters: CounterStore,
        book: RuleBook,
        *,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.buckets = buckets
        self.counters = counters
        self.book = book
        self.estimator = Estimator()
        self.now_ms = now_ms
        self.page = ""
        """Where a person sees their limits, for those who are told that one is used up."""
        self.failures = 0
        """How often a store did not answer."""
        self._clock = clock
        self._rules: dict[
            str, tuple[LimitConfig, Rule, str]
        ] = {}  # by endpoint, of the configuration in use
        self._complain_at = 0.0

    def admit(self, demand: Demand) -> Admission | Awaitable[Admission]:
        """Reserve what a request needs. `LimitFault` says which rule has too little left."""
        if demand.project is not None:
            self._check_project(demand, demand.project)
        if self.book.is_empty:
            if demand.limit is None:
                return Admission(demand.name, payer=demand.project)
            taken = self._bucket(demand, demand.limit)
            if isinstance(taken, Verdict):
                return Admission(demand.name, states=self._checked(demand, taken, ()), payer=demand.project)
            return self._admit_by_bucket(demand, taken)
        plan = self._plan(demand)
        reserved: Reserved | Awaitable[Reserved] = Reserved(None, ())
        if plan.takes:
            reserved = self.counters.reserve(demand.name, plan.takes, plan.now_ms)
        if not isinstance(reserved, Reserved):
            return self._admit_later(demand, plan, reserved)
        admission = self._reserved(demand, plan, reserved)
        if demand.limit is None:
            return admission
        return self._with_bucket(demand, demand.limit, admission)

    # What the policies say

    def _plan(self, demand: Demand) -> _Plan:
        payer, rules = self.book.rules(demand.caller, demand.endpoint, demand.project)
        now_ms = self.now_ms()
        plan = _Plan(payer, [], [], now_ms)
        estimate: Estimate | None = None
        for rule in rules:
            amount = 1
            if rule.resource not in ("requests", "concurrency"):
                if estimate is None:
                    estimate = demand.estimate()
                if rule.resource == "cost_usd" and not estimate.cost_nanousd:
                    if estimate.cost_nanousd is None and rule.denies_unpriced and not rule.is_soft:
                        raise _unpriced(demand, rule)
                    continue  # free, or allowed without a price
                amount = reserved_amount(rule, estimate)
            plan.rules.append(rule)
            plan.takes.append(_take(rule, amount, now_ms))
            if rule.is_soft:
                plan.has_soft = True
        return plan

    async def _admit_later(self, demand: Demand, plan: _Plan, asking: Awaitable[Reserved]) -> Admission:
        try:
            reserved = await asking
        except StoreUnavailable as error:
            self._store_failed(plan.rules, error)
            admission = Admission(demand.name, payer=plan.payer)
        else:
            admission = self._reserved(demand, plan, reserved)
        if demand.limit is None:
            return admission
        with_bucket = self._with_bucket(demand, demand.limit, admission)
        return with_bucket if isinstance(with_bucket, Admission) else await with_bucket

    def _reserved(self, demand: Demand, plan: _Plan, reserved: Reserved) -> Admission:
        states = _states(plan, reserved)
        if reserved.refused is not None:
            raise _refusal(plan, reserved, states, self.page, self.book.zone)
        shadow: list[str] = []
        hard = states
        if plan.has_soft:
            shadow = [
                rule.name
                for rule, take, used in zip(plan.rules, plan.takes, reserved.used, strict=True)
                if take.is_soft and used + take.amount > take.limit
            ]
            hard = [state for rule, state in zip(plan.rules, states, strict=True) if not rule.is_soft]
        return Admission(
            demand.name, self.counters, plan.rules, plan.takes, hard, payer=plan.payer, shadow=shadow
        )

    def standing(self, caller: Caller, endpoints: Sequence[str]) -> list[tuple[QuotaRule, Take]]:
        """Return every rule that counts for a caller at some of these endpoints, to ask for its use."""
        now_ms = self.now_ms()
        found: dict[str, QuotaRule] = {}
        for endpoint in endpoints:
            for project in (None, *caller.groups):
                for rule in self.book.rules(caller, endpoint, project)[1]:
                    found.setdefault(rule.key, rule)
        return [(rule, _take(rule, 0, now_ms)) for rule in found.values()]

    def all_standing(self) -> list[tuple[QuotaRule, Take]]:
        """Return every rule that somebody has come under lately, to ask for its use."""
        now_ms = self.now_ms()
        return [(rule, _take(rule, 0, now_ms)) for rule in self.book.made()]

    # What the endpoint's own limit says

    def _bucket(self, demand: Demand, limit: LimitConfig) -> Verdict | Awaitable[Verdict]:
        # No endpoint's name holds a blank, so the keys of two cannot meet
        name = demand.endpoint
        key = name if limit.key == "endpoint" else f"{name} {demand.caller.key}"
        known = self._rules.get(name)
        rule = known[1] if known is not None and known[0] is limit else self._rule(name, limit)
        return self.buckets.take(key, rule, self._clock())

    def _with_bucket(
        self, demand: Demand, limit: LimitConfig, admission: Admission
    ) -> Admission | Awaitable[Admission]:
        taken = self._bucket(demand, limit)
        if not isinstance(taken, Verdict):
            return self._with_later_bucket(demand, taken, admission)
        try:
            admission.states = self._checked(demand, taken, admission.states)
        except LimitFault:
            self._give_back(admission)
            raise
        return admission

    async def _with_later_bucket(
        self, demand: Demand, taking: Awaitable[Verdict], admission: Admission
    ) -> Admission:
        try:
            admission.states = self._checked(demand, await taking, admission.states)
        except StoreUnavailable as error:
            self._store_failed((), error)
        except BaseException:
            giving = self._give_back(admission)
            if giving is not None:
                await giving
            raise
        return admission

    async def _admit_by_bucket(self, demand: Demand, taking: Awaitable[Verdict]) -> Admission:
        return await self._with_later_bucket(demand, taking, Admission(demand.name, payer=demand.project))

    def _give_back(self, admission: Admission) -> Awaitable[None] | None:
        return admission.release(self.now_ms())

    def _checked(self, demand: Demand, verdict: Verdict, states: Sequence[State]) -> list[State]:
        """Return all states; `LimitFault` when the bucket is empty."""
        endpoint, limit = demand.endpoint, demand.limit
        assert limit is not None  # noqa: S101 - there was a bucket
        policy = self._rules[endpoint][2]
        state = State(
            endpoint, "requests", verdict.limit, verdict.remaining, verdict.reset_s, False, policy
        )
        all_states = [*states, state]
        if verdict.is_allowed:
            return all_states
        whose = "all users together" if limit.key == "endpoint" else "each user"
        raise LimitFault(
            f"The model {endpoint} takes {limit.calls} calls per {limit.renewal_period} of {whose}. "
            f"Try again in {wait_text(verdict.retry_after_s)}.",
            retry_after_s=verdict.retry_after_s,
            headers=(*limit_headers(all_states), *_no_retry(verdict.retry_after_s)),
            more={"rule": endpoint},
        )

    def _rule(self, endpoint: str, limit: LimitConfig) -> Rule:
        """Make the rule of a limit that is new, and remember it."""
        if len(self._rules) >= MAX_RULES:  # of endpoints long gone
            self._rules.clear()
        rule = Rule(limit.calls, limit.period_s)
        policy = policy_text(endpoint, "requests", limit.calls, limit.period_s)
        self._rules[endpoint] = (limit, rule, policy)
        return rule

    # What else may be

    def _check_project(self, demand: Demand, project: str) -> None:
        groups = demand.caller.groups
        if project in groups:
            return
        yours = f"Yours are {', '.join(sorted(groups)[:50])}." if groups else "You are in no group."
        raise Forbidden(
            f"You are in no group of the name {_shown(project)} that could pay for this request. {yours} "
            "Name one of them as the project, or none.",
            slug="unknown_project",
            more={"projects": sorted(groups)[:50]},
        )

    def _store_failed(self, rules: Sequence[QuotaRule], error: StoreUnavailable) -> None:
        """Let a request go on without limits, where every rule allows that."""
        self.failures += 1
        now = self._clock()
        if now >= self._complain_at:
            self._complain_at = now + _COMPLAINT_EVERY_S
            log.error("The store of limits does not answer: %s", error)
        if any(not rule.fails_open and not rule.is_soft for rule in rules):
            raise LimitsUnavailable(
                "The gateway cannot say right now what is left of your limits; try again in a few seconds.",
                detail=str(error),
                retry_after_s=5.0,
            ) from error


def _take(rule: QuotaRule, amount: int, now_ms: int) -> Take:
    slot = rule.window.slot(now_ms)
    return Take(rule.key, slot.start, slot.first, slot.end, rule.limit, amount, rule.is_soft)


def _states(plan: _Plan, reserved: Reserved) -> list[State]:
    """Say where each rule stands, with this request in it unless one refused it."""
    is_in, now_ms = reserved.refused is None, plan.now_ms
    states = []
    for rule, take, used in zip(plan.rules, plan.takes, reserved.used):  # noqa: B905 - of one length
        expires_ms, limit = take.expires_ms, take.limit
        left = limit - used - take.amount if is_in else limit - used
        reset_s = (expires_ms - now_ms) / 1000 if expires_ms else None
        states.append(
            State(
                rule.name, rule.resource, limit, left if left > 0 else 0, reset_s, rule.is_long, rule.policy
            )
        )
    return states


def _refusal(
    plan: _Plan, reserved: Reserved, states: Sequence[State], page: str, zone: tzinfo
) -> LimitFault:
    """Say which rule refused, what is left of the others, and when to come back."""
    index = reserved.refused or 0
    rule, take, state = plan.rules[index], plan.takes[index], states[index]
    wait_s = _wait_s(rule, take, reserved.freed_slot, plan.now_ms)
    used = amount_text(rule.resource, max(0, take.limit - state.remaining))
    text = (
        f'The rule "{rule.name}" allows {amount_text(rule.resource, take.limit)} {rule.window_text} '
        f"for {rule.whose}; {used} are used or reserved"
    )
    if rule.resource not in ("requests", "concurrency"):
        text += f", and this request needs about {amount_text(rule.resource, take.amount)}"
    back = None if wait_s is None else datetime.fromtimestamp(plan.now_ms / 1000 + wait_s, zone)
    text += f". {_when(wait_s, back if rule.is_long else None)}"
    others = [each for each in states if each is not state]
    if others:
        text += f" Left of the others: {'; '.join(map(_left, others))}."
    more: dict[str, object] = {
        "rule": rule.name,
        "left": {each.name: {each.resource: each.remaining} for each in states},
    }
    if rule.is_long:
        more["resets_at"] = None if back is None else back.isoformat(timespec="seconds")
        if page:
            text += f" Your limits: {page}"
            more["page"] = page
    return LimitFault(
        text,
        slug=BUDGET_USED_UP if rule.is_long else "rate_limit_exceeded",
        kind="insufficient_quota" if rule.is_long else _KINDS.get(rule.resource, "tokens"),
        retry_after_s=wait_s,
        headers=(*limit_headers(states), *_no_retry(None if rule.is_long else wait_s)),
        more=more,
    )


def _when(wait_s: float | None, back: datetime | None) -> str:
    """Say when to come back; of what takes days also the day."""
    if wait_s is None:
        return "Waiting will not help."
    day = "" if back is None else f", on {back:%Y-%m-%d at %H:%M} {back.tzname()}"
    return f"Try again in {wait_text(wait_s)}{day}."


_KINDS = {"requests": "requests", "concurrency": "requests"}


def _wait_s(rule: QuotaRule, take: Take, freed_slot: int | None, now_ms: int) -> float | None:
    """Return when there will be enough left; None where that will not be."""
    if take.amount > take.limit:
        return None
    if rule.resource == "concurrency":
        return 1.0
    if freed_slot is None:
        return None
    return max(0.001, (freed_slot + take.expires_ms - take.slot - now_ms) / 1000)


def _no_retry(wait_s: float | None) -> tuple[tuple[str, str], ...]:
    """Keep the SDKs from trying again by themselves where that would be in vain."""
    return (("x-should-retry", "false"),) if wait_s is None or wait_s > LONG_WAIT_S else ()


def _left(state: State) -> str:
    return f'{amount_text(state.resource, state.remaining)} of "{state.name}"'


def _unpriced(demand: Demand, rule: QuotaRule) -> Fault:
    return Forbidden(
        f'The model {demand.endpoint} has no price, and the rule "{rule.name}" limits cost. The operator '
        "can give the endpoint a price, or let the rule allow models without one (unpriced: allow).",
        slug="unpriced_model",
        param="model",
        more={"rule": rule.name},
    )


def _shown(name: str) -> str:
    text = "".join(letter for letter in name if letter.isprintable())
    return text if len(text) <= 64 else f"{text[:64]}…"
