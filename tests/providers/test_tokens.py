"""Tokens that expire: one fetch for many, in time, and none too often."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from expected import ExpectedLog
from fakes.upstream import FakeUpstream, Reply

from jupyterhub_ai_gateway.errors import UpstreamRefused
from jupyterhub_ai_gateway.providers.tokens import Fetched, TokenCache, ask_token, form_target
from jupyterhub_ai_gateway.upstream import make_client

CLIENT: Any = None


class Source:
    """Gives t1, t2 and so on; waits for `gate` where there is one, and fails while `fault` is there."""

    def __init__(self, lifetime_s: float = 1000.0) -> None:
        self.count = 0
        self.lifetime_s = lifetime_s
        self.gate: asyncio.Event | None = None
        self.entered = asyncio.Event()
        self.fault: UpstreamRefused | None = None
        self.now_s = 0.0

    def clock(self) -> float:
        return self.now_s

    async def __call__(self, client: Any) -> Fetched:
        self.count += 1
        number = self.count
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return Fetched(f"t{number}", self.lifetime_s)


async def test_many_wait_for_one_fetch_and_the_next_one_comes_before_the_end() -> None:
    source = Source()
    cache = TokenCache(source, source.clock)
    source.gate = asyncio.Event()
    asking = [asyncio.ensure_future(cache.get(CLIENT)) for _ in range(20)]
    await source.entered.wait()
    source.gate.set()
    assert set(await asyncio.gather(*asking)) == {"t1"}
    source.now_s = 749.0
    assert await cache.get(CLIENT) == "t1"
    source.now_s = 751.0
    assert await cache.get(CLIENT) == "t2"
    assert cache.texts == ("t2",)


async def test_old_token_serves_while_the_new_one_is_fetched() -> None:
    source = Source()
    cache = TokenCache(source, source.clock)
    await cache.get(CLIENT)
    source.now_s, source.gate = 800.0, asyncio.Event()
    source.entered.clear()
    fetching = asyncio.ensure_future(cache.get(CLIENT))
    await source.entered.wait()
    assert await cache.get(CLIENT) == "t1"
    source.gate.set()
    assert await fetching == "t2"


async def test_one_who_leaves_lets_the_next_one_fetch() -> None:
    source = Source()
    cache = TokenCache(source, source.clock)
    source.gate = asyncio.Event()
    first = asyncio.ensure_future(cache.get(CLIENT))
    await source.entered.wait()
    second = asyncio.ensure_future(cache.get(CLIENT))
    first.cancel()
    source.gate.set()
    assert await second == "t2"


async def test_failure_counts_only_once_the_old_token_is_over(expected_log: ExpectedLog) -> None:
    source = Source()
    cache = TokenCache(source, source.clock)
    await cache.get(CLIENT)
    source.fault = UpstreamRefused("no", detail="the reason")
    source.now_s = 800.0
    assert await cache.get(CLIENT) == "t1"
    assert await cache.get(CLIENT) == "t1"
    assert source.count == 2  # not asked again at once
    source.now_s = 811.0
    assert await cache.get(CLIENT) == "t1"
    assert source.count == 3
    assert "the reason" in "".join(expected_log.take("A new token could not be had"))
    source.now_s = 1000.0
    with pytest.raises(UpstreamRefused):
        await cache.get(CLIENT)
    source.fault = None
    assert await cache.get(CLIENT) == "t5"


async def test_token_that_is_refused_is_replaced_once() -> None:
    source = Source()
    cache = TokenCache(source, source.clock)
    token = await cache.get(CLIENT)
    cache.renounce(token)
    cache.renounce(token)
    assert await cache.get(CLIENT) == "t2"
    cache.renounce(token)  # by one who came late with the old one
    assert await cache.get(CLIENT) == "t2"


@pytest.mark.parametrize("text", ["two words", "line\r\nbreak", "ümlaut", ""])
async def test_token_that_no_header_may_hold_is_none(text: str) -> None:
    async def fetch(client: Any) -> Fetched:
        return Fetched(text, 100.0)

    with pytest.raises(UpstreamRefused):
        await TokenCache(fetch).get(CLIENT)


@pytest.mark.parametrize(
    ("answer", "lifetime_s"),
    [
        ({"access_token": "t", "expires_in": 60}, 60.0),
        ({"access_token": "t", "expires_in": "86399"}, 86399.0),
        ({"access_token": "t"}, 300.0),
        ({"access_token": "t", "expires_in": "soon"}, 300.0),
        ({"access_token": "t", "expires_in": -1}, 300.0),
    ],
)
async def test_lifetime_is_read_as_it_is_told(answer: dict[str, Any], lifetime_s: float) -> None:
    client = make_client("lean")
    with FakeUpstream(is_strict=False) as up:
        up.script(Reply.json(answer))
        assert await ask_token(client, form_target(f"{up.url}/token"), {}) == ("t", lifetime_s)
        await client.close()


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        (
            Reply.json({"error": "invalid_client", "error_description": "s3cret"}, 401),
            "401, invalid_client",
        ),
        (Reply(503, body=b"<html>s3cret</html>"), "503, no reason"),
        (Reply.json({"error": "s3cret in a sentence"}, 400), "400, no reason"),
        (Reply.json({"token": "s3cret"}), "without a token"),
        (Reply.json(["s3cret"]), "without a token"),
    ],
)
async def test_refusal_says_who_and_never_what(reply: Reply, detail: str) -> None:
    client = make_client("lean")
    with FakeUpstream(is_strict=False) as up:
        up.script(reply)
        with pytest.raises(UpstreamRefused) as caught:
            await ask_token(client, form_target(f"{up.url}/token"), {"client_secret": "s3cret"})
        await client.close()
    assert detail in str(caught.value.detail)
    assert "s3cret" not in f"{caught.value.detail} {caught.value.public}"
    assert caught.value.slug == "upstream_auth_error"
