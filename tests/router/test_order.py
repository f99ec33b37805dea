"""Which deployment first, as tables: tiers, weights, load, latency, cost, and who rests."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from jupyterhub_ai_gateway.errors import UpstreamRefused, UpstreamUnreachable
from jupyterhub_ai_gateway.router.health import LONGEST_REST_S, TRIAL_S, Health, Healths, is_its_own_fault
from jupyterhub_ai_gateway.router.order import RetryBudget, ordered

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


def refused(**more: Any) -> UpstreamRefused:
    return UpstreamRefused("no", **more)


def test_rests_grow_and_a_success_ends_them() -> None:
    health = Health()
    rests = []
    for _ in range(9):
        health.failed(refused(), NOW)
        rests.append(health.rests_until - NOW)
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    health.succeeded(0.5)
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
    health.succeeded(0.1)
    health.end()
    assert not health.is_resting(later)
    assert health.in_flight == 0


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


def test_further_attempts_are_as_many_as_requests_and_a_burst() -> None:
    budget = RetryBudget(burst=2)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    budget.earn()
    assert [budget.spend() for _ in range(2)] == [True, False]
    for _ in range(10):
        budget.earn()
    assert [budget.spend() for _ in range(3)] == [True, True, False]
