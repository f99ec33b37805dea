"""MLflow's paths, of every generation: a path for each endpoint, and the lists that its clients read.

    POST /gateway/routes/NAME, /routes/NAME, /query/NAME      before 2.5; answers of the form before 2.9
    POST /gateway/NAME/invocations                            2.5 and later; of either form
    POST /endpoints/NAME/invocations                          2.9 and later; OpenAI's form
    POST /gateway/NAME/mlflow/invocations, /gateway/mlflow/v1/…,
         /gateway/openai/v1/…, /gateway/anthropic/v1/…, /gateway/proxy/NAME/…    3.x, the tracking server's

All of them end in the same calls as OpenAI's paths. What a body or an answer needs besides is in
`dialects.mlflow`.

Source: mlflow/gateway/app.py of 2.5.0 to 3.18.0, mlflow/server/gateway_api.py of 3.18.0 (read 2026-11).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote

from tornado import web
from typing_extensions import override

from ..config import LimitConfig, MlflowConfig, read_limits
from ..dialects.faults import error_object
from ..dialects.mlflow import (
    FIRST_WITH_ANY_PROVIDER,
    CompletionChunks,
    MlflowForm,
    client_version,
    is_legacy,
    legacy_answer,
    operation_of,
)
from ..dialects.multipart import is_form
from ..errors import ConfigFault, NotFound, RequestFault, UpstreamBroken
from ..gateway import Call, Headers, Reply
from ..router import Endpoint
from ..router.split import Split
from ..storage import AuditRow
from ..vocabulary import (
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS,
    IMAGE_EDITS,
    IMAGES,
    INPUT_TOKENS,
    MESSAGES,
    RESPONSES,
    Caller,
    Operation,
)
from .openai import LIST_MODELS, POST_PATHS, VERSIONS, CallerHandler, InvocationHandler, ModelsHandler
from .usage import AccountHandler

T = TypeVar("T")

PAGE_SIZE = 3000
FIRST_PROVIDERS = ("openai", "anthropic", "cohere", "databricks-model-serving")
"""What the oldest clients take as a provider; any other is told to them as the first of these."""
UNIFIED = (CHAT, COMPLETIONS, EMBEDDINGS)
_BASES = [f"{base}{version}" for base in ("anthropic", "openai", "mlflow") for version in VERSIONS]
NATIVE: Sequence[tuple[str, Sequence[Operation]]] = (
    ("openai/v1", (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, INPUT_TOKENS)),
    *((base, (MESSAGES, COUNT_TOKENS)) for base in _BASES),
)
"""Below `/gateway`: what is spoken in the format of each provider; Google's paths stand with its others.
Anthropic's clients are given any of the bases."""
_PART = re.compile(r"([a-z]+);dur=([0-9.]+)")


class MlflowInvocationHandler(InvocationHandler):
    """What the POST paths share: the form of body and answer, and how long it took, in MLflow's headers."""

    path_model: str | None = None
    is_timed = False

    def settings_of(self, named: Endpoint | Split | None) -> MlflowConfig:
        """Return what the configuration says of MLflow's paths."""
        return MlflowConfig() if named is None else named.mlflow

    def own_models(self, named: Endpoint | Split | None) -> frozenset[str]:
        """Return what a body may give as its model although the path names one."""
        is_taken = named is not None and self.settings_of(named).takes_model
        return frozenset({self.path_model or ""}) if is_taken else frozenset()

    def wants_legacy(self, settings: MlflowConfig, call: Call) -> bool:
        """Say whether the answer is to have the form before 2.9."""
        return False

    @override
    def reply_to(self, call: Call) -> Reply:
        named = None if self.path_model is None else self.gateway.catalogue.named(self.path_model)
        settings = self.settings_of(named)
        legacy = self.wants_legacy(settings, call)
        call.form = MlflowForm(
            legacy, settings.scales_temperature, self.own_models(named), settings.default_temperature
        )
        chunks = CompletionChunks() if call.operation is COMPLETIONS and self.path_model else None
        return _MlflowReply(super().reply_to(call), call.operation, legacy, chunks, self.is_timed)


