"""What a caller hears of limits: who, group, rule and state to verdict, which rule, headers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from expected import ExpectedLog

from jupyterhub_ai_gateway.config import LimitConfig, PolicyConfig
from jupyterhub_ai_gateway.config.policies import read_policies
from jupyterhub_ai_gateway.config.report import Report
from jupyterhub_ai_gateway.errors import Fault, Forbidden, LimitFault, LimitsUnavailable
from jupyterhub_ai_gateway.limits import (
    Admission,
    CounterStore,
    Demand,
    Estimate,
    Gate,
    MemoryCounters,
    MemoryStore,
    Override,
    Reserved,
    Rule,
    RuleBook,
    Store,
    StoreUnavailable,
    Take,
    Verdict,
)
from jupyterhub_ai_gateway.limits.gate import MAX_RULES
from jupyterhub_ai_gateway.limits.headers import amount_text, duration_text, wait_text
from jupyterhub_ai_gateway.vocabulary import Caller, Usage

PER_USER = LimitConfig(2, 60.0, "user", "minute")
PER_ENDPOINT = LimitConfig(2, 60.0, "endpoint", "minute")
NOON = 1_795_176_000_000  # 2026-11-20 12:00 UTC, a Friday
HOUR = 3_600_000

ALICE = Caller("user", "alice", groups=("nbgrader-physics", "staff"))
BOB = Caller("user", "bob", groups=("nbgrader-physics",))
CAROL = Caller("user", "carol")
GRADER = Caller("service", "grader")


class Now:
    """The time of day, as a test sets it."""

    def __init__(self) -> None:
        self.ms = NOON

    def __call__(self) -> int:
        return self.ms


def policies(*documents: Mapping[str, Any]) -> tuple[PolicyConfig, ...]:
    report = Report()
    found = read_policies(list(documents), "policies", report)
    assert report.errors == []
    return found


def gate(
    *documents: Mapping[str, Any],
    now: Now | None = None,
    combine: Any = "max",
    counters: CounterStore | None = None,
    buckets: Store | None = None,
    zone: str = "UTC",
) -> Gate:
    now = now or Now()
    book = RuleBook(policies(*documents), combine, ZoneInfo(zone), now_ms=now)
    return Gate(
        MemoryStore() if buckets is None else buckets,
        MemoryCounters() if counters is None else counters,
        book,
        clock=lambda: now.ms / 1000,
        now_ms=now,
    )


NAMES = iter(range(10**9))
USUAL = Estimate(10, 20, 1_000)


def demand(
    caller: Caller = ALICE,
    endpoint: str = "chat",
    *,
    limit: LimitConfig | None = None,
    estimate: Estimate = USUAL,
    project: str | None = None,
) -> Demand:
    return Demand(f"r{next(NAMES)}", caller, endpoint, limit, lambda: estimate, project)


def admit(checked: Gate, *arguments: Any, **more: Any) -> Admission:
    admission = checked.admit(demand(*arguments, **more))
    assert isinstance(admission, Admission)
    return admission


def refused(checked: Gate, *arguments: Any, **more: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        checked.admit(demand(*arguments, **more))
    return caught.value


def may(checked: Gate, *arguments: Any, **more: Any) -> bool:
    try:
        admit(checked, *arguments, **more)
    except LimitFault:
        return False
    return True


# MLflow's limit


def test_no_limit_is_nothing_to_tell() -> None:
    admission = admit(gate())
    assert admission.headers() == ()
    assert admission.settle(Usage(1, 1), 5, NOON) == ((), None)


@pytest.mark.parametrize(("limit", "bob_may"), [(PER_USER, True), (PER_ENDPOINT, False)])
def test_limit_counts_whom_its_key_says(limit: LimitConfig, bob_may: bool) -> None:
    checked = gate()
    assert [may(checked, ALICE, limit=limit) for _ in range(3)] == [True, True, False]
    assert may(checked, BOB, limit=limit) is bob_may
    assert may(checked, ALICE, "other", limit=limit)


def test_user_and_service_of_one_name_are_two() -> None:
    checked = gate()
    assert [may(checked, Caller("user", "x"), limit=PER_USER) for _ in range(3)] == [True, True, False]
    assert may(checked, Caller("service", "x"), limit=PER_USER)


def test_refusal_says_the_limit_and_when_to_come_back() -> None:
    checked = gate()
    for _ in range(2):
        admit(checked, limit=PER_USER)
    fault = refused(checked, limit=PER_USER)
    assert fault.public == "The model chat takes 2 calls per minute of each user. Try again in 30 seconds."
    assert fault.retry_after_s == pytest.approx(30.0)
    headers = dict(fault.headers)
    assert headers["x-ratelimit-limit-requests"] == "2"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "1m0s"
    assert headers["RateLimit-Policy"] == '"chat";q=2;w=60'
    assert headers["RateLimit"] == '"chat";r=0;t=60'
    assert "x-should-retry" not in headers


def test_new_configuration_keeps_what_was_used() -> None:
    checked = gate()
    for _ in range(2):
        admit(checked, limit=PER_USER)
    assert not may(checked, limit=LimitConfig(2, 60.0, "user", "1 minute"))


def test_limits_of_old_configurations_do_not_pile_up() -> None:
    checked = gate()
    for calls in range(1, 2 * MAX_RULES):
        admit(checked, ALICE, f"e{calls}", limit=LimitConfig(calls, 60.0, "user", "minute"))
    assert len(checked._rules) <= MAX_RULES


def test_a_bucket_that_refuses_gives_back_what_the_rules_reserved() -> None:
    checked = gate({"resource": "tokens", "limit": 1000, "window": "day"})
    for _ in range(2):
        admit(checked, limit=PER_USER).settle(Usage(1, 1), None, NOON)
    refused(checked, limit=PER_USER)
    assert isinstance(checked.counters, MemoryCounters)
    assert checked.counters.open_reservations == 0
    assert admit(checked).states[0].remaining == 1000 - 4 - 30


# Policies: who, in which groups, under which rules

DAY = {"resource": "requests", "window": "day"}
EVERYONE = {**DAY, "name": "everyone", "limit": 1}
STUDENTS = {**DAY, "name": "students", "limit": 2, "scope": {"group": "nbgrader-*"}}
STAFF = {**DAY, "name": "staff", "limit": 3, "scope": {"group": "staff"}}
ALICES = {**DAY, "name": "alice", "limit": 0, "priority": 9, "scope": {"user": "alice"}}
GRADERS = {**DAY, "name": "graders", "limit": 4, "scope": {"service": "grad*"}}
ADMINS = {**DAY, "name": "admins", "limit": 5, "scope": {"role": "ai-admin"}}

TABLE: Sequence[tuple[Sequence[Mapping[str, Any]], str, Caller, str | None, str | None, int]] = [
    # policies, combine, caller, project → the rule's name, how many requests
    ((EVERYONE,), "max", CAROL, None, "everyone", 1),
    ((EVERYONE,), "max", GRADER, None, "everyone", 1),
    ((STUDENTS,), "max", CAROL, None, None, 99),
    ((STUDENTS,), "max", GRADER, None, None, 99),
    ((EVERYONE, STUDENTS), "max", BOB, None, "students", 2),
    ((EVERYONE, STUDENTS), "min", BOB, None, "everyone", 1),
    ((EVERYONE, STUDENTS), "sum", BOB, None, "everyone+students", 3),
    ((EVERYONE, STUDENTS, STAFF), "max", ALICE, None, "staff", 3),
    ((EVERYONE, STUDENTS, STAFF), "max", ALICE, "nbgrader-physics", "students", 2),
    ((EVERYONE, STUDENTS, STAFF, ALICES), "priority", ALICE, None, "alice", 0),
    ((EVERYONE, STUDENTS, STAFF, ALICES), "priority", BOB, None, "students", 2),
    ((EVERYONE, GRADERS), "max", GRADER, None, "graders", 4),
    ((EVERYONE, ADMINS), "max", CAROL, None, "everyone", 1),
    ((EVERYONE, ADMINS), "max", replace(CAROL, roles=("ai-admin",)), None, "admins", 5),
    (({**EVERYONE, "endpoints": "gpt-*"},), "max", CAROL, None, None, 99),
    (({**EVERYONE, "endpoints": ["gpt-*", "chat"]},), "max", CAROL, None, "everyone", 1),
    (({**EVERYONE, "shadow": True},), "max", CAROL, None, None, 99),
    (({**EVERYONE, "starts": "2026-11-21"},), "max", CAROL, None, None, 99),
    (({**EVERYONE, "ends": "2026-11-19"},), "max", CAROL, None, None, 99),
    (({**EVERYONE, "starts": "2026-11-20", "ends": "2026-11-20"},), "max", CAROL, None, "everyone", 1),
]


@pytest.mark.parametrize(("rules", "combine", "caller", "project", "name", "count"), TABLE)
def test_who_may_how_much(
    rules: Sequence[Mapping[str, Any]],
    combine: str,
    caller: Caller,
    project: str | None,
    name: str | None,
    count: int,
) -> None:
    checked = gate(*rules, combine=combine)
    if name is None:
        assert all(may(checked, caller, project=project) for _ in range(5))
        return
    for left in reversed(range(count)):
        admission = admit(checked, caller, project=project)
        assert admission.rules == [name]
        assert dict(admission.headers())["x-ratelimit-remaining-requests"] == str(left)
    fault = refused(checked, caller, project=project)
    assert fault.code == "insufficient_quota"
    assert fault.more["rule"] == name
    assert dict(fault.headers)["x-should-retry"] == "false"


COUNTED = [
    # count, who asks after alice has used it up → whether they may
    ("user", ALICE, None, False),
    ("user", BOB, None, True),
    ("member", ALICE, "nbgrader-physics", False),
    ("member", BOB, None, True),
    ("group", BOB, None, False),
    ("group", CAROL, None, True),
    ("all", BOB, None, False),
    ("all", GRADER, None, True),
]


@pytest.mark.parametrize(("count", "caller", "project", "is_open"), COUNTED)
def test_who_shares_a_counter(count: str, caller: Caller, project: str | None, is_open: bool) -> None:
    checked = gate({**STUDENTS, "limit": 1, "count": count})
    admission = admit(checked, ALICE)
    assert admission.payer == (None if count in ("user", "all") else "nbgrader-physics")
    assert may(checked, caller, project=project) is is_open


def test_a_project_pays_and_another_one_does_not() -> None:
    physics = {**DAY, "limit": 1, "count": "group", "scope": {"group": ["nbgrader-*", "staff"]}}
    checked = gate(physics)
    assert admit(checked, ALICE).payer == "nbgrader-physics"  # the first of hers
    assert not may(checked, ALICE, project="nbgrader-physics")
    assert admit(checked, ALICE, project="staff").payer == "staff"


def test_an_unknown_project_is_refused_with_those_that_there_are() -> None:
    fault = refused(gate(), ALICE, project="maths")
    assert isinstance(fault, Forbidden)
    assert fault.code == "unknown_project"
    assert fault.more["projects"] == ["nbgrader-physics", "staff"]
    assert "nbgrader-physics, staff" in fault.public
    assert "You are in no group" in refused(gate(), CAROL, project="maths").public


def test_different_quotas_hold_at_once_and_the_refusal_tells_of_both() -> None:
    checked = gate(
        {"name": "burst", "resource": "requests", "limit": 2, "window": "minute"},
        {"name": "daily", "resource": "tokens", "limit": 1000, "window": "day"},
    )
    admission = admit(checked)
    headers = dict(admission.headers())
    assert headers["x-ratelimit-remaining-requests"] == "1"
    assert headers["x-ratelimit-remaining-tokens"] == "970"
    assert headers["RateLimit-Policy"] == '"burst";q=2;w=60, "daily";q=1000;qu="tokens";w=86400'
    assert headers["RateLimit"] == '"burst";r=1;t=61, "daily";r=970;t=43200'
    admit(checked)
    fault = refused(checked)
    assert fault.code == "rate_limit_exceeded"
    assert fault.retry_after_s == pytest.approx(61.0)
    assert fault.more == {"rule": "burst", "left": {"burst": {"requests": 0}, "daily": {"tokens": 940}}}
    assert 'Left of the others: 940 tokens of "daily"' in fault.public


def test_anthropic_is_told_in_its_own_words() -> None:
    from datetime import datetime, timezone

    checked = gate(
        {"name": "in", "resource": "input_tokens", "limit": 100, "window": "day"},
        {"name": "out", "resource": "output_tokens", "limit": 100, "window": "day"},
    )
    at = datetime.fromtimestamp(NOON / 1000, timezone.utc)
    headers = dict(admit(checked).anthropic_headers(at))
    assert headers["anthropic-ratelimit-input-tokens-remaining"] == "90"
    assert headers["anthropic-ratelimit-output-tokens-remaining"] == "80"
    assert headers["anthropic-ratelimit-output-tokens-reset"] == "2026-11-21T00:00:00Z"


def test_settling_puts_what_happened_in_the_place_of_the_guess() -> None:
    checked = gate(
        {"name": "t", "resource": "tokens", "limit": 1000, "window": "day"},
        {"name": "c", "resource": "cost_usd", "limit": 1, "window": "month"},
    )
    admission = admit(checked, estimate=Estimate(100, 200, 500_000_000))
    assert [state.remaining for state in admission.states] == [700, 500_000_000]
    charges, later = admission.settle(Usage(40, 2), 1_000, NOON)
    assert later is None
    assert [(charge.amount, charge.key.partition("/")[0]) for charge in charges] == [
        (42, "tokens"),
        (1_000, "cost_usd"),
    ]
    assert admission.settle(Usage(40, 2), 1_000, NOON) == ((), None)  # once
    assert [state.remaining for state in admit(checked).states] == [1000 - 42 - 30, 10**9 - 1_000 - 1_000]


def test_a_concurrent_request_leaves_its_place() -> None:
    checked = gate({"name": "two", "resource": "concurrency", "limit": 2})
    first = admit(checked)
    admit(checked)
    fault = refused(checked)
    assert fault.code == "rate_limit_exceeded"
    assert "2 requests at a time" in fault.public
    first.settle(None, None, NOON)
    assert may(checked)


def test_one_huge_request_may_go_alone_and_does_not_stand_in_the_way_for_ever() -> None:
    checked = gate({"resource": "tokens", "limit": 100, "window": "day", "count": "all"})
    huge = admit(checked, estimate=Estimate(100_000, 100_000, None))
    assert not may(checked, BOB)
    huge.settle(Usage(20, 5), None, NOON)
    assert may(checked, BOB)


def test_an_empty_limit_lets_nothing_pass_and_waiting_is_no_help() -> None:
    checked = gate({"name": "none", "resource": "tokens", "limit": 0, "window": "day"})
    fault = refused(checked, estimate=Estimate(0, 0, None))
    assert fault.retry_after_s is None
    assert "Waiting will not help" in fault.public
    assert dict(fault.headers)["x-should-retry"] == "false"


def test_a_model_without_a_price_is_refused_or_not_as_the_rule_says() -> None:
    budget = {"name": "budget", "resource": "cost_usd", "limit": 1, "window": "month"}
    fault = refused(gate(budget), estimate=Estimate(1, 1, None))
    assert (fault.status, fault.code) == (403, "unpriced_model")
    assert may(gate({**budget, "unpriced": "allow"}), estimate=Estimate(1, 1, None))
    assert may(gate({**budget, "limit": 0}), estimate=Estimate(1, 1, 0))  # free is free


def test_shadow_rules_say_what_they_would_have_done() -> None:
    checked = gate({"name": "soon", "resource": "requests", "limit": 1, "window": "day", "shadow": True})
    assert admit(checked).shadow == []
    admission = admit(checked)
    assert admission.shadow == ["soon"]
    assert admission.headers() == ()


def test_a_long_rule_warns_before_it_is_used_up() -> None:
    checked = gate({"name": "budget", "resource": "requests", "limit": 10, "window": "month"})
    seen = [dict(admit(checked).headers()).get("x-ai-gateway-budget-warning") for _ in range(10)]
    assert seen[:8] == [None] * 8
    assert seen[8:] == ["budget: 90 % used", "budget: 100 % used"]


def test_an_override_counts_for_its_time_and_its_person() -> None:
    now = Now()
    checked = gate({"name": "daily", "resource": "requests", "limit": 1, "window": "day"}, now=now)
    more = Override("user:alice", "requests", 2, NOON + HOUR, NOON + 2 * HOUR)
    checked.book.use_overrides([more])
    assert [may(checked) for _ in range(2)] == [True, False]
    now.ms += HOUR
    assert [may(checked) for _ in range(3)] == [True, True, False]
    assert [may(checked, BOB) for _ in range(2)] == [True, False]
    now.ms += HOUR
    assert admit_state(checked) == 1


def admit_state(checked: Gate) -> int:
    fault = refused(checked)
    found = fault.more["left"]
    assert isinstance(found, dict)
    return len(found)


def test_an_override_may_be_for_a_group_or_one_rule_alone() -> None:
    group = {"name": "course", **DAY, "limit": 1, "count": "group", "scope": {"group": "nbgrader-*"}}
    checked = gate(group)
    checked.book.use_overrides([Override("group:nbgrader-physics", "requests", 1, 0, 1 << 60, "course")])
    assert [may(checked) for _ in range(3)] == [True, True, False]
    checked = gate(group)
    checked.book.use_overrides([Override("group:nbgrader-physics", "requests", 1, 0, 1 << 60, "another")])
    assert [may(checked) for _ in range(2)] == [True, False]


def test_what_is_worked_out_for_callers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jupyterhub_ai_gateway.limits.rules.MAX_REMEMBERED", 10)
    checked = gate(EVERYONE)
    for number in range(50):
        admit(checked, Caller("user", f"u{number}"))
    assert len(checked.book) == 10


def test_a_window_that_is_over_is_forgotten() -> None:
    now = Now()
    checked = gate({"resource": "requests", "limit": 1, "window": "day"}, now=now, zone="Europe/Berlin")
    assert [may(checked) for _ in range(2)] == [True, False]
    fault = refused(checked)
    assert fault.retry_after_s == 11 * 3600  # midnight in Berlin is 23:00 in UTC
    now.ms += 11 * HOUR - 1
    assert not may(checked)
    now.ms += 1
    assert may(checked)


# Stores that are elsewhere


class SharedBuckets(Store):
    """Answers later, as a store in another process does."""

    def __init__(self) -> None:
        self._store = MemoryStore()

    def take(self, key: str, rule: Rule, now: float) -> Awaitable[Verdict]:
        async def later() -> Verdict:
            await asyncio.sleep(0)
            return self._store.take(key, rule, now)

        return later()


class SharedCounters(MemoryCounters):
    """Answers later, or not at all."""

    is_away = False

    def reserve(self, name: str, takes: Sequence[Take], now_ms: int) -> Any:
        async def later() -> Reserved:
            await asyncio.sleep(0)
            if self.is_away:
                raise StoreUnavailable("no answer")
            return MemoryCounters.reserve(self, name, takes, now_ms)

        return later()


async def admit_later(checked: Gate, **more: Any) -> Admission:
    admission = checked.admit(demand(**more))
    assert not isinstance(admission, Admission)
    return await admission


async def test_stores_that_answer_later_are_asked_the_same() -> None:
    counters = SharedCounters()
    checked = gate(EVERYONE, counters=counters, buckets=SharedBuckets())
    admission = await admit_later(limit=PER_USER, checked=checked)
    assert [state.name for state in admission.states] == ["everyone", "chat"]
    with pytest.raises(LimitFault):
        await admit_later(limit=PER_USER, checked=checked)
    plain = gate(buckets=SharedBuckets())
    for _ in range(2):
        await admit_later(limit=PER_USER, checked=plain)
    with pytest.raises(LimitFault):
        await admit_later(limit=PER_USER, checked=plain)


async def test_later_bucket_that_refuses_gives_back_what_the_rules_reserved() -> None:
    counters = SharedCounters()
    checked = gate({**EVERYONE, "limit": 9}, counters=counters, buckets=SharedBuckets())
    for _ in range(2):
        (await admit_later(limit=PER_USER, checked=checked)).settle(None, None, NOON)
    with pytest.raises(LimitFault):
        await admit_later(limit=PER_USER, checked=checked)
    assert counters.open_reservations == 0


@pytest.mark.parametrize(("policy", "goes_on"), [("open", True), ("closed", False)])
async def test_a_store_that_is_away_is_handled_as_the_rule_says(
    policy: str, goes_on: bool, expected_log: ExpectedLog
) -> None:
    counters = SharedCounters()
    counters.is_away = True
    checked = gate({**EVERYONE, "when_store_fails": policy}, counters=counters)
    for _ in range(3):
        if goes_on:
            assert (await admit_later(checked=checked)).states == ()
        else:
            with pytest.raises(LimitsUnavailable):
                await admit_later(checked=checked)
    assert checked.failures == 3
    expected_log.take("The store of limits does not answer")  # once a minute, not once a request


# Words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0201, "21ms"), (1, "1s"), (1.5, "1.5s"), (60, "1m0s"), (360, "6m0s"), (3600, "1h0m0s")],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 second"), (61, "1 minute 1 second"), (18_180, "5 hours 3 minutes"), (86_400, "1 day")],
)
def test_waits_are_written_for_people(seconds: float, text: str) -> None:
    assert wait_text(seconds) == text


@pytest.mark.parametrize(
    ("resource", "amount", "text"),
    [
        ("requests", 1, "1 request"),
        ("tokens", 100_000, "100,000 tokens"),
        ("input_tokens", 2, "2 input tokens"),
        ("cost_usd", 2_500_000_000, "$2.50"),
        ("cost_usd", 1_234_000, "$0.0012"),
        ("concurrency", 3, "3 requests"),
    ],
)
def test_amounts_are_written_for_people(resource: str, amount: int, text: str) -> None:
    assert amount_text(resource, amount) == text
