"""For machines that look after the gateway: is it up, should it get requests, what does it count.

Nothing here asks a provider, and the Hub is asked only for a token. Settings of the application that
are read: `gateway`, `status`, `metrics`, `metrics_enabled`, `authenticate_prometheus`, `resolver`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from tornado import web
from typing_extensions import override

from ..auth import TokenResolver, token_from_headers
from ..errors import AuthFault
from ..gateway import Gateway
from ..metrics import ConfigurationState, Metrics
from ..vocabulary import ADMIN
from .base import BaseHandler

READ_METRICS = "read:metrics"
"""The Hub's own scope; a service that holds it needs no access to ours."""


class Status(Protocol):
    """What the process says of itself."""

    @property
    def version(self) -> str:
        """Return the version of this package."""

    @property
    def uptime_s(self) -> float:
        """Return how long the process has been ready to serve."""

    @property
    def is_draining(self) -> bool:
        """Return True once the process only finishes what it has begun."""

    def configuration(self) -> ConfigurationState:
        """Return what configuration is in use, and whether the newest file was good."""


class OpsHandler(BaseHandler):
    """What they share: the process's own view, and HEAD."""

    @property
    def status(self) -> Status:
        """Return the process's own view."""
        status: Status = self.settings["status"]
        return status

    @override
    async def head(self) -> None:
        """Answer HEAD as GET; the server leaves out the body."""
        answer = self.get()
        if answer is not None:
            await answer


class HealthHandler(OpsHandler):
    """`/health`: the process answers, which version it is, and what configuration is in use.

    `status` stays OK while draining and with a broken newer file: what is in use works. Holders of the
    admin scope also get the state of every deployment; without a token nobody is asked who calls.
    """

    @override
    async def get(self) -> None:
        state = self.status.configuration()
        deployments = await self._deployments()
        self.finish(
            {
                **({} if deployments is None else {"deployments": deployments}),
                "status": "OK",
                "version": self.status.version,
                "uptime": round(self.status.uptime_s, 3),
                "ready": not self.status.is_draining,
                "configuration": {
                    "loaded_at": state.loaded_at.isoformat(timespec="seconds"),
                    "endpoints": state.endpoints,
                    "last_error": state.last_error,
                },
            }
        )

    async def _deployments(self) -> list[dict[str, object]] | None:
        """Return every deployment's state, for those who look after them; None for all others."""
        token = token_from_headers(self.request.headers)
        if not token:
            return None
        resolver: TokenResolver = self.settings["resolver"]
        try:
            caller = resolver.peek(token) or await resolver.resolve(token)
        except AuthFault:
            return None
        if resolver.rules.scope(ADMIN) not in caller.scopes:
            return None
        gateway: Gateway = self.settings["gateway"]
        now = time.monotonic()
        return [
            {
                "endpoint": endpoint.name,
                "deployment": each.name,
                "state": each.state(now).state,
                "error_rate": each.health.error_rate(now),
                "slow": each.name in endpoint.slow(now),
            }
            for endpoint in gateway.catalogue.all
            for each in endpoint.deployments
        ]


class LiveHandler(OpsHandler):
    """`/health/live`: 200 as long as the loop turns."""

    @override
    def get(self) -> None:
        self.finish({"status": "OK"})


class ReadyHandler(OpsHandler):
    """`/health/ready`: 200, or 503 once no new requests should come."""

    @override
    def get(self) -> None:
        if self.status.is_draining:
            self.set_status(503)
            self.finish({"status": "draining"})
        else:
            self.finish({"status": "OK"})


class PingHandler(OpsHandler):
    """`/ping`: the text `pong`."""

    @override
    def get(self) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("pong")


class Peers(Protocol):
    """The other processes of this gateway."""

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Return the counts of all of them, this one included, and the content type."""


class MetricsHandler(OpsHandler):
    """`/metrics`: the counts as text, for callers who hold the Hub's scope `read:metrics`.

    That scope alone: a scraper has no access to services. Open to all without
    `authenticate_prometheus`, 404 without `metrics_enabled`.
    """

    @override
    async def get(self) -> None:
        if not self.settings["metrics_enabled"]:
            self.set_status(404)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish("Metrics are not enabled.")
            return
        if self.settings["authenticate_prometheus"]:
            await self._require_scope()
        metrics: Metrics = self.settings["metrics"]
        # Writing it out takes a while when there are many endpoints; streams go on meanwhile
        accept = self.request.headers.get("Accept", "")
        peers: Peers | None = self.settings.get("peers")
        if peers is None:
            body, content_type = await asyncio.to_thread(metrics.snapshot().render, accept)
        else:
            body, content_type = await peers.render(accept)
        self.set_header("Content-Type", content_type)
        self.finish(body)

    async def _require_scope(self) -> None:
        resolver: TokenResolver = self.settings["resolver"]
        token = token_from_headers(self.request.headers)
        caller = (resolver.peek(token) if token else None) or await resolver.resolve(token)
        resolver.rules.require_scope(caller, READ_METRICS, access=False)


ROUTES: tuple[tuple[str, type[web.RequestHandler]], ...] = (
    ("health", HealthHandler),
    ("health/live", LiveHandler),
    ("health/ready", ReadyHandler),
    ("ping", PingHandler),
    ("metrics", MetricsHandler),
)
"""Paths below the prefix, and who answers them."""