class _MlflowReply:
    """Passes an answer on in MLflow's form."""

    def __init__(
        self,
        reply: Reply,
        operation: Operation,
        legacy: bool,
        chunks: CompletionChunks | None,
        is_timed: bool,
    ) -> None:
        self._reply = reply
        self._operation = operation
        self._is_legacy = legacy
        self._chunks = chunks
        self._is_timed = is_timed

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        if self._is_legacy and status < 300:
            try:
                body = legacy_answer(self._operation, body)
            except UpstreamBroken as fault:
                status, body = fault.status, error_object(fault)
        self._reply.respond(status, self._timed(headers, is_stream=False), body)

    def begin(self, status: int, headers: Headers) -> None:
        self._reply.begin(status, self._timed(headers, is_stream=True))

    def send(self, piece: bytes) -> Awaitable[None] | None:
        return self._reply.send(piece if self._chunks is None else self._chunks.feed(piece))

    def end(self) -> None:
        rest = b"" if self._chunks is None else self._chunks.close()
        if rest:
            self._reply.send(rest)
        self._reply.end()

    def abort(self) -> None:
        self._reply.abort()

    def _timed(self, headers: Headers, *, is_stream: bool) -> Headers:
        """Add what `Server-Timing` says under MLflow's names: the whole, and without the provider."""
        text = next((value for name, value in headers if name == "Server-Timing"), "")
        parts = {name: float(number) for name, number in _PART.findall(text)}
        if not self._is_timed or not parts:
            return headers
        whole = sum(parts.values())
        timed = [*headers, ("X-MLflow-Gateway-Duration-Ms", f"{whole:.1f}")]
        if not is_stream:
            own = whole - parts.get("upstream", 0.0)
            timed.append(("X-MLflow-Gateway-Overhead-Duration-Ms", f"{own:.1f}"))
        return timed


@web.stream_request_body
class EndpointInvocationHandler(MlflowInvocationHandler):
    """`POST /endpoints/NAME/invocations`, and the same below `/gateway`, `/routes` and `/query`.

    `answers` is the form that the path stands for, in the words of the configuration's `mlflow.answers`.
    """

    @override
    def initialize(self, answers: str) -> None:  # type: ignore[override]  # the operation is the endpoint's
        super().initialize(CHAT)
        self.answers = answers

    @override
    def prepare(self) -> Awaitable[None] | None:
        self.path_model = unquote(self.path_args[0])
        # One that does not exist is refused as any unknown model is, once it is known who asks
        named = self.gateway.catalogue.named(self.path_model)
        self.operation = CHAT if named is None else named.operation
        if self.operation is IMAGES and is_form(self.request.headers.get("Content-Type", "")):
            self.operation = IMAGE_EDITS
        return super().prepare()

    @override
    def wants_legacy(self, settings: MlflowConfig, call: Call) -> bool:
        answers = self.answers
        if answers != "openai" and settings.answers != "auto":
            answers = settings.answers
        if answers == "auto":
            return is_legacy(self.request.headers.get("User-Agent", ""), call.body)
        return answers == "legacy"


@web.stream_request_body
class FirstRouteHandler(EndpointInvocationHandler):
    """`/gateway/routes/NAME`: a route to look at, and to send requests to."""

    methods = "GET, HEAD, POST"

    @override
    async def get(self, name: str = "") -> None:
        caller = await self.gateway.identify(await self.call(LIST_MODELS))
        described = entity(endpoint_for(self, unquote(name), caller, "route"), agent_of(self))
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({**described, "type": described["route_type"]}))

    @override
    async def head(self, name: str = "") -> None:
        await self.get(name)


@web.stream_request_body
class TypelessInvocationHandler(EndpointInvocationHandler):
    """`POST /gateway/NAME/mlflow/invocations`: the body says what is wanted."""

    is_timed = True

    @override
    def reply_to(self, call: Call) -> Reply:
        call.operation = operation_of(call.body)
        return super().reply_to(call)


@web.stream_request_body
class UnifiedHandler(MlflowInvocationHandler):
    """`POST /gateway/mlflow/v1/…`: OpenAI's format for every provider, with MLflow's temperature."""

    is_timed = True


@web.stream_request_body
class NativeHandler(InvocationHandler):
    """`POST /gateway/openai/v1/…` and others: a provider's own format, as at `/v1`."""

    @override
    def reply_to(self, call: Call) -> Reply:
        return _MlflowReply(super().reply_to(call), call.operation, False, None, True)


