"""What deployments can serve, through a whole gateway: who is left out, what is told, what is listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.hub import ACCESS
from fakes.upstream import FakeUpstream, Reply
from served import FULL, KEY, WAYS, endpoint, served
from test_accounting import quiet
from test_routing import chat, deployment

from jupyterhub_ai_gateway.cli import catalogue
from jupyterhub_ai_gateway.config import parse
from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.providers.registry import Providers

every_way = pytest.mark.parametrize("way", WAYS)
IMAGE = {"type": "image_url", "image_url": {"url": "https://h/x.png"}}
SEEN = [{"role": "user", "content": [IMAGE]}]


@every_way
async def test_a_request_goes_where_it_can_be_served(way: str) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        places = [
            deployment("a", a, capabilities=["tools"], context_length=2000),
            deployment("b", b, priority=2, capabilities=["tools", "vision"], context_length=90_000),
        ]
        async with served(None, [chat(*places)], **WAYS[way]) as running:
            bodies: list[tuple[dict[str, Any], str]] = [
                ({}, "a"),
                ({"messages": SEEN}, "b"),
                ({"text": "word " * 4000}, "b"),
            ]
            for body, name in bodies:
                answer = await running.chat(**body)
                assert (answer.status, answer.headers["x-ai-gateway-deployment"]) == (200, name)
            answer = await running.chat(messages=SEEN, reasoning_effort="high")
            assert (answer.status, answer.error["code"]) == (400, "no_deployment_fits")
            assert answer.error["left_out"] == {
                "a": "has no vision and no reasoning",
                "b": "has no reasoning",
            }
            answer = await running.chat("word " * 400_000)
            assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
            assert (len(a.requests), len(b.requests)) == (1, 2)


@every_way
async def test_a_request_explains_who_answered_who_was_tried_and_who_was_left_out(
    way: str, tmp_path: Path
) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        b.script(Reply.error(500, "Oops"))
        places = [
            deployment("a", a, capabilities=["tools"]),
            deployment("b", b, capabilities=["vision"]),
            deployment("c", b, priority=2, capabilities=["vision"]),
        ]
        config = {
            "ledger": {"url": f"sqlite:///{tmp_path}/l.sqlite", "flush_s": 0.01},
            "maintenance": [{"weekly": "daily 00:00-24:00", "deployments": "c", "text": "Work."}],
        }
        async with served(None, [chat(*places, retries=1)], config=config, **WAYS[way]) as running:
            for reasoning in ({}, {"reasoning_effort": "high"}):
                answer = await running.chat(messages=SEEN, **reasoning)
                assert answer.status == (400 if reasoning else 200)
            await quiet(running)
            found = (await running.ask("GET", "api/requests")).json["requests"]
            refused, well = [
                (await running.ask("GET", f"api/requests/{each['request_id']}")).json for each in found
            ]
            assert (well["deployment"], well["attempts"]) == ("b", 2)
            assert [(each["deployment"], each["status"]) for each in well["tries"]] == [
                ("b", 500),
                ("b", 200),
            ]
            assert well["left_out"] == {"a": "has no vision", "c": "is under maintenance"}
            assert (refused["deployment"], refused["tries"]) == (None, [])
            assert refused["left_out"] == {
                "a": "has no vision and no reasoning",
                "b": "has no reasoning",
                "c": "has no reasoning",
            }
            assert a.requests == []


@every_way
async def test_who_ends_one_day_says_so_with_each_answer(way: str) -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        places = [deployment("a", a, deprecation_date="2027-01-31"), deployment("b", b, priority=2)]
        async with served(None, [chat(*places)], **WAYS[way]) as running:
            for is_stream in (False, True):
                answer = await running.chat(stream=is_stream)
                assert answer.headers["sunset"] == "Sun, 31 Jan 2027 00:00:00 GMT"
            a.script(Reply.error(500, "Oops"))
            answer = await running.chat()
            assert answer.headers["x-ai-gateway-deployment"] == "b"
            assert "sunset" not in answer.headers


@every_way
async def test_data_stays_where_it_may_be(way: str) -> None:
    with FakeUpstream(key=KEY) as ours, FakeUpstream(key=KEY) as rented:
        places = [
            deployment("rented", rented, data_class="public", region="us-east-1"),
            deployment("ours", ours, priority=2, data_class="restricted", region="eu-central-1"),
        ]
        rules = [{"scope": {"group": "medicine"}, "data_class": "restricted"}]
        async with served(None, [chat(*places)], config={"data_rules": rules}, **WAYS[way]) as running:
            doctor = running.knows("t-doc", ACCESS, FULL, name="doc", groups=("medicine",))
            asked: list[tuple[dict[str, Any], str]] = [
                ({}, "rented"),
                ({"token": doctor}, "ours"),
                ({"headers": [("X-AI-Gateway-Data-Class", "internal")]}, "ours"),
                ({"headers": [("x-ai-gateway-region", "eu")]}, "ours"),
                ({"token": doctor, "headers": [("x-ai-gateway-data-class", "public")]}, "ours"),
            ]
            for more, name in asked:
                answer = await running.chat(**more)
                assert (answer.status, answer.headers["x-ai-gateway-deployment"]) == (200, name)
            answer = await running.chat(token=doctor, headers=[("x-ai-gateway-region", "us")])
            assert answer.status == 400
            assert answer.error["left_out"]["rented"] == "is for public data, not for restricted"
            assert (await running.chat(headers=[("x-ai-gateway-data-class", "secret")])).status == 400


async def test_a_stand_in_never_has_a_lower_class() -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b, FakeUpstream(key=KEY) as c:
        a.always(Reply.error(500, "Oops"))
        own = endpoint("chat", a, data_class="internal", fallbacks=["cheap", "safe"])
        others = [endpoint("cheap", b, data_class="public"), endpoint("safe", c, data_class="restricted")]
        async with served(None, [own, *others]) as running:
            assert (await running.chat()).status == 200
            assert (len(b.requests), len(c.requests)) == (0, 1)


async def test_a_single_deployment_is_held_against_its_offer_too() -> None:
    with FakeUpstream(key=KEY) as up:
        async with served(None, [endpoint("chat", up, capabilities=[])]) as running:
            answer = await running.chat(tools=[{"type": "function", "function": {"name": "f"}}])
            text = "The model chat cannot serve this request: it has no tools."
            assert (answer.status, answer.error["message"]) == (400, text)
            answer = await running.chat(headers=[("x-ai-gateway-data-class", "restricted")])
            assert answer.error["left_out"] == {"1": "is for public data, not for restricted"}
            assert up.requests == []


async def test_the_list_of_models_says_what_is_offered() -> None:
    offer = {"capabilities": ["vision", "tools"], "context_length": 8192, "deprecation_date": "2027-01-31"}
    own = endpoint("chat", None, region="eu", data_class="internal", **offer)
    async with served(None, [own, endpoint("plain", None)]) as running:
        first, second = (await running.ask("GET", "v1/models")).json["data"]
        assert (first["capabilities"], first["context_length"]) == (["tools", "vision"], 8192)
        assert (first["regions"], first["data_class"]) == (["eu"], "internal")
        assert first["deprecation_date"] == "2027-01-31"
        assert not {"capabilities", "context_length", "regions", "data_class"} & set(second)


@every_way
async def test_a_pattern_passes_the_name_on(way: str) -> None:
    with FakeUpstream(key=KEY, is_strict=False) as up:
        wide = endpoint("openai/*", up)
        wide["model"]["name"] = "org/*"
        narrow = endpoint("openai/gpt-5*", up)
        del narrow["model"]["name"]
        async with served(None, [wide, narrow, endpoint("openai-1", up)], **WAYS[way]) as running:
            for asked, sent in (
                ("openai/o3", "org/o3"),
                ("openai/a/b:c", "org/a/b:c"),
                ("openai/gpt-5-mini", "-mini"),
                ("openai-1", "gpt-4o-mini"),
            ):
                assert (await running.chat(model=asked)).status == 200
                assert up.requests[-1].document["model"] == sent
            for asked in ("openai/", "openai", "openai/a b", "openai/é", f"openai/{'x' * 240}"):
                answer = await running.chat(model=asked)
                assert (answer.status, answer.error["code"]) == (404, "model_not_found")
            card = (await running.ask("GET", "v1/models")).json["data"][0]
            assert (card["id"], card["pattern"]) == ("openai/*", True)
            text = running.service.metrics.render()[0].decode()
            assert 'endpoint="openai/*",model="org/*"' in text
            assert "o3" not in text


def test_what_is_wrong_is_named() -> None:
    model = {"provider": "echo"}
    own: dict[str, Any] = {"name": "a", "endpoint_type": "llm/v1/chat", "data_class": "internal"}
    own["region"] = "E U"
    own["deployments"] = [
        {"model": model, "data_class": "public"},
        {"name": "b", "model": model, "capabilities": "vision", "context_length": 0},
        {"name": "c", "model": model, "capabilities": ["Vision"], "deprecation_date": "soon"},
    ]
    wild = {"name": "w/*", "endpoint_type": "llm/v1/chat", "model": model}
    other = {"name": "o", "endpoint_type": "llm/v1/chat", "model": model, "fallbacks": ["w/*"]}
    document = {"endpoints": [own, wild, other], "data_rules": [{}, {"region": "EU"}, {"data_class": "x"}]}
    with pytest.raises(ConfigFault) as caught:
        parse(document, Providers.installed().schemas, {})
    text = str(caught.value)
    for path in (
        "endpoints[0].region",
        "endpoints[0].deployments[0].data_class",
        "endpoints[0].deployments[1].capabilities",
        "endpoints[0].deployments[1].context_length",
        "endpoints[0].deployments[2].capabilities",
        "endpoints[0].deployments[2].deprecation_date",
        "endpoints[2].fallbacks[0]",
        "data_rules[0].data_class",
        "data_rules[1].region",
        "data_rules[2].data_class",
    ):
        assert path in text


def test_the_catalogue_is_printed_without_secrets() -> None:
    with FakeUpstream(key=KEY) as up:
        places = [deployment("a", up, region="eu", capabilities=["vision"], context_length=8192)]
        document = {"endpoints": [chat(*places, aliases=["gpt-4"]), endpoint("all/*", None)]}
        text = catalogue(parse(document, Providers.installed().schemas, {}))
    assert "chat  llm/v1/chat  also gpt-4" in text
    assert "    a  openai  gpt-4o-mini  8192 tokens  vision  region eu" in text
    assert "all/*  llm/v1/chat" in text
    assert KEY not in text
