"""The pages as a browser and a program get them, on real sockets; what they do is tested in `browser`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from fakes.hub import ACCESS, FakeHub, user_model
from openapi_spec_validator import OpenAPIV31SpecValidator
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from yarl import URL

from jupyterhub_ai_gateway.auth import GatewayHubOAuth, TokenResolver
from jupyterhub_ai_gateway.handlers.pages import CONTENT_SECURITY_POLICY, ROUTES, STATIC, Site

COOKIE = "service-ai-gateway"
SECRET = b"secret"
NAVIGATE = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html,*/*"}
PREFIX = "/services/ai-gateway/"


class Reply:
    def __init__(self, status: int, headers: Mapping[str, str], text: str) -> None:
        self.status, self.headers, self.text = status, headers, text


class Service:
    """The pages on a port."""

    def __init__(self, hub: FakeHub, session: aiohttp.ClientSession, **changes: Any) -> None:
        self.hub = hub
        self._session = session
        about: dict[str, Any] = {
            "title": "JupyterHub AI Gateway",
            "description": "All models of this Hub",
            "version": "1.2.3",
            "prefix": PREFIX,
            "hub_url": "/hub/",
            "service_name": "ai-gateway",
        }
        self.site = Site(**{**about, **changes})
        self.resolver = TokenResolver(hub.url, "ai-gateway", access_scopes=[ACCESS])
        hub_auth = GatewayHubOAuth(
            self.resolver,
            SECRET,
            api_url=hub.url,
            api_token="service-token",
            base_url=PREFIX,
            oauth_client_id=COOKIE,
        )
        app = web.Application(
            [(self.site.prefix + path, handler, options) for path, handler, options in ROUTES],
            site=self.site,
            hub_auth=hub_auth,
            cookie_secret=SECRET,
            log_function=lambda handler: None,
        )
        self.server = HTTPServer(app)
        sock, self.port = bind_unused_port()
        self.server.add_socket(sock)

    async def get(self, path: str, headers: Mapping[str, str] | None = None, token: str = "") -> Reply:
        """GET below the prefix, or an absolute path, exactly as it is written."""
        sent = dict(headers or {})
        if token:
            sent["Cookie"] = f"{COOKIE}={web.create_signed_value(SECRET, COOKIE, token).decode()}"
        path = path if path.startswith("/") else self.site.prefix + path
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self._session.get(url, headers=sent, allow_redirects=False) as response:
            return Reply(response.status, response.headers, await response.text())


@asynccontextmanager
async def running(**changes: Any) -> AsyncIterator[Service]:
    jar = aiohttp.DummyCookieJar()
    async with FakeHub() as hub, aiohttp.ClientSession(cookie_jar=jar) as session:
        hub.models["alices"] = user_model("alice", ACCESS, "custom:ai-gateway:docs:read")
        hub.models["bobs"] = user_model("bob", ACCESS)
        hub.models["hostiles"] = user_model('"><script>', ACCESS, "custom:ai-gateway:docs:read")
        service = Service(hub, session, **changes)
        try:
            yield service
        finally:
            service.server.stop()
            await service.server.close_all_connections()
            await service.resolver.close()


class Elements(HTMLParser):
    """Every start tag of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def values(self, tag: str, attribute: str) -> list[str | None]:
        return [found[attribute] for found in self.all(tag) if attribute in found]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


async def test_root_answers_the_hub_s_health_check_without_asking_the_hub() -> None:
    async with running(public_url="https://hub.example.org/services/ai-gateway/") as service:
        reply = await service.get("")
        assert reply.status == 200
        assert json.loads(reply.text) == {
            "name": "JupyterHub AI Gateway",
            "version": "1.2.3",
            "docs": PREFIX + "docs",
            "openapi": PREFIX + "openapi.json",
            "base_url": "https://hub.example.org/services/ai-gateway/v1",
        }
        assert service.hub.asked == []


