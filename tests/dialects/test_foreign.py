"""Thoughts of one model in a conversation that goes on with another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jupyterhub_ai_gateway.dialects.canonical import Opaque
from jupyterhub_ai_gateway.dialects.codec import unwrap, wrap
from jupyterhub_ai_gateway.dialects.opening import close_request, open_request
from jupyterhub_ai_gateway.vocabulary import CHAT, MESSAGES, RESPONSES, Operation

OURS, THEIRS, NOBODYS = wrap(Opaque("anthropic", "sig")), wrap(Opaque("gemini", "sig")), wrap(None)
OPENAIS = wrap(Opaque("openai", "sealed"))


def sent(operation: Operation, **fields: Any) -> Any:
    asked = open_request(operation, json.dumps({"model": "chat", **fields}).encode())
    return json.loads(close_request(asked, None, lambda: "somebody"))


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            {"type": "thinking", "thinking": "Hm", "signature": OURS},
            {"type": "thinking", "thinking": "Hm", "signature": "sig"},
        ),
        ({"type": "thinking", "thinking": "Hm", "signature": THEIRS}, None),
        ({"type": "thinking", "thinking": "Hm", "signature": NOBODYS}, None),
        ({"type": "redacted_thinking", "data": OURS}, {"type": "redacted_thinking", "data": "sig"}),
        ({"type": "redacted_thinking", "data": THEIRS}, None),
        (
            {"type": "thinking", "thinking": "Hm", "signature": "native"},
            {"type": "thinking", "thinking": "Hm", "signature": "native"},
        ),
    ],
)
def test_thoughts_in_messages(block: Any, expected: Any) -> None:
    text = {"type": "text", "text": f"what is {NOBODYS}?"}
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [block, text]}]
    found = sent(MESSAGES, messages=messages)["messages"][1]["content"]
    assert found == [each for each in (expected, text) if each is not None]


def test_a_message_of_foreign_thoughts_alone_is_left_out() -> None:
    thought = {"type": "thinking", "thinking": "Hm", "signature": THEIRS}
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [thought]}]
    assert sent(MESSAGES, messages=messages)["messages"] == messages[:1]


def test_reasoning_items_of_responses() -> None:
    items = [
        {"type": "reasoning", "summary": [], "encrypted_content": OPENAIS},
        {"type": "reasoning", "summary": [], "encrypted_content": OURS},
        {"type": "reasoning", "summary": [], "encrypted_content": "native"},
        {"role": "user", "content": "Hi"},
    ]
    found = sent(RESPONSES, input=items)["input"]
    assert found == [{**items[0], "encrypted_content": "sealed"}, *items[2:]]


def test_details_of_chat_messages() -> None:
    details = [{"type": "reasoning.text", "text": "Hm", "signature": OURS}]
    said = {"role": "assistant", "content": "Hi", "reasoning_content": "Hm"}
    found = sent(CHAT, messages=[{**said, "reasoning_details": details}])["messages"]
    assert found == [said]


def test_a_text_that_looks_like_an_envelope_is_a_text() -> None:
    messages = [{"role": "user", "content": OURS}]
    assert sent(CHAT, messages=messages)["messages"] == messages


@pytest.mark.parametrize("opaque", [Opaque("anthropic", "a.b.c=="), Opaque("gemini", "x")])
def test_what_is_wrapped_can_be_unwrapped(opaque: Opaque) -> None:
    assert unwrap(wrap(opaque), "nobody") == opaque
    assert unwrap(wrap(None), "nobody") is None
    assert unwrap("bare", "openai") == Opaque("openai", "bare")
