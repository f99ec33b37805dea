"""Google's paths: they name the model, say whether the answer is a stream, and may carry the key.

    /v1beta/models/MODEL:generateContent, :streamGenerateContent, :countTokens
    /v1beta/models, /v1beta/models/MODEL

Also without a version, below `/gateway/gemini` as MLflow has them, and below `/publishers/google` as
Google's SDKs ask Vertex AI.

Source: google-genai 3.4, `models.py` and `_api_client.py` (read 2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

from tornado import web
from typing_extensions import override

from ..auth import has_credentials
from ..dialects.gemini import error_object
from ..errors import Fault
from ..gateway import ARRAY, EVENTS, Call
from ..router import Endpoint
from ..vocabulary import COUNT_CONTENT, GENERATE_CONTENT, Operation
from .base import BaseHandler
from .openai import InvocationHandler, ModelHandler, ModelsHandler

_BASE = (
    r"(?:gateway/gemini/|gemini/)?(?:v1(?:alpha|beta)?1?/)?"
    r"(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/google/)?"
)
_VERBS = {
    "generateContent": GENERATE_CONTENT,
    "streamGenerateContent": GENERATE_CONTENT,
    "countTokens": COUNT_CONTENT,
}
_VERB = f"(?::|%3[Aa])({'|'.join(_VERBS)})"
_MODEL = r"models/([^?#]+?)"
_LISTED = r"(?:(?:gateway/gemini/|gemini/)?(?:v1(?:alpha|beta)?1?/)?)models"
_HOT = re.compile(f"{_BASE}{_MODEL}{_VERB}")
_OWN = re.compile(rf"/v1(?:alpha|beta)1?/models|{_VERB}$")
_MARKS = ("x-goog-api-key", "x-goog-api-client")


class GeminiPath(NamedTuple):
    """What such a path and its query say. `streams` is as `Call.path_streams`."""

    operation: Operation
    model: str
    streams: str
    key: str | None


def read_path(path: str, query: str) -> GeminiPath | None:
    """Read a path below the prefix, without a slash before it; None for one of another kind."""
    found = _HOT.fullmatch(path)
    return None if found is None else _read(unquote(found[1]), found[2], parse_qs(query))


def _read(model: str, verb: str, query: dict[str, list[str]]) -> GeminiPath:
    streams = ""
    if verb == "streamGenerateContent":
        streams = EVENTS if query.get("alt") == ["sse"] else ARRAY
    return GeminiPath(_VERBS[verb], model, streams, query.get("key", [None])[-1])


class _GoogleFaults(BaseHandler):
    """Writes faults in Google's words, and finds a key in the query."""

    @property
    def is_google(self) -> bool:
        """Say whether Google's words are wanted: by the path, or on a path of all by the client."""
        is_own = _OWN.search(self.request.path) is not None
        return is_own or any(name in self.request.headers for name in _MARKS)

    @override
    def write_fault(self, fault: Fault) -> None:
        if not self.is_google:
            super().write_fault(fault)
            return
        self.set_header("Content-Type", "application/json")
        self.finish(error_object(fault, self.request_id))

    async def with_key(self, call: Call) -> Call:
        """Return the call with the query's key, where no header has one."""
        keys = self.request.query_arguments.get("key", []) if self.is_google else []
        if keys and not has_credentials(self.request.headers):
            call.token, call.caller = keys[-1].decode("utf-8", "replace").strip() or None, None
        return call


@web.stream_request_body
class GenerateHandler(_GoogleFaults, InvocationHandler):
    """`POST /v1beta/models/MODEL:generateContent` and the like."""

    @override
    def initialize(self) -> None:  # type: ignore[override]  # the operation is the path's
        super().initialize(GENERATE_CONTENT)

    @override
    def prepare(self) -> None:
        model, verb = self.path_args
        place = _read(model, verb, parse_qs(self.request.query))
        self.operation, self.path_model, self.path_streams = place.operation, place.model, place.streams
        super().prepare()

    @override
    async def call(self, operation: Operation, body: bytes = b"") -> Call:
        return await self.with_key(await super().call(operation, body))


class AnyModelsHandler(_GoogleFaults, ModelsHandler):
    """`GET /v1/models` and `/v1beta/models`: what this caller may use, in the words of who asks."""

    @override
    async def call(self, operation: Operation, body: bytes = b"") -> Call:
        return await self.with_key(await super().call(operation, body))

    @override
    async def get(self) -> None:
        if not self.is_google:
            await super().get()
            return
        caller = await self.identify()
        self.write_json(google_list(self.gateway.catalogue.open_to(caller)))


class AnyModelHandler(AnyModelsHandler, ModelHandler):
    """`GET /v1/models/NAME` and `/v1beta/models/NAME`: one of them."""

    @override
    async def get(self, name: str = "") -> None:
        if not self.is_google:
            await ModelHandler.get(self, name)
            return
        caller = await self.identify()
        self.write_json(google_card(self.gateway.catalogue.described(unquote(name), caller)))

    @override
    async def head(self, name: str = "") -> None:
        await self.get(name)


def google_list(endpoints: Sequence[Endpoint]) -> dict[str, object]:
    """List models as Google does: those that speak its format."""
    return {"models": [google_card(each) for each in endpoints if GENERATE_CONTENT in each.cells]}


def google_card(endpoint: Endpoint) -> dict[str, object]:
    """Describe an endpoint as Google describes a model."""
    methods = {GENERATE_CONTENT: "generateContent", COUNT_CONTENT: "countTokens"}
    card: dict[str, object] = {
        "name": f"models/{endpoint.name}",
        "version": "1",
        "displayName": endpoint.name,
        "supportedGenerationMethods": [text for each, text in methods.items() if each in endpoint.cells],
    }
    if endpoint.description is not None:
        card["description"] = endpoint.description
    return card


ROUTES: Sequence[tuple[str, type[web.RequestHandler], dict[str, Any]]] = (
    (f"{_BASE}{_MODEL}{_VERB}", GenerateHandler, {}),
    (_LISTED, AnyModelsHandler, {}),
    (f"{_LISTED}/(.+)", AnyModelHandler, {}),
)
"""Patterns below the prefix, who answers them, and with what arguments."""
