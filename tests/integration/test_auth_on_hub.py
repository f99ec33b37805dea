"""Who is calling, asked of a real JupyterHub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
import requests
from tornado import httputil, web
from tornado.httpserver import HTTPServer

from jupyterhub_ai_gateway.auth import GatewayHubOAuth, TokenResolver, cookie_secret_from
from jupyterhub_ai_gateway.errors import Forbidden, HubUnavailable, Unauthenticated
from jupyterhub_ai_gateway.handlers.login import OAuthCallbackHandler, PageHandler, caller_from_cookie
from jupyterhub_ai_gateway.vocabulary import OPERATIONS, Caller

from .hub import GatewayHub, RunningHub, find_chp, start_gateway_hub

pytestmark = pytest.mark.hub

ACCESS = "access:services!service=ai-gateway"
CHAT = "custom:ai-gateway:chat:create"
FULL = "custom:ai-gateway:full-access"

T = TypeVar("T")


class Log(Protocol):
    def take(self, part: str) -> list[str]: ...


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def asking(hub: RunningHub, **options: Any) -> AsyncIterator[tuple[TokenResolver, Clock]]:
    clock = Clock()
    resolver = TokenResolver(hub.api_url, "ai-gateway", access_scopes=[ACCESS], clock=clock, **options)
    try:
        yield resolver, clock
    finally:
        await resolver.close()


async def caller_of(hub: RunningHub, token: str) -> Caller:
    async with asking(hub) as (resolver, _):
        return await resolver.resolve(token)


async def test_token_of_a_user(hub: RunningHub) -> None:
    model = hub.mint("alice")
    caller = await caller_of(hub, model["token"])
    assert (caller.kind, caller.name, caller.groups, caller.is_admin) == ("user", "alice", ("ai",), False)
    assert (caller.token_id, caller.server_name) == (model["id"], None)
    assert caller.operations == set(OPERATIONS)


async def test_user_without_a_grant(hub: RunningHub) -> None:
    async with asking(hub) as (resolver, _):
        caller = await resolver.resolve(hub.token("bob"))
        assert (caller.name, caller.has_access, caller.operations) == ("bob", False, frozenset())
        with pytest.raises(Forbidden, match=ACCESS):
            resolver.rules.require(caller, "chat:create")


async def test_admin_of_the_hub_is_no_exception(hub: RunningHub) -> None:
    caller = await caller_of(hub, hub.token("admin"))
    assert caller.is_admin
    assert not caller.operations


async def test_token_that_the_hub_never_made(hub: RunningHub) -> None:
    with pytest.raises(Unauthenticated):
        await caller_of(hub, "0" * 32)


@pytest.mark.parametrize(
    ("scopes", "operations"),
    [
        ([ACCESS, CHAT], {"chat:create"}),
        ([ACCESS, CHAT + "!user"], {"chat:create"}),
        ([ACCESS, CHAT + "!user=alice"], {"chat:create"}),
        ([ACCESS, CHAT + "!group=ai"], {"chat:create"}),
        ([ACCESS, CHAT + "!group=staff"], set()),
        ([ACCESS, CHAT + "!service=ai-gateway"], {"chat:create"}),
        ([ACCESS, FULL + "!user"], set(OPERATIONS)),
        ([ACCESS], set()),
        ([CHAT], set()),
    ],
)
async def test_token_limited_on_the_token_page(
    hub: RunningHub, scopes: list[str], operations: set[str]
) -> None:
    assert (await caller_of(hub, hub.token("alice", scopes=scopes))).operations == operations


async def test_token_of_a_service(gateway_hub: GatewayHub) -> None:
    caller = await caller_of(gateway_hub.hub, gateway_hub.bot_token)
    assert (caller.key, caller.groups, caller.operations) == ("service:bot", (), {"chat:create"})


async def test_revoked_token_stops_after_its_time(hub: RunningHub) -> None:
    model = hub.mint("alice")
    async with asking(hub) as (resolver, clock):
        await resolver.resolve(model["token"])
        hub.revoke("alice", model["id"])
        assert resolver.peek(model["token"]) is not None
        clock.now_s += 60
        with pytest.raises(Unauthenticated):
            await resolver.resolve(model["token"])


@pytest.fixture(scope="module", params=["", "gpu"])
def server_name(hub: RunningHub, request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a notebook server of alice's."""
    name: str = request.param
    hub.spawn("alice", name)
    yield name
    hub.stop_server("alice", name)


