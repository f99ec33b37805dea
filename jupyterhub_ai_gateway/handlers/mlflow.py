"""MLflow's paths: a path for each endpoint, and the lists that its clients read.

Bodies are OpenAI's, as MLflow has had them since 2.9, without a model: the path names it.

Source: mlflow/gateway/app.py and mlflow/deployments/mlflow/__init__.py (2.13 and 3.x, read 2026-11).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from tornado import web
from typing_extensions import override

from ..config import LimitConfig, read_limits
from ..errors import ConfigFault, NotFound, RequestFault
from ..router import Endpoint
from ..storage import AuditRow
from ..vocabulary import CHAT
from .openai import InvocationHandler, ModelsHandler
from .usage import AccountHandler


@web.stream_request_body
class EndpointInvocationHandler(InvocationHandler):
    """`POST /endpoints/NAME/invocations`, and the same below `/gateway`."""

    @override
    def initialize(self) -> None:  # type: ignore[override]  # the operation is the endpoint's
        super().initialize(CHAT)

    @override
    def prepare(self) -> None:
        self.path_model = unquote(self.path_args[0])
        # One that does not exist is refused as any unknown model is, once it is known who asks
        self.operation = self.gateway.catalogue.operation_of(self.path_model) or CHAT
        super().prepare()


class EndpointsHandler(ModelsHandler):
    """`GET /api/2.0/endpoints/`: all on one page. `key` is what the list is called."""

    @override
    def initialize(self, key: str) -> None:
        self.key = key

    @override
    async def get(self) -> None:
        caller = await self.identify()
        found = [entity(each) for each in self.gateway.catalogue.open_to(caller)]
        self.write_json({self.key: found, "next_page_token": None})


class EndpointHandler(ModelsHandler):
    """`GET /api/2.0/endpoints/NAME`: one of them. `noun` is what the client calls it."""

    @override
    def initialize(self, noun: str) -> None:
        self.noun = noun

    @override
    async def get(self, name: str = "") -> None:
        caller = await self.identify()
        name = unquote(name)
        try:
            endpoint = self.gateway.catalogue.described(name, caller)
        except NotFound:
            raise NotFound(
                f"The {self.noun} '{name[:64]}' is not present or active on the server. "
                f"Please verify the {self.noun} name.",
                slug="model_not_found",
            ) from None
        self.write_json(entity(endpoint))

    @override
    async def head(self, name: str = "") -> None:
        await self.get(name)


class LimitsHandler(AccountHandler):
    """MLflow's `get_limits` and `set_limits`, for holders of the admin scope.

    What is set counts in the place of the configuration's `limit` until it is set back: with `[]` there is
    no limit, with null the configuration's own again.
    """

    methods = "GET, POST"

    @override
    async def get(self, name: str = "") -> None:
        self.require_admin()
        endpoint = self._endpoint(unquote(name))
        self.write_json({"limits": _limits(endpoint.limit)})

    @override
    async def post(self, name: str = "") -> None:
        self.require_admin()
        document = self.document()
        route = document.get("route") or document.get("endpoint") or unquote(name)
        endpoint = self._endpoint(route if isinstance(route, str) else "")
        limits = document.get("limits")
        if limits is not None:
            try:
                read_limits(limits)
            except ConfigFault as fault:
                raise RequestFault(str(fault), param=fault.path) from None
        detail = json.dumps({"limits": limits})
        audit = AuditRow(time.time_ns() // 1_000_000, self.caller.key, "limits.set", endpoint.name, detail)
        database = self.database
        await self.ask_ledger(lambda: database.set(f"limits/{endpoint.name}", limits, audit))
        await self.accounts.refresh()
        self.write_json({"limits": _limits(self._endpoint(endpoint.name).limit)})

    def _endpoint(self, name: str) -> Endpoint:
        return self.gateway.catalogue.any(name, self.caller)


def _limits(limit: LimitConfig | None) -> list[dict[str, Any]]:
    if limit is None:
        return []
    return [{"calls": limit.calls, "key": limit.key, "renewal_period": limit.renewal_period}]


def entity(endpoint: Endpoint) -> dict[str, Any]:
    """Describe an endpoint in all the words that MLflow's clients have used for it.

    Addresses are below the base that a client was given, so that they work behind every proxy.
    """
    limit = endpoint.limit
    path = f"/gateway/{endpoint.name}/invocations"
    kind = endpoint.operation.endpoint_type
    provider = endpoint.deployment.provider
    return {
        "name": endpoint.name,
        "endpoint_type": kind,
        "route_type": kind,
        "model": {"name": provider.model_name or endpoint.name, "provider": provider.name},
        "endpoint_url": path,
        "route_url": path,
        "limit": _limits(limit)[0] if limit else None,
    }


ROUTES: Sequence[tuple[str, type[web.RequestHandler], dict[str, Any]]] = (
    (r"(?:endpoints|gateway)/([^/]+)/invocations", EndpointInvocationHandler, {}),
    (r"api/2\.0/endpoints/?", EndpointsHandler, {"key": "endpoints"}),
    (r"api/2\.0/(?:gateway|endpoints)/limits/?", LimitsHandler, {}),
    (r"api/2\.0/(?:gateway|endpoints)/limits/([^/]+)", LimitsHandler, {}),
    (r"api/2\.0/endpoints/([^/]+)", EndpointHandler, {"noun": "endpoint"}),
    (r"api/2\.0/gateway/routes/?", EndpointsHandler, {"key": "routes"}),
    (r"api/2\.0/gateway/routes/([^/]+)", EndpointHandler, {"noun": "route"}),
)
"""Patterns below the prefix, who answers them, and with what arguments."""
