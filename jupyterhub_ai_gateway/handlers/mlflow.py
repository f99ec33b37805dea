"""MLflow's paths: a path for each endpoint, and the lists that its clients read.

Bodies are OpenAI's, as MLflow has had them since 2.9, without a model: the path names it.

Source: mlflow/gateway/app.py and mlflow/deployments/mlflow/__init__.py (2.13 and 3.x, read 2026-11).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from tornado import web
from typing_extensions import override

from ..errors import NotFound
from ..router import Endpoint
from ..vocabulary import CHAT
from .openai import InvocationHandler, ModelsHandler


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
        "limit": None
        if limit is None
        else {"calls": limit.calls, "key": limit.key, "renewal_period": limit.renewal_period},
    }


ROUTES: Sequence[tuple[str, type[web.RequestHandler], dict[str, Any]]] = (
    (r"(?:endpoints|gateway)/([^/]+)/invocations", EndpointInvocationHandler, {}),
    (r"api/2\.0/endpoints/?", EndpointsHandler, {"key": "endpoints"}),
    (r"api/2\.0/endpoints/([^/]+)", EndpointHandler, {"noun": "endpoint"}),
    (r"api/2\.0/gateway/routes/?", EndpointsHandler, {"key": "routes"}),
    (r"api/2\.0/gateway/routes/([^/]+)", EndpointHandler, {"noun": "route"}),
)
"""Patterns below the prefix, who answers them, and with what arguments."""
