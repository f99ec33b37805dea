"""The one table of URLs. Every path is served below the service's prefix, and without it.

The Hub's proxy passes the prefix on; a gateway that is reached directly, or behind an ingress that cuts
the prefix off, is asked without.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tornado import web

from . import batches, federated, gemini, keys, mine, mlflow, ops, pages, provider_paths, staff, usage
from .base import NotFoundHandler
from .lane import HotPath
from .login import OAuthCallbackHandler
from .openai import POST_PATHS, SharedPathHandler
from .responses import StoredResponseHandler

Rule = tuple[str, type[web.RequestHandler], dict[str, Any]]


def rules(prefix: str) -> list[Rule]:
    """Return tornado's rules; `prefix` begins and ends with a slash."""
    return [
        (f"{re.escape(base)}{pattern}", handler, arguments)
        for base in dict.fromkeys((prefix, "/"))
        for pattern, handler, arguments in patterns()
    ]


class HotPaths:
    """The lane's paths, by their whole text or by Google's pattern."""

    def __init__(self, prefix: str) -> None:
        self._bases = tuple(dict.fromkeys((prefix, "/")))
        self._known: Mapping[str, HotPath] = {
            f"{base}{path[1:]}": HotPath(operation)
            for base in self._bases
            for path, operation in POST_PATHS.items()
        }

    def find(self, target: str) -> HotPath | None:
        """Find what a request's target asks for; None for what the application answers."""
        found = self._known.get(target)
        if found is not None:
            return found
        path, _, query = target.partition("?")
        return self._known.get(path) or self._google(path, query)

    def _google(self, path: str, query: str) -> HotPath | None:
        if "/models/" not in path:
            return None
        for base in self._bases:
            if path.startswith(base):
                found = gemini.read_path(path[len(base) :], query)
                if found is not None:
                    return HotPath(*found)
        return None


def application(prefix: str, **settings: Any) -> web.Application:
    """Make the application of all handlers; what the settings are is said by the modules of this room."""
    return web.Application(
        [*rules(prefix), *provider_paths.rules(prefix, settings["gateway"])],
        default_handler_class=NotFoundHandler,
        log_function=settings.pop("log_function", _no_access_log),
        **settings,
    )


def admin_application(**settings: Any) -> web.Application:
    """Make the application of the admin port: `/ping` and `/metrics`, open to all who reach it."""
    return web.Application(
        [("/ping", ops.PingHandler), ("/metrics", ops.MetricsHandler)],
        default_handler_class=NotFoundHandler,
        log_function=_no_access_log,
        **{**settings, "authenticate_prometheus": False},
    )


def _no_access_log(handler: web.RequestHandler) -> None:
    """Write nothing: the gateway's own line has what matters, and a query string stays out."""


def patterns() -> Iterator[Rule]:
    """Yield every path below the prefix, as a pattern."""
    for path, operation in POST_PATHS.items():
        yield re.escape(path[1:]), SharedPathHandler, {"operation": operation}
    for version in ("v1/", ""):
        yield f"{version}responses/(resp_[^/]+)(/cancel|/input_items)?", StoredResponseHandler, {}
    yield from gemini.ROUTES
    yield from mlflow.ROUTES
    yield from mine.ROUTES
    yield from usage.ROUTES
    yield from batches.ROUTES
    yield from federated.ROUTES
    yield from keys.ROUTES
    yield from staff.ROUTES
    for pattern, ops_handler in ops.ROUTES:
        yield pattern, ops_handler, {}
    yield from pages.ROUTES
    yield "oauth_callback", OAuthCallbackHandler, {}
