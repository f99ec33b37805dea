"""Which deployments can serve a request, as tables: capabilities, length, data classes, regions."""

from __future__ import annotations

from typing import Any

import pytest

from jupyterhub_ai_gateway.config import DataRuleConfig, OfferConfig, ScopeConfig
from jupyterhub_ai_gateway.errors import RequestFault
from jupyterhub_ai_gateway.router.fit import Needs, demanded, nothing_fits, why_not
from jupyterhub_ai_gateway.vocabulary import Caller


def offer(**more: Any) -> OfferConfig:
    words = more.pop("capabilities", None)
    return OfferConfig(capabilities=None if words is None else frozenset(words.split()), **more)


def needs(capabilities: str = "", **more: Any) -> Needs:
    return Needs(frozenset(capabilities.split()), **more)


EU = (("eu",),)
TABLE: list[tuple[OfferConfig, Needs, str | None]] = [
    (offer(), needs(), None),
    (offer(), needs("vision tools", tokens=10**6), None),
    (offer(capabilities="tools"), needs("tools"), None),
    (offer(capabilities="tools"), needs("vision"), "has no vision"),
    (offer(capabilities=""), needs("vision tools"), "has no vision and no tools"),
    (offer(capabilities="tools"), needs("dancing"), None),
    (offer(context_length=8000), needs(tokens=8000), None),
    (offer(context_length=8000), needs(tokens=10_000), None),
    (
        offer(context_length=8000),
        needs(tokens=10_001),
        "takes 8000 tokens, and this request has about 10001",
    ),
    (offer(), needs(data_class="public"), None),
    (offer(), needs(data_class="internal"), "is for public data, not for internal"),
    (offer(data_class="internal"), needs(data_class="internal"), None),
    (offer(data_class="restricted"), needs(data_class="internal"), None),
    (
        offer(data_class="internal"),
        needs(data_class="restricted"),
        "is for internal data, not for restricted",
    ),
    (offer(region="eu"), needs(regions=EU), None),
    (offer(region="eu-central-1"), needs(regions=EU), None),
    (offer(region="europe"), needs(regions=EU), "is in the region europe, not in eu"),
    (offer(), needs(regions=EU), "is in no region that is known, not in eu"),
    (offer(region="us"), needs(regions=(("eu", "us"),)), None),
    (offer(region="us"), needs(regions=(("eu", "us"), ("eu",))), "is in the region us, not in eu"),
]


@pytest.mark.parametrize(("offered", "needed", "reason"), TABLE)
def test_why_a_deployment_is_left_out(offered: OfferConfig, needed: Needs, reason: str | None) -> None:
    assert why_not(offered, needed) == reason


ALICE = Caller("user", "alice", groups=("medicine", "staff"))
MEDICINE = DataRuleConfig(ScopeConfig(groups=("med*",)), (), "restricted", ("eu",))
STAFF = DataRuleConfig(ScopeConfig(groups=("staff",)), ("chat*",), "internal", ("eu", "ch"))
BOB = DataRuleConfig(ScopeConfig(users=("bob",)), (), "restricted", ())
EVERYONE = DataRuleConfig(ScopeConfig(), (), "internal", ())
DEMANDS: list[tuple[list[DataRuleConfig], str | None, str | None, Needs]] = [
    ([], None, None, Needs()),
    ([], "Internal", " EU, us", Needs(data_class="internal", regions=(("eu", "us"),))),
    ([BOB], None, None, Needs()),
    ([EVERYONE], "public", None, Needs(data_class="internal")),
    ([EVERYONE], "restricted", None, Needs(data_class="restricted")),
    ([MEDICINE, STAFF], None, None, Needs(data_class="restricted", regions=(("eu",), ("eu", "ch")))),
]


@pytest.mark.parametrize(("rules", "data_class", "region", "expected"), DEMANDS)
def test_the_highest_demand_counts(
    rules: list[DataRuleConfig], data_class: str | None, region: str | None, expected: Needs
) -> None:
    assert demanded(rules, ALICE, "chat-large", data_class=data_class, region=region) == expected


def test_a_rule_is_for_its_endpoints() -> None:
    assert demanded([STAFF], ALICE, "other", data_class=None, region=None) == Needs()


@pytest.mark.parametrize(
    ("data_class", "region"), [("secret", None), ("", None), (None, ""), (None, "a,,b")]
)
def test_a_wrong_word_is_refused_and_names_the_header(data_class: str | None, region: str | None) -> None:
    with pytest.raises(RequestFault, match="x-ai-gateway-") as caught:
        demanded([], ALICE, "chat", data_class=data_class, region=region)
    assert caught.value.param is not None


def test_a_refusal_says_why_each_was_left_out() -> None:
    fault = nothing_fits("chat", [("a", "has no vision"), ("b", "is for public data, not for internal")])
    assert (fault.status, fault.slug) == (400, "no_deployment_fits")
    assert "a has no vision; b is for public data" in fault.public
    assert fault.more["left_out"] == {"a": "has no vision", "b": "is for public data, not for internal"}
    long = nothing_fits("chat", [("1", "takes 5 tokens, and this request has about 9")])
    assert long.slug == "context_length_exceeded"