@web.stream_request_body
class ProxyHandler(MlflowInvocationHandler):
    """`POST /gateway/proxy/NAME/PATH`: a path of the provider's, under the endpoint's limits and scopes.

    Those paths that the gateway knows. Another one could do anything in the provider's account.
    """

    is_timed = True

    @override
    def initialize(self) -> None:  # type: ignore[override]  # the path says the operation
        super().initialize(CHAT)

    @override
    def prepare(self) -> None:
        self.path_model = unquote(self.path_args[0])
        operation = POST_PATHS.get(f"/{self.path_args[1]}")
        if operation is None:
            known = ", ".join(sorted(path[1:] for path in POST_PATHS if path.startswith("/v1/")))
            text = f"There is nothing at this path of the provider's for you. There is: {known}."
            raise NotFound(text, slug="path_not_found")
        self.operation = operation
        super().prepare()

    @override
    def settings_of(self, named: Endpoint | Split | None) -> MlflowConfig:
        return MlflowConfig(scales_temperature=False)

    @override
    def own_models(self, named: Endpoint | Split | None) -> frozenset[str]:
        names = {self.path_model or ""}
        if isinstance(named, Endpoint):
            names.update(each.provider.model_name or "" for each in named.deployments)
        return frozenset(names)


def agent_of(handler: web.RequestHandler) -> tuple[int, int] | None:
    """Return the version of MLflow whose client asks; None for anybody else."""
    return client_version(handler.request.headers.get("User-Agent", ""))


def endpoint_for(handler: CallerHandler, name: str, caller: Caller, noun: str) -> Endpoint:
    """Find an endpoint; `NotFound` in MLflow's words where there is none for this caller."""
    try:
        return handler.gateway.catalogue.described(name, caller)
    except NotFound:
        raise _not_present(noun, name) from None


def _not_present(noun: str, name: str) -> NotFound:
    return NotFound(
        f"The {noun} '{name[:64]}' is not present or active on the server. Please verify the {noun} name.",
        slug="model_not_found",
    )


class EndpointsHandler(ModelsHandler):
    """`GET /api/2.0/endpoints/`: a page of all. `key` is what the list is called."""

    @override
    def initialize(self, key: str) -> None:
        self.key = key

    @override
    async def get(self) -> None:
        caller = await self.identify()
        endpoints, next_token = page(
            self.gateway.catalogue.open_to(caller), self.get_query_argument("page_token", None)
        )
        version = agent_of(self)
        self.write_json(
            {self.key: [entity(each, version) for each in endpoints], "next_page_token": next_token}
        )


class EndpointHandler(ModelsHandler):
    """`GET /api/2.0/endpoints/NAME`: one of them. `noun` is what the client calls it."""

    @override
    def initialize(self, noun: str) -> None:
        self.noun = noun

    @override
    async def get(self, name: str = "") -> None:
        caller = await self.identify()
        self.write_json(entity(endpoint_for(self, unquote(name), caller, self.noun), agent_of(self)))

    @override
    async def head(self, name: str = "") -> None:
        await self.get(name)


class SplitHandler(ModelsHandler):
    """`GET /api/3.0/gateway/route/NAME`: a traffic split."""

    @override
    async def get(self, name: str = "") -> None:
        caller = await self.identify()
        name = unquote(name)
        try:
            split = self.gateway.catalogue.split(name, caller)
        except NotFound:
            raise _not_present("route", name) from None
        shares = zip(split.destinations, split.shares, strict=True)
        self.write_json(
            {
                "name": split.name,
                "task_type": split.operation.endpoint_type,
                "destinations": [{"name": each.name, "traffic_percentage": part} for each, part in shares],
                "routing_strategy": "TRAFFIC_SPLIT",
            }
        )

    @override
    async def head(self, name: str = "") -> None:
        await self.get(name)


class UnifiedModelsHandler(ModelsHandler):
    """`GET /gateway/mlflow/v1/models`: OpenAI's list, by name."""

    @override
    async def get(self) -> None:
        caller = await self.identify()
        catalogue, created = self.gateway.catalogue, self.settings["loaded_at"]()
        names = [each.name for each in catalogue.open_to(caller)]
        names += [each.name for each in catalogue.splits_open_to(caller)]
        cards = [
            {"id": name, "object": "model", "created": created, "owned_by": "mlflow"}
            for name in sorted(names)
        ]
        self.write_json({"object": "list", "data": cards})


