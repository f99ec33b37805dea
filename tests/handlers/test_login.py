"""Pages and their login, on real sockets, with a fake Hub behind them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from fakes.hub import ACCESS, FakeHub, json_response, user_model
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

from jupyterhub_ai_gateway.auth import GatewayHubOAuth, TokenResolver
from jupyterhub_ai_gateway.handlers.login import OAuthCallbackHandler, PageHandler, caller_from_cookie

PREFIX = "/services/ai-gateway/"
COOKIE = "service-ai-gateway"
SECRET = b"shared by all workers"
DOCS = "custom:ai-gateway:docs:read"

NAVIGATE = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html,*/*"}
PLAIN_HTTP = {"Accept": "text/html,*/*"}  # a browser away from localhost and without TLS
FETCH = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin", "Accept": "*/*"}


class Log(Protocol):
    def take(self, part: str) -> list[str]: ...


class Docs(PageHandler):
    def get(self) -> None:
        self.finish({"name": self.caller.name, "xsrf": self.xsrf_token.decode()})

    post = get


class Api(web.RequestHandler):
    """An API path of ours, as far as cookies go."""

    async def answer(self) -> None:
        caller = await caller_from_cookie(self)
        self.finish({"name": caller.name if caller else None})

    get = post = answer

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        fault = kwargs["exc_info"][1]
        self.set_status(fault.status)
        self.finish({"code": fault.slug})

    def log_exception(self, *_: Any) -> None:
        """Keep quiet."""


class Worker:
    """One process of the service: its own memory, the shared secret."""

    def __init__(self, hub_url: str) -> None:
        self.resolver = TokenResolver(hub_url, "ai-gateway", access_scopes=[ACCESS])
        hub_auth = GatewayHubOAuth(
            self.resolver,
            SECRET,
            api_url=hub_url,
            api_token="service-token",
            base_url=PREFIX,
            oauth_client_id=COOKIE,
        )
        self.app = web.Application(
            [
                (PREFIX + "docs", Docs),
                (PREFIX + "oauth_callback", OAuthCallbackHandler),
                (PREFIX + "api", Api),
            ],
            hub_auth=hub_auth,
            cookie_secret=SECRET,
            log_function=lambda handler: None,
        )
        self.server = HTTPServer(self.app)
        sock, self.port = bind_unused_port()
        self.server.add_socket(sock)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{PREFIX}{path}"

    async def close(self) -> None:
        self.server.stop()
        await self.server.close_all_connections()
        await self.resolver.close()


class Reply:
    def __init__(self, status: int, headers: Mapping[str, str], cookies: SimpleCookie, text: str) -> None:
        self.status, self.headers, self.cookies, self.text = status, headers, cookies, text


class Browser:
    """Keeps cookies and follows nothing."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.cookies: dict[str, str] = {}

    async def request(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> Reply:
        sent = dict(headers or {})
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with self._session.request(method, url, headers=sent, allow_redirects=False) as response:
            text = await response.text()
        for name, morsel in response.cookies.items():
            if morsel["expires"] and not morsel.value:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value
        return Reply(response.status, response.headers, response.cookies, text)

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Reply:
        return await self.request("GET", url, headers)


@asynccontextmanager
async def two_workers() -> AsyncIterator[tuple[FakeHub, Worker, Worker, Browser]]:
    """Alice may read the pages; bob has access to the service, and nothing more."""
    async with FakeHub() as hub:
        hub.models["alices"] = user_model("alice", ACCESS, DOCS)
        hub.models["bobs"] = user_model("bob", ACCESS)
        workers = Worker(hub.url), Worker(hub.url)
        session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), skip_auto_headers=["User-Agent"]
        )
        try:
            yield (hub, *workers, Browser(session))
        finally:
            await session.close()
            for worker in workers:
                await worker.close()


def logged_in(browser: Browser, token: str) -> None:
    signed = web.create_signed_value(SECRET, COOKIE, token)
    browser.cookies[COOKIE] = signed.decode()


async def xsrf_of(browser: Browser, worker: Worker) -> str:
    """Load the page as a browser does; its XSRF cookie is then the browser's."""
    page = await browser.get(worker.url("docs"), NAVIGATE)
    token: str = json.loads(page.text)["xsrf"]
    return token


