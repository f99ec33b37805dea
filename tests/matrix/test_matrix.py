"""Every format that callers speak against every format that providers speak, by the official SDKs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from expected import ExpectedLog
from fakes.upstream import BYTE_BY_BYTE, STALL, FakeUpstream, happened, random_cuts
from served import Served, served

from matrix.bedrock import AT_BEDROCK
from matrix.clients import CLIENTS, Client
from matrix.vendors import USAGE, VENDORS, Say, Vendor

VENDORS = {**VENDORS, **AT_BEDROCK}
PAIRS = [(front, back) for front in CLIENTS for back in VENDORS]
every_pair = pytest.mark.parametrize(("front", "back"), PAIRS, ids=lambda name: name.replace(" ", "-"))
whole_and_streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
IMAGE = "data:image/png;base64,iVBORw0KGgo="
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = {"get_weather": CITY, "get_time": CITY}


@asynccontextmanager
async def meeting(front: str, back: str, **more: Any) -> AsyncIterator[tuple[Client, Vendor, Served]]:
    """Let a client talk to a vendor through the gateway."""
    with FakeUpstream(is_strict=False, **more) as up:
        vendor = VENDORS[back](up)
        async with served(None, [vendor.endpoint()]) as running:
            client = CLIENTS[front](running)
            try:
                yield client, vendor, running
            finally:
                await client.close()


@whole_and_streamed
@every_pair
async def test_plain(front: str, back: str, stream: bool) -> None:
    async with meeting(front, back) as (client, vendor, _):
        vendor.says.append(Say("Good morning, Ada."))
        client.system = "Be kind."
        client.say("Hello!")
        got = await client.ask(stream=stream)
        assert (got.text, got.calls) == ("Good morning, Ada.", [])
        assert got.finish in ("stop", "end_turn", "completed", "STOP", "COMPLETE")
        (seen,) = vendor.seen
        assert (seen.system, seen.said, seen.max_tokens) == ("Be kind.", ["Hello!"], 4000)
        is_counted = client.tells_reasoning and vendor.counts_reasoning
        known = {**USAGE, **({} if is_counted else {"reasoning": None})}
        assert {name: got.usage.get(name) for name in USAGE} == known


@whole_and_streamed
@every_pair
async def test_parallel_tools_over_two_turns_with_thoughts(front: str, back: str, stream: bool) -> None:
    calls = [("callid001", "get_weather", {"city": "Zürich"}), ("callid002", "get_time", {"city": "Oslo"})]
    async with meeting(front, back) as (client, vendor, _):
        vendor.says += [Say(thinking="Two questions, two tools.", calls=calls), Say("Sunny, at noon.")]
        client.tools, client.thinks = TOOLS, True
        client.say("Weather in Zürich, time in Oslo?")
        got = await client.ask(stream=stream)
        assert got.calls == calls
        assert got.thinking == "Two questions, two tools."
        assert got.finish in ("tool_calls", "tool_use", "completed", "STOP", "TOOL_CALL")
        client.give([("callid001", "sunny"), ("callid002", "12:00")])
        assert (await client.ask(stream=stream)).text == "Sunny, at noon."
        first, second = vendor.seen
        assert first.tools == ["get_weather", "get_time"]
        assert second.calls == calls
        assert second.results == [("callid001", "sunny"), ("callid002", "12:00")]
        assert second.thoughts == ["Two questions, two tools."]


@whole_and_streamed
@every_pair
async def test_json_of_a_schema(front: str, back: str, stream: bool) -> None:
    schema = {**CITY, "additionalProperties": False}
    async with meeting(front, back) as (client, vendor, _):
        vendor.says.append(Say(json.dumps({"city": "Bern"})))
        client.schema = schema
        client.say("The capital of Switzerland?")
        assert json.loads((await client.ask(stream=stream)).text) == {"city": "Bern"}
        assert vendor.seen[0].schema == schema


@every_pair
async def test_image(front: str, back: str) -> None:
    async with meeting(front, back) as (client, vendor, _):
        client.say("What is this?", IMAGE)
        await client.ask(stream=False)
        assert vendor.seen[0].images == [IMAGE]
        assert vendor.seen[0].said == ["What is this?"]


@every_pair
async def test_refused_before_the_answer(front: str, back: str) -> None:
    async with meeting(front, back) as (client, vendor, _):
        client.say("Hello!")
        for stream in (False, True):
            vendor.up.script(vendor.refuse(429, "Slow down.", ("Retry-After", "7")))
            with pytest.raises(client.limited, match="Slow down") as caught:
                await client.ask(stream=stream)
            assert client.headers_of(caught.value)["retry-after"] == "7"
            vendor.up.script(vendor.refuse(400, "Too many images."))
            with pytest.raises(client.refused, match="Too many images"):
                await client.ask(stream=stream)


@every_pair
async def test_failed_within_the_stream(front: str, back: str, expected_log: ExpectedLog) -> None:
    async with meeting(front, back) as (client, vendor, _):
        vendor.says.append(Say("Good morning.", breaks=True))
        client.say("Hello!")
        with pytest.raises(client.broken):
            await client.ask(stream=True)
    if not back.startswith(front):
        expected_log.take("provider")


@every_pair
async def test_who_hangs_up_stops_the_provider(front: str, back: str) -> None:
    async with meeting(front, back) as (client, vendor, _):
        events = list(vendor.stream(Say("Good morning, Ada.")))
        vendor.up.script(vendor.streamed(*events[:-2], STALL))
        client.say("Hello!")
        stream = await client.open()
        request = await vendor.up.taken()
        await stream.close()
        await happened(request.closed)
        assert request.was_cut_short


@pytest.mark.parametrize("cuts", [BYTE_BY_BYTE, *(random_cuts(seed) for seed in range(3))])
@every_pair
async def test_any_cut_of_the_bytes(front: str, back: str, cuts: Any) -> None:
    calls = [("callid001", "get_weather", {"city": "Zürich"})]
    async with meeting(front, back, cuts=cuts) as (client, vendor, _):
        vendor.says.append(Say("Let me look.", calls, "Hm. Ein Wörtchen."))
        client.tools, client.thinks = TOOLS, True
        client.say("Weather?")
        got = await client.ask(stream=True)
        assert (got.text, got.calls, got.thinking) == ("Let me look.", calls, "Hm. Ein Wörtchen.")