def page(items: Sequence[T], token: str | None, size: int = PAGE_SIZE) -> tuple[Sequence[T], str | None]:
    """Return a page of a list, and the token of the next one; None at the end.

    A token is the index of a page's first item, as `{"index": 3000}` in base64.
    """
    start = 0 if token is None else _index(token)
    following = start + size
    return items[start:following], _token(following) if following < len(items) else None


def _token(index: int) -> str:
    return base64.b64encode(json.dumps({"index": index}).encode()).decode()


def _index(token: str) -> int:
    try:
        index = json.loads(base64.b64decode(token, validate=True))["index"]
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
        index = None
    if isinstance(index, bool) or not isinstance(index, int) or index < 0:
        raise RequestFault(
            "page_token must be one that a list has given as its next_page_token.", param="page_token"
        )
    return index


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


def entity(endpoint: Endpoint, version: tuple[int, int] | None = None) -> dict[str, Any]:
    """Describe an endpoint in all the words that MLflow's clients have used for it.

    Addresses are below the base that a client was given, so that they work behind every proxy. `version`
    is the one of the client that asks, None for anybody else's.
    """
    limit = endpoint.limit
    path = f"/gateway/{endpoint.name}/invocations"
    kind = endpoint.operation.endpoint_type
    provider = endpoint.deployment.provider
    provider_name = provider.name
    if version is not None and version < FIRST_WITH_ANY_PROVIDER and provider_name not in FIRST_PROVIDERS:
        provider_name = FIRST_PROVIDERS[0]
    return {
        "name": endpoint.name,
        "endpoint_type": kind,
        "route_type": kind,
        "model": {"name": provider.model_name or endpoint.name, "provider": provider_name},
        "endpoint_url": path,
        "route_url": path,
        "limit": _limits(limit)[0] if limit else None,
    }


Rule = tuple[str, type[web.RequestHandler], dict[str, Any]]


def _routes() -> Iterable[Rule]:
    yield r"gateway/mlflow/v1/models", UnifiedModelsHandler, {}
    for operation in UNIFIED:
        yield f"gateway/mlflow/v1{operation.path}", UnifiedHandler, {"operation": operation}
    for base, operations in NATIVE:
        for operation in operations:
            yield f"gateway/{base}{operation.path}", NativeHandler, {"operation": operation}
    yield r"gateway/proxy/([^/]+)/(.+)", ProxyHandler, {}
    for base in ("gateway/routes", "routes"):
        yield f"{base}/?", EndpointsHandler, {"key": "routes"}
        yield f"{base}/([^/]+)", FirstRouteHandler, {"answers": "legacy"}
    yield r"query/([^/]+)", EndpointInvocationHandler, {"answers": "legacy"}
    yield r"gateway/([^/]+)/mlflow/invocations", TypelessInvocationHandler, {"answers": "openai"}
    yield r"gateway/([^/]+)/invocations", EndpointInvocationHandler, {"answers": "auto"}
    yield r"endpoints/([^/]+)/invocations", EndpointInvocationHandler, {"answers": "openai"}
    yield r"api/2\.0/endpoints/?", EndpointsHandler, {"key": "endpoints"}
    yield r"api/2\.0/(?:gateway|endpoints)/limits/?", LimitsHandler, {}
    yield r"api/2\.0/(?:gateway|endpoints)/limits/([^/]+)", LimitsHandler, {}
    yield r"api/2\.0/endpoints/([^/]+)", EndpointHandler, {"noun": "endpoint"}
    yield r"api/2\.0/gateway/routes/?", EndpointsHandler, {"key": "routes"}
    yield r"api/2\.0/gateway/routes/([^/]+)", EndpointHandler, {"noun": "route"}
    yield r"api/3\.0/gateway/endpoint/([^/]+)", EndpointHandler, {"noun": "endpoint"}
    yield r"api/3\.0/gateway/route/([^/]+)", SplitHandler, {}


ROUTES: Sequence[Rule] = tuple(_routes())
"""Patterns below the prefix, who answers them, and with what arguments. Fixed words come first (T-2)."""
