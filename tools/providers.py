"""The page on providers: every name, what it needs, which formats it speaks, and those that are gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jupyterhub_ai_gateway.config import ProviderSchema, parse, provider_section
from jupyterhub_ai_gateway.providers.base import Provider
from jupyterhub_ai_gateway.providers.openai_compatible import rows
from jupyterhub_ai_gateway.providers.registry import Providers
from jupyterhub_ai_gateway.vocabulary import CHAT, COMPLETIONS

_HEAD = """# Providers

<!-- Written by `python -m tools.reference`; a test checks that it is current. -->

The `provider` of an endpoint's `model` is one of these names. Case, `-` and `_` make no difference. A host
that speaks OpenAI's API and is not here is `openai-compatible`, by its address; another one is
[a class of your own](../howto/add-a-provider.md).

A name in brackets means the same. *Asked in* says in which formats chats reach it as the caller wrote them.
Callers of all other formats (chat completions, completions, Messages, Responses, Gemini, Cohere's and
Mistral's) reach it by [translation](formats.md). *Also* is what it serves besides chats.

"""
_GONE = """
## Those that are not served

Names of MLflow's configuration whose service is no more, or which have no format that others speak. A file
that has one is refused with these words.

"""
_FORMATS = {
    "chat": "chat completions",
    "messages": "Messages",
    "responses": "Responses",
    "generate_content": "Gemini",
    "converse": "Converse",
    "cohere_chat": "Cohere's chat",
    "mistral_chat": "Mistral's chat",
    "serving": "MLflow's `/invocations`",
}
_ABOUT = {
    "openai": "OpenAI",
    "azure": "Azure OpenAI",
    "anthropic": "Anthropic",
    "cohere": "Cohere",
    "mlflow-model-serving": "a model that MLflow serves",
    "bedrock": "Amazon Bedrock",
    "gemini": "Google AI Studio",
    "vertex_ai": "Google's Vertex AI",
    "databricks": "Databricks",
    "echo": "no model: says what it was told, for trying things out",
    "openai-compatible": "any host that speaks OpenAI's API",
}
_GUIDES = {
    "azure": "azure",
    "databricks": "azure",
    "anthropic": "claude-code",
    "bedrock": "bedrock",
    "cohere": "cohere",
    "mistral": "mistral",
    "gemini": "gemini",
    "vertex_ai": "gemini",
    "vllm": "own-gpus",
    "openai-compatible": "add-a-provider",
    "mlflow-model-serving": "mlflow",
    "tei": "images-and-audio",
}
_NEEDS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "openai": ("`openai_api_key`", {"openai_api_key": "key"}),
    "azure": (
        "`api_base`; `api_key`, or an identity of Entra ID",
        {"api_base": "https://host.example.org", "api_key": "key"},
    ),
    "databricks": (
        "`host`; `token`, or `client_id` and `client_secret`",
        {"host": "https://host.example.org", "token": "key"},
    ),
}
"""What one of several settings has to say: in words, and for an example."""
_INSTEAD = {
    "palm": "[`gemini`](#gemini), with a key of Google AI Studio",
    "sap-ai-core": "[`openai-compatible`](#openai-compatible), where it speaks OpenAI's API",
    "typesafe": "no other name",
    "mosaicml": "[`databricks`](#databricks), or what serves the model now as "
    "[`openai-compatible`](#openai-compatible)",
}
_BY_NAME = {
    "bedrock": {"Claude": "anthropic.claude-x"},
    "vertex_ai": {"Claude": "claude-x", "with a slash, and others": "meta/llama"},
    "databricks": {"Claude": "databricks-claude-x", "Gemini": "databricks-gemini-x"},
}
"""Where the model's name decides: what is said of it, and such a name."""


def page() -> str:
    """Return the page."""
    installed = Providers.installed()
    schemas = installed.schemas
    names = sorted({each.name for each in schemas.values() if not each.retired})
    lines = [
        _HEAD,
        "| provider | asked in | also |",
        "| --- | --- | --- |",
    ]
    lines += [_row(installed, name) for name in names]
    lines += [_GONE, "| provider | | instead |", "| --- | --- | --- |"]
    lines += [
        f"| `{each.name}` | {each.retired} | {_INSTEAD[each.name]} |"
        for each in schemas.values()
        if each.retired
    ]
    lines += [
        "",
        "## Settings",
        "",
        "What stands in `model.config`, by provider. A key may be a",
        _KEYS,
        "",
    ]
    for name in names:
        section = provider_section(schemas[name], _others(schemas, name))
        head, _, rest = section.partition("\n\n")
        lines.append(f"{head}\n\n{_about(schemas[name])}\n\n{rest}")
    return "\n".join(lines).replace("\n\n\n", "\n\n").rstrip("\n") + "\n"


_KEYS = "`$VARIABLE`, `{file: PATH}` or the value itself; see [](configuration.md)."


def _others(schemas: Mapping[str, ProviderSchema], name: str) -> list[str]:
    return sorted(key for key, schema in schemas.items() if schema.name == name and key != name)


def _row(installed: Providers, name: str) -> str:
    schema = installed.schemas[name]
    others = _others(installed.schemas, name)
    also = f" ({_code(others)})" if others else ""
    return (
        f"| [`{name}`](#{name}){also} | {_chats(installed, name)} | {', '.join(sorted(_kinds(schema)))} |"
    )


def _about(schema: ProviderSchema) -> str:
    """Say who that is, what it needs, and where to read on."""
    about = {**_ABOUT, **{each.name: each.about for each in rows()}}[schema.name]
    needs = _needs(schema)
    guide = f" See [](../howto/{_GUIDES[schema.name]}.md)." if schema.name in _GUIDES else ""
    return f"{about[0].upper()}{about[1:]}.{f' Needs {needs}.' if needs else ''}{guide}"


def _needs(schema: ProviderSchema) -> str:
    if schema.name in _NEEDS:
        return _NEEDS[schema.name][0]
    needed = [each.name for each in schema.settings if each.required]
    keys = [each.name for each in schema.settings if each.name.endswith("api_key")]
    if not needed and schema.check is not None and len(keys) > 1:
        return f"one of {_code(keys)}"
    return _code(needed)


def _chats(installed: Providers, name: str) -> str:
    if CHAT.endpoint_type not in installed.schemas[name].endpoint_types:
        return ""
    usual = _spoken(_made(installed, name, "a-model"))
    by_name = [
        f"{_spoken(_made(installed, name, model))} ({about})"
        for about, model in _BY_NAME.get(name, {}).items()
    ]
    return "; ".join([usual, *by_name])


def _spoken(provider: Provider) -> str:
    if provider.is_stranger:
        return f"its own form of {_FORMATS['chat']}, always translated"
    spoken = {each.name for each in provider.speaks(CHAT.endpoint_type)}
    return ", ".join(text for name, text in _FORMATS.items() if name in spoken)


def _made(installed: Providers, name: str, model_name: str) -> Provider:
    """Make one of the provider, with what it cannot do without."""
    model = {"provider": name, "name": model_name, "config": _least(installed.schemas[name])}
    document = {"endpoints": [{"name": "x", "endpoint_type": CHAT.endpoint_type, "model": model}]}
    return installed.make(parse(document, installed.schemas, {}).endpoints[0].model)


def _least(schema: ProviderSchema) -> Mapping[str, str]:
    if schema.name in _NEEDS:
        return _NEEDS[schema.name][1]
    values = {"url": "https://host.example.org", "secret": "key", "text": "text"}
    found = {each.name: values[each.kind] for each in schema.settings if each.required}
    names = {each.name for each in schema.settings}
    return found or ({"api_key": "key"} if schema.check is not None and "api_key" in names else {})


def _kinds(schema: ProviderSchema) -> Iterator[str]:
    for each in schema.endpoint_types - {CHAT.endpoint_type}:
        if each != COMPLETIONS.endpoint_type or CHAT.endpoint_type not in schema.endpoint_types:
            yield each.rpartition("/")[2]
        elif COMPLETIONS in _speaks_completions(schema):
            yield "completions"


def _speaks_completions(schema: ProviderSchema) -> frozenset[Any]:
    installed = Providers.installed()
    return _made(installed, schema.name, "a-model").speaks(COMPLETIONS.endpoint_type)


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)
