"""What a translation left in a conversation, taken out again before somebody else's model reads it.

A conversation may go on at a deployment that speaks the caller's own format after it was answered by
translation. The thoughts that it holds then are in an envelope of ours: their maker gets back what is
within, and everybody else is spared them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from ..vocabulary import CHAT, COUNT_TOKENS, INPUT_TOKENS, MESSAGES, RESPONSES, Operation
from .canonical import Json
from .codec import ENVELOPE, decode_json, encode_json, unwrap

MARK: Final = ENVELOPE.encode()


def native(operation: Operation, fields: Mapping[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """Return the fields of a request whose body holds `MARK`, without what is not native to its format."""
    given = dict(fields)
    name, rewrite = _WAYS.get(operation, ("", _as_it_is))
    if name in given and MARK in bytes(given[name]):
        found = decode_json(given[name])
        if isinstance(found, list):
            given[name] = msgspec.Raw(encode_json([item for each in found for item in rewrite(each)]))
    return given


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


_WAYS: Mapping[Operation, tuple[str, Callable[[Json], list[Json]]]] = {
    CHAT: ("messages", _chat_message),
    MESSAGES: ("messages", _message),
    COUNT_TOKENS: ("messages", _message),
    RESPONSES: ("input", _item),
    INPUT_TOKENS: ("input", _item),
}
