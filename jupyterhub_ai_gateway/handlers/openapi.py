"""Our own OpenAPI 3.1 document. The page at `/docs` is made of it; a test holds it against the routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..vocabulary import FULL_ACCESS, OPERATIONS
from . import openapi_batches, openapi_media, openapi_usage, openapi_vendors
from .openapi_batches import NEW_BATCH_EXAMPLE
from .openapi_usage import ACCESS, ADMIN_SCOPE, OVERRIDE_EXAMPLE
from .ops import READ_METRICS
from .schemas import FAILURES, INTEGER, LIMIT_HEADERS, REQUEST_ID, SCHEMAS, STRING, Json, ref, thing

MODELS_TAG, USAGE_TAG, OPS_TAG = "Models", "Use and limits", "Operations"
BATCHES_TAG = "Batches"
_TABLES = (*openapi_usage.PATHS, *openapi_batches.PATHS)

_USED = ("400", "401", "403", "404", "413", "429", "502", "503", "504")
_LISTED = ("401", "403", "404", "503")


@dataclass(frozen=True, slots=True)
class OAuthUrls:
    """Where a browser logs in at the Hub, for pages that read the document."""

    authorization_url: str
    token_url: str


@dataclass(frozen=True, slots=True)
class _Path:
    """One method of one path. `scope` is a key of OPERATIONS; "" needs no token."""

    method: str
    path: str
    name: str
    tag: str
    scope: str
    summary: str
    text: str


_BODIED = (*openapi_media.PATHS, *openapi_vendors.PATHS)
"""Paths that say themselves what they take and answer."""

_PATHS = (
    _Path(
        "post",
        "/v1/chat/completions",
        "createChatCompletion",
        MODELS_TAG,
        "chat:create",
        "Chat",
        "Answer a conversation. With `stream` the answer comes piece by piece. Fields that are not listed "
        "reach the provider as they came.",
    ),
    _Path(
        "post",
        "/v1/completions",
        "createCompletion",
        MODELS_TAG,
        "completions:create",
        "Complete a text",
        "Go on with a text. For models without a chat format; with most, use chat.",
    ),
    _Path(
        "post",
        "/v1/embeddings",
        "createEmbedding",
        MODELS_TAG,
        "embeddings:create",
        "Embed",
        "Turn texts into vectors that are near each other when the texts mean the same.",
    ),
    *(
        _Path("post", each.path, each.name, MODELS_TAG, each.scope, each.summary, each.text)
        for each in _BODIED
    ),
    _Path(
        "post",
        "/v1/responses",
        "createResponse",
        MODELS_TAG,
        "chat:create",
        "Responses",
        "OpenAI's Responses API. It reaches every model; requests are translated for those whose provider "
        "does not speak it. Nothing is stored unless the operator allows it: send the whole conversation "
        "as `input`.",
    ),
    _Path(
        "post",
        "/v1/responses/input_tokens",
        "countInputTokens",
        MODELS_TAG,
        "chat:create",
        "Count the tokens of a response's input",
        "How long a request would be, without answering it.",
    ),
    _Path(
        "post",
        "/v1/messages",
        "createMessage",
        MODELS_TAG,
        "chat:create",
        "Message",
        "Anthropic's Messages API, for Anthropic's SDKs and for Claude Code. It reaches every model; "
        "requests are translated for those whose provider does not speak it.",
    ),
    _Path(
        "post",
        "/v1/messages/count_tokens",
        "countTokens",
        MODELS_TAG,
        "chat:create",
        "Count tokens",
        "Count what a message would use, without an answer.",
    ),
    _Path(
        "post",
        "/v1beta/models/{model}:generateContent",
        "generateContent",
        MODELS_TAG,
        "chat:create",
        "Generate content",
        "Google's Gemini API, for google-genai and Gemini CLI. It reaches every model; requests are "
        "translated for those whose provider does not speak it. The key may be in `x-goog-api-key`, or in "
        "the query as `key`.",
    ),
    _Path(
        "post",
        "/v1beta/models/{model}:streamGenerateContent",
        "streamGenerateContent",
        MODELS_TAG,
        "chat:create",
        "Generate content as a stream",
        "The same, piece by piece: as events with `alt=sse`, else as one JSON array.",
    ),
    _Path(
        "post",
        "/v1beta/models/{model}:countTokens",
        "countContentTokens",
        MODELS_TAG,
        "chat:create",
        "Count the tokens of contents",
        "How long a request would be, without answering it.",
    ),
    _Path(
        "get",
        "/v1beta/models",
        "listGoogleModels",
        MODELS_TAG,
        "models:list",
        "List models in Google's shape",
        "The models that you may use by Google's paths.",
    ),
    _Path(
        "get",
        "/v1/models",
        "listModels",
        MODELS_TAG,
        "models:list",
        "List models",
        "The models that you may use.",
    ),
    _Path(
        "get",
        "/v1/models/{id}",
        "retrieveModel",
        MODELS_TAG,
        "models:list",
        "Look up a model",
        "One of the models that you may use.",
    ),
    *(
        _Path(each.method, each.path, each.name, USAGE_TAG, each.scope, each.summary, each.text)
        for each in openapi_usage.PATHS
    ),
    *(
        _Path(each.method, each.path, each.name, BATCHES_TAG, each.scope, each.summary, each.text)
        for each in openapi_batches.PATHS
    ),
    _Path(
        "get",
        "/health",
        "health",
        OPS_TAG,
        "",
        "Health",
        "The version that runs, for how long, and the state of its configuration.",
    ),
    _Path("get", "/health/live", "live", OPS_TAG, "", "Liveness", "Answers as long as the process works."),
    _Path(
        "get",
        "/health/ready",
        "ready",
        OPS_TAG,
        "",
        "Readiness",
        "503 once the process is about to stop and should get no new requests.",
    ),
    _Path("get", "/ping", "ping", OPS_TAG, "", "Ping", "The text `pong`."),
    _Path(
        "get",
        "/metrics",
        "metrics",
        OPS_TAG,
        READ_METRICS,
        "Metrics",
        "What is counted, in Prometheus' text format or in OpenMetrics. The Hub's own scope `read:metrics` "
        "is enough; an operator can open the path to all, or close it.",
    ),
    _Path("get", "/openapi.json", "openapi", OPS_TAG, "", "OpenAPI", "This document."),
)

DOCUMENTED: tuple[tuple[str, str], ...] = tuple((path.method.upper(), path.path) for path in _PATHS)
"""Methods and paths below the prefix, as the document writes them."""


def document(
    *,
    title: str,
    description: str,
    version: str,
    prefix: str,
    public_url: str = "",
    service_name: str = "ai-gateway",
    oauth: OAuthUrls | None = None,
) -> Json:
    """Return the document. `prefix` begins and ends with a slash; `public_url`, when known, includes it."""
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "servers": [{"url": (public_url or prefix).rstrip("/") or "/"}],
        "tags": [
            {"name": MODELS_TAG, "description": "OpenAI's API. Each path is there without /v1 as well."},
            {"name": OPS_TAG, "description": "For those who look after the gateway."},
        ],
        "paths": _paths(service_name, oauth),
        "components": {
            "schemas": {
                **SCHEMAS,
                "Override": openapi_usage.OVERRIDE,
                "KeyWish": openapi_usage.KEY_WISH,
                "NewBatch": openapi_batches.NEW_BATCH,
            },
            "responses": {f"Error{status}": failure for status, failure in FAILURES.items()},
            "securitySchemes": _security_schemes(service_name, oauth),
        },
    }


def _paths(service_name: str, oauth: OAuthUrls | None) -> Json:
    paths: Json = {}
    for path in _PATHS:
        paths.setdefault(path.path, {})[path.method] = _operation(path, service_name, oauth)
    return paths


def _operation(path: _Path, service_name: str, oauth: OAuthUrls | None) -> Json:
    operation: Json = {
        "operationId": path.name,
        "tags": [path.tag],
        "summary": path.summary,
        "description": path.text,
        "security": _security(path, service_name, oauth),
        "x-required-scope": _scope(path, service_name),
        "responses": _ANSWERS[path.name],
    }
    if path.name == "retrieveModel":
        operation["parameters"] = [
            {
                "name": "id",
                "in": "path",
                "required": True,
                "description": "The model's name.",
                "schema": STRING,
            }
        ]
    if path.name in _PARAMETERS:
        operation["parameters"] = list(_PARAMETERS[path.name])
    if path.name in _BODIES:
        operation["requestBody"] = _BODIES[path.name]
    if path.name in _REQUESTS:
        schema, examples = _REQUESTS[path.name]
        content = {"schema": ref(schema), "examples": examples}
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    if path.name == "createFile":
        form = {"multipart/form-data": {"schema": openapi_batches.UPLOAD}}
        operation["requestBody"] = {"required": True, "content": form}
    return operation


def _scope(path: _Path, service_name: str) -> str | None:
    if path.scope in OPERATIONS or path.scope == ADMIN_SCOPE:
        return f"custom:{service_name}:{path.scope}"
    if path.scope == ACCESS:
        return f"access:services!service={service_name}"
    return path.scope or None


def _security(path: _Path, service_name: str, oauth: OAuthUrls | None) -> list[Json]:
    scope = _scope(path, service_name)
    if scope is None:
        return []
    schemes: list[Json] = [{"token": []}, {"apiKey": []}]
    has_login = oauth and path.scope in (*OPERATIONS, ACCESS)
    return [*schemes, {"hub": [scope]}] if has_login else schemes


def _security_schemes(service_name: str, oauth: OAuthUrls | None) -> Json:
    schemes: Json = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "A Hub token: JUPYTERHUB_API_TOKEN in a notebook, or one from the token page.",
        },
        "apiKey": {
            "type": "apiKey",
            "in": "header",
            "name": "x-api-key",
            "description": "The same token where some clients put it; api-key and x-goog-api-key do too.",
        },
    }
    if oauth is not None:
        scopes = {f"custom:{service_name}:{name}": text for name, text in OPERATIONS.items()}
        scopes[f"access:services!service={service_name}"] = "Reach this service"
        scopes[f"custom:{service_name}:{FULL_ACCESS}"] = "Every operation of this service"
        flow = {
            "authorizationUrl": oauth.authorization_url,
            "tokenUrl": oauth.token_url,
            "scopes": scopes,
        }
        schemes["hub"] = {"type": "oauth2", "flows": {"authorizationCode": flow}}
    return schemes


def _failures(*statuses: str) -> Json:
    return {status: {"$ref": f"#/components/responses/Error{status}"} for status in statuses}


def _answer(text: str, content: Json, *statuses: str, headers: Json | None = None) -> Json:
    well = {"description": text, "headers": {**REQUEST_ID, **(headers or {})}, "content": content}
    return {"200": well, **_failures(*statuses)}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _events(schema: str, text: str) -> Json:
    return {
        "text/event-stream": {"schema": {"type": "string", "description": text}, "x-event": ref(schema)}
    }


def _usage_answer(path: openapi_usage.UsagePath) -> Json:
    """Return the answers of a path about use."""
    content = {path.media_type: {"schema": path.answer}} if path.answer else {}
    well: Json = {"description": path.summary, "headers": REQUEST_ID}
    if content:
        well["content"] = content
    return {path.status: well, **_failures("400", "401", "403", "404", "503")}


_TEXT: Json = {"text/plain": {"schema": STRING}}
_STATUS_OK: Json = _json({"type": "object", "properties": {"status": STRING}})

_ANSWERS: dict[str, Json] = {
    "createChatCompletion": _answer(
        "The answer, whole or as events.",
        {
            **_json(ref("ChatResponse")),
            **_events("ChatChunk", "Lines `data: ChatChunk`, ended by `data: [DONE]`."),
        },
        *_USED,
        headers=LIMIT_HEADERS,
    ),
    "createCompletion": _answer(
        "The answer, whole or as events.",
        {
            **_json(ref("CompletionResponse")),
            **_events("CompletionResponse", "Lines `data: CompletionResponse`, ended by `data: [DONE]`."),
        },
        *_USED,
        headers=LIMIT_HEADERS,
    ),
    "createEmbedding": _answer(
        "The vectors, in the order of the texts.",
        _json(ref("EmbeddingResponse")),
        *_USED,
        headers=LIMIT_HEADERS,
    ),
    "createResponse": _answer(
        "The answer, whole or as events.",
        {
            **_json({"type": "object", "additionalProperties": True}),
            "text/event-stream": {
                "schema": {"type": "string", "description": "Events from `response.created` to its end."}
            },
        },
        *_USED,
        headers=LIMIT_HEADERS,
    ),
    "countInputTokens": _answer(
        "The number.", _json(thing("input_tokens", input_tokens=INTEGER)), *_USED, headers=LIMIT_HEADERS
    ),
    "createMessage": _answer(
        "The answer, whole or as events.",
        {
            **_json(ref("MessagesResponse")),
            **_events("MessagesEvent", "Events from `message_start` to `message_stop`."),
        },
        *_USED,
        headers=LIMIT_HEADERS,
    ),
    "countTokens": _answer(
        "The number.", _json(thing("input_tokens", input_tokens=INTEGER)), *_USED, headers=LIMIT_HEADERS
    ),
    "generateContent": _answer(
        "The answer.", _json(ref("GenerateContentResponse")), *_USED, headers=LIMIT_HEADERS
    ),
    "streamGenerateContent": _answer(
        "The answer in pieces.",
        {
            **_events("GenerateContentResponse", "Lines `data: GenerateContentResponse`."),
            **_json({"type": "array", "items": ref("GenerateContentResponse")}),
        },
        *_USED,
        headers=LIMIT_HEADERS,
    ),
    "countContentTokens": _answer(
        "The number.", _json(thing("totalTokens", totalTokens=INTEGER)), *_USED, headers=LIMIT_HEADERS
    ),
    "listGoogleModels": _answer(
        "The models.", _json(thing("models", models={"type": "array"})), "401", "403", "503"
    ),
    "listModels": _answer("The models.", _json(ref("ModelList")), "401", "403", "503"),
    "retrieveModel": _answer("The model.", _json(ref("Model")), *_LISTED),
    "health": _answer("It works.", _json(ref("Health"))),
    "live": _answer("It works.", _STATUS_OK),
    "ready": {
        **_answer("It takes requests.", _STATUS_OK),
        "503": {"description": "It is about to stop.", "content": _STATUS_OK},
    },
    "ping": _answer("pong", _TEXT),
    "metrics": {
        **_answer(
            "The counts.",
            {**_TEXT, "application/openmetrics-text": {"schema": STRING}},
            "401",
            "403",
            "503",
        ),
        "404": {"description": "Metrics are not enabled.", "content": _TEXT},
    },
    "openapi": _answer("This document.", _json({"type": "object"})),
    **{each.name: _usage_answer(each) for each in _TABLES},
    **{each.name: _answer("The answer.", each.answers, *_USED, headers=LIMIT_HEADERS) for each in _BODIED},
}

_BODIES = {each.name: openapi_media.request_body(each) for each in _BODIED}

_MODEL: Json = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "The model's name.",
    "schema": STRING,
}
_ALT: Json = {
    "name": "alt",
    "in": "query",
    "required": False,
    "description": "How the pieces come.",
    "schema": {"enum": ["sse", "json"]},
}
_PARAMETERS = {
    **{each.name: each.parameters for each in _TABLES if each.parameters},
    "generateContent": (_MODEL,),
    "streamGenerateContent": (_MODEL, _ALT),
    "countContentTokens": (_MODEL,),
}


def _example(summary: str, **value: Any) -> Json:
    return {"summary": summary, "value": value}


_QUESTION = {"role": "user", "content": "Explain in two sentences why the sky is blue."}
_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place, now",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}},
            "required": ["place"],
        },
    },
}
_PLANET = {
    "type": "json_schema",
    "json_schema": {
        "name": "planet",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "moons": {"type": "integer"}},
            "required": ["name", "moons"],
            "additionalProperties": False,
        },
    },
}

_MESSAGE = {"model": "claude", "max_tokens": 1024, "messages": [_QUESTION]}

_CONTENTS = [{"role": "user", "parts": [{"text": _QUESTION["content"]}]}]

_REQUESTS: dict[str, tuple[str, Json]] = {
    "generateContent": (
        "GenerateContentRequest",
        {"question": _example("A question", contents=_CONTENTS)},
    ),
    "streamGenerateContent": (
        "GenerateContentRequest",
        {"question": _example("A question", contents=_CONTENTS)},
    ),
    "countContentTokens": (
        "GenerateContentRequest",
        {"question": _example("A question", contents=_CONTENTS)},
    ),
    "createBatch": ("NewBatch", {"chat": NEW_BATCH_EXAMPLE}),
    "createOverride": ("Override", {"thesis": OVERRIDE_EXAMPLE}),
    "createKey": ("KeyWish", {"course": openapi_usage.KEY_EXAMPLE}),
    "createResponse": (
        "ResponsesRequest",
        {"question": _example("A question", model="chat", input="Why is the sky blue?")},
    ),
    "countInputTokens": (
        "ResponsesRequest",
        {"question": _example("A question", model="chat", input="Why is the sky blue?")},
    ),
    "createMessage": (
        "MessagesRequest",
        {
            "stream": _example("A streamed answer", **_MESSAGE, stream=True),
            "question": _example("A question", **_MESSAGE),
        },
    ),
    "countTokens": (
        "MessagesRequest",
        {"question": _example("A question", model="claude", messages=[_QUESTION])},
    ),
    "createChatCompletion": (
        "ChatRequest",
        {
            "stream": _example("A streamed answer", model="chat", messages=[_QUESTION], stream=True),
            "question": _example("A question", model="chat", messages=[_QUESTION]),
            "conversation": _example(
                "A conversation with a system prompt",
                model="chat",
                messages=[
                    {
                        "role": "system",
                        "content": "You are a patient tutor. Answer with a hint, not the solution.",
                    },
                    {"role": "user", "content": "What is the derivative of x²?"},
                    {"role": "assistant", "content": "What does the power rule say about the exponent?"},
                    {"role": "user", "content": "It comes down in front?"},
                ],
                stream=True,
                temperature=0.3,
            ),
            "tools": _example(
                "A tool that the model may call",
                model="chat",
                messages=[{"role": "user", "content": "Do I need an umbrella in Bergen?"}],
                tools=[_WEATHER],
            ),
            "json": _example(
                "An answer as JSON",
                model="chat",
                messages=[{"role": "user", "content": "The planet with the most moons."}],
                response_format=_PLANET,
            ),
        },
    ),
    "createCompletion": (
        "CompletionRequest",
        {
            "stream": _example(
                "A streamed text",
                model="completions",
                prompt="Once upon a time",
                max_tokens=60,
                stream=True,
            ),
            "text": _example("A text", model="completions", prompt="Once upon a time", max_tokens=60),
        },
    ),
    "createEmbedding": (
        "EmbeddingRequest",
        {
            "two": _example(
                "Two texts",
                model="embeddings",
                input=["The cat sat on the mat.", "A feline rests on a rug."],
            ),
            "packed": _example(
                "Packed numbers",
                model="embeddings",
                input="The cat sat on the mat.",
                encoding_format="base64",
            ),
        },
    ),
}
