"""Browser login whose state is in the browser, not in the process."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol
from urllib.parse import parse_qs

import pytest
from fakes.hub import ACCESS, FakeHub, json_response

from jupyterhub_ai_gateway.auth import GatewayHubOAuth, TokenResolver, cookie_secret_from
from jupyterhub_ai_gateway.errors import Forbidden, HubUnavailable

PREFIX = "/services/ai-gateway/"


class Log(Protocol):
    def take(self, part: str) -> list[str]: ...


class Now:
    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def worker(
    now: Now, secret: bytes = b"shared", api_url: str = "http://127.0.0.1:1/hub/api"
) -> GatewayHubOAuth:
    """One process of the service."""
    resolver = TokenResolver(api_url, "ai-gateway", access_scopes=[ACCESS])
    return GatewayHubOAuth(
        resolver,
        secret,
        now=now,
        api_url=api_url,
        api_token="service-token",
        base_url=PREFIX,
        oauth_client_id="service-ai-gateway",
    )


def test_another_worker_understands_the_state() -> None:
    now = Now()
    one, two = worker(now), worker(now)
    verifier, challenge, method = one.generate_pkce_code_challenge()
    state = one.generate_state(PREFIX + "docs?x=1", code_verifier=verifier, cookie_name="a-name")
    assert two.get_next_url(state) == PREFIX + "docs?x=1"
    assert two.get_state_cookie_name(state) == "a-name"
    assert two._decode_state(state)["code_verifier"] == verifier
    digest = hashlib.sha256(verifier.encode()).digest()
    assert (challenge, method) == (base64.urlsafe_b64encode(digest).decode().rstrip("="), "S256")
    assert 43 <= len(verifier) <= 128  # RFC 7636, section 4.1
    assert verifier not in state


def test_two_logins_share_nothing() -> None:
    one = worker(Now())
    assert one.generate_pkce_code_challenge()[0] != one.generate_pkce_code_challenge()[0]
    assert one.generate_state(PREFIX) != one.generate_state(PREFIX)


def test_state_without_pkce_has_no_verifier() -> None:
    one = worker(Now())
    assert "code_verifier" not in one._decode_state(one.generate_state(PREFIX))


def test_state_is_only_ours() -> None:
    now = Now()
    one = worker(now)
    state = one.generate_state(PREFIX + "docs", cookie_name="a-name")
    forged = worker(now, b"other").generate_state(PREFIX + "docs", cookie_name="a-name")
    payload, _, mac = state.partition(".")
    for wrong in (forged, payload, f"{payload}.", f"{payload[:-4]}AAAA.{mac}", f".{mac}", "", ".", "é.é"):
        assert one._decode_state(wrong) == {}
        assert one.get_next_url(wrong) == PREFIX
        assert one.get_state_cookie_name(wrong) == one.state_cookie_name


def test_state_ages() -> None:
    now = Now()
    one = worker(now)
    state = one.generate_state(PREFIX + "docs")
    now.now_s += one.oauth_state_max_age
    assert one.get_next_url(state) == PREFIX + "docs"
    now.now_s += 1
    assert one.get_next_url(state) == PREFIX


@pytest.mark.parametrize(
    "url", [None, "https://evil.example", "//evil.example", "/hub/logout", PREFIX + "x" * 2000]
)
def test_login_returns_only_to_our_own_pages(url: str | None) -> None:
    one = worker(Now())
    assert one.get_next_url(one.generate_state(url)) == PREFIX


@pytest.mark.parametrize("url", ["//evil.example", "/\\evil.example"])
def test_login_returns_only_to_our_own_pages_at_the_root(url: str) -> None:
    one = worker(Now())
    one.base_url = "/"
    assert one.get_next_url(one.generate_state(url)) == "/"
    assert one.get_next_url(one.generate_state("/docs")) == "/docs"


def test_nothing_blocks_the_loop() -> None:
    one = worker(Now())
    for call in (one.user_for_token, one.get_user, one.token_for_code):
        with pytest.raises(RuntimeError, match="sync=False"):
            call("anything")


def test_workers_derive_the_same_cookie_secret() -> None:
    assert cookie_secret_from("a") == cookie_secret_from("a") != cookie_secret_from("b")
    assert len(cookie_secret_from("a")) == 32


@asynccontextmanager
async def login_on(answer: bytes) -> AsyncIterator[tuple[FakeHub, GatewayHubOAuth]]:
    async with FakeHub() as hub:
        hub.answer = answer
        one = worker(Now(), api_url=hub.url)
        try:
            yield hub, one
        finally:
            await one.resolver.close()


async def exchange(one: GatewayHubOAuth, **options: Any) -> str:
    return await one.token_for_code("the-code", sync=False, **options)


async def test_code_becomes_a_token() -> None:
    async with login_on(json_response(200, {"access_token": "fresh"})) as (hub, one):
        assert await exchange(one, code_verifier="the-verifier") == "fresh"
        assert hub.heads[0].startswith("POST /hub/api/oauth2/token HTTP/1.1\r\n")
        assert parse_qs(hub.bodies[0].decode()) == {
            "client_id": ["service-ai-gateway"],
            "client_secret": ["service-token"],
            "grant_type": ["authorization_code"],
            "code": ["the-code"],
            "redirect_uri": [PREFIX + "oauth_callback"],
            "code_verifier": ["the-verifier"],
        }


async def test_code_that_came_too_late() -> None:
    async with login_on(json_response(400, {"error": "invalid_grant"})) as (_, one):
        with pytest.raises(Forbidden, match="Open the page again"):
            await exchange(one)


@pytest.mark.parametrize(
    "answer",
    [json_response(401, {"error": "invalid_client"}), json_response(200, {}), json_response(500, {})],
)
async def test_login_that_the_hub_does_not_complete(answer: bytes, expected_log: Log) -> None:
    async with login_on(answer) as (_, one):
        with pytest.raises(HubUnavailable):
            await exchange(one)
        assert "service-token" not in expected_log.take("Browser login fails")[0]


async def test_login_while_the_hub_is_away() -> None:
    one = worker(Now())
    try:
        with pytest.raises(HubUnavailable) as raised:
            await asyncio.wait_for(exchange(one), 30)
        assert raised.value.public
    finally:
        await one.resolver.close()
