"""A small client in MLflow's words, for those who have no MLflow. Standard library only.

    from jupyterhub_ai_gateway.client import query, search_routes

    for route in search_routes():
        print(route.name, route.route_type)
    query("chat", {"messages": [{"role": "user", "content": "Hello"}]})

In a notebook server of the Hub it finds the gateway and the token by itself. Elsewhere `set_gateway_uri`
or the environment variable MLFLOW_GATEWAY_URI says where, and MLFLOW_TRACKING_TOKEN is a token of the Hub.

Source of names and signatures: mlflow/gateway/fluent.py and client.py of 2.5.0 to 2.22.1 (read 2026-11).
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from ._version import __version__

__all__ = [
    "GatewayClient",
    "GatewayError",
    "Limit",
    "Page",
    "Route",
    "RouteModel",
    "get_gateway_uri",
    "get_limits",
    "get_route",
    "query",
    "search_routes",
    "set_gateway_uri",
    "set_limits",
]

TIMEOUT_S = 300.0
MAX_ANSWER_BYTES = 256 * 1024 * 1024
URI_VARIABLES = ("JUPYTERHUB_AI_GATEWAY_URL", "MLFLOW_GATEWAY_URI")
SDK_VARIABLES = (("OPENAI_BASE_URL", "OPENAI_API_KEY"), ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN"))
"""What the Hub sets for SDKs. The address is the gateway's only where the key is the server's own token."""
TOKEN_VARIABLES = ("MLFLOW_TRACKING_TOKEN", "JUPYTERHUB_API_TOKEN")


class GatewayError(Exception):
    """A call that failed. `status` is None where there was no answer, `code` the gateway's word for it.

    `retry_after_s` is how long the gateway asks to wait, None where that is no matter of time.
    `request_id` is what an administrator can look for in the gateway's log.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message if request_id is None else f"{message} ({request_id})")
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s
        self.request_id = request_id


@dataclass(frozen=True, slots=True)
class RouteModel:
    """The model behind a route: the provider's own name of it, and the provider."""

    name: str | None
    provider: str


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `calls` in a `renewal_period`; `key` says whom it counts."""

    calls: int
    renewal_period: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One model of the gateway. `route_url` is the whole address that `query` sends to."""

    name: str
    route_type: str
    model: RouteModel
    route_url: str
    limit: Limit | None = None


class Page(list[Route]):
    """Some routes; `token` asks for those that follow, None where there are no more."""

    def __init__(self, routes: Iterable[Route], token: str | None) -> None:
        super().__init__(routes)
        self.token = token


def _opener(context: ssl.SSLContext | None) -> OpenerDirector:
    """Return what opens addresses. It follows no redirect, which would take the token to another place."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPHandler(),
        HTTPSHandler(context=context),
        HTTPDefaultErrorHandler(),
        HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


@dataclass(slots=True)
class GatewayClient:
    """Calls one gateway. Without arguments: the one, and the token, of this notebook server.

    `timeout_s` is how long each wait for the gateway may take, in seconds. `ssl_context` is for a gateway
    with a certificate of its own.
    """

    gateway_uri: str = ""
    token: str | None = field(default=None, repr=False)
    timeout_s: float = TIMEOUT_S
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False)
    _opener: OpenerDirector = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.gateway_uri = _checked(self.gateway_uri).rstrip("/") if self.gateway_uri else get_gateway_uri()
        if self.token is None:
            self.token = next((os.environ[name] for name in TOKEN_VARIABLES if os.environ.get(name)), None)
        self._opener = _opener(self.ssl_context)

    def get_route(self, name: str) -> Route:
        """Return one route; `GatewayError` of status 404 where there is none for you."""
        return self._route(self._get(f"/api/2.0/gateway/routes/{_quoted(name)}"))

    def search_routes(self, page_token: str | None = None) -> Page:
        """Return a page of the routes that you may use; one holds 3000."""
        asked = f"?{urlencode({'page_token': page_token})}" if page_token is not None else ""
        found = self._get(f"/api/2.0/gateway/routes/{asked}")
        return Page(map(self._route, found["routes"]), found.get("next_page_token"))

    def query(self, route: str, data: Mapping[str, Any]) -> Any:
        """Send a request, and return the answer as it comes: a dictionary."""
        if data.get("stream"):
            raise GatewayError("stream: this client reads whole answers; use the OpenAI SDK for streams.")
        return self._post(f"/gateway/{_quoted(route)}/invocations", data)

    def get_limits(self, route: str) -> list[Limit]:
        """Return the limits of a route. You need the gateway's admin scope."""
        return _limits(self._get(f"/api/2.0/gateway/limits/{_quoted(route)}"))

    def set_limits(self, route: str, limits: Sequence[Mapping[str, Any]]) -> list[Limit]:
        """Set the limits of a route, and return them. You need the gateway's admin scope."""
        return _limits(self._post("/api/2.0/gateway/limits/", {"route": route, "limits": list(limits)}))

    def _route(self, found: Mapping[str, Any]) -> Route:
        url, limit, model = found["route_url"], found.get("limit"), found["model"]
        return Route(
            name=found["name"],
            route_type=found["route_type"],
            model=RouteModel(model.get("name"), model["provider"]),
            route_url=url if "://" in url else f"{self.gateway_uri}{url}",
            limit=None if limit is None else _limit(limit),
        )

    def _get(self, path: str) -> Any:
        return self._send(Request(self.gateway_uri + path, method="GET"))  # noqa: S310 - see _checked

    def _post(self, path: str, document: Mapping[str, Any]) -> Any:
        body = json.dumps(document).encode()
        headers = {"Content-Type": "application/json"}
        return self._send(Request(self.gateway_uri + path, body, headers, method="POST"))  # noqa: S310

    def _send(self, request: Request) -> Any:
        request.add_header("User-Agent", f"jupyterhub-ai-gateway-client/{__version__}")
        if self.token is not None:
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        try:
            with self._opener.open(request, timeout=self.timeout_s) as answer:
                return _document(answer.read(MAX_ANSWER_BYTES))
        except HTTPError as error:
            with error:
                raise self._failure(error) from None
        except TimeoutError:
            raise GatewayError(
                f"The gateway at {self.gateway_uri} did not answer within {self.timeout_s:g} seconds."
            ) from None
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise GatewayError(f"The gateway at {self.gateway_uri} cannot be reached: {reason}.") from None

    def _failure(self, error: HTTPError) -> GatewayError:
        """Return what the gateway said; something else may stand at that address as well."""
        try:
            said = json.loads(error.read(65536))["error"]
            message, code = str(said["message"]), str(said["code"])
        except (ValueError, KeyError, TypeError):
            message, code = f"{self.gateway_uri} answered {error.code}, and is no gateway.", None
        if error.code == 401 and self.token is None:
            message = (
                "There is no token: pass one, or set MLFLOW_TRACKING_TOKEN to a token of the Hub. "
                "In a notebook server of the Hub, JUPYTERHUB_API_TOKEN is there by itself."
            )
        return GatewayError(
            message,
            status=error.code,
            code=code,
            retry_after_s=_seconds(error.headers.get("Retry-After")),
            request_id=error.headers.get("x-request-id"),
        )


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise GatewayError("The answer is not JSON: is this the gateway's address?") from None


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _limit(found: Mapping[str, Any]) -> Limit:
    return Limit(found["calls"], found["renewal_period"], found.get("key"))


