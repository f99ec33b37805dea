"""Who rests, for how long, and who is slow: as tables, by a clock that is passed in."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from jupyterhub_ai_gateway.config import HealthConfig
from jupyterhub_ai_gateway.errors import UpstreamRefused
from jupyterhub_ai_gateway.router.health import SLOW_BY_S, TRIAL_S, Health
from jupyterhub_ai_gateway.router.order import PACE_S, Pace, ordered, slow_ones
from jupyterhub_ai_gateway.router.window import SLICES, Window

NOW = 5000.0
RULES = HealthConfig(window_s=60.0, min_requests=10, max_error_rate=0.5, rest_s=10.0, longest_rest_s=60.0)
ERROR = UpstreamRefused("no")
FULL = UpstreamRefused("no", slug="upstream_rate_limited")


def play(health: Health, events: str, start: float = NOW, step_s: float = 1.0) -> float:
    """Let requests go there one after the other: "." is well, "x" fails, "f" is full, "-" is a pause."""
    now = start
    for event in events:
        began = now
        now += step_s
        if event == "-":
            continue
        health.begin(began)
        if event == ".":
            health.succeeded(0.2, now, began)
        else:
            health.failed(FULL if event == "f" else ERROR, now, began)
        health.end()
    return now


WINDOWS = [
    ("x.x.x.x.x", False),  # nine
    ("x.x.x.x.xx", True),
    (".x" * 5, True),
    (".x" * 4 + "..", False),
    ("..x" * 12, False),  # a third
    ("." * 30 + "x.x.x.x.x.", False),  # what was well counts as long as it is in the window
    ("." * 30 + "-" * 60 + "x.x.x.x.xx", True),
    ("f" * 20, False),  # to be full is not to be sick
    ("x.x.x" + "-" * 70 + "x.x.x", False),  # too few in one window
]


@pytest.mark.parametrize(("events", "is_out"), WINDOWS)
def test_who_fails_too_often_is_out_although_successes_come_between(events: str, is_out: bool) -> None:
    health = Health(rules=RULES)
    play(health, events)
    assert (health.ejected_until > 0) == is_out
    assert health.ejections == int(is_out)


@pytest.mark.parametrize(
    ("rules", "is_out"),
    [
        (RULES, True),
        (HealthConfig(max_error_rate=None), False),
        (HealthConfig(max_error_rate=0.6), False),
        (HealthConfig(min_requests=11), False),
    ],
)
def test_an_operator_says_what_too_often_is(rules: HealthConfig, is_out: bool) -> None:
    health = Health(rules=rules)
    play(health, ".x" * 5)
    assert (health.ejected_until > 0) == is_out


def test_a_success_does_not_end_that_rest_and_one_request_finds_out_afterwards() -> None:
    health = Health(rules=RULES)
    now = play(health, ".x" * 5)
    assert health.rests_until == now + 10.0
    health.begin(now)  # the others had failed, too
    health.succeeded(0.2, now + 1, now + 0.5)
    health.end()
    assert health.is_resting(now + 9.9)
    assert not health.is_resting(now + 10.0)
    health.begin(now + 10.0)
    assert health.is_resting(now + 10.1)  # for all others, while one finds out
    assert not health.is_resting(now + 10.0 + TRIAL_S)
    health.succeeded(0.2, now + 11, now + 10.0)
    assert not health.is_resting(now + 11)
    assert health.reason is None
    health.begin(now + 11)
    assert not health.is_resting(now + 11)  # no further trial


def test_each_time_in_a_row_is_twice_as_long_and_a_calm_window_takes_one_back() -> None:
    health, now, rests = Health(rules=RULES), NOW, []
    for _ in range(5):
        now = play(health, ".x" * 5, now, 0.5)
        rests.append(health.ejected_until - now)
        now = health.ejected_until
    assert rests == [10, 20, 40, 60, 60]
    now = play(health, ".x" * 5, now + 3 * 60.0, 0.5)
    assert health.ejected_until - now == 40


def test_half_of_all_requests_failing_gets_few_of_them() -> None:
    """What an endpoint loses to a deployment that fails every other time, against one that is well."""
    dice = random.Random(4)
    sick, well = Health(rules=RULES), Health(rules=RULES)
    asked = 0
    for number in range(6000):  # ten minutes of ten a second
        now = NOW + number / 10
        chosen = ordered([_Place("a", sick), _Place("b", well)], "weighted", now, dice.random)[0]
        health = chosen.health
        health.begin(now)
        if chosen.name == "a" and dice.random() < 0.5:
            health.failed(ERROR, now + 0.05, now)
        else:
            health.succeeded(0.05, now + 0.05, now)
        health.end()
        asked += chosen.name == "a"
    assert asked < 0.05 * 6000
    assert well.ejections == 0


@pytest.mark.parametrize(
    ("fault", "is_over"),
    [
        (UpstreamRefused("x", retry_after_s=30.0), False),
        (UpstreamRefused("x", slug="upstream_auth_error"), False),
        (ERROR, True),
    ],
)
def test_who_asked_to_be_left_alone_is_although_an_older_request_ends_well(
    fault: UpstreamRefused, is_over: bool
) -> None:
    health = Health(rules=RULES)
    health.failed(fault, NOW, NOW - 1)
    health.succeeded(5.0, NOW + 1, NOW - 4)
    assert health.is_resting(NOW + 1) != is_over
    health.succeeded(0.1, NOW + 2, NOW + 1.5)  # asked because all else had failed
    assert not health.is_resting(NOW + 2)


def test_a_window_is_bounded_and_slides() -> None:
    window = Window(60.0, 10)
    for number in range(20_000):
        window.answered(NOW + number / 10, 0.1, 0)
        if number % 2:
            window.failed(NOW + number / 10)
        assert len(window._old) < SLICES
    requests, errors = window.counts(NOW + 2000)
    assert 50 * 15 <= requests <= 60 * 15
    assert errors == pytest.approx(requests / 3, abs=2)
    assert window.counts(NOW + 2061) == (0, 0)
    assert Health(rules=RULES).error_rate(NOW) is None


@dataclass
class _Place:
    name: str
    health: Health = field(default_factory=lambda: Health(rules=RULES))
    priority: int = 1
    weight: float = 1.0
    rate: int | None = None


def answers(health: Health, seconds: float, now: float, count: int = 16, kind: int = 0) -> None:
    for _ in range(count):
        health.succeeded(seconds, now, now, is_stream=bool(kind))


def past(health: Health, seconds: float, kind: int = 0) -> None:
    """Let it have answered in this time for ten minutes, until now."""
    for number in range(60):
        answers(health, seconds, NOW - 10 * (60 - number), kind=kind)


def history(*usual_s: float, kind: int = 0) -> list[_Place]:
    places = [_Place("abc"[index]) for index in range(len(usual_s))]
    for each, seconds in zip(places, usual_s, strict=True):
        past(each.health, seconds, kind)
    return places


SLOW: list[tuple[tuple[float, ...], tuple[float, ...], str]] = [
    ((0.2, 0.2), (0.2, 0.2), ""),
    ((0.2, 0.2), (2.0, 0.2), "a"),
    ((0.2, 0.6), (0.2, 0.6), ""),  # three times as slow, but not more
    ((0.2, 1.0), (0.2, 1.0), "b"),  # always was, and the other one is by far faster
    ((0.2, 1.0, 1.0), (0.2, 1.0, 1.0), ""),  # most are
    ((0.2, 0.2, 0.2), (2.0, 2.0, 0.2), "ab"),
    ((0.2, 0.2), (2.0, 2.0), "ab"),  # both alike: the order stays what it was
    ((0.01, 0.01), (0.09, 0.01), ""),  # nobody notices
]


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize(("usual_s", "now_s", "expected"), SLOW)
def test_who_is_slow(
    usual_s: tuple[float, ...], now_s: tuple[float, ...], expected: str, kind: int
) -> None:
    places = history(*usual_s, kind=kind)
    for each, seconds in zip(places, now_s, strict=True):
        answers(each.health, seconds, NOW + 70, kind=kind)
    assert "".join(sorted(slow_ones(places, NOW + 71))) == expected


def test_other_tiers_and_other_kinds_of_answers_are_no_measure() -> None:
    places = history(0.2, 5.0)
    places[1].priority = 2
    for each, seconds in zip(places, (0.2, 5.0), strict=True):
        answers(each.health, seconds, NOW + 70)
    assert slow_ones(places, NOW + 71) == frozenset()
    streams = history(0.2, 0.2)
    answers(streams[0].health, 20.0, NOW + 70, kind=1)
    answers(streams[1].health, 0.2, NOW + 70, kind=0)
    assert slow_ones(streams, NOW + 71) == frozenset()


def test_few_answers_say_nothing_and_no_factor_means_no_rule() -> None:
    few, off = history(0.2, 0.2), history(0.2, 0.2)
    answers(few[0].health, 9.0, NOW + 70, count=9)
    assert slow_ones(few, NOW + 71) == frozenset()
    off[0].health.use(HealthConfig(slow_factor=None))
    answers(off[0].health, 9.0, NOW + 70)
    assert slow_ones(off, NOW + 71) == frozenset()


@pytest.mark.parametrize("order", ["weighted", "least_in_flight", "cheapest", "sticky"])
def test_who_is_slow_comes_after_the_others_of_its_tier_and_before_the_next(order: Any) -> None:
    places = history(0.2, 0.2, 0.2)
    places[2].priority = 2
    answers(places[0].health, 2.0, NOW + 70)
    slow = slow_ones(places, NOW + 71)
    for seed in range(20):
        draw = random.Random(seed).random
        found = ordered(places, order, NOW + 71, draw, b"%d" % seed, slow)
        assert "".join(each.name for each in found) == "bac"


def test_after_a_window_without_answers_it_is_asked_as_before() -> None:
    places = history(0.2, 0.2)
    answers(places[0].health, 2.0, NOW + 70)
    answers(places[1].health, 0.2, NOW + 70)
    pace = Pace()
    assert pace.slow(places, NOW + 70) == {"a"}
    assert pace.slow(places, NOW + 70 + 61) == frozenset()
    answers(places[0].health, 2.0, NOW + 131)
    assert pace.slow(places, NOW + 131 + PACE_S / 2) == frozenset()  # remembered for a second
    assert pace.slow(places, NOW + 132 + PACE_S) == {"a"}


def test_what_is_usual_changes_slowly_and_not_by_what_is_new() -> None:
    health = history(0.2)[0].health
    answers(health, 2.0, NOW + 5)
    assert health.window.usual_s[0] == pytest.approx(0.2)
    for number in range(20):
        answers(health, 2.0, NOW + 10 * number)
    usual_s = health.window.usual_s[0]
    assert usual_s is not None
    assert 0.2 + SLOW_BY_S < usual_s < 0.7
