"""Pages for browsers: logged in by the Hub's OAuth, or by a token like any other request.

JupyterHub's own handlers do the login, its cookies and its XSRF tokens; nothing here waits on the loop.
A request that is no browser's page load gets an error, never a redirect.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from http.client import responses
from typing import Any, Protocol

from jupyterhub.services.auth import HubOAuthCallbackHandler, HubOAuthenticated
from tornado import httputil, web
from typing_extensions import override

from ..auth import GatewayHubOAuth, has_credentials
from ..errors import Fault, Forbidden
from ..vocabulary import Caller
from .base import BaseHandler


class Page(HubOAuthenticated, BaseHandler):  # type: ignore[misc]  # the Hub's library has no types
    """What pages and the login's callback share: whose cookies count, and faults that people can read."""

    @property
    def hub_auth(self) -> GatewayHubOAuth:
        """Return the application's one login, whichever handler asks first."""
        auth: GatewayHubOAuth = self.settings["hub_auth"]
        return auth

    @override
    def get_current_user(self) -> Mapping[str, Any] | None:
        """Never ask: `prepare` has set the user, and the library's own way would block the loop."""
        return None

    @override
    def write_fault(self, fault: Fault) -> None:
        """Answer in words: a small page for a browser, the gateway's error object for a program."""
        if accepts_html(self.request):
            self.set_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
            self.set_header("Content-Type", "text/html; charset=UTF-8")
            self.finish(_error_page(fault))
        else:
            super().write_fault(fault)


class PageHandler(Page):
    """A page for callers who may do `operation`; `caller` is who asks, once `prepare` is over."""

    operation = "docs:read"
    caller: Caller

    @override
    async def prepare(self) -> None:
        """Name the caller and check the scopes; send a browser that nobody knows to the login."""
        auth = self.hub_auth
        model = await auth.get_user(self, sync=False)
        if model is not None:
            self.caller = auth.resolver.rules.caller(model)
            self.current_user = model
            auth.resolver.rules.require(self.caller, self.operation)
        elif is_page_load(self.request) and auth.resolver.asks_hub:
            self.redirect(self.get_login_url())
        else:
            raise auth.resolver.refusal(auth.get_token(self, in_cookie=False))


class OAuthCallbackHandler(Page, HubOAuthCallbackHandler):  # type: ignore[misc]
    """Where the Hub sends the browser back to, with a code that becomes a cookie."""

    @override
    async def prepare(self) -> None:
        """Find who is logged in already: a second answer to an old login then ends well."""
        self.current_user = await self.hub_auth.get_user(self, sync=False)


def is_page_load(request: httputil.HTTPServerRequest) -> bool:
    """Tell whether a browser loads a page, and so can follow a redirect to the login.

    Browsers say so with Sec-Fetch-Mode, except on plain http away from localhost: then what counts is
    that HTML is asked for. A request with a token, right or wrong, is a program's.
    """
    if request.method not in ("GET", "HEAD") or has_credentials(request.headers):
        return False
    mode = request.headers.get("Sec-Fetch-Mode")
    return accepts_html(request) if mode is None else mode == "navigate"


def accepts_html(request: httputil.HTTPServerRequest) -> bool:
    """Tell whether the answer's reader asked for HTML by name, as browsers do."""
    return (
        "text/html" in request.headers.get("Accept", "")
        or request.headers.get("Sec-Fetch-Mode") == "navigate"
    )


def _error_page(fault: Fault) -> str:
    title = f"{fault.status} {responses.get(fault.status, 'Error')}"
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        "<style>body{font:1.1rem/1.5 sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}</style>"
        f"</head><body><h1>{escape(title)}</h1><p>{escape(fault.public)}</p></body></html>"
    )


class HasRequest(Protocol):
    """A RequestHandler, or whatever else knows its application and its request."""

    @property
    def application(self) -> web.Application:
        """Return the application whose settings hold `hub_auth` and `cookie_secret`."""

    @property
    def request(self) -> httputil.HTTPServerRequest:
        """Return the request with its headers."""


async def caller_from_cookie(handler: HasRequest) -> Caller | None:
    """Name the caller of a request from our own pages: their cookie with its X-XSRFToken.

    None without a cookie that is ours, and always when a header names a caller, rightly or not.
    `Forbidden` when the cookie comes without the XSRF token of this session: another site may have sent it.
    """
    if "Cookie" not in handler.request.headers or has_credentials(handler.request.headers):
        return None
    view = _CookieView(handler.application, handler.request)
    auth = view.hub_auth
    model = await auth.get_user(view, sync=False)
    if view.is_xsrf_refused:
        raise Forbidden(
            "A login cookie needs the X-XSRFToken header of the page it belongs to; "
            "programs send a token in the Authorization header instead.",
            slug="xsrf_token_missing",
        )
    return None if model is None else auth.resolver.rules.caller(model)


class _CookieView(Page):
    """Reads cookies of a request that another handler, or none, answers; what it would set is lost."""

    def __init__(self, application: web.Application, request: httputil.HTTPServerRequest) -> None:
        # Not super().__init__: it would take the connection's close callback from the real handler
        self.application = application
        self.request = request
        self.is_xsrf_refused = False
        self.clear()

    @override
    def check_xsrf_cookie(self) -> None:
        try:
            super().check_xsrf_cookie()
        except web.HTTPError:
            self.is_xsrf_refused = True
            raise