@pytest.mark.parametrize("headers", [NAVIGATE, PLAIN_HTTP])
async def test_browser_is_sent_to_the_login(headers: dict[str, str]) -> None:
    async with two_workers() as (_, one, _two, browser):
        reply = await browser.get(one.url("docs"), headers)
        assert reply.status == 302
        address = urlsplit(reply.headers["Location"])
        assert address.path == "/hub/api/oauth2/authorize"
        query = parse_qs(address.query)
        assert query["client_id"] == [COOKIE]
        assert len(query["state"]) == 1


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {}),
        ("GET", {"Accept": "*/*"}),
        ("GET", {"Accept": "application/json", "Sec-Fetch-Mode": "cors"}),
        ("GET", {"Accept": "text/html", "Sec-Fetch-Mode": "cors"}),
        ("POST", NAVIGATE),
        ("POST", {}),
        ("GET", {**NAVIGATE, "Authorization": "Bearer bogus"}),
        ("GET", {**NAVIGATE, "Authorization": "Bearer"}),
        ("GET", {**NAVIGATE, "x-api-key": "bogus"}),
    ],
)
async def test_a_program_never_gets_a_redirect(method: str, headers: dict[str, str]) -> None:
    async with two_workers() as (_, one, _two, browser):
        reply = await browser.request(method, one.url("docs"), headers)
        assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert not reply.cookies


async def test_error_of_a_program_is_the_one_error_object() -> None:
    async with two_workers() as (_, one, _two, browser):
        reply = await browser.get(one.url("docs"), {"Authorization": "Bearer bobs"})
        assert reply.status == 403
        body = json.loads(reply.text)
        assert body["error"]["code"] == "insufficient_scope"
        assert body["error"]["type"] == "permission_error"
        assert DOCS in body["error"]["message"] == body["detail"]


async def test_a_token_opens_a_page() -> None:
    async with two_workers() as (_, one, _two, browser):
        for header in ({"Authorization": "token alices"}, {"x-api-key": "alices"}):
            reply = await browser.get(one.url("docs"), header)
            assert (reply.status, json.loads(reply.text)["name"]) == (200, "alice")


async def test_bad_token_never_falls_through_to_the_cookie() -> None:
    async with two_workers() as (_, one, _two, browser):
        logged_in(browser, "alices")
        xsrf = await xsrf_of(browser, one)
        for bad in ({"Authorization": "Bearer bogus"}, {"api-key": "bogus"}, {"Authorization": "Bearer"}):
            headers = {**NAVIGATE, "X-XSRFToken": xsrf, **bad}
            assert (await browser.get(one.url("docs"), headers)).status == 401
            assert json.loads((await browser.get(one.url("api"), headers)).text) == {"name": None}


async def test_missing_scope_is_a_page_that_people_can_read() -> None:
    async with two_workers() as (_, one, _two, browser):
        logged_in(browser, "bobs")
        reply = await browser.get(one.url("docs"), NAVIGATE)
        assert (reply.status, reply.headers["Content-Type"]) == (403, "text/html; charset=UTF-8")
        assert "<h1>403 Forbidden</h1>" in reply.text
        assert DOCS in reply.text


async def test_expired_cookie_leads_to_the_login(expected_log: Log) -> None:
    async with two_workers() as (_, one, _two, browser):
        logged_in(browser, "revoked")
        assert (await browser.get(one.url("docs"), NAVIGATE)).status == 302
        assert COOKIE not in browser.cookies
        expected_log.take("cookie may have expired")


async def test_page_while_the_hub_is_away(expected_log: Log) -> None:
    async with two_workers() as (hub, one, _two, browser):
        logged_in(browser, "alices")
        hub.answer = json_response(500, {})
        reply = await browser.get(one.url("docs"), NAVIGATE)
        assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
        assert "alices" not in expected_log.take("The Hub cannot be asked")[0]


async def log_in(browser: Browser, hub: FakeHub, first: Worker, second: Worker) -> Reply:
    """Open a page at one worker, and come back from the Hub to the other."""
    to_hub = await browser.get(first.url("docs?topic=1"), NAVIGATE)
    query = parse_qs(urlsplit(to_hub.headers["Location"]).query)
    hub.codes["the-code"] = "alices"
    state = query["state"][0]
    return await browser.get(second.url(f"oauth_callback?code=the-code&state={state}"), NAVIGATE)


async def test_login_that_starts_here_and_ends_there() -> None:
    async with two_workers() as (hub, one, two, browser):
        back = await log_in(browser, hub, one, two)
        assert (back.status, back.headers["Location"]) == (302, PREFIX + "docs?topic=1")
        assert set(browser.cookies) == {COOKIE, "_xsrf"}
        for worker in (one, two):
            reply = await browser.get(worker.url("docs"), NAVIGATE)
            assert (reply.status, json.loads(reply.text)["name"]) == (200, "alice")


async def test_two_tabs_log_in_at_once(expected_log: Log) -> None:
    async with two_workers() as (hub, one, two, browser):
        await browser.get(one.url("docs"), NAVIGATE)
        back = await log_in(browser, hub, two, one)
        assert (back.status, back.headers["Location"]) == (302, PREFIX + "docs?topic=1")
        expected_log.take("Detected unused OAuth state cookies")


