"""What requests are seen to need, as a table, and how their conversations begin."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jupyterhub_ai_gateway.dialects.needs import needs_of, prefix_of
from jupyterhub_ai_gateway.dialects.opening import Asked, open_request
from jupyterhub_ai_gateway.vocabulary import (
    CHAT,
    COHERE_CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    GENERATE_CONTENT,
    MESSAGES,
    MISTRAL_CHAT,
    RESPONSES,
    Operation,
)


def asked(operation: Operation, **more: Any) -> Asked:
    if operation is GENERATE_CONTENT:
        return open_request(operation, json.dumps(more).encode(), "m")
    return open_request(operation, json.dumps({"model": "m", **more}).encode())


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
TALK = {"type": "text", "text": 'say "image_url" and {"type": "image"}'}
FUNCTION = {"type": "function", "function": {"name": "f"}}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {}}]}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
HI = [{"role": "user", "content": "Hi"}]
BLOB = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}
SOUND = {"file_data": {"mime_type": "audio/mpeg", "file_uri": "https://example.org/a"}}


def contents(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "parts": list(parts)}]


TABLE: list[tuple[Operation, dict[str, Any], str]] = [
    (CHAT, {"messages": HI}, ""),
    (CHAT, {"messages": [user(TALK)]}, ""),
    (CHAT, {"messages": [user(TALK, IMAGE)]}, "vision"),
    (CHAT, {"messages": [user({"type": "input_audio", "input_audio": {}})]}, "audio"),
    (CHAT, {"messages": [user({"type": "file", "file": {}})]}, "files"),
    (CHAT, {"messages": [{"role": "user", "content": '"image_url"'}]}, ""),
    (CHAT, {"messages": HI, "tools": []}, ""),
    (CHAT, {"messages": HI, "tools": None}, ""),
    (CHAT, {"messages": HI, "tools": [FUNCTION]}, "tools"),
    (CHAT, {"messages": HI, "functions": [{"name": "f"}]}, "tools"),
    (CHAT, {"messages": HI, "response_format": SCHEMA}, "json_schema"),
    (CHAT, {"messages": HI, "response_format": {"type": "json_object"}}, ""),
    (CHAT, {"messages": HI, "reasoning_effort": "low"}, "reasoning"),
    (CHAT, {"messages": HI, "reasoning_effort": "none"}, ""),
    (CHAT, {"messages": HI, "modalities": ["text", "audio"]}, "audio"),
    (CHAT, {"messages": [user(IMAGE)], "tools": [FUNCTION]}, "tools vision"),
    (COMPLETIONS, {"prompt": "image_url"}, ""),
    (EMBEDDINGS, {"input": ["image"]}, ""),
    (MESSAGES, {"messages": [user({"type": "image", "source": {}})]}, "vision"),
    (MESSAGES, {"messages": [user(RESULT)]}, "vision"),
    (MESSAGES, {"messages": [user({"type": "document", "source": {}})]}, "files"),
    (MESSAGES, {"messages": HI, "thinking": {"type": "enabled", "budget_tokens": 1024}}, "reasoning"),
    (MESSAGES, {"messages": HI, "thinking": {"type": "disabled"}}, ""),
    (MESSAGES, {"messages": HI, "output_config": {"format": {"type": "json_schema"}}}, "json_schema"),
    (RESPONSES, {"input": "Hi"}, ""),
    (RESPONSES, {"input": [user({"type": "input_image", "image_url": "x"})]}, "vision"),
    (RESPONSES, {"input": "Hi", "text": {"format": {"type": "json_schema"}}}, "json_schema"),
    (RESPONSES, {"input": "Hi", "text": {"format": {"type": "text"}}}, ""),
    (RESPONSES, {"input": "Hi", "reasoning": {"effort": "high"}}, "reasoning"),
    (RESPONSES, {"input": "Hi", "reasoning": {"effort": None}}, ""),
    (COHERE_CHAT, {"messages": [user(IMAGE)]}, "vision"),
    (COHERE_CHAT, {"messages": HI, "response_format": {"type": "json_object", "json_schema": {}}}, ""),
    (
        COHERE_CHAT,
        {"messages": HI, "response_format": {"type": "json_object", "json_schema": {"type": "object"}}},
        "json_schema",
    ),
    (COHERE_CHAT, {"messages": HI, "thinking": {"type": "enabled"}}, "reasoning"),
    (MISTRAL_CHAT, {"messages": HI, "prompt_mode": "reasoning"}, "reasoning"),
    (GENERATE_CONTENT, {"contents": contents({"text": '"inlineData"'})}, ""),
    (GENERATE_CONTENT, {"contents": contents({"text": "Look"}, BLOB)}, "vision"),
    (GENERATE_CONTENT, {"contents": contents(SOUND)}, "audio"),
    (GENERATE_CONTENT, {"contents": contents({"inlineData": {"mimeType": "application/pdf"}})}, "files"),
    (GENERATE_CONTENT, {"contents": contents(), "tools": [{"functionDeclarations": [{}]}]}, "tools"),
    (
        GENERATE_CONTENT,
        {"contents": contents(), "generationConfig": {"responseSchema": {"type": "STRING"}}},
        "json_schema",
    ),
    (
        GENERATE_CONTENT,
        {"contents": contents(), "generation_config": {"thinking_config": {"include_thoughts": True}}},
        "reasoning",
    ),
    (
        GENERATE_CONTENT,
        {"contents": contents(), "generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}},
        "",
    ),
    (
        GENERATE_CONTENT,
        {"contents": contents(), "generationConfig": {"responseModalities": ["AUDIO"]}},
        "audio",
    ),
]


@pytest.mark.parametrize(("operation", "fields", "expected"), TABLE)
def test_needs(operation: Operation, fields: dict[str, Any], expected: str) -> None:
    assert needs_of(asked(operation, **fields)) == frozenset(expected.split())


@pytest.mark.parametrize("messages", [[1, None, "x"], [[IMAGE]], [{"content": {"type": "image"}}]])
def test_nonsense_needs_nothing(messages: Any) -> None:
    assert needs_of(asked(CHAT, messages=messages)) == frozenset()


SYSTEM = {"role": "system", "content": "You are kind."}


def turns(*texts: str) -> list[dict[str, Any]]:
    kinds = ("user", "assistant")
    return [{"role": kinds[index % 2], "content": text} for index, text in enumerate(texts)]


def test_a_conversation_keeps_its_beginning_while_it_grows() -> None:
    first = prefix_of(asked(CHAT, messages=[SYSTEM, *turns("one")]))
    assert prefix_of(asked(CHAT, messages=[SYSTEM, *turns("one", "two", "three")])) == first
    assert prefix_of(asked(CHAT, messages=[SYSTEM, *turns("other")])) != first
    assert prefix_of(asked(CHAT, messages=turns("one"))) != first


def test_gemini_s_conversations_keep_their_beginning_too() -> None:
    def begins(instruction: str, *texts: str) -> bytes:
        roles = ("user", "model")
        found = [{"role": roles[at % 2], "parts": [{"text": text}]} for at, text in enumerate(texts)]
        said = {"parts": [{"text": instruction}]}
        return prefix_of(asked(GENERATE_CONTENT, systemInstruction=said, contents=found))

    assert begins("a", "one") == begins("a", "one", "two", "three") != begins("b", "one")


def test_instructions_are_part_of_the_beginning() -> None:
    one = prefix_of(asked(MESSAGES, system="a", messages=turns("one")))
    assert prefix_of(asked(MESSAGES, system="b", messages=turns("one"))) != one
    text = prefix_of(asked(RESPONSES, instructions="a", input="one"))
    assert prefix_of(asked(RESPONSES, instructions="b", input="one")) != text
    assert prefix_of(asked(COMPLETIONS, prompt="one")) == b'"one"'
