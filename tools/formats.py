"""The page on formats: who speaks what, and what becomes of each field in translation."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from jupyterhub_ai_gateway.dialects import (
    chat_back,
    chat_front,
    cohere_back,
    cohere_front,
    completions_front,
    converse_fields,
    gemini_back,
    gemini_front,
    messages_back,
    messages_front,
    mistral_front,
    responses_back,
    responses_front,
    serving_back,
    vector_fronts,
)
from jupyterhub_ai_gateway.dialects.loss import DROPPED, MAPPED, Refused, Table, Verb

FRONTS: Mapping[str, Table] = {
    "Chat completions": chat_front.REQUEST,
    "Messages": messages_front.REQUEST,
    "Responses": responses_front.REQUEST,
    "Completions": completions_front.REQUEST,
    "Gemini": gemini_front.REQUEST,
    "Gemini's `generationConfig`": gemini_front.CONFIG,
    "Gemini's `tools`": gemini_front.TOOL,
    "Gemini's `parts`": gemini_front.PART,
    "Cohere": cohere_front.REQUEST,
    "Cohere's embeddings": vector_fronts.COHERE,
    "Mistral": mistral_front.REQUEST,
    "Mistral's embeddings": vector_fronts.MISTRAL,
}
BACKS: Mapping[str, Mapping[str, Verb]] = {
    "Chat completions": chat_back.LACKS,
    "Messages": messages_back.LACKS,
    "Responses": responses_back.LACKS,
    "Gemini": gemini_back.LACKS,
    "Cohere": cohere_back.LACKS,
    "Converse (Amazon Bedrock)": converse_fields.LACKS,
    "Served MLflow models": serving_back.LACKS,
}
_HEAD = """# Formats and their translation

<!-- Written by `python -m tools.reference`; a test checks that it is current. -->

A request whose format the model's provider speaks goes through as it came. All others are translated: by
the tables below, each of which is the code that translates. What is *dropped* only tunes the answer; the
answer's header `x-ai-gateway-dropped-params` names it. What is *refused* would make it another answer;
the request gets `cannot_translate`, unless another deployment of the endpoint can serve it. A field that
is in no table is newer than this version, and dropped.

The tests let the official SDKs of every format talk to a provider of every format: whole and streamed,
with tools over two turns, parallel calls, JSON Schema, pictures, reasoning that comes back in the next
turn, refusals before the answer and failures within it, and with callers who hang up.

What real servers sent is tried as well: recordings of OpenAI, Azure OpenAI, Anthropic, Gemini, Vertex AI,
Bedrock, Mistral, Cohere, DeepSeek, Groq, OpenRouter, Together, xAI, vLLM, Ollama, transformers and MLflow,
made between 2024 and 2026, are passed on and translated for callers of every format, whole, byte by byte
and cut at random places. What a caller gets is held against what the vendor's own SDK reads of the same
bytes. `tests/recordings/README.md` says where each comes from.

Mistral's SDK asks at OpenAI's paths and reads answers in a shape that no other client knows; it is known by
its User-Agent, and nobody else is answered so. Cohere's SDK raises nothing for a stream that fails: its
last event says so.

## Who was tried with whom

Each cell is run by `tests/matrix/test_matrix.py` with all of what is said above, by the caller's official
SDK; the provider checks what it is sent against the types that its vendor publishes. "As it came" is where
both speak the same.

MATRIX

## What callers send
"""
_TEXTS = """Older completions have no tools, pictures or thoughts; `tests/matrix/test_texts.py` runs them
whole, streamed, refused, broken off and left, and embeddings by every SDK that asks for some. Anthropic has
no embeddings, and Google's SDK asks for its own by another path."""
_LACKS = """
## What a provider's format cannot say

By the names of the field in chat completions, or what comes nearest.
"""
_ATTRIBUTES = {
    "parallel_tools": "parallel_tool_calls",
    "choice": "tool_choice",
    "shape": "response_format",
    "cache_key": "prompt_cache_key",
    "has_cache": "cache_control",
    "is_stream": "stream",
    "reasoning": "reasoning_effort",
}


def page() -> str:
    """Return the page."""
    parts = [_HEAD.replace("MATRIX", "\n".join(_matrix()))]
    for name, table in FRONTS.items():
        parts += [f"### {name}", "", *_rows(table), ""]
    parts.append(_LACKS.lstrip("\n"))
    for name, lacks in BACKS.items():
        parts += [
            f"### {name}",
            "",
            *_rows({_ATTRIBUTES.get(key, key): verb for key, verb in lacks.items()}),
            "",
        ]
    return "\n".join(parts).rstrip("\n") + "\n"


def _matrix() -> Iterable[str]:
    """Return the callers and the providers of the matrix, which the tests make from the same two tables."""
    tests = str(Path(__file__).parent.parent / "tests")
    if tests not in sys.path:
        sys.path.insert(0, tests)
    from matrix.test_matrix import CLIENTS, VENDORS
    from matrix.test_texts import APART, EMBEDDERS, HOSTS, KIN_OF_VECTORS

    yield "| | " + " | ".join(VENDORS) + " |"
    yield "| --- |" + " --- |" * len(VENDORS)
    for client in CLIENTS:
        is_kin = [vendor.startswith(client) for vendor in VENDORS]
        cells = ["as it came" if kin else "translated" for kin in is_kin]
        yield f"| **{client}** | " + " | ".join(cells) + " |"
    texts = [APART.get(vendor, "translated") for vendor in VENDORS]
    yield "| **Completions** | " + " | ".join(texts) + " |"
    yield from ("", _TEXTS, "", "| embeddings asked in | " + " | ".join(HOSTS) + " |")
    yield "| --- |" + " --- |" * len(HOSTS)
    for client in EMBEDDERS:
        kin = ["as it came" if host in KIN_OF_VECTORS[client] else "translated" for host in HOSTS]
        yield f"| **{client} words** | " + " | ".join(kin) + " |"


def _rows(table: Mapping[str, Verb]) -> Iterable[str]:
    mapped = [f"`{name}`" for name, verb in sorted(table.items()) if verb is MAPPED]
    dropped = [f"`{name}`" for name, verb in sorted(table.items()) if verb is DROPPED]
    yield "| | |"
    yield "| --- | --- |"
    if mapped:
        yield f"| translated | {', '.join(mapped)} |"
    if dropped:
        yield f"| dropped | {', '.join(dropped)} |"
    for name, verb in sorted(table.items()):
        if isinstance(verb, Refused):
            yield f"| refused | `{name}`: {verb.why} |"
