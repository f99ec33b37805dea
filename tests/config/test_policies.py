"""What operators write about who may use how much, what it costs, and where that is kept."""

from __future__ import annotations

from datetime import date
from typing import Any

import jsonschema
import pytest

from jupyterhub_ai_gateway.config import (
    GatewayConfig,
    ScopeConfig,
    group_policies,
    json_schema,
    parse,
    read_limits,
)
from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.providers.registry import Providers

SCHEMAS = Providers.installed().schemas
ENDPOINT = {"name": "chat", "endpoint_type": "llm/v1/chat", "model": {"provider": "echo", "name": "e"}}
VALIDATOR = jsonschema.Draft202012Validator(json_schema(SCHEMAS))


def read(**more: Any) -> GatewayConfig:
    document = {"endpoints": [ENDPOINT], **more}
    VALIDATOR.validate(document)
    return parse(document, SCHEMAS, {"URL": "postgresql://u:p@h/d"})


def problem(**more: Any) -> str:
    with pytest.raises(ConfigFault) as caught:
        parse({"endpoints": [ENDPOINT], **more}, SCHEMAS, {})
    return str(caught.value)


def policy(**more: Any) -> dict[str, Any]:
    return {"resource": "tokens", "limit": 1000, "window": "day", **more}


def test_a_policy_has_usual_values() -> None:
    (found,) = read(policies=[policy()]).policies
    assert (found.name, found.count, found.priority) == ("policies[0]", "user", 0)
    assert found.scope.is_everyone
    assert (found.unpriced, found.when_store_fails, found.shadow) == ("deny", "open", False)
    assert found.window is not None
    assert (found.window.number, found.window.unit, found.window.is_rolling) == (1, "day", False)


def test_a_policy_may_say_everything() -> None:
    (found,) = read(
        policies=[
            policy(
                name="course",
                resource="cost_usd",
                limit="2.5",
                window="term",
                scope={"group": "nbgrader-*", "users": ["a", "b"], "role": "staff", "service": "x"},
                endpoints=["gpt-*", "chat"],
                count="group",
                priority=3,
                shadow=True,
                unpriced="allow",
                when_store_fails="closed",
                starts="2026-10-01",
                ends="2027-03-31",
            )
        ]
    ).policies
    assert found.limit == 2_500_000_000
    assert found.scope == ScopeConfig(("a", "b"), ("nbgrader-*",), ("x",), ("staff",))
    assert (found.starts, found.ends) == (date(2026, 10, 1), date(2027, 3, 31))


@pytest.mark.parametrize(
    ("window", "more", "expected"),
    [
        ("minute", {}, (1, "minute", True)),
        ("5 minutes", {}, (5, "minute", True)),
        ("5 minutes", {"rolling": False}, (5, "minute", False)),
        ("Hour", {}, (1, "hour", True)),
        ("week", {}, (1, "week", False)),
        ("7 days", {"rolling": True}, (7, "day", True)),
        ("month", {"rolling": True}, (1, "month", True)),
    ],
)
def test_windows(window: str, more: dict[str, Any], expected: tuple[int, str, bool]) -> None:
    (found,) = read(policies=[policy(window=window, **more)]).policies
    assert found.window is not None
    assert (found.window.number, found.window.unit, found.window.is_rolling) == expected


