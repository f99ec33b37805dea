"""What a browser opens: the documentation page, its assets, the document behind it, and the way there.

Settings of the application that are read: `site`, and by the page itself `hub_auth` (see `login`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tornado import web
from typing_extensions import override

from ..vocabulary import ADMIN
from .base import BaseHandler
from .login import PageHandler, accepts_html
from .openapi import OAuthUrls, document
from .ops import OpsHandler

STATIC = Path(__file__).parent / "static"
TEMPLATES = Path(__file__).parent / "templates"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""The page runs and loads what this package ships, and speaks to this gateway alone."""

_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Site:
    """What the pages say of this gateway.

    `prefix` is where its paths begin, `hub_url` the Hub as browsers reach it (`/hub/` on the same host);
    both end with a slash. `public_url`, when it is known, is the whole address of `prefix`.
    """

    title: str
    description: str
    version: str
    prefix: str
    hub_url: str
    service_name: str
    public_url: str = ""

    def openapi(self) -> dict[str, Any]:
        """Return our OpenAPI document."""
        api = f"{self.hub_url}api/oauth2/"
        return document(
            title=self.title,
            description=self.description,
            version=self.version,
            prefix=self.prefix,
            public_url=self.public_url,
            service_name=self.service_name,
            oauth=OAuthUrls(f"{api}authorize", f"{api}token"),
        )

    def asset_url(self, name: str) -> str:
        """Return the address of a file in `static`; it changes with the content, so it can be kept."""
        settings = {"static_path": str(STATIC), "static_url_prefix": f"{self.prefix}static/"}
        return web.StaticFileHandler.make_static_url(settings, name)


def site_of(handler: web.RequestHandler) -> Site:
    """Return what this application's pages say."""
    site: Site = handler.settings["site"]
    return site


class RootHandler(OpsHandler):
    """`/`: browsers go on to the page, programs (and the Hub's health check) get directions."""

    @override
    def get(self) -> None:
        site = site_of(self)
        self.set_header("Vary", "Accept")
        if accepts_html(self.request):
            self.redirect(f"{site.prefix}docs")
            return
        self.finish(
            {
                "name": site.title,
                "version": site.version,
                "docs": f"{site.prefix}docs",
                "openapi": f"{site.prefix}openapi.json",
                "base_url": f"{site.public_url or site.prefix}v1",
            }
        )


class OpenAPIHandler(OpsHandler):
    """`/openapi.json`: for everybody, as it names nothing but what can be asked."""

    @override
    def get(self) -> None:
        self.finish(site_of(self).openapi())


class DocsHandler(PageHandler):
    """`/docs`: the interactive page, for people who are logged in and may read it."""

    operation = "docs:read"

    template = "docs.html"

    @override
    def get(self) -> None:
        """Write the page; its script asks the API for the rest."""
        self.set_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("X-Content-Type-Options", "nosniff")
        site = site_of(self)
        rules = self.hub_auth.resolver.rules
        self.render(
            self.template,
            site=site,
            asset=site.asset_url,
            user=self.caller.name,
            is_admin=rules.scope(ADMIN) in self.caller.scopes,
            xsrf=self.xsrf_token.decode(),
        )

    @override
    def get_template_path(self) -> str:
        return str(TEMPLATES)


class UsagePageHandler(DocsHandler):
    """`/usage`: what the person used and what is left; for holders of the admin scope also of others."""

    template = "usage.html"


class AssetHandler(BaseHandler, web.StaticFileHandler):
    """`/static/…`: the files of the page, for everybody; those asked for by content are kept for long."""

    @override
    def set_extra_headers(self, path: str) -> None:
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "default-src 'none'")

    @override
    def get_content_type(self) -> str:
        # Not what this machine thinks of the suffix: browsers refuse a script of another type
        return _CONTENT_TYPES[Path(self.absolute_path or "").suffix]


class FaviconHandler(AssetHandler):
    """`/favicon.ico`, for browsers that look for it unasked."""

    @override
    async def get(self, path: str = "icon.svg", include_body: bool = True) -> None:
        await super().get("icon.svg", include_body)


ROUTES: tuple[tuple[str, type[web.RequestHandler], dict[str, Any]], ...] = (
    ("", RootHandler, {}),
    ("docs", DocsHandler, {}),
    ("usage", UsagePageHandler, {}),
    ("openapi.json", OpenAPIHandler, {}),
    (r"static/([a-z]+\.[a-z]+)", AssetHandler, {"path": str(STATIC)}),
    (r"favicon\.ico", FaviconHandler, {"path": str(STATIC)}),
)
"""Patterns below the prefix, who answers them, and with what arguments."""
