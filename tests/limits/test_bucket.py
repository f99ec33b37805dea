"""The laws of the bucket, whatever comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_ai_gateway.limits.bucket import Rule, take

RULES = st.builds(Rule, st.integers(1, 500), st.sampled_from([1.0, 60.0, 300.0, 3600.0, 86400.0]))
GAPS = st.lists(st.floats(0, 200, allow_nan=False), min_size=1, max_size=80)


def test_full_bucket_gives_exactly_its_calls_at_once() -> None:
    rule, full_at = Rule(20, 60.0), 0.0
    verdicts = []
    for _ in range(22):
        full_at, verdict = take(full_at, rule, 1000.0)
        verdicts.append(verdict)
    assert [each.is_allowed for each in verdicts] == [True] * 20 + [False] * 2
    assert [each.remaining for each in verdicts] == [*range(19, -1, -1), 0, 0]
    assert verdicts[-1].retry_after_s == pytest.approx(3.0)
    assert verdicts[-1].reset_s == pytest.approx(60.0)


@given(RULES, GAPS)
def test_no_window_sees_more_than_burst_and_refill(rule: Rule, gaps: list[float]) -> None:
    now, full_at = 1000.0, 0.0
    taken: list[float] = []
    for gap in gaps:
        now += gap
        full_at, verdict = take(full_at, rule, now)
        if verdict.is_allowed:
            taken.append(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            elapsed = taken[last] - taken[first]
            assert last - first + 1 <= rule.calls * (1 + elapsed / rule.period_s) + 1e-3


@given(RULES, GAPS)
def test_waiting_as_long_as_told_admits_and_less_does_not(rule: Rule, gaps: list[float]) -> None:
    now, full_at = 1000.0, 0.0
    for gap in gaps:
        now += gap / 1000
        full_at, verdict = take(full_at, rule, now)
        if not verdict.is_allowed:
            assert take(full_at, rule, now + verdict.retry_after_s)[1].is_allowed
            assert not take(full_at, rule, now + verdict.retry_after_s * 0.99)[1].is_allowed


@given(RULES, st.integers(0, 600))
def test_remaining_is_what_may_still_come(rule: Rule, before: int) -> None:
    full_at = 0.0
    for _ in range(before):
        full_at, _ = take(full_at, rule, 1000.0)
    full_at, verdict = take(full_at, rule, 1000.0)
    for _ in range(verdict.remaining):
        full_at, more = take(full_at, rule, 1000.0)
        assert more.is_allowed
    assert not take(full_at, rule, 1000.0)[1].is_allowed


def test_refused_request_costs_nothing() -> None:
    rule = Rule(1, 60.0)
    full_at, _ = take(0.0, rule, 1000.0)
    for _ in range(100):
        full_at, verdict = take(full_at, rule, 1000.0)
        assert not verdict.is_allowed
    assert take(full_at, rule, 1060.0)[1].is_allowed


def test_shorter_period_after_a_reload_locks_nobody_out_for_longer_than_itself() -> None:
    full_at = 0.0
    for _ in range(10):
        full_at, _ = take(full_at, Rule(10, 86400.0), 1000.0)
    full_at, verdict = take(full_at, Rule(10, 60.0), 1000.0)
    assert not verdict.is_allowed
    assert verdict.retry_after_s == pytest.approx(6.0)
    assert take(full_at, Rule(10, 60.0), 1060.0)[1].is_allowed


@pytest.mark.parametrize(("calls", "period_s"), [(0, 60.0), (-1, 60.0), (1, 0.0)])
def test_rule_without_sense_is_refused(calls: int, period_s: float) -> None:
    with pytest.raises(ValueError, match="at least one call"):
        Rule(calls, period_s)