def _limits(found: Mapping[str, Any]) -> list[Limit]:
    return [_limit(each) for each in found["limits"]]


def _checked(uri: str) -> str:
    """Return an address that has what an address needs."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise GatewayError(
            f"{uri!r} is no address of a gateway: it must begin with http:// or https:// and a host."
        )
    return uri


# MLflow's fluent functions

_chosen: list[str] = []
"""What `set_gateway_uri` said last, for this process."""


def set_gateway_uri(gateway_uri: str) -> None:
    """Say where the gateway is, for all calls of these functions in this process."""
    _chosen[:] = [_checked(gateway_uri).rstrip("/")]


def get_gateway_uri() -> str:
    """Return where the gateway is: as `set_gateway_uri` said, else by the environment.

    `GatewayError` says what to do where neither knows.
    """
    if _chosen:
        return _chosen[0]
    for name in URI_VARIABLES:
        if os.environ.get(name):
            return _checked(os.environ[name]).rstrip("/")
    own = os.environ.get("JUPYTERHUB_API_TOKEN")
    for address, key in SDK_VARIABLES:
        if own and os.environ.get(address) and os.environ.get(key) == own:
            return _checked(os.environ[address]).rstrip("/").removesuffix("/v1")
    raise GatewayError(
        "It is not known where the gateway is: call set_gateway_uri, or set MLFLOW_GATEWAY_URI, "
        "to its address, such as https://HUB/services/ai-gateway."
    )


def get_route(name: str) -> Route:
    """Return one route; see `GatewayClient.get_route`."""
    return GatewayClient().get_route(name)


def search_routes(search_filter: str | None = None) -> list[Route]:
    """Return all routes that you may use. A `search_filter` is refused, as by every MLflow."""
    if search_filter is not None:
        raise GatewayError("search_filter is not supported; choose among the routes that come back.")
    client = GatewayClient()
    page = client.search_routes()
    found = list(page)
    while page.token is not None:
        page = client.search_routes(page.token)
        found += page
    return found


def query(route: str, data: Mapping[str, Any]) -> Any:
    """Send a request to a route; see `GatewayClient.query`."""
    return GatewayClient().query(route, data)


def get_limits(route: str) -> list[Limit]:
    """Return the limits of a route; see `GatewayClient.get_limits`."""
    return GatewayClient().get_limits(route)


def set_limits(route: str, limits: Sequence[Mapping[str, Any]]) -> list[Limit]:
    """Set the limits of a route; see `GatewayClient.set_limits`."""
    return GatewayClient().set_limits(route, limits)
