"""What a request can be seen to need of a model, and how its conversation begins. Nothing is guessed.

What is looked at: the fields that ask for a thing by name, and the types of the parts of messages. A body
is opened below its top level only where a word of such a type is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from ..vocabulary import COMPLETIONS
from .opening import Asked, Fields

_PARTS: Mapping[str, str] = {
    "image": "vision",
    "image_url": "vision",
    "input_image": "vision",
    "audio_url": "audio",
    "input_audio": "audio",
    "document": "files",
    "file": "files",
    "input_file": "files",
}
"""Types of a message's parts, and what reads them.

Source: https://platform.openai.com/docs/api-reference/chat/create and /responses/create,
https://platform.claude.com/docs/en/api/messages, https://docs.vllm.ai multimodal inputs (read 2026-11).
"""

_BLOBS = ("inlineData", "inline_data", "fileData", "file_data")
"""What holds a file in Gemini's parts, which have no type; its MIME type says what it is.

Source: https://ai.google.dev/api/caching#Part (read 2026-11).
"""
_MIME = {"image": "vision", "video": "vision", "audio": "audio", "application": "files", "text": "files"}
_MARK = re.compile(rb'"(?:%b)"' % "|".join((*_PARTS, *_BLOBS)).encode())
_EMPTY: Final = (b"null", b"[]", b"{}", b"false")
_DEEPEST = 4
_PREFIX_ITEMS = 32
_INSTRUCTIONS = ("system", "instructions", "systemInstruction", "system_instruction")
_decode = msgspec.json.Decoder().decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Message(msgspec.Struct):
    role: str | None = None


_role = msgspec.json.Decoder(_Message).decode


def needs_of(asked: Asked) -> frozenset[str]:
    """Return the capabilities that a request asks for, in the words of the configuration."""
    fields = asked.fields
    found = set(_parts(fields.get(asked.format.content)))
    if _is_given(fields, "tools") or _is_given(fields, "functions"):
        found.add("tools")
    if _wants_schema(fields):
        found.add("json_schema")
    if _wants_reasoning(fields):
        found.add("reasoning")
    if b'"audio"' in bytes(fields.get("modalities", b"")) or _speaks(fields):
        found.add("audio")
    return frozenset(found)


def _speaks(fields: Fields) -> bool:
    modalities = _generation(fields, "responseModalities", "response_modalities")
    return isinstance(modalities, list) and any(str(each).upper() == "AUDIO" for each in modalities)


def _is_given(fields: Fields, name: str) -> bool:
    raw = fields.get(name)
    return raw is not None and bytes(raw) not in _EMPTY


def _parts(raw: msgspec.Raw | None) -> Iterator[str]:
    if raw is None or _MARK.search(raw) is None:
        return
    yield from _walk(_opened(raw), _DEEPEST)


def _walk(value: Any, depth: int) -> Iterator[str]:
    if not isinstance(value, list) or not depth:
        return
    for item in value:
        if isinstance(item, dict):
            kind = item.get("type")
            if isinstance(kind, str) and kind in _PARTS:
                yield _PARTS[kind]
            yield from _blobs(item)
            for within in (item.get("content"), item.get("parts")):
                yield from _walk(within, depth - 1)


def _blobs(part: dict[str, Any]) -> Iterator[str]:
    for name in _BLOBS:
        blob = part.get(name)
        if isinstance(blob, dict):
            kind = str(blob.get("mimeType") or blob.get("mime_type")).partition("/")[0]
            if kind in _MIME:
                yield _MIME[kind]


def _generation(fields: Fields, name: str, other: str) -> Any:
    """Return one of Gemini's settings, in either spelling; None for what is not there."""
    found = _opened(fields.get("generationConfig", fields.get("generation_config")))
    return found.get(name, found.get(other)) if isinstance(found, dict) else None


def _wants_schema(fields: Fields) -> bool:
    """OpenAI says it in `response_format` or `text.format`, Anthropic in `output_config.format`.

    Cohere has the schema beside another type, Gemini among its settings.
    """
    for name, inner in (("response_format", None), ("text", "format"), ("output_config", "format")):
        value = _opened(fields.get(name))
        if inner is not None and isinstance(value, dict):
            value = value.get(inner)
        if isinstance(value, dict) and (value.get("type") == "json_schema" or value.get("json_schema")):
            return True
    found = (
        _generation(fields, "responseSchema", "response_schema"),
        _generation(fields, "responseJsonSchema", "response_json_schema"),
    )
    return any(found)


def _wants_reasoning(fields: Fields) -> bool:
    effort = _opened(fields.get("reasoning_effort"))
    reasoning, thinking = _opened(fields.get("reasoning")), _opened(fields.get("thinking"))
    if isinstance(reasoning, dict):
        effort = effort or reasoning.get("effort")
    is_thinking = isinstance(thinking, dict) and thinking.get("type") not in (None, "disabled")
    is_thinking = is_thinking or _opened(fields.get("prompt_mode")) == "reasoning"  # Mistral's
    return is_thinking or effort not in (None, "none") or _wants_thoughts(fields)


def _wants_thoughts(fields: Fields) -> bool:
    """Say whether Gemini's settings ask for thinking; a budget of 0 switches it off."""
    config = _generation(fields, "thinkingConfig", "thinking_config")
    if not isinstance(config, dict):
        return False
    budget = config.get("thinkingBudget", config.get("thinking_budget"))
    asks = (
        config.get("includeThoughts", config.get("include_thoughts")),
        config.get("thinkingLevel", config.get("thinking_level")),
        budget,
    )
    return budget != 0 and any(asks)


def _opened(raw: msgspec.Raw | None) -> Any:
    """Decode a field; None for what is not there, or is nothing that the provider would read either."""
    if raw is None:
        return None
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def prefix_of(asked: Asked) -> bytes:
    """Return how a conversation begins: all instructions, and all up to the end of the first user's turn.

    It stays the same while the conversation grows, so what a server has cached of it can be used again.
    """
    fields, content = asked.fields, asked.fields[asked.format.content]
    start = b"".join(bytes(fields[name]) for name in _INSTRUCTIONS if name in fields)
    if asked.format.operation is COMPLETIONS or memoryview(content)[0] != b"["[0]:
        return start + bytes(content)
    try:
        items = _items(content)
    except (msgspec.DecodeError, RecursionError):
        return start + bytes(content)
    for item in items[:_PREFIX_ITEMS]:
        start += bytes(item)
        if _is_users(item):
            break
    return start


def _is_users(item: msgspec.Raw) -> bool:
    try:
        return _role(item).role == "user"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
