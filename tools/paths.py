"""The page on paths: every route with its methods and scope, from the OpenAPI document and the routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tornado import web

from jupyterhub_ai_gateway.handlers.openapi import document
from jupyterhub_ai_gateway.handlers.routes import patterns

METHODS = ("get", "post", "put", "delete")
_HEAD = """# Paths

<!-- Written by `python -m tools.reference`; a test checks that it is current. -->

Every path is served below the service's prefix, `/services/ai-gateway/` on most Hubs, and without it.
*Scope* is what the caller's token has to hold besides access to the service; `chat:create` stands for
`custom:ai-gateway:chat:create`. [](scopes.md) says who has which. The page `/docs` of a running gateway
has the parameters and answers of each path of the first kind, and sends requests.

## The gateway's own

"""
_ALIASES = """
OpenAI's paths are there without `/v1` as well. Callers of OpenAI's paths, Anthropic's (`/v1/messages`) and
Google's (`/v1beta/models`) reach the same models; [](formats.md) says what becomes of each format.

## Pages

For browsers, after the Hub's login.

"""
_OTHERS = """
## In the place of other systems

The pages on [compatibility](compatibility.md) say what each answers. *as asked* is the scope of the
operation: `chat:create` for a chat, and so on.

"""
_PROVIDERS = """
Below `/PROVIDER/v1/`, such as `/openai/v1/chat/completions`, each provider of the configuration has
[paths under its own name](../howto/provider-paths.md).
"""
ASKED = "as asked"
_PAGES: Mapping[str, tuple[str, str]] = {
    "RootHandler": ("docs:read", "Home: your models, cells to paste, what you used and what is left"),
    "PlaygroundHandler": ("docs:read", "The playground"),
    "UsagePageHandler": ("docs:read", "Your use"),
    "DocsHandler": ("docs:read", "The interactive page of this API"),
    "StaffHandler": ("docs:read, and admin or group-usage", "For staff and instructors"),
    "AssetHandler": ("none", "Styles and scripts of the pages"),
    "FaviconHandler": ("none", "The icon"),
    "OAuthCallbackHandler": ("none", "Where the Hub's login comes back to"),
}
OTHERS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "StoredResponseHandler": ("chat:create", "A stored response", ("RESPONSE",)),
    "GenerateHandler": (
        "chat:create",
        "Google's paths, also as Vertex AI's SDKs have them",
        ("MODEL", "VERB"),
    ),
    "AnyModelsHandler": ("models:list", "The models, in OpenAI's shape or Google's", ()),
    "AnyModelHandler": ("models:list", "One of them", ("MODEL",)),
    "UnifiedModelsHandler": ("models:list", "MLflow 3: the models", ()),
    "UnifiedHandler": (ASKED, "MLflow 3: OpenAI's format", ()),
    "NativeHandler": (ASKED, "MLflow 3: a provider's own format", ()),
    "ProxyHandler": (ASKED, "MLflow: a path of the provider's", ("ENDPOINT", "PATH")),
    "EndpointsHandler": ("models:list", "MLflow: the endpoints", ()),
    "EndpointHandler": ("models:list", "MLflow: one of them", ("ENDPOINT",)),
    "SplitHandler": ("models:list", "MLflow: a traffic split", ("ROUTE",)),
    "FirstRouteHandler": (ASKED, "MLflow 2.5: an endpoint; POST asks it", ("ROUTE",)),
    "EndpointInvocationHandler": (ASKED, "MLflow: ask an endpoint", ("ENDPOINT",)),
    "TypelessInvocationHandler": (ASKED, "MLflow 3: ask an endpoint", ("ENDPOINT",)),
    "LimitsHandler": ("admin", "MLflow: an endpoint's limit", ("ENDPOINT",)),
    "FirstHealthHandler": ("none", "FIRST: health", ()),
    "FirstStatusHandler": ("none", "FIRST: states of what everybody may use", ()),
    "WhoamiHandler": ("none but access", "FIRST: who is calling", ()),
    "ListEndpointsHandler": ("models:list", "FIRST: clusters, frameworks and models", ()),
    "FirstInvocationHandler": (
        ASKED,
        "FIRST: ask a model, at a cluster or anywhere",
        ("CLUSTER", "FRAMEWORK"),
    ),
    "FirstModelsHandler": ("models:list", "FIRST: the models", ("CLUSTER", "FRAMEWORK")),
    "ClusterJobsHandler": ("models:list", "FIRST: what runs at a cluster", ("CLUSTER",)),
    "FirstBatchesHandler": ("batches:create", "FIRST: batches", ("CLUSTER", "FRAMEWORK")),
    "FirstBatchStatusHandler": ("batches:create", "FIRST: a batch's state", ("BATCH",)),
    "FirstBatchResultHandler": ("batches:create", "FIRST: a batch's results", ("BATCH",)),
    "FirstCancelBatchHandler": ("batches:create", "FIRST: end a batch", ("BATCH",)),
}
"""By handler: the scope, what it is for, and what the groups of its pattern are."""
_READ = {
    "(?:(?:gateway/gemini/|gemini/)?(?:v1(?:alpha|beta)?1?/)?)": "v1beta/",
    "(?:gateway/gemini/|gemini/)?": "",
    "(?:v1(?:alpha|beta)?1?/)?": "v1beta/",
    "(?:projects/[^/]+/locations/[^/]+/)?": "",
    "(?:publishers/google/)?": "",
    "(?::|%3[Aa])": ":",
    "(?:gateway|endpoints)": "gateway",
    "(/cancel|/input_items)?": "",
    "/?": "",
    "\\": "",
}
"""Parts of patterns that a reader is spared."""


def page() -> str:
    """Return the page."""
    parts = [_HEAD.rstrip("\n"), "", *_own(), _ALIASES.rstrip("\n"), "", *_pages()]
    parts += [_OTHERS.rstrip("\n"), "", *_others(), _PROVIDERS.rstrip("\n")]
    return "\n".join(parts) + "\n"


def _own() -> Iterable[str]:
    found = document(title="", description="", version="", prefix="/")
    yield from ("| | path | scope | |", "| --- | --- | --- | --- |")
    for path, methods in found["paths"].items():
        for method, about in methods.items():
            shown = re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), path)
            scope = _scope(about["x-required-scope"])
            yield f"| {method.upper()} | `{shown}` | {scope} | {about['summary']} |"


def _scope(scope: str | None) -> str:
    if scope is None:
        return "none, and no token"
    if scope.startswith("access:"):
        return "none but access"
    return f"`{scope.removeprefix('custom:ai-gateway:')}`"


def _pages() -> Iterable[str]:
    yield from ("| | path | scope | |", "| --- | --- | --- | --- |")
    for pattern, handler, _ in patterns():
        if handler.__name__ in _PAGES:
            scope, about = _PAGES[handler.__name__]
            path = pattern.replace("\\", "").replace("([a-z]+.[a-z]+)", "FILE")
            yield f"| GET | `/{path}` | {_words(scope)} | {about} |"


def _others() -> Iterable[str]:
    yield from ("| | path | scope | |", "| --- | --- | --- | --- |")
    rows = [row for pattern, handler, more in patterns() for row in _other(pattern, handler, more)]
    yield from dict.fromkeys(rows)


def _other(pattern: str, handler: type[web.RequestHandler], more: Mapping[str, Any]) -> Iterator[str]:
    if handler.__name__ not in OTHERS or pattern.startswith("responses/"):
        return
    scope, about, groups = OTHERS[handler.__name__]
    if "operation" in more:
        scope = more["operation"].scope
    methods, path = ", ".join(methods_of(handler)), readable(pattern, groups)
    yield f"| {methods} | `/{path}` | {_words(scope)} | {about} |"


def _words(scope: str) -> str:
    return scope if " " in scope or scope == "none" else f"`{scope}`"


def readable(pattern: str, groups: tuple[str, ...]) -> str:
    """Return a pattern as a path, with words in the place of its groups."""
    for part, text in _READ.items():
        pattern = pattern.replace(part, text)
    for group in groups:
        pattern = re.sub(r"\((?!\?)[^)]*\)", group, pattern, count=1)
    return pattern


def methods_of(handler: type[web.RequestHandler]) -> list[str]:
    """Return the methods that a handler has, but HEAD."""
    unwritten = web.RequestHandler._unimplemented_method
    return [name.upper() for name in METHODS if getattr(handler, name) is not unwritten]


def undocumented() -> list[str]:
    """Return the routes that are on none of the page's tables."""
    known = document(title="", description="", version="", prefix="/")["paths"]
    samples = [re.sub(r"\{\w+\}", "x", path[1:]) for path in known]
    samples += [path.removeprefix("v1/") for path in samples]
    samples += [path.replace("v1/", "v2/") for path in samples if path.endswith("rerank")]
    samples += [f"v1/{path}" for path in samples if path.startswith("v1/messages")]  # a base with /v1
    samples += [f"resource_server/{path}" for path in samples if path.startswith("v1/")]
    return [
        pattern
        for pattern, handler, _ in patterns()
        if handler.__name__ not in {*OTHERS, *_PAGES}
        and not any(re.fullmatch(pattern, sample) for sample in samples)
    ]
