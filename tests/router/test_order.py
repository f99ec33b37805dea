"""Which deployment first, as tables: tiers, weights, load, latency, cost, and who rests."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from jupyterhub_ai_gateway.config import HealthConfig
from jupyterhub_ai_gateway.errors import UpstreamRefused, UpstreamUnreachable
from jupyterhub_ai_gateway.router.health import LONGEST_REST_S, TRIAL_S, Health, Healths, is_its_own_fault
from jupyterhub_ai_gateway.router.order import FULLEST, RetryBudget, ordered, pause_s
from jupyterhub_ai_gateway.router.states import Found

NOW = 1000.0


@dataclass
class Place:
    """A deployment, as far as the order looks."""

    name: str
    priority: int = 1
    weight: float = 1.0
    rate: int | None = None
    health: Health = field(default_factory=Health)


def place(
    name: str, *, in_flight: int = 0, latency: float | None = None, rests: float = 0.0, **more: Any
) -> Place:
    return Place(name, health=Health(in_flight, latency, rests_until=NOW + rests), **more)


def names(places: list[Place], order: Any, seed: int = 1) -> str:
    return "".join(each.name for each in ordered(places, order, NOW, random.Random(seed).random))


TABLE = [
    ("weighted", [place("b", priority=2), place("a"), place("c", priority=3)], "abc"),
    ("weighted", [place("z", weight=0), place("a")], "az"),
    ("weighted", [place("a", rests=5), place("b", priority=2)], "ba"),
    ("weighted", [place("a", rests=9), place("b", rests=5), place("c", rests=7)], "bca"),
    ("least_in_flight", [place("b", in_flight=2), place("a", in_flight=1), place("c", in_flight=3)], "abc"),
    ("least_in_flight", [place("b", in_flight=4, weight=2.0), place("a", in_flight=1)], "ab"),
    ("least_in_flight", [place("a", in_flight=4, weight=8.0), place("b", in_flight=1)], "ab"),
    ("least_in_flight", [place("z", weight=0), place("a", in_flight=99)], "az"),
    ("lowest_latency", [place("c", latency=3.0), place("b", latency=1.0), place("a")], "abc"),
    ("lowest_latency", [place("b", latency=0.1, priority=2), place("a", latency=9.0)], "ab"),
    ("cheapest", [place("c"), place("b", rate=5), place("a", rate=0)], "abc"),
]


@pytest.mark.parametrize(("order", "places", "expected"), TABLE)
def test_order(order: str, places: list[Place], expected: str) -> None:
    for seed in range(20):
        assert names(places, order, seed) == expected


def test_weights_are_shares() -> None:
    places = [place("a", weight=1.0), place("b", weight=3.0)]
    draw = random.Random(3).random
    firsts = Counter(ordered(places, "weighted", NOW, draw)[0].name for _ in range(4000))
    assert firsts["b"] / 4000 == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("order", ["weighted", "least_in_flight", "lowest_latency", "cheapest"])
def test_equals_share_by_chance(order: str) -> None:
    places = [place("a"), place("b")]
    firsts = Counter(names(places, order, seed)[0] for seed in range(400))
    assert 140 < firsts["a"] < 260


def key(number: int) -> bytes:
    return f"key {number}".encode()


def first(places: list[Place], number: int) -> str:
    return ordered(places, "sticky", NOW, random.random, key(number))[0].name


def test_a_key_stays_where_it_was_and_keys_are_shared_by_weight() -> None:
    places = [place("a"), place("b"), place("c", weight=2.0)]
    firsts = [first(places, number) for number in range(4000)]
    assert firsts == [first(places, number) for number in range(4000)]
    assert firsts == [first(places[::-1], number) for number in range(4000)]
    counts = Counter(firsts)
    assert counts["c"] / 4000 == pytest.approx(0.5, abs=0.03)
    assert counts["a"] / 4000 == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("gone", ["a", "b", "c", "d"])
def test_when_one_goes_only_its_keys_move(gone: str) -> None:
    places = [place(name) for name in "abcd"]
    left = [each for each in places if each.name != gone]
    for number in range(1000):
        before = first(places, number)
        assert before == gone or first(left, number) == before


def test_a_place_that_is_not_ready_lends_its_keys_and_gets_them_back() -> None:
    places = [place(name) for name in "abc"]
    before = [first(places, number) for number in range(300)]
    places[0].health.rests_until = NOW + 5
    for number, name in enumerate(before):
        assert (first(places, number) == name) == (name != "a")
    places[0].health.rests_until = 0
    assert [first(places, number) for number in range(300)] == before


def test_one_popular_key_does_not_fill_a_place() -> None:
    places = [place(name) for name in "abcd"]
    for _ in range(400):
        chosen = ordered(places, "sticky", NOW, random.random, b"the same for all")[0]
        chosen.health.in_flight += 1
        running = sum(each.health.in_flight for each in places)
        assert max(each.health.in_flight for each in places) <= FULLEST * running / 4 + 1


@pytest.mark.parametrize("seed", range(20))
def test_whatever_runs_all_are_in_the_order_once_and_tiers_hold(seed: int) -> None:
    dice = random.Random(seed)
    places = [
        place(
            name, in_flight=dice.randrange(9), weight=dice.choice([0, 1, 3]), priority=dice.choice([1, 2])
        )
        for name in "abcdef"
    ]
    found = ordered(places, "sticky", NOW, dice.random, key(seed))
    assert sorted(each.name for each in found) == list("abcdef")
    assert [each.priority for each in found] == sorted(each.priority for each in places)


STATES = [
    ("ready", "down", "ab"),
    ("down", "ready", "ba"),
    ("loading", "queued", "ba"),
    ("down", "loading", "ba"),
    ("down", "down", "ab"),
]


@pytest.mark.parametrize(("a", "b", "expected"), STATES)
@pytest.mark.parametrize("order", ["weighted", "sticky", "cheapest"])
def test_those_that_are_not_ready_come_last_by_how_bad_it_is(
    a: str, b: str, expected: str, order: Any
) -> None:
    places = [place("a"), place("b", priority=2)]
    for each, state in zip(places, (a, b), strict=True):
        each.health.found = Found(state)
    assert names(places, order) == expected


def refused(**more: Any) -> UpstreamRefused:
    return UpstreamRefused("no", **more)


def test_rests_grow_and_a_success_ends_them() -> None:
    health = Health()
    rests = []
    for _ in range(9):
        health.failed(refused(), NOW)
        rests.append(health.rests_until - NOW)
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    health.succeeded(0.5, NOW, NOW - 1)
    assert not health.is_resting(NOW)
    assert (health.failures, health.total_failures, health.latency_s) == (0, 9, 0.5)


@pytest.mark.parametrize(
    ("fault", "rest_s"),
    [
        (UpstreamUnreachable("x"), 1.0),
        (refused(retry_after_s=7.5), 7.5),
        (refused(retry_after_s=10.0**6), 3600.0),
        (refused(slug="upstream_auth_error"), LONGEST_REST_S),
        (refused(slug="upstream_not_found"), LONGEST_REST_S),
    ],
)
def test_how_long_a_failure_lets_it_rest(fault: UpstreamRefused, rest_s: float) -> None:
    health = Health()
    health.failed(fault, NOW)
    assert health.is_resting(NOW + rest_s - 0.01)
    assert not health.is_resting(NOW + rest_s)


def test_after_a_rest_one_request_finds_out_for_the_others() -> None:
    health = Health()
    health.failed(refused(), NOW)
    later = NOW + 1.0
    assert not health.is_resting(later)
    health.begin(later)
    assert health.is_resting(later)
    assert not health.is_resting(later + TRIAL_S)  # should it never say
    health.succeeded(0.1, later, later)
    health.end()
    assert not health.is_resting(later)
    assert health.in_flight == 0


def test_an_outage_under_load_is_one_failure_in_a_row() -> None:
    health = Health(rules=HealthConfig(max_error_rate=None))
    for number in range(50):
        health.failed(refused(), NOW + number / 100, began=NOW - 1)
    assert (health.failures, health.total_failures) == (1, 50)
    assert health.rests_until == NOW + 1
    health.begin(NOW + 2)
    health.failed(refused(), NOW + 2.5, began=NOW + 2)
    assert (health.failures, health.rests_until) == (2, NOW + 4.5)  # the trial's time is over
    health.failed(refused(retry_after_s=60.0), NOW + 2.6, began=NOW + 2)
    assert health.rests_until == NOW + 62.6


def test_whose_fault_it_is() -> None:
    assert is_its_own_fault(UpstreamUnreachable("x"))
    assert is_its_own_fault(refused(retry="later"))
    assert not is_its_own_fault(refused(retry="never"))


def test_health_outlives_a_configuration_and_goes_with_its_deployment() -> None:
    healths = Healths()
    first = healths.of("chat", "a")
    assert healths.of("chat", "a") is first
    healths.keep_only({("chat", "b")})
    assert healths.of("chat", "a") is not first


FOREVER = float("inf")
PAUSES: list[tuple[int, list[float], float, float, float | None]] = [
    # the turn, for how long each asked to be left alone, the time left, chance, the pause
    (1, [-9.0], FOREVER, 1.0, 0.5),
    (1, [-9.0], FOREVER, 0.0, 0.0),
    (2, [-9.0], FOREVER, 0.5, 0.5),
    (3, [-9.0], FOREVER, 1.0, 2.0),
    (10, [-9.0], FOREVER, 1.0, 8.0),
    (1, [30.0, -9.0], FOREVER, 1.0, 0.5),  # one of them may be asked at once
    (1, [30.0, 20.0], FOREVER, 0.5, 20.25),
    (1, [60.0], FOREVER, 0.0, 60.0),
    (1, [61.0], FOREVER, 0.0, None),
    (1, [30.0, 20.0], 25.0, 1.0, 20.5),
    (1, [30.0, 20.0], 19.0, 0.0, None),
    (3, [-9.0], 1.0, 1.0, 0.5),  # half of what is left is for the attempt
    (1, [20.0], 20.4, 1.0, 20.2),
    (1, [-9.0], 0.0, 0.0, None),
]


@pytest.mark.parametrize(("turn", "asked_s", "left_s", "chance", "expected"), PAUSES)
def test_how_long_to_wait_before_all_are_tried_again(
    turn: int, asked_s: list[float], left_s: float, chance: float, expected: float | None
) -> None:
    found = pause_s(turn, asked_s, left_s, lambda: chance)
    assert found == (None if expected is None else pytest.approx(expected))


def test_further_attempts_are_as_many_as_requests_and_a_burst() -> None:
    budget = RetryBudget(burst=2)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    budget.earn()
    assert [budget.spend() for _ in range(2)] == [True, False]
    for _ in range(10):
        budget.earn()
    assert [budget.spend() for _ in range(3)] == [True, True, False]