@pytest.mark.parametrize(
    ("change", "path", "text"),
    [
        ({"resource": "apples"}, "policies[0].resource", "must be requests, tokens"),
        ({"resource": None}, "policies[0].resource", "is required"),
        ({"limit": None}, "policies[0].limit", "is required"),
        ({"limit": -1}, "policies[0].limit", "whole number"),
        ({"limit": 1.5}, "policies[0].limit", "whole number"),
        ({"limit": True}, "policies[0].limit", "whole number"),
        ({"resource": "cost_usd", "limit": "much"}, "policies[0].limit", "amount of dollars"),
        ({"resource": "cost_usd", "limit": "inf"}, "policies[0].limit", "amount of dollars"),
        ({"window": None}, "policies[0].window", "is required"),
        ({"window": "fortnight"}, "policies[0].window", "must be second, minute"),
        ({"window": "2 months"}, "policies[0].window", "add rolling: true"),
        ({"window": "term"}, "policies[0].window", "needs starts and ends"),
        ({"resource": "concurrency"}, "policies[0].window", "has no meaning for concurrency"),
        ({"rolling": "yes"}, "policies[0].rolling", "true or false"),
        ({"scope": "students"}, "policies[0].scope", "everyone, or a mapping"),
        ({"scope": {"course": "x"}}, "policies[0].scope.course", "is not a key of this place"),
        ({"scope": {"group": []}}, "policies[0].scope.group", "a name or a list"),
        ({"scope": {"group": ["a", 3]}}, "policies[0].scope.group", "must be names"),
        ({"scope": {"group": "a[b]"}}, "policies[0].scope.group", "must be names"),
        ({"scope": {}}, "policies[0].scope", "names nobody"),
        ({"count": "member"}, "policies[0].count", "needs a scope of groups"),
        ({"count": "everybody"}, "policies[0].count", "must be user, member"),
        ({"name": 'a"b'}, "policies[0].name", "short name"),
        ({"starts": "tomorrow"}, "policies[0].starts", "must be a day"),
        ({"starts": "2027-01-01", "ends": "2026-01-01"}, "policies[0].ends", "before starts"),
        ({"priority": 1.5}, "policies[0].priority", "whole number"),
        ({"unpriced": "maybe"}, "policies[0].unpriced", "deny or allow"),
        ({"colour": "red"}, "policies[0].colour", "is not a key of this place"),
    ],
)
def test_a_wrong_policy_is_named_by_its_path(change: dict[str, Any], path: str, text: str) -> None:
    assert f"{path}: " in (found := problem(policies=[policy(**change)]))
    assert text in found


def test_policies_have_names_of_their_own() -> None:
    assert "policies[1].name: must be different" in problem(policies=[policy(name="a"), policy(name="a")])
    assert "policies: must be a list" in problem(policies={"a": 1})


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"combine": "product"}, "combine: must be max, min, sum or priority"),
        ({"time_zone": "Europe/Atlantis"}, "time_zone: must be a time zone"),
        ({"policies_from_groups": "yes"}, "policies_from_groups: must be true or false"),
        ({"ledger": {"flush_s": 0}}, "ledger.flush_s: must be a number of seconds"),
        ({"ledger": {"retention_days": 0}}, "ledger.retention_days: must be a whole number"),
        ({"ledger": {"colour": 1}}, "ledger.colour: is not a key"),
        ({"ledger": "yes"}, "ledger: must be a mapping"),
        ({"store": {}}, "store.url: is required"),
        ({"store": {"url": "memcached://x"}}, "store.url: must begin with redis://"),
        ({"store": {"url": "redis://x", "timeout_s": "1"}}, "store.timeout_s: must be a number"),
    ],
)
def test_what_stands_beside_them_is_checked_too(more: dict[str, Any], text: str) -> None:
    assert text in problem(**more)


def test_ledger_and_store() -> None:
    usual = read().ledger
    assert (usual.url, usual.fail_open_s) == ("sqlite:///jupyterhub_ai_gateway.sqlite", 3600)
    assert read(ledger=False).ledger.url is None
    config = read(ledger={"url": "$URL", "fail_open_s": None, "retention_days": None})
    assert config.ledger.url == "postgresql://u:p@h/d"
    assert config.ledger.fail_open_s is config.ledger.retention_days is None
    assert "postgresql" not in repr(config)
    store = read(store={"url": "redis://:secret@h", "prefix": "hub"}).store
    assert (store.prefix, store.timeout_s) == ("hub", 1.0)
    assert "secret" not in repr(store)


def priced(price: Any) -> Any:
    document = {"endpoints": [{**ENDPOINT, "price": price}]}
    VALIDATOR.validate(document)
    return parse(document, SCHEMAS, {}).endpoints[0].price


