"""One question to the Hub per token, through floods, silence and nonsense."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest
from fakes.hub import ACCESS, FakeHub, json_response, response, user_model

from jupyterhub_ai_gateway.auth import TokenResolver
from jupyterhub_ai_gateway.errors import HubUnavailable, Unauthenticated
from jupyterhub_ai_gateway.vocabulary import OPERATIONS

ALICE = "alices-secret-token"
FULL = "custom:ai-gateway:full-access"
SILENT = "The Hub cannot be asked"


class Log(Protocol):
    def take(self, part: str) -> list[str]: ...


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def hub_and_resolver(**options: Any) -> AsyncIterator[tuple[FakeHub, TokenResolver, Clock]]:
    """A fake Hub that knows alice, and a resolver that asks it, on a clock that the test moves."""
    clock = Clock()
    async with FakeHub() as hub:
        hub.models[ALICE] = user_model("alice", ACCESS, FULL, groups=("ai",))
        resolver = TokenResolver(hub.url, "ai-gateway", access_scopes=[ACCESS], clock=clock, **options)
        try:
            yield hub, resolver, clock
        finally:
            hub.release()
            await resolver.close()


async def test_token_becomes_a_caller() -> None:
    async with hub_and_resolver() as (hub, resolver, _):
        assert resolver.peek(ALICE) is None
        caller = await resolver.resolve(ALICE)
        assert (caller.key, caller.groups, caller.token_id) == ("user:alice", ("ai",), "a12")
        assert caller.operations == set(OPERATIONS)
        assert resolver.peek(ALICE) is caller
        assert await resolver.resolve(ALICE) is caller
        assert hub.asked == [ALICE]
        assert hub.heads[0].startswith("GET /hub/api/user HTTP/1.1\r\n")
        assert (resolver.hits, resolver.misses, resolver.lookups, len(resolver)) == (2, 1, 1, 1)


async def test_fifty_at_once_ask_once() -> None:
    async with hub_and_resolver() as (hub, resolver, _):
        callers = await asyncio.gather(*(resolver.resolve(ALICE) for _ in range(50)))
        assert {caller.name for caller in callers} == {"alice"}
        assert hub.asked == [ALICE]


async def test_fifty_at_once_are_refused_once() -> None:
    async with hub_and_resolver() as (hub, resolver, _):
        answers = await asyncio.gather(
            *(resolver.resolve("bogus") for _ in range(50)), return_exceptions=True
        )
        assert all(isinstance(answer, Unauthenticated) for answer in answers)
        assert hub.asked == ["bogus"]


async def test_one_who_leaves_does_not_end_it_for_others() -> None:
    async with hub_and_resolver() as (hub, resolver, _):
        hub.holds = lambda token: True
        first = asyncio.ensure_future(resolver.resolve(ALICE))
        second = asyncio.ensure_future(resolver.resolve(ALICE))
        await hub.wait_asked(1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        hub.release()
        assert (await second).name == "alice"
        assert hub.asked == [ALICE]


async def test_answer_is_kept_though_everybody_left() -> None:
    async with hub_and_resolver() as (hub, resolver, _):
        hub.holds = lambda token: True
        leaving = asyncio.ensure_future(resolver.resolve(ALICE))
        await hub.wait_asked(1)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        hub.release()
        assert (await resolver.resolve(ALICE)).name == "alice"
        assert hub.asked == [ALICE]


async def test_revoked_token_stops_within_its_time() -> None:
    async with hub_and_resolver() as (hub, resolver, clock):
        await resolver.resolve(ALICE)
        del hub.models[ALICE]
        clock.now_s += 59.9
        assert (await resolver.resolve(ALICE)).name == "alice"
        clock.now_s += 0.1
        assert resolver.peek(ALICE) is None
        with pytest.raises(Unauthenticated):
            await resolver.resolve(ALICE)
        assert resolver.peek(ALICE) is None


async def test_time_counts_from_the_question() -> None:
    async with hub_and_resolver() as (hub, resolver, clock):
        hub.holds = lambda token: True
        asking = asyncio.ensure_future(resolver.resolve(ALICE))
        await hub.wait_asked(1)
        clock.now_s += 59
        hub.release()
        await asking
        clock.now_s += 1
        assert resolver.peek(ALICE) is None


async def test_unknown_token_is_asked_again_after_its_own_time() -> None:
    async with hub_and_resolver() as (hub, resolver, clock):
        for _ in range(2):
            with pytest.raises(Unauthenticated):
                await resolver.resolve("new")
        assert hub.asked == ["new"]
        hub.models["new"] = user_model("bob", ACCESS, FULL)
        clock.now_s += 10
        assert (await resolver.resolve("new")).name == "bob"


@pytest.mark.parametrize("scopes", [(), (ACCESS,), (FULL,)])
async def test_grant_is_noticed_soon(scopes: tuple[str, ...]) -> None:
    async with hub_and_resolver() as (hub, resolver, clock):
        hub.models["bobs"] = user_model("bob", *scopes)
        assert not (await resolver.resolve("bobs")).operations
        hub.models["bobs"] = user_model("bob", ACCESS, FULL)
        clock.now_s += 10
        assert (await resolver.resolve("bobs")).operations


@pytest.mark.parametrize(
    "token", ["", " ", "a b", "a\tb", "a\nb", "é", "\udc80", "x" * 513, "a\x00", "a\x7f"]
)
async def test_what_cannot_be_a_token_is_never_asked(token: str) -> None:
    async with hub_and_resolver() as (hub, resolver, _):
        assert resolver.peek(token) is None
        with pytest.raises(Unauthenticated):
            await resolver.resolve(token)
        assert (hub.asked, len(resolver)) == ([], 0)


async def test_refusal_says_where_to_get_a_token() -> None:
    async with hub_and_resolver(token_url="https://hub.example.org/hub/token") as (_, resolver, _clock):
        with pytest.raises(Unauthenticated, match=r"https://hub\.example\.org/hub/token") as raised:
            await resolver.resolve("bogus")
        assert ("WWW-Authenticate", "Bearer") in raised.value.headers
        assert (raised.value.status, raised.value.slug) == (401, "invalid_api_key")
        with pytest.raises(Unauthenticated) as raised:
            await resolver.resolve(None)
        assert raised.value.slug == "missing_api_key"


async def test_least_used_tokens_are_forgotten() -> None:
    async with hub_and_resolver(max_tokens=2) as (hub, resolver, _):
        for name in ("a", "b", "c"):
            hub.models[name] = user_model(name, ACCESS, FULL)
        await resolver.resolve("a")
        await resolver.resolve("b")
        assert resolver.peek("a") is not None
        await resolver.resolve("c")
        assert (resolver.peek("b"), len(resolver)) == (None, 2)
        assert resolver.peek("a") is not None


async def test_guesses_push_out_nothing_that_is_known() -> None:
    async with hub_and_resolver(max_tokens=5) as (_, resolver, _clock):
        await resolver.resolve(ALICE)
        for number in range(20):
            with pytest.raises(Unauthenticated):
                await resolver.resolve(f"guess-{number}")
        assert resolver.peek(ALICE) is not None
        assert len(resolver) == 6


async def test_memory_of_guesses_ends() -> None:
    async with hub_and_resolver() as (_, resolver, clock):
        for number in range(20):
            with pytest.raises(Unauthenticated):
                await resolver.resolve(f"guess-{number}")
        clock.now_s += 10
        with pytest.raises(Unauthenticated):
            await resolver.resolve("one-more")
        assert len(resolver) == 1


async def test_flood_is_bounded_and_known_tokens_pass_it() -> None:
    async with hub_and_resolver(max_lookups=4, max_waiting=6) as (hub, resolver, clock):
        await resolver.resolve(ALICE)
        clock.now_s += 60
        hub.holds = lambda token: token.startswith("guess")
        flood = [asyncio.ensure_future(resolver.resolve(f"guess-{number}")) for number in range(200)]
        await hub.wait_asked(4)  # alice's first, and as many guesses as may go at once
        assert (await resolver.resolve(ALICE)).name == "alice"
        assert hub.asked.count(ALICE) == 2
        hub.release()
        answers = await asyncio.gather(*flood, return_exceptions=True)
        kinds = [type(answer) for answer in answers]
        assert (kinds.count(HubUnavailable), kinds.count(Unauthenticated)) == (190, 10)
        assert hub.most_at_once <= 4
        assert len(hub.asked) == 12
        assert {answer.retry_after_s for answer in answers if isinstance(answer, HubUnavailable)} == {1.0}


async def test_waiting_for_a_turn_ends() -> None:
    async with hub_and_resolver(max_lookups=2, timeout_s=0.05) as (hub, resolver, _):
        hub.holds = lambda token: True
        slots = resolver._slots
        await slots.acquire()  # somebody else's look-up, which does not end
        with pytest.raises(HubUnavailable) as raised:
            await resolver.resolve("bogus")
        assert raised.value.detail == "too many look-ups at once"
        assert (hub.asked, resolver.errors) == ([], 0)


FAILURES = {
    "500": json_response(500, {"status": 500}),
    "502 html": response(502, b"<h1>Bad gateway</h1>", "text/html"),
    "503": json_response(503, {}, "Retry-After: 17\r\n"),
    "429": json_response(429, {}, "Retry-After: 900\r\n"),
    "400": json_response(400, {}),
    "200 html": response(200, b"<h1>Login</h1>", "text/html"),
    "200 list": json_response(200, []),
    "200 stranger": json_response(200, {"kind": "user"}),
    "200 deep": response(200, b"[" * 100_000),
    "403 html": response(403, b"<h1>Blocked</h1>", "text/html"),
    "404 html": response(404, b"default backend - 404", "text/plain"),
    "redirect": response(302, b"", extra="Location: http://127.0.0.1:9/steal\r\n"),
    "closed": b"",
    "cut": json_response(200, user_model("alice"))[:-9],
    "no http": b"SSH-2.0-OpenSSH\r\n\r\n",
}


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES.keys())
async def test_known_tokens_outlive_a_failing_hub(answer: bytes, expected_log: Log) -> None:
    async with hub_and_resolver() as (hub, resolver, clock):
        caller = await resolver.resolve(ALICE)
        clock.now_s += 60
        hub.answer = answer
        assert await resolver.resolve(ALICE) is caller
        with pytest.raises(HubUnavailable) as raised:
            await resolver.resolve("new")
        assert raised.value.status == 503
        assert raised.value.retry_after_s is not None and 1 <= raised.value.retry_after_s <= 60
        assert resolver.stale == 1
        clock.now_s += 240
        with pytest.raises(HubUnavailable):
            await resolver.resolve(ALICE)
        assert len(expected_log.take(SILENT)) == 1


async def test_hub_says_how_long_to_wait(expected_log: Log) -> None:
    async with hub_and_resolver() as (hub, resolver, _):
        hub.answer = FAILURES["503"]
        with pytest.raises(HubUnavailable) as raised:
            await resolver.resolve(ALICE)
        assert raised.value.retry_after_s == 17
        expected_log.take("status 503")


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_hubs_own_refusal_counts(status: int) -> None:
    async with hub_and_resolver() as (hub, resolver, clock):
        await resolver.resolve(ALICE)
        clock.now_s += 60
        hub.answer = json_response(status, {"status": status})
        with pytest.raises(Unauthenticated):
            await resolver.resolve(ALICE)


async def test_hub_that_never_answers_is_given_up(expected_log: Log) -> None:
    async with hub_and_resolver(timeout_s=0.5) as (hub, resolver, clock):
        await resolver.resolve(ALICE)
        clock.now_s += 60
        hub.holds = lambda token: True
        with pytest.raises(HubUnavailable):
            await resolver.resolve("new")
        assert (await resolver.resolve(ALICE)).name == "alice"
        expected_log.take("no answer within 0.5 s")


async def test_redirect_is_not_followed(expected_log: Log) -> None:
    async with hub_and_resolver() as (hub, resolver, _):
        hub.answer = response(302, b"", extra=f"Location: {hub.url}/elsewhere\r\n")
        with pytest.raises(HubUnavailable):
            await resolver.resolve(ALICE)
        assert hub.asked == [ALICE]
        expected_log.take("status 302")


async def test_refused_connections(expected_log: Log) -> None:
    async with hub_and_resolver() as (hub, resolver, clock):
        caller = await resolver.resolve(ALICE)
        await hub.stop()
        clock.now_s += 60
        with pytest.raises(HubUnavailable):
            await resolver.resolve("new")
        assert await resolver.resolve(ALICE) is caller
        expected_log.take(SILENT)
        await hub.start()
        clock.now_s += 60
        hub.models["new"] = user_model("bob")
        assert (await resolver.resolve("new")).name == "bob"


async def test_while_the_hub_fails_known_tokens_do_not_wait_for_it(expected_log: Log) -> None:
    async with hub_and_resolver() as (hub, resolver, clock):
        for name in ("a", "b"):
            hub.models[name] = user_model(name, ACCESS, FULL)
            await resolver.resolve(name)
        clock.now_s += 60
        hub.answer = FAILURES["500"]
        with pytest.raises(HubUnavailable):
            await resolver.resolve("new")
        asked = len(hub.asked)
        hub.answer, hub.holds = None, lambda token: True  # and now it does not answer at all
        clock.now_s += 1
        for _ in range(3):
            for name in ("a", "b"):
                assert (await resolver.resolve(name)).name == name
        await hub.wait_asked(asked + 1)
        assert len(hub.asked) == asked + 1  # one look-up finds out for all
        expected_log.take(SILENT)


async def test_revocation_counts_again_once_the_hub_is_back(expected_log: Log) -> None:
    async with hub_and_resolver() as (hub, resolver, clock):
        await resolver.resolve(ALICE)
        clock.now_s += 60
        hub.answer = FAILURES["500"]
        await resolver.resolve(ALICE)
        del hub.models[ALICE]
        hub.answer = None
        with pytest.raises(Unauthenticated):
            await resolver.resolve("anybody")  # this answer shows that the Hub is back
        with pytest.raises(Unauthenticated):
            await resolver.resolve(ALICE)
        expected_log.take(SILENT)


async def test_model_is_the_hubs_own_and_a_copy() -> None:
    async with hub_and_resolver() as (hub, resolver, _):
        model = await resolver.model(ALICE)
        assert model == hub.models[ALICE]
        model.clear()
        assert await resolver.model(ALICE) == hub.models[ALICE]
        assert await resolver.model("bogus") is None


async def test_clear_forgets_everything() -> None:
    async with hub_and_resolver() as (hub, resolver, _):
        await resolver.resolve(ALICE)
        assert await resolver.model("bogus") is None
        resolver.clear()
        assert len(resolver) == 0
        await resolver.resolve(ALICE)
        assert hub.asked == [ALICE, "bogus", ALICE]


async def test_close_ends_what_runs() -> None:
    async with hub_and_resolver() as (hub, resolver, _):
        hub.holds = lambda token: True
        asking = asyncio.ensure_future(resolver.resolve(ALICE))
        await hub.wait_asked(1)
        await resolver.close()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_token_is_in_no_fault_and_no_log(caplog: pytest.LogCaptureFixture, expected_log: Log) -> None:
    caplog.set_level(logging.DEBUG)
    async with hub_and_resolver() as (hub, resolver, clock):
        texts = [repr(await resolver.resolve(ALICE))]
        clock.now_s += 600
        for hub.answer in [*FAILURES.values(), json_response(403, {})]:
            with pytest.raises((HubUnavailable, Unauthenticated)) as raised:
                await resolver.resolve(ALICE)
            fault = raised.value
            texts.append(f"{fault!r} {fault.public} {fault.detail} {fault.headers} {fault.__cause__!r}")
        expected_log.take(SILENT)
    texts += [record.getMessage() for record in caplog.records]
    assert not [text for text in texts if ALICE in text]
