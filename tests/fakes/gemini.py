"""What Google's Gemini API and Vertex AI say, as a script for `fakes.upstream`, and as strict.

Bodies are held against google-genai's own types, which take no field that they do not know.

Source: https://ai.google.dev/api/generate-content, /gemini-api/docs/thought-signatures (read 2026-11).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.genai import types
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from .upstream import Reply, Request

TEXT = ["Hello", " from", " the fake Gemini."]
THOUGHT = "Let me think."
SIGNATURE = base64.b64encode(b"signature-of-the-thought").decode()
DUMMY = "skip_thought_signature_validator"
USAGE = {
    "promptTokenCount": 20,
    "cachedContentTokenCount": 11,
    "candidatesTokenCount": 9,
    "thoughtsTokenCount": 5,
    "totalTokenCount": 34,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 20}],
}
VENDOR = [
    ("Server", "scaffolding on HTTPServer2"),
    ("Set-Cookie", "a=b"),
    ("Vary", "Origin"),
    ("X-XSS-Protection", "0"),
]
_PATH = re.compile(
    r"/v1beta/models/(?P<model>[^/:]+):(?P<verb>[a-zA-Z]+)"
    r"|/v1(?:beta1)?/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)"
    r"/publishers/google/models/(?P<name>[^/:]+):(?P<method>[a-zA-Z]+)"
)


class _Config(types.GenerationConfig):
    image_config: types.ImageConfig | None = None


class _Body(BaseModel):
    """The request as REST has it: what google-genai makes of its config."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    contents: list[types.Content]
    system_instruction: types.Content | None = None
    tools: list[types.Tool] | None = None
    tool_config: types.ToolConfig | None = None
    safety_settings: list[types.SafetySetting] | None = None
    generation_config: _Config | None = None
    cached_content: str | None = None
    labels: dict[str, str] | None = None
    store: bool | None = None
    service_tier: types.ServiceTier | None = None


class _Inner(_Body):
    model: str


