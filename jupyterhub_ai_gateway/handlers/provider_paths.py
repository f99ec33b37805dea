"""`/PROVIDER/PATH`: each configured provider under its own name, in its own format, with its own models.

It is the same story as everywhere: the model has to be one that an endpoint offers at this provider, and
who may use it, how much, and what it costs is the endpoint's. Only paths of operations that the provider
speaks are there. Settings of the application that are read are those of `openai`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from tornado import httputil, web
from tornado.routing import Matcher, Rule
from typing_extensions import override

from ..auth import TokenResolver, token_from_headers
from ..dialects.anthropic import error_object as anthropic_error_object
from ..errors import Fault, NotFound
from ..gateway import Call, Gateway
from ..router import Endpoint
from ..vocabulary import CHAT, MESSAGES, OPERATIONS, Caller, Operation
from .openai import (
    POST_PATHS,
    CallerHandler,
    ModelsHandler,
    SharedPathHandler,
    anthropic_card,
    anthropic_list,
    model_card,
)

RESERVED = frozenset(
    {
        *("api", "dashboard", "docs", "endpoints", "gateway", "get_token", "health", "hub", "metrics"),
        *("oauth_callback", "openapi.json", "ping", "playground", "query", "resource_server", "routes"),
        *(
            "batches",
            "files",
            "services",
            "staff",
            "static",
            "status",
            "usage",
            "v1",
            "v1beta",
            "v2",
            "whoami",
        ),
    }
)
"""First words of paths that are never a provider's (T-16)."""
_UPSTREAM = re.compile(r"upstream;dur=([0-9.]+)")


class ProviderPath(Matcher):
    """Matches what is below the name of a provider that the catalogue has now."""

    def __init__(self, prefix: str, gateway: Gateway, rest: str) -> None:
        self._gateway = gateway
        bases = "|".join(re.escape(base) for base in dict.fromkeys((prefix, "/")))
        self._pattern = re.compile(f"(?:{bases})([A-Za-z0-9_.-]+)/{rest}")

    @override
    def match(self, request: httputil.HTTPServerRequest) -> dict[str, Any] | None:
        match = self._pattern.fullmatch(request.path)
        if match is None or match[1].lower() in RESERVED:
            return None
        if not self._gateway.catalogue.at(match[1]).operations:
            return None
        return {"path_args": [each.encode() for each in match.groups()]}


class ProviderHandler(CallerHandler):
    """What they share: which provider, keys that are for single paths, and faults in its format."""

    @property
    def provider(self) -> str:
        """Return its name as the path spells it."""
        return str(self.path_args[0])

    @override
    async def call(self, operation: Operation, body: bytes = b"") -> Call:
        call = await super().call(operation, body)
        call.provider = self.provider
        caller = self._caller_of_path()
        if caller is not None:
            call.caller = replace(caller, operations=self.opened_by_path(operation))
        return call

    def opened_by_path(self, operation: Operation) -> frozenset[str]:
        """Return what a key that is for this path may do at it."""
        return frozenset({operation.scope})

    def _caller_of_path(self) -> Caller | None:
        """Return the caller whose key names this very path, in the Node gateway's form."""
        resolver: TokenResolver = self.settings["resolver"]
        token = token_from_headers(self.request.headers)
        caller = resolver.peek(token) if token else None
        if caller is None or not caller.paths:
            return None
        method = "get" if self.request.method == "HEAD" else str(self.request.method).lower()
        path = f"/{self.provider}/{self.path_args[1]}"
        return caller if f"{method}:{path}" in caller.paths else None

    @override
    def set_header(self, name: str, value: Any) -> None:
        """Say as well what the Node gateway said: who answered, and after how many milliseconds."""
        super().set_header(name, value)
        if name == "Server-Timing" and self.path_args:
            super().set_header("Provider-Name", self.gateway.catalogue.at(self.provider).name)
            took = _UPSTREAM.search(str(value))
            if took is not None:
                super().set_header("Provider-Response-Time", str(round(float(took[1]))))

    @override
    def write_fault(self, fault: Fault) -> None:
        offer = self.gateway.catalogue.at(self.provider)
        is_theirs = offer.name == "anthropic" or "anthropic-version" in self.request.headers
        if is_theirs and MESSAGES in offer.operations:
            self.set_header("Content-Type", "application/json")
            self.finish(anthropic_error_object(fault, self.request_id))
        else:
            super().write_fault(fault)


@web.stream_request_body
class ProviderInvocationHandler(ProviderHandler, SharedPathHandler):
    """`POST /PROVIDER/PATH` of an operation."""

    @override
    def initialize(self) -> None:  # type: ignore[override]  # the operation is the path's
        super().initialize(CHAT)

    @override
    def prepare(self) -> None:
        operation = POST_PATHS.get(f"/{self.path_args[1]}")
        spoken = self.gateway.catalogue.at(self.provider).operations
        if operation is None or operation not in spoken:
            paths = ", ".join(sorted({f"/{self.provider}{each.public_path}" for each in spoken}))
            text = f"There is nothing at this path. Here are {paths} and /{self.provider}/v1/models."
            raise NotFound(text, slug="path_not_found")
        self.operation = operation
        super().prepare()


class ProviderModelsHandler(ProviderHandler, ModelsHandler):
    """`GET /PROVIDER/v1/models`: what this caller may use there, by the provider's own names."""

    @override
    def opened_by_path(self, operation: Operation) -> frozenset[str]:
        return frozenset(OPERATIONS)  # who may ask for the list is shown the list

    @override
    async def get(self, *names: str) -> None:
        offered = self.gateway.catalogue.at(self.provider).open_to(await self.identify())
        created = self.settings["loaded_at"]()
        cards = [_named(model, endpoint) for model, endpoint in offered.items()]
        if "anthropic-version" in self.request.headers:
            self.write_json(anthropic_list(cards, created))
        else:
            self.write_json({"object": "list", "data": [model_card(each, created) for each in cards]})

    @override
    async def head(self, *names: str) -> None:
        await self.get(*names)


class ProviderModelHandler(ProviderModelsHandler):
    """`GET /PROVIDER/v1/models/NAME`: one of them."""

    @override
    async def get(self, *names: str) -> None:
        offer = self.gateway.catalogue.at(self.provider)
        caller = await self.identify()
        model = unquote(names[2])
        found = offer.open_to(caller).get(model)
        if found is None:
            text = f"There is no such model of {offer.name} for you here."
            raise NotFound(text, slug="model_not_found", param="model")
        card = anthropic_card if "anthropic-version" in self.request.headers else model_card
        self.write_json(card(_named(model, found), self.settings["loaded_at"]()))


def _named(model: str, endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, name=model, aliases=())


def rules(prefix: str, gateway: Gateway) -> Iterator[Rule]:
    """Return the rules, which belong after all others; `prefix` begins and ends with a slash."""
    for rest, handler in (
        ("((?:v1/)?models)", ProviderModelsHandler),
        ("((?:v1/)?models/(.+))", ProviderModelHandler),
        ("(.+)", ProviderInvocationHandler),
    ):
        yield Rule(ProviderPath(prefix, gateway, rest), handler)
