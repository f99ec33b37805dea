"""Health, readiness and metrics, on real sockets, with a fake Hub behind them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from typing import Any, Protocol

import aiohttp
import pytest
from expected import ExpectedLog
from fakes.hub import ACCESS, FakeHub, json_response, user_model
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

from jupyterhub_ai_gateway.auth import TokenResolver
from jupyterhub_ai_gateway.handlers.ops import ROUTES
from jupyterhub_ai_gateway.metrics import ConfigurationState, Metrics

PREFIX = "/services/ai-gateway/"
LOADED = datetime(2026, 11, 20, 8, 30, tzinfo=timezone.utc)


class Log(Protocol):
    def take(self, part: str) -> list[str]: ...


class Process:
    """What the gateway's process says of itself."""

    version = "1.2.3"
    uptime_s = 4.56789
    is_draining = False
    last_error: str | None = None

    def configuration(self) -> ConfigurationState:
        return ConfigurationState(LOADED, endpoints=3, last_error=self.last_error)


class Reply:
    def __init__(self, status: int, headers: Mapping[str, str], text: str) -> None:
        self.status, self.headers, self.text = status, headers, text

    @property
    def document(self) -> Any:
        return json.loads(self.text)


class Service:
    """The handlers on a port, and a client for them."""

    def __init__(self, hub: FakeHub, session: aiohttp.ClientSession, **settings: Any) -> None:
        self.hub = hub
        self.process = Process()
        self.metrics = Metrics()
        self.resolver = TokenResolver(hub.url, "ai-gateway", access_scopes=[ACCESS])
        app = web.Application(
            [(PREFIX + path, handler) for path, handler in ROUTES],
            log_function=lambda handler: None,
            **{
                "status": self.process,
                "metrics": self.metrics,
                "resolver": self.resolver,
                "metrics_enabled": True,
                "authenticate_prometheus": True,
                **settings,
            },
        )
        self.server = HTTPServer(app)
        sock, self.port = bind_unused_port()
        self.server.add_socket(sock)
        self._session = session

    async def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, token: str = ""
    ) -> Reply:
        sent = dict(headers or {})
        if token:
            sent["Authorization"] = f"Bearer {token}"
        url = f"http://127.0.0.1:{self.port}{PREFIX}{path}"
        async with self._session.request(method, url, headers=sent, allow_redirects=False) as response:
            return Reply(response.status, response.headers, await response.text())


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Service]:
    async with FakeHub() as hub, aiohttp.ClientSession() as session:
        hub.models["scraper"] = {
            "kind": "service",
            "name": "prometheus",
            "admin": False,
            "scopes": ["read:metrics"],
        }
        hub.models["alices"] = user_model("alice", ACCESS, "custom:ai-gateway:full-access")
        service = Service(hub, session, **settings)
        try:
            yield service
        finally:
            service.server.stop()
            await service.server.close_all_connections()
            await service.resolver.close()


async def test_health_says_what_runs() -> None:
    async with running() as service:
        reply = await service.ask("health")
        assert reply.status == 200
        assert reply.document == {
            "status": "OK",
            "version": "1.2.3",
            "uptime": 4.568,
            "ready": True,
            "configuration": {"loaded_at": "2026-11-20T08:30:00+00:00", "endpoints": 3, "last_error": None},
        }


async def test_health_says_why_the_newest_file_is_not_in_use() -> None:
    async with running() as service:
        service.process.last_error = "endpoints[1].model: is missing"
        reply = await service.ask("health")
        assert reply.status == 200
        assert reply.document["configuration"]["last_error"] == "endpoints[1].model: is missing"


async def test_draining_is_alive_and_not_ready() -> None:
    async with running() as service:
        assert (await service.ask("health/ready")).status == 200
        service.process.is_draining = True
        assert [(await service.ask(path)).status for path in ("health", "health/live", "health/ready")] == [
            200,
            200,
            503,
        ]
        assert (await service.ask("health")).document["ready"] is False


async def test_ping() -> None:
    async with running() as service:
        reply = await service.ask("ping")
        assert (reply.status, reply.text) == (200, "pong")
        assert reply.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("path", ["health", "health/live", "health/ready", "ping"])
async def test_probes_need_no_token_and_no_hub(path: str) -> None:
    async with running() as service:
        service.hub.answer = json_response(500, {})
        for token in ("",) if path == "health" else ("", "bogus", "alices"):
            assert (await service.ask(path, token=token)).status == 200
        head = await service.ask(path, "HEAD")
        assert (head.status, head.text) == (200, "")
        assert head.headers["Cache-Control"] == "no-store"
        assert service.hub.asked == []


async def test_health_answers_whoever_asks_although_the_hub_does_not(expected_log: ExpectedLog) -> None:
    async with running() as service:
        service.hub.answer = json_response(500, {})
        reply = await service.ask("health", token="alices")
        assert reply.status == 200
        assert "deployments" not in reply.text
    expected_log.take("The Hub cannot be asked")


async def test_metrics_for_whoever_may_read_metrics_alone() -> None:
    async with running() as service:
        service.metrics.watch_version("1.2.3")
        reply = await service.ask("metrics", token="scraper")
        assert reply.status == 200
        assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert 'jupyterhub_ai_gateway_build_info{version="1.2.3"} 1.0' in reply.text


async def test_scrapes_ask_the_hub_once() -> None:
    async with running() as service:
        for _ in range(3):
            assert (await service.ask("metrics", token="scraper")).status == 200
        assert service.hub.asked == ["scraper"]


async def test_metrics_in_the_format_that_is_asked_for() -> None:
    async with running() as service:
        accept = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.4"}
        reply = await service.ask("metrics", token="scraper", headers=accept)
        assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
        assert reply.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [
        ("", 401, "missing_api_key"),
        ("bogus", 401, "invalid_api_key"),
        ("alices", 403, "insufficient_scope"),
    ],
)
async def test_metrics_are_closed_to_others(token: str, status: int, code: str) -> None:
    async with running() as service:
        reply = await service.ask("metrics", token=token)
        assert (reply.status, reply.document["error"]["code"]) == (status, code)
        assert (reply.headers.get("WWW-Authenticate") == "Bearer") is (status == 401)
        assert "build_info" not in reply.text
        if status == 403:
            assert "read:metrics" in reply.document["detail"]


async def test_metrics_while_the_hub_is_away(expected_log: Log) -> None:
    async with running() as service:
        service.hub.answer = json_response(500, {})
        reply = await service.ask("metrics", token="scraper")
        assert (reply.status, reply.document["error"]["code"]) == (503, "hub_unavailable")
        assert int(reply.headers["Retry-After"]) >= 1
        expected_log.take("The Hub cannot be asked")


async def test_metrics_can_be_open() -> None:
    async with running(authenticate_prometheus=False) as service:
        assert (await service.ask("metrics")).status == 200
        assert service.hub.asked == []


async def test_metrics_that_are_off() -> None:
    async with running(metrics_enabled=False) as service:
        for token in ("", "scraper"):
            reply = await service.ask("metrics", token=token)
            assert (reply.status, reply.text) == (404, "Metrics are not enabled.")
        assert service.hub.asked == []


@pytest.mark.parametrize("path", [path for path, _ in ROUTES])
async def test_other_methods_are_refused(path: str) -> None:
    async with running() as service:
        reply = await service.ask(path, "POST")
        assert (reply.status, reply.document["error"]["code"]) == (405, "method_not_allowed")
        assert reply.headers["Allow"] == "GET, HEAD"
