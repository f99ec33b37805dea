"""OpenAI's paths as ordinary handlers: what our own pages send with their cookie, and the models.

The POST paths are served by `lane` as well, which takes the requests that carry a token, unless a trait
switches it off. Settings of the application that are read: `gateway`, `tasks`, `max_body_bytes`,
`catalogue_info`, and what `base` and `login` name.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Sequence
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote

from tornado import web
from tornado.iostream import StreamClosedError
from typing_extensions import override

from ..auth import project_from_headers, token_from_headers
from ..dialects.dialect import DIALECT_OF, OPENAI
from ..dialects.multipart import is_form
from ..errors import BodyTooLarge, Fault
from ..gateway import Call, Gateway, Reply
from ..router import Endpoint
from ..router.fit import rank
from ..router.split import Split
from ..router.states import RANK, READY, Found
from ..uploads import Upload
from ..vocabulary import (
    COHERE_CHAT,
    COHERE_EMBED,
    COUNT_TOKENS,
    FIM,
    INPUT_TOKENS,
    MESSAGES,
    OPENAI_OPERATIONS,
    RERANK,
    RESPONSES,
    UPLOADS,
    Caller,
    Operation,
    Place,
)
from .base import BaseHandler
from .cohere import cohere_card, cohere_list, is_cohere
from .lane import betas_of, encoding_fault, upload_of
from .login import caller_from_cookie
from .mistral import mistral_card
from .speakers import MISTRALS, is_mistral
from .tasks import Tasks
from .wire import wire_of
from .wishes import wishes_from_headers

_COHERE_QUERY = ("endpoint", "default_only")
LIST_MODELS = Operation("models", "models:list", "", "/models")


class CallerHandler(BaseHandler):
    """A handler for callers with a token, or with the cookie of our own pages."""

    @property
    def gateway(self) -> Gateway:
        """Return the one gateway."""
        gateway: Gateway = self.settings["gateway"]
        return gateway

    async def call(self, operation: Operation, body: bytes = b"") -> Call:
        """Make the call that this request is."""
        token = token_from_headers(self.request.headers)
        caller = None if token else await caller_from_cookie(self)
        headers = self.request.headers
        return Call(
            operation,
            body,
            self.request_id,
            token,
            caller,
            betas_of(operation, headers),
            project=project_from_headers(headers),
            wishes=wishes_from_headers(headers),
        )


@web.stream_request_body
class InvocationHandler(CallerHandler):
    """A POST path of one operation. It streams its body in, so that its own limit of length counts."""

    methods = "POST"

    path_model: str | None = None
    path_streams = ""
    place: Place | None = None

    @override
    def initialize(self, operation: Operation) -> None:
        self.operation = operation
        self._pieces: list[bytes] = []
        self._answering: asyncio.Task[None] | None = None
        self._upload: Upload | None = None

    @override
    def prepare(self) -> Awaitable[None] | None:
        if self.request.method == "POST":
            headers = self.request.headers
            fault = encoding_fault(headers)
            if fault is not None:
                raise fault
            connection: Any = self.request.connection
            connection.set_max_body_size(self.settings["max_body_bytes"])
            if self.operation in UPLOADS and is_form(headers.get("Content-Type", "")):
                return self._begin_upload()
        return None

    async def _begin_upload(self) -> None:
        """Answer a form while it arrives."""
        upload = upload_of(self.request.headers, self.gateway)
        call = await self.call(self.operation)
        call.path_model, call.upload = self.path_model, upload
        self._upload = upload
        self._start(call).add_done_callback(self._answered)

    def _answered(self, answering: asyncio.Task[None]) -> None:
        """Wait for the body no longer: nobody reads it any more."""
        assert self._upload is not None  # noqa: S101 - that is what was answered
        self._upload.close()
        error = None if answering.cancelled() else answering.exception()
        if error is not None and not self._finished:
            self.log_exception(type(error), error, error.__traceback__)
            self.send_error(500, exc_info=(type(error), error, error.__traceback__))
        body: Any = self.request._body_future
        if not body.done():
            body.set_exception(StreamClosedError())
            body.exception()

    def _start(self, call: Call) -> asyncio.Task[None]:
        tasks: Tasks = self.settings["tasks"]
        answering = asyncio.ensure_future(self.gateway.serve(call, self.reply_to(call)))
        self._answering = answering
        tasks.track(answering)
        return answering

    @override
    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self._upload is not None:
            return self._upload.feed(chunk)
        self._pieces.append(chunk)
        if sum(map(len, self._pieces)) > self.settings["max_body_bytes"]:
            raise BodyTooLarge("The request's body is too long.")
        return None

    @override
    async def post(self, *names: str) -> None:
        if self._upload is not None and self._answering is not None:
            self._upload.end()
            await asyncio.wait([self._answering])
            return
        call = await self.call(self.operation, b"".join(self._pieces))
        call.path_model, call.path_streams = self.path_model, self.path_streams
        call.place = self.place
        await self.check(call)
        answering = self._start(call)
        await asyncio.wait([answering])
        if not answering.cancelled():
            answering.result()

    @override
    def write_fault(self, fault: Fault) -> None:
        self.set_header("Content-Type", "application/json")
        dialect = DIALECT_OF.get(self.operation, OPENAI)
        self.finish(dialect.error_object(fault, self.request_id))

    async def check(self, call: Call) -> None:
        """Raise what stands in the way of a call before it is served."""

    def reply_to(self, call: Call) -> Reply:
        """Return what writes the answer; paths with a form of their own add it to the call."""
        return HandlerReply(self)

    @override
    def on_connection_close(self) -> None:
        super().on_connection_close()  # ends the wait for a body that will not come any more
        if self._answering is not None:
            self._answering.cancel()


class SharedPathHandler(InvocationHandler):
    """A POST path at which SDKs of several vendors ask, each in its own words."""

    @override
    def prepare(self) -> Awaitable[None] | None:
        if self.operation in MISTRALS and is_mistral(self.request.headers):
            self.operation = MISTRALS[self.operation]
        return super().prepare()


class HandlerReply:
    """The gateway's answer, written by a RequestHandler."""

    def __init__(self, handler: web.RequestHandler) -> None:
        self._handler = handler

    def respond(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        self._head(status, headers)
        self._handler.finish(body)

    def begin(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        self._head(status, headers)

    def send(self, piece: bytes) -> Awaitable[None] | None:
        self._handler.write(piece)
        flushed = self._handler.flush()
        if flushed.done():
            flushed.result()
            return None
        return flushed

    def end(self) -> None:
        self._handler.finish()

    def abort(self) -> None:
        wire_of(self._handler.request.connection).abort()

    def _head(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        self._handler.clear_header("Cache-Control")
        self._handler.set_status(status)
        for name, value in headers:
            self._handler.set_header(name, value)


class ModelsHandler(CallerHandler):
    """`GET /v1/models`: what this caller may use."""

    @override
    async def get(self) -> None:
        caller = await self.identify()
        endpoints = self.gateway.catalogue.open_to(caller)
        created = self.settings["loaded_at"]()
        if "anthropic-version" in self.request.headers:
            self.write_json(anthropic_list(endpoints, created))
        elif is_cohere(self.request.headers):
            wanted, default_only = (self.get_query_argument(name, None) for name in _COHERE_QUERY)
            self.write_json(cohere_list(endpoints, wanted, default_only == "true"))
        elif is_mistral(self.request.headers):
            data = [mistral_card(each, model_card(each, created)) for each in endpoints]
            self.write_json({"object": "list", "data": data})
        else:
            cards = [model_card(each, created) for each in endpoints]
            cards += [split_card(each, created) for each in self.gateway.catalogue.splits_open_to(caller)]
            self.write_json({"object": "list", "data": cards})

    @override
    async def head(self) -> None:
        await self.get()

    async def identify(self) -> Caller:
        """Name the caller, who may list models."""
        return await self.gateway.identify(await self.call(LIST_MODELS))

    def write_json(self, document: object) -> None:
        """Write an answer."""
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(document))


class ModelHandler(ModelsHandler):
    """`GET /v1/models/{id}`: one of them."""

    @override
    async def get(self, name: str = "") -> None:
        caller = await self.identify()
        catalogue, name = self.gateway.catalogue, unquote(name)
        if isinstance(catalogue.named(name), Split):
            self.write_json(split_card(catalogue.split(name, caller), self.settings["loaded_at"]()))
            return
        endpoint = catalogue.described(name, caller)
        if is_cohere(self.request.headers):
            self.write_json(cohere_card(endpoint))
            return
        if is_mistral(self.request.headers):
            self.write_json(mistral_card(endpoint, model_card(endpoint, self.settings["loaded_at"]())))
            return
        card = anthropic_card if "anthropic-version" in self.request.headers else model_card
        self.write_json(card(endpoint, self.settings["loaded_at"]()))

    @override
    async def head(self, name: str = "") -> None:
        await self.get(name)


def model_card(endpoint: Endpoint, created: int) -> dict[str, object]:
    """Describe an endpoint as OpenAI describes a model, with what it serves and for how much of it.

    `created` is when the configuration was loaded, in seconds of Unix time.
    """
    card: dict[str, object] = {
        "id": endpoint.name,
        "object": "model",
        "created": created,
        "owned_by": endpoint.deployment.provider.name,
        "endpoint_type": endpoint.operation.endpoint_type,
    }
    if endpoint.description is not None:
        card["description"] = endpoint.description
    if endpoint.name.endswith("*"):
        card["pattern"] = True
    card.update(offered(endpoint))
    state = best_state(endpoint)
    card["state"] = state.state
    if state.text is not None and state.state != READY:
        card["state_text"] = state.text
    if endpoint.aliases:
        card["aliases"] = list(endpoint.aliases)
    if endpoint.limit is not None:
        limit = endpoint.limit
        card["limit"] = {"calls": limit.calls, "renewal_period": limit.renewal_period, "key": limit.key}
    return card


def split_card(split: Split, created: int) -> dict[str, object]:
    """Describe a name that stands for several endpoints."""
    return {
        "id": split.name,
        "object": "model",
        "created": created,
        "owned_by": "traffic-split",
        "endpoint_type": split.operation.endpoint_type,
    }


def best_state(endpoint: Endpoint) -> Found:
    """Return the state of the deployment that fares best: what a caller can expect."""
    now = time.monotonic()
    return min((each.state(now) for each in endpoint.deployments), key=lambda found: RANK[found.state])


def offered(endpoint: Endpoint) -> dict[str, object]:
    """Describe what an endpoint offers: what at least one of its deployments does, as far as is known."""
    offers = [each.offer for each in endpoint.deployments]
    found: dict[str, object] = {}
    lengths = [each.context_length for each in offers if each.context_length is not None]
    if lengths:
        found["context_length"] = max(lengths)
    words = [each.capabilities for each in offers if each.capabilities is not None]
    if words:
        found["capabilities"] = sorted(frozenset().union(*words))
    regions = {each.region for each in offers if each.region is not None}
    if regions:
        found["regions"] = sorted(regions)
    classes = [each.data_class for each in offers]
    if any(classes):
        found["data_class"] = max(classes, key=rank)
    days = [each.deprecation_date for each in offers]
    if all(days):
        found["deprecation_date"] = max(day for day in days if day is not None).isoformat()
    return found


def anthropic_list(endpoints: Sequence[Endpoint], created: int) -> dict[str, object]:
    """List models as Anthropic does, on one page: those that speak its format."""
    cards = [anthropic_card(each, created) for each in endpoints if MESSAGES in each.cells]
    ends = (
        {"first_id": cards[0]["id"], "last_id": cards[-1]["id"]}
        if cards
        else {"first_id": None, "last_id": None}
    )
    return {"data": cards, "has_more": False, **ends}


def anthropic_card(endpoint: Endpoint, created: int) -> dict[str, object]:
    """Describe an endpoint as Anthropic describes a model."""
    when = datetime.fromtimestamp(created, timezone.utc).isoformat().replace("+00:00", "Z")
    return {"type": "model", "id": endpoint.name, "display_name": endpoint.name, "created_at": when}


VERSIONS = ("/v1", "/v1/v1")
"""What stands before a path of Anthropic's: its SDKs add the version to a base URL that has it already."""

POST_PATHS = {
    f"{version}{operation.path}": operation
    for operation in (*OPENAI_OPERATIONS, MESSAGES, COUNT_TOKENS, RESPONSES, INPUT_TOKENS, FIM)
    for version in ("/v1", "")
}
POST_PATHS |= {f"/v2{each.path}": each for each in (COHERE_CHAT, COHERE_EMBED, RERANK)}
POST_PATHS |= {f"{VERSIONS[1]}{each.path}": each for each in (MESSAGES, COUNT_TOKENS)}
"""Paths after the prefix, with and without the version, and what they do."""