async def test_token_of_a_server(hub: RunningHub, server_name: str) -> None:
    token = hub.server_environment("alice", server_name)["JUPYTERHUB_API_TOKEN"]
    caller = await caller_of(hub, token)
    assert (caller.name, caller.server_name, caller.operations) == ("alice", server_name, set(OPERATIONS))
    code = "import os; print(os.environ['JUPYTERHUB_API_TOKEN'], end='')"
    assert hub.run_in_kernel("alice", code, server_name) == token


async def test_server_keeps_the_scopes_it_was_started_with(hub: RunningHub) -> None:
    hub.spawn("bob")
    try:
        token = hub.server_environment("bob")["JUPYTERHUB_API_TOKEN"]
        hub.api("POST", "groups/ai/users", {"users": ["bob"]})
        async with asking(hub) as (resolver, _):
            assert (await resolver.resolve(hub.token("bob"))).operations == set(OPERATIONS)
            with pytest.raises(Forbidden, match="stop the server and start it again"):
                resolver.rules.require(await resolver.resolve(token), "chat:create")
    finally:
        hub.api("DELETE", "groups/ai/users", {"users": ["bob"]})
        hub.stop_server("bob")


async def test_frozen_hub(hub: RunningHub, expected_log: Log) -> None:
    token, unseen = hub.token("alice"), hub.token("bob")
    async with asking(hub, timeout_s=2.0) as (resolver, clock):
        await resolver.resolve(token)
        clock.now_s += 60
        with hub.frozen():
            with pytest.raises(HubUnavailable):
                await resolver.resolve(unseen)
            assert (await resolver.resolve(token)).name == "alice"
        expected_log.take("The Hub cannot be asked")
        await asyncio.to_thread(hub.api, "GET", "")  # it has caught up
        assert (await resolver.resolve(unseen)).name == "bob"


async def test_killed_hub_that_comes_back(hub: RunningHub, expected_log: Log) -> None:
    token, unseen = hub.token("alice"), hub.token("bob")
    async with asking(hub) as (resolver, clock):
        await resolver.resolve(token)
        clock.now_s += 60
        hub.kill()
        try:
            assert (await resolver.resolve(token)).name == "alice"
            with pytest.raises(HubUnavailable):
                await resolver.resolve(unseen)
        finally:
            hub.start()
        expected_log.take("The Hub cannot be asked")
        assert (await resolver.resolve(unseen)).name == "bob"
        clock.now_s += 60
        assert (await resolver.resolve(token)).name == "alice"


class Docs(PageHandler):
    def get(self) -> None:
        self.finish({"name": self.caller.name, "xsrf": self.xsrf_token.decode()})


class Api(web.RequestHandler):
    """A stand-in for our API: a token, or the cookie of our own page."""

    async def post(self) -> None:
        auth: GatewayHubOAuth = self.settings["hub_auth"]
        token = auth.get_token(self, in_cookie=False)
        caller = await (auth.resolver.resolve(token) if token else caller_from_cookie(self))
        self.finish({"name": caller.name if caller else None})

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        fault = kwargs["exc_info"][1]
        self.set_status(fault.status)
        self.finish(fault.public)

    def log_exception(self, *_: Any) -> None:
        """Keep quiet."""


class InTurns(httputil.HTTPServerConnectionDelegate):
    """Hands each request to the next worker, as a load balancer that is as unkind as can be."""

    def __init__(self, workers: list[web.Application]) -> None:
        self._workers = workers
        self.served = 0

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        self.served += 1
        return self._workers[self.served % len(self._workers)].start_request(server_conn, request_conn)


def make_worker(gateway_hub: GatewayHub) -> web.Application:
    secret = cookie_secret_from(gateway_hub.service_token)
    resolver = TokenResolver(gateway_hub.hub.api_url, "ai-gateway", access_scopes=[ACCESS])
    hub_auth = GatewayHubOAuth(
        resolver,
        secret,
        api_url=gateway_hub.hub.api_url,
        api_token=gateway_hub.service_token,
        base_url=gateway_hub.prefix,
        oauth_client_id="service-ai-gateway",
        oauth_redirect_uri=f"{gateway_hub.prefix}oauth_callback",
    )
    return web.Application(
        [
            (gateway_hub.prefix + "docs", Docs),
            (gateway_hub.prefix + "oauth_callback", OAuthCallbackHandler),
            (gateway_hub.prefix + "api", Api),
        ],
        hub_auth=hub_auth,
        cookie_secret=secret,
        log_function=lambda handler: None,
    )


