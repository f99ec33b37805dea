"""What a translation left in a conversation, taken out again before somebody else's model reads it.

A conversation may go on at a deployment that speaks the caller's own format after it was answered by
translation. The thoughts that it holds then are in an envelope of ours: their maker gets back what is
within, and everybody else is spared them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from ..vocabulary import (
    CHAT,
    COHERE_CHAT,
    COUNT_CONTENT,
    COUNT_TOKENS,
    GENERATE_CONTENT,
    INPUT_TOKENS,
    MESSAGES,
    MISTRAL_CHAT,
    RESPONSES,
    Operation,
)
from .canonical import Json
from .chat_back import MISTRAL
from .codec import ENVELOPE, decode_json, encode_json, unwrap
from .gemini_back import NO_SIGNATURE

MARK: Final = ENVELOPE.encode()
GEMINI_MARK: Final = b'"YWlnMS'
"""How the same begins in base64, as Gemini's signatures are; what follows depends on the next letter."""


def native(operation: Operation, fields: Mapping[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """Return the fields of a request that `is_foreign`, without what is not native to its format."""
    given = dict(fields)
    name, rewrite = _WAYS.get(operation, ("", _as_it_is))
    if name in given and _is_marked(bytes(given[name])):
        found = decode_json(given[name])
        if isinstance(found, list):
            given[name] = msgspec.Raw(encode_json([item for each in found for item in rewrite(each)]))
    return given


def is_foreign(operation: Operation, body: bytes) -> bool:
    """Say whether a body may hold what a translation has left."""
    return (GEMINI_MARK if operation in (GENERATE_CONTENT, COUNT_CONTENT) else MARK) in body


def _is_marked(raw: bytes) -> bool:
    return MARK in raw or GEMINI_MARK in raw


def _as_it_is(item: Json) -> list[Json]:
    return [item]


def _message(item: Json) -> list[Json]:
    """Rewrite a message of Anthropic's: a block of thoughts is restored, or left out."""
    if not isinstance(item, dict) or not isinstance(item.get("content"), list):
        return [item]
    content = [block for each in item["content"] for block in _block(each)]
    return [{**item, "content": content}] if content else []


def _block(block: Json) -> list[Json]:
    kind = block.get("type") if isinstance(block, dict) else None
    name = {"thinking": "signature", "redacted_thinking": "data"}.get(str(kind), "")
    kept = block.get(name) if name else None
    if not isinstance(kept, str) or not kept.startswith(ENVELOPE):
        return [block]
    opaque = unwrap(kept, "")
    return [{**block, name: opaque.blob}] if opaque is not None and opaque.maker == "anthropic" else []


def _item(item: Json) -> list[Json]:
    """Rewrite an item of Responses."""
    kept = item.get("encrypted_content") if isinstance(item, dict) else None
    if not isinstance(kept, str) or not kept.startswith(ENVELOPE):
        return [item]
    opaque = unwrap(kept, "")
    return [{**item, "encrypted_content": opaque.blob}] if opaque and opaque.maker == "openai" else []


def _chat_message(item: Json) -> list[Json]:
    """Rewrite a message of chat completions: its details are nothing that its hosts know."""
    if isinstance(item, dict) and "reasoning_details" in item:
        return [{name: value for name, value in item.items() if name != "reasoning_details"}]
    return [item]


def _cohere_message(item: Json) -> list[Json]:
    """Rewrite a message of Cohere's: thoughts and calls lose what only their maker can read."""
    if not isinstance(item, dict):
        return [item]
    lists = {name: item[name] for name in ("content", "tool_calls") if isinstance(item.get(name), list)}
    kept = {name: [piece for each in given for piece in _unsigned(each)] for name, given in lists.items()}
    return [{**item, **kept}]


def _unsigned(piece: Json) -> list[Json]:
    kept = piece.get("signature") if isinstance(piece, dict) else None
    if not isinstance(kept, str) or not kept.startswith(ENVELOPE):
        return [piece]
    rest = {name: value for name, value in piece.items() if name != "signature"}
    return [rest] if rest.get("thinking") or "function" in rest else []


def _mistral_message(item: Json) -> list[Json]:
    """Rewrite a message of Mistral's: its own thoughts are restored, others' lose their signature."""
    if not isinstance(item, dict) or not isinstance(item.get("content"), list):
        return [item]
    return [{**item, "content": [piece for each in item["content"] for piece in _mistral_piece(each)]}]


def _mistral_piece(piece: Json) -> list[Json]:
    kept = piece.get("signature") if isinstance(piece, dict) else None
    if not isinstance(kept, str) or not kept.startswith(ENVELOPE):
        return [piece]
    opaque = unwrap(kept, "")
    if opaque is not None and opaque.maker == MISTRAL:
        return [{**piece, "signature": opaque.blob}]
    rest = {name: value for name, value in piece.items() if name != "signature"}
    return [rest] if rest.get("thinking") else []


def _content(item: Json) -> list[Json]:
    """Rewrite one of Gemini's contents: foreign thoughts are left out, calls lose their signature."""
    if not isinstance(item, dict) or not isinstance(item.get("parts"), list):
        return [item]
    parts = [part for each in item["parts"] for part in _gemini_part(each)]
    return [{**item, "parts": parts}] if parts else []


def _gemini_part(part: Json) -> list[Json]:
    names = ("thoughtSignature", "thought_signature")
    name = next((name for name in names if name in part), "") if isinstance(part, dict) else ""
    kept = part.get(name) if name else None
    if not isinstance(kept, str) or not kept.startswith(GEMINI_MARK[1:].decode()):
        return [part]
    rest = {key: value for key, value in part.items() if key != name}
    if "functionCall" in part or "function_call" in part:
        return [{**rest, name: NO_SIGNATURE}]
    return [] if part.get("thought") or not part.get("text") else [rest]


_WAYS: Mapping[Operation, tuple[str, Callable[[Json], list[Json]]]] = {
    CHAT: ("messages", _chat_message),
    COHERE_CHAT: ("messages", _cohere_message),
    MISTRAL_CHAT: ("messages", _mistral_message),
    MESSAGES: ("messages", _message),
    COUNT_TOKENS: ("messages", _message),
    RESPONSES: ("input", _item),
    INPUT_TOKENS: ("input", _item),
    GENERATE_CONTENT: ("contents", _content),
    COUNT_CONTENT: ("contents", _content),
}