class _Count(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    contents: list[types.Content] | None = None
    generate_content_request: _Inner | None = None


class _VertexCount(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    contents: list[types.Content]
    system_instruction: types.Content | None = None
    tools: list[types.Tool] | None = None
    generation_config: _Config | None = None


def error(status: int, word: str, message: str, details: Sequence[Any] = (), **more: Any) -> Reply:
    """Refuse as the vendor does."""
    body = {"code": status, "message": message, "status": word}
    if details:
        body["details"] = list(details)
    return Reply.json({"error": body}, status, VENDOR, **more)


def exhausted(delay: str = "34s") -> Reply:
    """Refuse as for a quota that is used up; how long to wait stands in the body alone."""
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    return error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", [retry])


def wrong_key() -> Reply:
    """Refuse a key as AI Studio does: with 400."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
    }
    return error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", [info])


def event(document: Any) -> bytes:
    """Make one event as Google does."""
    return b"data: " + json.dumps(document).encode() + b"\r\n\r\n"


def piece(
    parts: Sequence[Any], finish: str | None = None, usage: Any = None, **more: Any
) -> dict[str, Any]:
    """Make an answer, or one piece of it."""
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": USAGE if usage is None else usage,
        "modelVersion": "gemini-3-pro-001",
        "responseId": "resp-1",
        **more,
    }


def text_events() -> list[bytes]:
    """Make a whole stream: a thought, the text, and the end with a signature in an empty text."""
    early = {"promptTokenCount": 20, "totalTokenCount": 20}
    return [
        event(piece([{"text": THOUGHT, "thought": True}], usage=early)),
        *(event(piece([{"text": text}], usage=early)) for text in TEXT),
        event(piece([{"text": "", "thoughtSignature": SIGNATURE}], "STOP")),
    ]


def calls(names: Sequence[str]) -> list[dict[str, Any]]:
    """Make parallel calls of functions: the first of them is signed."""
    made: list[dict[str, Any]] = [
        {"functionCall": {"id": f"call-{index}", "name": name, "args": {"city": f"City {index}"}}}
        for index, name in enumerate(names)
    ]
    made[0]["thoughtSignature"] = SIGNATURE
    return made


class Google:
    """A script for each request. `key` is AI Studio's, `tokens` those that Vertex AI takes.

    It calls every function that a user's text offers, at once, and answers in text once it has the results.
    """

    def __init__(
        self, key: str | None = None, tokens: Sequence[str] = (), model: str = "gemini-3-pro"
    ) -> None:
        self._key = key
        self.tokens = list(tokens)
        self._model = model

    def __call__(self, request: Request) -> Reply:
        found = _PATH.fullmatch(request.path)
        if found is None or request.method != "POST":
            return error(404, "NOT_FOUND", f"Not here: {request.path}")
        is_vertex = found["project"] is not None
        complaint = self._unauthorized(request, is_vertex) or self._misplaced(found, is_vertex)
        if complaint is not None:
            return complaint
        verb = found["verb"] or found["method"]
        if request.header("content-type") != "application/json":
            return error(400, "INVALID_ARGUMENT", "Content-Type")
        try:
            body = _body_of(verb, is_vertex).model_validate_json(request.body)
        except ValidationError as problem:
            where = problem.errors()[0]["loc"]
            return error(400, "INVALID_ARGUMENT", f"Invalid JSON payload received at {where}.")
        if verb == "countTokens":
            return self._count(body)
        return self._answer(verb, body, parse_qs(urlsplit(request.target).query))

    def _unauthorized(self, request: Request, is_vertex: bool) -> Reply | None:
        given = request.header("authorization")
        if is_vertex:
            is_fine = given in [f"Bearer {token}" for token in self.tokens]
            is_fine = is_fine and request.header("x-goog-api-key") is None
            return None if is_fine else error(401, "UNAUTHENTICATED", "Request had invalid credentials.")
        return None if request.header("x-goog-api-key") == self._key and given is None else wrong_key()

    def _misplaced(self, found: re.Match[str], is_vertex: bool) -> Reply | None:
        model = found["name"] if is_vertex else found["model"]
        return None if model == self._model else error(404, "NOT_FOUND", f"models/{model} is not found.")

    def _count(self, body: Any) -> Reply:
        inner = getattr(body, "generate_content_request", None)
        if inner is not None and inner.model != f"models/{self._model}":
            return error(400, "INVALID_ARGUMENT", "generateContentRequest.model does not fit the path")
        if inner is None and not body.contents:
            return error(400, "INVALID_ARGUMENT", "contents is not specified")
        return Reply.json({"totalTokens": 20}, headers=VENDOR)

    def _answer(self, verb: str, body: _Body, query: dict[str, list[str]]) -> Reply:
        problem = _conversation_problem(body.contents)
        if problem is not None:
            return error(400, "INVALID_ARGUMENT", problem)
        last = body.contents[-1].parts or []
        has_results = any(part.function_response is not None for part in last)
        names = [
            each.name or ""
            for tool in body.tools or []
            for each in (tool.function_declarations or [])
            if not has_results
        ]
        if verb == "generateContent":
            parts = calls(names) if names else [{"text": "".join(TEXT), "thoughtSignature": SIGNATURE}]
            return Reply.json(piece(parts, "STOP"), headers=VENDOR)
        if verb != "streamGenerateContent" or query.get("alt") != ["sse"]:
            return error(404, "NOT_FOUND", "not as events")
        if names:
            return Reply.stream(
                event(piece(calls(names))), event(piece([{"text": ""}], "STOP")), headers=VENDOR
            )
        return Reply.stream(*text_events(), headers=VENDOR)


def body_complaint(raw: bytes) -> str | None:
    """Return what is wrong with a request for an answer; None when it is all right."""
    try:
        body = _Body.model_validate_json(raw)
    except ValidationError as problem:
        return f"Invalid JSON payload received at {problem.errors()[0]['loc']}."
    return _conversation_problem(body.contents)


def _body_of(verb: str, is_vertex: bool) -> type[BaseModel]:
    if verb == "countTokens":
        return _VertexCount if is_vertex else _Count
    return _Body


def _conversation_problem(contents: Sequence[types.Content]) -> str | None:
    """Say what Gemini 3 has against a conversation: calls unsigned in this turn, or not all answered.

    Contents of the same side that follow each other are one: SDKs keep the pieces of a stream so.
    """
    if contents[0].role not in (None, "user"):
        return "Please ensure that the conversation begins with a user turn."
    sides: list[tuple[bool, list[types.Part]]] = []
    for content in contents:
        is_model = content.role == "model"
        if not sides or sides[-1][0] != is_model:
            sides.append((is_model, []))
        sides[-1][1].extend(content.parts or [])
    turn = 0
    for index, (is_model, parts) in enumerate(sides):
        if not is_model and not any(part.function_response for part in parts):
            turn = index
    for index, (_, parts) in enumerate(sides):
        made = [part for part in parts if part.function_call]
        if not made:
            continue
        after = sides[index + 1][1] if index + 1 < len(sides) else []
        if len([part for part in after if part.function_response]) != len(made):
            return "The number of function response parts must equal that of the function call parts."
        if index > turn and not made[0].thought_signature:
            return "Function call is missing a thought_signature in functionCall parts."
    return None