async def test_root_is_the_first_page_of_a_person() -> None:
    async with running() as service:
        reply = await service.get("", NAVIGATE)
        assert reply.status == 302
        assert urlsplit(reply.headers["Location"]).path == "/hub/api/oauth2/authorize"
        reply = await service.get("", NAVIGATE, "alices")
        assert reply.status == 200
        assert "Your models" in reply.text
        assert reply.headers["Vary"] == "Accept"


async def test_page_of_staff_is_theirs() -> None:
    async with running() as service:
        scopes = [ACCESS, "custom:ai-gateway:docs:read"]
        watch = "custom:ai-gateway:group-usage!group=<b>'physics'</b>"
        service.hub.models["roots"] = user_model("root", *scopes, "custom:ai-gateway:admin")
        service.hub.models["iras"] = user_model("ira", *scopes, watch)
        refused = await service.get("staff", NAVIGATE, "alices")
        assert refused.status == 403
        assert "custom:ai-gateway:admin" in refused.text
        assert ">Staff<" not in (await service.get("docs", NAVIGATE, "alices")).text
        for token, staff, groups in (("roots", "admin", ["*"]), ("iras", "groups", ["<b>'physics'</b>"])):
            reply = await service.get("staff", NAVIGATE, token)
            meta = {found.get("name"): found.get("content") for found in Elements(reply.text).all("meta")}
            assert meta["gateway-staff"] == staff
            assert json.loads(meta["gateway-groups"] or "") == groups
            assert not Elements(reply.text).all("b")


async def test_policy_names_the_hub_where_it_is_another_host() -> None:
    async with running(hub_url="https://hub.example.org/hub/") as service:
        policy = (await service.get("docs", NAVIGATE, "alices")).headers["Content-Security-Policy"]
        assert "style-src 'self' https://hub.example.org;" in policy
        assert "connect-src 'self';" in policy


async def test_page_needs_a_login() -> None:
    async with running() as service:
        reply = await service.get("docs", NAVIGATE)
        assert reply.status == 302
        assert urlsplit(reply.headers["Location"]).path == "/hub/api/oauth2/authorize"


async def test_page_needs_its_scope() -> None:
    async with running() as service:
        reply = await service.get("docs", NAVIGATE, "bobs")
        assert reply.status == 403
        assert "custom:ai-gateway:docs:read" in reply.text


async def test_page_is_guarded_by_its_headers() -> None:
    async with running() as service:
        headers = (await service.get("docs", NAVIGATE, "alices")).headers
        assert headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
        directives = CONTENT_SECURITY_POLICY.split("; ")
        assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(directives)
        assert "unsafe" not in CONTENT_SECURITY_POLICY


async def test_page_says_who_is_logged_in_and_how_to_leave() -> None:
    async with running(hub_url="https://hub.example.org/hub/") as service:
        reply = await service.get("docs", NAVIGATE, "alices")
        elements = Elements(reply.text)
        links = elements.values("a", "href")
        assert {f"https://hub.example.org/hub/{page}" for page in ("home", "token", "logout")} <= set(links)
        assert ">alice<" in reply.text
        assert "access:services!service=ai-gateway custom:ai-gateway:chat:create" in reply.text


async def test_page_carries_the_session_s_xsrf_token() -> None:
    async with running() as service:
        reply = await service.get("docs", NAVIGATE, "alices")
        meta = {found.get("name"): found.get("content") for found in Elements(reply.text).all("meta")}
        assert meta["gateway-xsrf"]
        assert f"_xsrf={meta['gateway-xsrf']}" in reply.headers["Set-Cookie"]
        assert meta["gateway-prefix"] == PREFIX


async def test_page_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    async with running() as service:
        elements = Elements((await service.get("docs", NAVIGATE, "alices")).text)
        assert all("src" in attributes for tag, attributes in elements.found if tag == "script")
        assert not any(tag == "style" for tag, _ in elements.found)
        for _, attributes in elements.found:
            assert not [name for name in attributes if name == "style" or name.startswith("on")]
        loaded = [*elements.values("script", "src"), *elements.values("link", "href")]
        loaded += elements.values("img", "src")
        assert len(loaded) >= 4
        assert all(
            (url or "").startswith((PREFIX + "static/", "/hub/static/", "/hub/logo")) for url in loaded
        )


