"""What a browser opens: the pages, their assets, and the document behind the documentation.

What the pages show they ask of the API themselves, so nobody waits for a page. Settings of the application
that are read: `site`, `look`, `accounts`, and by the pages themselves `hub_auth` (see `login`).
"""

from __future__ import annotations

from dataclasses import dataclass
from http.client import responses
from pathlib import Path
from typing import Any

from tornado import web
from typing_extensions import override

from ..errors import Fault
from ..vocabulary import ADMIN, GROUP_USAGE
from .base import BaseHandler
from .login import PageHandler, accepts_html
from .look import Look, content_security_policy
from .openapi import OAuthUrls, document
from .ops import OpsHandler
from .usage import Accounts

STATIC = Path(__file__).parent / "static"
CONTENT_SECURITY_POLICY = content_security_policy("/hub/")
"""That of a page where the Hub is on the same host."""

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


class HubPage(PageHandler):
    """A page in the Hub's look: its `template`, its `script`, and its name among the pages."""

    template = ""
    script = ""
    page = ""

    @override
    def get(self) -> None:
        """Write the page; its script asks the API for the rest."""
        self.guard()
        site = site_of(self)
        look: Look = self.settings.setdefault("look", Look(site.hub_url))
        caller, rules = self.caller, self.hub_auth.resolver.rules
        is_admin = rules.scope(ADMIN) in caller.scopes
        watches_all = is_admin or rules.scope(GROUP_USAGE) in caller.scopes
        self.finish(
            look.render(
                self.template,
                user=caller.name,
                is_hub_admin=caller.is_admin,
                site=site,
                asset=site.asset_url,
                xsrf=self.xsrf_token.decode(),
                time_zone=self._time_zone(),
                page=self.page,
                script=self.script,
                is_admin=is_admin,
                watches_all=watches_all,
                watched_groups=sorted(caller.watched_groups),
                is_staff=watches_all or bool(caller.watched_groups),
                operations=caller.operations,
            )
        )

    def _time_zone(self) -> str:
        """Name the time zone in which the ledger's days begin."""
        accounts: Accounts | None = self.settings.get("accounts")
        return "UTC" if accounts is None else accounts.time_zone

    @override
    def write_fault(self, fault: Fault) -> None:
        """Tell a person who is logged in what went wrong, with the way back; others as any page does."""
        if not (self.current_user and accepts_html(self.request)):
            super().write_fault(fault)
            return
        self.guard()
        site = site_of(self)
        look: Look = self.settings.setdefault("look", Look(site.hub_url))
        self.set_header("Content-Type", "text/html; charset=UTF-8")
        self.finish(
            look.render(
                "fault.html",
                user=self.caller.name,
                is_hub_admin=self.caller.is_admin,
                site=site,
                asset=site.asset_url,
                fault=fault,
                reason=responses.get(fault.status, "Error"),
            )
        )

    def guard(self) -> None:
        """Set the headers that keep a page to itself."""
        self.set_header("Content-Security-Policy", content_security_policy(site_of(self).hub_url))
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("X-Content-Type-Options", "nosniff")


class RootHandler(HubPage):
    """`/`: a person's first page; programs, and the Hub's health check, get directions without a login."""

    template, script, page = "home.html", "home.js", "home"

    @override
    async def prepare(self) -> None:
        self.set_header("Vary", "Accept")
        if accepts_html(self.request):
            await super().prepare()

    @override
    def get(self) -> None:
        if accepts_html(self.request):
            super().get()
            return
        site = site_of(self)
        self.finish(
            {
                "name": site.title,
                "version": site.version,
                "docs": f"{site.prefix}docs",
                "openapi": f"{site.prefix}openapi.json",
                "base_url": f"{site.public_url or site.prefix}v1",
            }
        )

    @override
    def head(self) -> None:
        """Answer as GET; the server leaves out the body."""
        self.get()


class PlaygroundHandler(HubPage):
    """`/playground`: talk with a model. Nothing is stored."""

    template, script, page = "playground.html", "playground.js", "playground"


class UsagePageHandler(HubPage):
    """`/usage`: what the person used and what is left; for holders of the admin scope also of others."""

    template, script, page = "usage.html", "usage.js", "usage"


class StaffHandler(HubPage):
    """`/staff`: for holders of the admin scope, and for instructors as far as their groups go."""

    template, script, page = "staff.html", "staff.js", "staff"

    @override
    def get(self) -> None:
        rules = self.hub_auth.resolver.rules
        is_watching = self.caller.watched_groups or rules.scope(GROUP_USAGE) in self.caller.scopes
        if not is_watching:
            rules.require_scope(self.caller, rules.scope(ADMIN))
        super().get()


class OpenAPIHandler(OpsHandler):
    """`/openapi.json`: for everybody, as it names nothing but what can be asked."""

    @override
    def get(self) -> None:
        self.finish(site_of(self).openapi())


class DocsHandler(HubPage):
    """`/docs`: the interactive page over the API."""

    template, script, page = "docs.html", "docs.js", "docs"


class AssetHandler(BaseHandler, web.StaticFileHandler):
    """`/static/…`: the files of the page, for everybody; those asked for by content are kept for long."""

    @override
    def set_extra_headers(self, path: str) -> None:
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "default-src 'none'")
        if "v" not in self.request.arguments:  # imported by a script: asked for anew, seldom sent anew
            self.set_header("Cache-Control", "no-cache")

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
    ("playground", PlaygroundHandler, {}),
    ("staff", StaffHandler, {}),
    ("openapi.json", OpenAPIHandler, {}),
    (r"static/([a-z]+\.[a-z]+)", AssetHandler, {"path": str(STATIC)}),
    (r"favicon\.ico", FaviconHandler, {"path": str(STATIC)}),
)
"""Patterns below the prefix, who answers them, and with what arguments."""
