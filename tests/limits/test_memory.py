"""Buckets in memory: apart, bounded, and forgotten only when that changes nothing."""

from __future__ import annotations

from jupyterhub_ai_gateway.limits import MemoryStore, Rule

RULE = Rule(2, 60.0)


def test_buckets_of_two_keys_are_apart() -> None:
    store = MemoryStore()
    assert [store.take("a", RULE, 0.0).is_allowed for _ in range(3)] == [True, True, False]
    assert store.take("b", RULE, 0.0).is_allowed


def test_hundreds_of_thousands_of_users_fit_in_the_bound() -> None:
    store = MemoryStore(max_buckets=1000)
    for user in range(200_000):
        store.take(f"user:{user}", RULE, float(user) / 100)
    assert len(store) <= 1000


def test_full_buckets_go_before_the_bound_is_reached() -> None:
    store = MemoryStore()
    for user in range(1000):
        store.take(f"user:{user}", RULE, 0.0)
    for user in range(1000):
        store.take(f"later:{user}", RULE, 1000.0)
    assert len(store) <= 1001
    assert store.forgotten == 0


def test_bucket_in_use_is_not_what_is_forgotten() -> None:
    store = MemoryStore(max_buckets=3)
    store.take("busy", RULE, 0.0)
    store.take("busy", RULE, 0.0)
    for user in range(10):
        assert not store.take("busy", RULE, 0.0).is_allowed
        store.take(f"user:{user}", RULE, 0.0)
    assert store.forgotten > 0
    assert len(store) == 3