async def test_name_of_a_person_is_no_markup() -> None:
    async with running(title="<script>", description="</p><script>") as service:
        reply = await service.get("docs", NAVIGATE, "hostiles")
        assert all("src" in script for script in Elements(reply.text).all("script"))
        assert "&#34;&gt;&lt;script&gt;" in reply.text


async def test_first_cell_keeps_its_lines() -> None:
    async with running() as service:
        reply = await service.get("docs", NAVIGATE, "alices")
        assert "create(\n    model=&quot;chat&quot;,\n" in reply.text.replace('"', "&quot;")


@pytest.mark.parametrize("page", ["", "docs", "usage", "playground", "staff"])
async def test_every_page_has_nothing_inline(page: str) -> None:
    async with running() as service:
        scopes = ("custom:ai-gateway:docs:read", "custom:ai-gateway:admin")
        service.hub.models["roots"] = user_model("root", ACCESS, *scopes)
        elements = Elements((await service.get(page, NAVIGATE, "roots")).text)
        assert all("src" in attributes for tag, attributes in elements.found if tag == "script")
        assert not any(tag == "style" for tag, _ in elements.found)
        for _, attributes in elements.found:
            assert not [name for name in attributes if name == "style" or name.startswith("on")]
        assert [each["aria-current"] for each in elements.all("a") if "aria-current" in each] == ["page"]


@pytest.mark.parametrize("prefix", [PREFIX, "/@/space%20word/services/gw/", "/"])
async def test_pages_work_below_any_prefix(prefix: str) -> None:
    async with running(prefix=prefix) as service:
        reply = await service.get("docs", NAVIGATE, "alices")
        own = [
            url or "" for url in Elements(reply.text).values("script", "src") if "/hub/" not in (url or "")
        ]
        assert own
        for url in own:
            assert url.startswith(f"{prefix}static/")
            assert (await service.get(url)).status == 200


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("docs.js", "text/javascript"), ("docs.css", "text/css"), ("icon.svg", "image/svg+xml")],
)
async def test_assets_need_no_login_and_are_kept(name: str, content_type: str) -> None:
    async with running() as service:
        reply = await service.get(service.site.asset_url(name))
        assert (reply.status, reply.headers["X-Content-Type-Options"]) == (200, "nosniff")
        assert reply.headers["Content-Type"].startswith(content_type)
        assert "max-age=315360000" in reply.headers["Cache-Control"]
        assert reply.text == (STATIC / name).read_text()
        plain = await service.get(f"static/{name}")
        assert "max-age" not in plain.headers.get("Cache-Control", "")
        assert service.hub.asked == []


@pytest.mark.parametrize(
    "path",
    ["static/", "static/nothing.js", "static/../pages.py", "static/%2e%2e/pages.py", "static//etc/passwd"],
)
async def test_only_the_assets_are_served(path: str) -> None:
    async with running() as service:
        reply = await service.get(path)
        assert reply.status == 404
        assert "root" not in reply.text


async def test_missing_asset_is_the_one_error_object() -> None:
    async with running() as service:
        reply = await service.get("static/nothing.js")
        assert json.loads(reply.text)["error"]["code"] == "path_not_found"


async def test_favicon() -> None:
    async with running() as service:
        reply = await service.get("favicon.ico")
        assert (reply.status, reply.headers["Content-Type"]) == (200, "image/svg+xml")


async def test_document_needs_no_token() -> None:
    async with running() as service:
        reply = await service.get("openapi.json")
        assert reply.headers["Content-Type"].startswith("application/json")
        found = json.loads(reply.text)
        assert not list(OpenAPIV31SpecValidator(found).iter_errors())
        flow = found["components"]["securitySchemes"]["hub"]["flows"]["authorizationCode"]
        assert flow["authorizationUrl"] == "/hub/api/oauth2/authorize"
        assert service.hub.asked == []