async def test_answer_to_an_old_login_of_one_who_is_in(expected_log: Log) -> None:
    async with two_workers() as (hub, one, two, browser):
        await log_in(browser, hub, one, two)
        state = two.app.settings["hub_auth"].generate_state(PREFIX + "docs?old")
        back = await browser.get(one.url(f"oauth_callback?code=old&state={state}"), NAVIGATE)
        assert (back.status, back.headers["Location"]) == (302, PREFIX + "docs?old")
        expected_log.take("after already logging in")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("?code=a", 400),
        ("?error=access_denied", 400),
        ("?code=a&state=forged", 403),
    ],
)
async def test_callback_that_no_login_began(query: str, status: int, expected_log: Log) -> None:
    async with two_workers() as (hub, one, _two, browser):
        reply = await browser.get(one.url(f"oauth_callback{query}"), NAVIGATE)
        assert (reply.status, COOKIE in browser.cookies) == (status, False)
        assert (f"<h1>{status} " in reply.text, hub.asked) == (True, [])
        expected_log.take("uth")


async def test_state_of_another_browser_is_refused(expected_log: Log) -> None:
    async with two_workers() as (hub, one, _two, browser):
        await browser.get(one.url("docs"), NAVIGATE)
        hub.codes["stolen"] = "alices"
        state = one.app.settings["hub_auth"].generate_state(PREFIX)
        reply = await browser.get(one.url(f"oauth_callback?code=stolen&state={state}"), NAVIGATE)
        assert (reply.status, hub.asked) == (403, [])
        expected_log.take("oauth state")


async def test_code_that_came_too_late_says_so() -> None:
    async with two_workers() as (_, one, two, browser):
        to_hub = await browser.get(one.url("docs"), NAVIGATE)
        state = parse_qs(urlsplit(to_hub.headers["Location"]).query)["state"][0]
        reply = await browser.get(two.url(f"oauth_callback?code=late&state={state}"), NAVIGATE)
        assert reply.status == 403
        assert "Open the page again" in reply.text


@pytest.mark.parametrize(
    ("method", "headers", "with_xsrf", "answer"),
    [
        ("POST", FETCH, True, {"name": "alice"}),
        ("POST", FETCH, False, {"code": "xsrf_token_missing"}),
        ("POST", NAVIGATE, False, {"code": "xsrf_token_missing"}),  # another site's form
        ("POST", {}, False, {"code": "xsrf_token_missing"}),
        ("POST", {}, True, {"name": "alice"}),
        ("GET", FETCH, True, {"name": "alice"}),
        ("GET", FETCH, False, {"code": "xsrf_token_missing"}),
        ("GET", NAVIGATE, False, {"name": "alice"}),
        ("POST", {"X-XSRFToken": "forged"}, False, {"code": "xsrf_token_missing"}),
        ("POST", {"Authorization": "Bearer alices"}, True, {"name": None}),
        ("POST", {"Authorization": "Bearer bogus"}, True, {"name": None}),
    ],
)
async def test_cookie_counts_with_its_xsrf_token(
    method: str, headers: dict[str, str], with_xsrf: bool, answer: dict[str, str | None]
) -> None:
    async with two_workers() as (_, one, two, browser):
        logged_in(browser, "alices")
        xsrf = await xsrf_of(browser, one)
        sent = {**headers, "X-XSRFToken": xsrf} if with_xsrf else headers
        reply = await browser.request(method, two.url("api"), sent)
        assert json.loads(reply.text) == answer
        assert not reply.cookies


async def test_xsrf_token_of_somebody_else_is_refused(expected_log: Log) -> None:
    async with two_workers() as (_, one, _two, browser):
        logged_in(browser, "bobs")
        browser.cookies.pop("_xsrf", None)
        other = Browser(browser._session)
        logged_in(other, "alices")
        stolen = await xsrf_of(other, one)
        browser.cookies["_xsrf"] = stolen
        reply = await browser.request("POST", one.url("api"), {**FETCH, "X-XSRFToken": stolen})
        assert json.loads(reply.text) == {"code": "xsrf_token_missing"}
        expected_log.take("incorrect xsrf token")


async def test_request_without_a_cookie_has_no_caller() -> None:
    async with two_workers() as (hub, one, _two, browser):
        assert json.loads((await browser.request("POST", one.url("api"), FETCH)).text) == {"name": None}
        browser.cookies["unrelated"] = "cookie"
        assert json.loads((await browser.request("POST", one.url("api"), FETCH)).text) == {"name": None}
        browser.cookies[COOKIE] = "forged"
        assert json.loads((await browser.request("POST", one.url("api"), FETCH)).text) == {"name": None}
        assert hub.asked == []