@asynccontextmanager
async def service(gateway_hub: GatewayHub, workers: int = 2) -> AsyncIterator[InTurns]:
    """Serve the pages behind the Hub's proxy with several workers that share nothing but a secret."""
    applications = [make_worker(gateway_hub) for _ in range(workers)]
    front = InTurns(applications)
    server = HTTPServer(front, xheaders=True)
    server.listen(gateway_hub.service_port, "127.0.0.1")
    try:
        yield front
    finally:
        server.stop()
        await server.close_all_connections()
        for application in applications:
            await application.settings["hub_auth"].resolver.close()


async def browse(action: Callable[..., T], *args: Any, **options: Any) -> T:
    """Let a browser, which blocks, work beside the loop that serves it."""
    return await asyncio.to_thread(action, *args, **options)


async def test_sixteen_logins_of_sixteen_with_two_workers(gateway_hub: GatewayHub) -> None:
    async with service(gateway_hub) as front:
        for number in range(16):
            browser = await browse(gateway_hub.hub.login, "alice")
            front.served += number  # so that logins begin at either worker
            page = await browse(browser.get, gateway_hub.service_url + "docs?topic=1")
            assert (page.status_code, page.url) == (200, gateway_hub.service_url + "docs?topic=1")
            assert page.json()["name"] == "alice"
            assert [step.status_code for step in page.history] == [302, 302, 302]


async def test_fresh_browser_logs_in_on_the_way(gateway_hub: GatewayHub) -> None:
    async with service(gateway_hub):
        browser = requests.Session()
        browser.headers.update({"Sec-Fetch-Mode": "navigate", "Accept": "text/html"})
        form = await browse(browser.get, gateway_hub.service_url + "docs")
        assert (form.status_code, "/hub/login" in form.url) == (200, True)


async def test_browser_of_a_user_without_access(gateway_hub: GatewayHub) -> None:
    async with service(gateway_hub):
        browser = await browse(gateway_hub.hub.login, "bob")
        page = await browse(browser.get, gateway_hub.service_url + "docs")
        assert page.status_code == 403
        assert "/hub/api/oauth2/authorize" in page.url


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-XSRFToken": "page"}, 200),
        ({}, 403),
        ({"X-XSRFToken": "forged"}, 403),
        ({"Authorization": "Bearer alice", "X-XSRFToken": ""}, 200),
        ({"Authorization": "Bearer bogus", "X-XSRFToken": "page"}, 401),
    ],
)
async def test_cookie_posts_need_the_pages_xsrf_token(
    gateway_hub: GatewayHub, headers: dict[str, str], status: int
) -> None:
    async with service(gateway_hub):
        browser = await browse(gateway_hub.hub.login, "alice")
        page = await browse(browser.get, gateway_hub.service_url + "docs")
        values = {"page": page.json()["xsrf"], "Bearer alice": f"Bearer {gateway_hub.hub.token('alice')}"}
        sent = {name: values.get(value, value) for name, value in headers.items()}
        sent["Sec-Fetch-Mode"] = "cors"
        reply = await browse(browser.post, gateway_hub.service_url + "api", headers=sent)
        assert reply.status_code == status


async def test_bearer_post_without_a_browser(gateway_hub: GatewayHub) -> None:
    async with service(gateway_hub):
        url = gateway_hub.service_url
        headers = {"Authorization": f"Bearer {gateway_hub.hub.token('alice')}"}
        reply = await browse(requests.post, url + "api", headers=headers)
        assert (reply.status_code, reply.json()) == (200, {"name": "alice"})
        reply = await browse(requests.get, url + "docs", allow_redirects=False)
        assert (reply.status_code, reply.headers["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.skipif(find_chp() is None, reason="configurable-http-proxy is not installed")
async def test_login_through_the_proxy_that_people_have(tmp_path: Path) -> None:
    started = start_gateway_hub(tmp_path, proxy="chp")
    try:
        async with service(started):
            browser = await browse(started.hub.login, "alice")
            page = await browse(browser.get, started.service_url + "docs?topic=1")
            assert (page.status_code, page.json()["name"]) == (200, "alice")
            headers = {"X-XSRFToken": page.json()["xsrf"], "Sec-Fetch-Mode": "cors"}
            reply = await browse(browser.post, started.service_url + "api", headers=headers)
            assert (reply.status_code, reply.json()) == (200, {"name": "alice"})
    finally:
        started.hub.stop()
