"""What a caller hears of a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from jupyterhub_ai_gateway.config import LimitConfig
from jupyterhub_ai_gateway.errors import LimitFault
from jupyterhub_ai_gateway.limits import Gate, MemoryStore, Rule, Store, Verdict, rate_limit_headers
from jupyterhub_ai_gateway.limits.gate import MAX_RULES
from jupyterhub_ai_gateway.limits.headers import duration_text

PER_USER = LimitConfig(2, 60.0, "user", "minute")
PER_ENDPOINT = LimitConfig(2, 60.0, "endpoint", "minute")


def gate() -> Gate:
    return Gate(MemoryStore(), lambda: 1000.0)


def admitted(checked: Gate, endpoint: str, limit: LimitConfig, caller: str) -> bool:
    try:
        checked.admit(endpoint, limit, caller)
    except LimitFault:
        return False
    return True


def test_no_limit_is_no_verdict() -> None:
    assert gate().admit("chat", None, "user:alice") is None


@pytest.mark.parametrize(("limit", "bob_may"), [(PER_USER, True), (PER_ENDPOINT, False)])
def test_limit_counts_whom_its_key_says(limit: LimitConfig, bob_may: bool) -> None:
    checked = gate()
    assert [admitted(checked, "chat", limit, "user:alice") for _ in range(3)] == [True, True, False]
    assert admitted(checked, "chat", limit, "user:bob") is bob_may
    assert admitted(checked, "other", limit, "user:alice")


def test_user_and_service_of_one_name_are_two() -> None:
    checked = gate()
    assert [admitted(checked, "chat", PER_USER, "user:x") for _ in range(3)] == [True, True, False]
    assert admitted(checked, "chat", PER_USER, "service:x")


def test_refusal_says_the_rule_and_when_to_come_back() -> None:
    checked = gate()
    for _ in range(2):
        checked.admit("chat", PER_USER, "user:alice")
    with pytest.raises(LimitFault) as caught:
        checked.admit("chat", PER_USER, "user:alice")
    fault = caught.value
    assert fault.public == "The model chat takes 2 calls per minute of each user. Try again in 30 seconds."
    assert fault.retry_after_s == pytest.approx(30.0)
    assert dict(fault.headers) == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
    }


def test_new_configuration_keeps_what_was_used() -> None:
    checked = gate()
    for _ in range(2):
        checked.admit("chat", PER_USER, "user:alice")
    assert not admitted(checked, "chat", LimitConfig(2, 60.0, "user", "1 minute"), "user:alice")


def test_rules_of_old_configurations_do_not_pile_up() -> None:
    checked = gate()
    for calls in range(1, 3 * MAX_RULES):
        checked.admit(f"e{calls}", LimitConfig(calls, 60.0, "user", "minute"), "user:alice")
    assert len(checked._rules) <= MAX_RULES


class SharedStore(Store):
    """A store that has to ask: its answers come later."""

    def __init__(self) -> None:
        self._inner = MemoryStore()

    def take(self, key: str, rule: Rule, now: float) -> Awaitable[Verdict]:
        async def asked() -> Verdict:
            await asyncio.sleep(0)
            return self._inner.take(key, rule, now)

        return asked()


async def test_store_that_has_to_ask_refuses_as_well() -> None:
    checked = Gate(SharedStore(), lambda: 1000.0)
    for _ in range(2):
        verdict = checked.admit("chat", PER_USER, "user:alice")
        assert isinstance(verdict, Awaitable)
        assert (await verdict).is_allowed
    refused = checked.admit("chat", PER_USER, "user:alice")
    assert isinstance(refused, Awaitable)
    with pytest.raises(LimitFault):
        await refused


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0ms"),
        (0.0199, "20ms"),
        (1.0, "1s"),
        (1.5, "1.5s"),
        (59.9999, "1m0s"),
        (360.0, "6m0s"),
        (3600.0, "1h0m0s"),
        (86400.0, "24h0m0s"),
    ],
)
def test_durations_read_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_headers_are_of_the_verdict() -> None:
    assert rate_limit_headers(Verdict(True, 20, 7, 39.0, 0.0)) == (
        ("x-ratelimit-limit-requests", "20"),
        ("x-ratelimit-remaining-requests", "7"),
        ("x-ratelimit-reset-requests", "39s"),
    )