def test_prices() -> None:
    assert priced(None) is None
    (free,) = priced(0)
    assert (free.rates, free.request, free.second) == ({}, 0, 0)
    (tariff,) = priced(
        {
            "input_per_mtok": 0.0375,
            "output_per_mtok": "15",
            "per_request": 0.001,
            "above": [
                {"input_tokens": 200, "input_per_mtok": 6},
                {"input_tokens": 100, "input_per_mtok": 5},
            ],
            "hours": "16:30-0:30",
        }
    )
    assert tariff.rates == {"input": 37_500, "output": 15_000_000}
    assert tariff.request == 10**9
    assert tariff.above == ((100, {"input": 5_000_000}), (200, {"input": 6_000_000}))
    assert tariff.minutes == (990, 30)
    (tariff,) = priced({"per_image": 0.04, "per_audio_minute": "0.006", "per_search_unit": 0.002})
    assert tariff.units == {"images": 4 * 10**10, "audio_seconds": 10**8, "search_units": 2 * 10**9}
    assert len(priced([{"per_second": 0.0008}, {"per_second": 0.0004, "hours": "0:00-6:00"}])) == 2


@pytest.mark.parametrize(
    ("price", "path", "text"),
    [
        ("cheap", "endpoints[0].price", "must be a mapping of prices"),
        (5, "endpoints[0].price", "must be a mapping of prices"),
        (False, "endpoints[0].price", "must be a mapping of prices"),
        ({}, "endpoints[0].price", "has no price"),
        ([], "endpoints[0].price", "must not be an empty list"),
        ({"input_per_mtok": -1}, "endpoints[0].price.input_per_mtok", "amount of dollars"),
        ({"input_per_mtok": "x"}, "endpoints[0].price.input_per_mtok", "amount of dollars"),
        ({"per_image": "x"}, "endpoints[0].price.per_image", "amount of dollars"),
        ({"input_per_token": 1}, "endpoints[0].price.input_per_token", "is not a key"),
        ({"per_request": 1, "hours": "25:00-1:00"}, "endpoints[0].price.hours", "times of the day"),
        ({"per_request": 1, "above": {}}, "endpoints[0].price.above", "must be a list"),
        ({"per_request": 1, "above": [{}]}, "endpoints[0].price.above[0].input_tokens", "above 0"),
    ],
)
def test_a_wrong_price_is_named_by_its_path(price: Any, path: str, text: str) -> None:
    with pytest.raises(ConfigFault) as caught:
        parse({"endpoints": [{**ENDPOINT, "price": price}]}, SCHEMAS, {})
    assert f"{path}: " in str(caught.value)
    assert text in str(caught.value)


def test_a_groups_own_policies_are_for_that_group_alone() -> None:
    ours = {"policies": [policy(), policy(resource="cost_usd", limit=3, count="group", name="money")]}
    policies, wrong = group_policies("physics", {"ai_gateway": ours, "other": 1})
    assert wrong is None
    assert [each.name for each in policies] == ["physics/policies[0]", "money"]
    assert all(each.scope == ScopeConfig(groups=("physics",)) for each in policies)
    assert group_policies("physics", {}) == ((), None)


@pytest.mark.parametrize(
    "ours",
    [7, {"policies": 7}, {"policies": [policy(limit="x")]}, {"policies": [policy(scope="everyone")]}],
)
def test_a_groups_wrong_policies_are_told_and_do_not_count(ours: Any) -> None:
    policies, wrong = group_policies("physics", {"ai_gateway": ours})
    assert policies == ()
    assert wrong is not None


def test_limits_that_mlflows_client_sets() -> None:
    limit = read_limits([{"calls": 5, "key": None, "renewal_period": "minute"}])
    assert limit is not None
    assert (limit.calls, limit.key) == (5, "user")
    assert read_limits([]) is None
    for wrong in ({}, "x", [{"calls": 0, "renewal_period": "day"}], [{}, {}]):
        with pytest.raises(ConfigFault):
            read_limits(wrong)
