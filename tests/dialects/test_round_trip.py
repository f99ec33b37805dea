"""What is written for a provider says what was asked for: read again, it is the same request."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyterhub_ai_gateway.dialects.bridge import BACKS, FRONTS
from jupyterhub_ai_gateway.dialects.canonical import (
    Call,
    Media,
    Named,
    Opaque,
    Reasoning,
    Request,
    Result,
    Shape,
    Text,
    Thinking,
    Tool,
    Turn,
)
from jupyterhub_ai_gateway.dialects.codec import Back, Manners, encode_json, merged
from jupyterhub_ai_gateway.dialects.loss import Loss
from jupyterhub_ai_gateway.vocabulary import (
    CHAT,
    COHERE_CHAT,
    MESSAGES,
    MISTRAL_CHAT,
    RESPONSES,
    Operation,
)

MAKERS = {CHAT: "", COHERE_CHAT: "", MISTRAL_CHAT: "mistral", MESSAGES: "anthropic", RESPONSES: "openai"}
MANNERS = Manners(
    model="claude-sonnet-4-5", takes_top_k=True, takes_custom_tools=True, takes_cache_key=True
)

words = st.text(
    alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1
)
texts = words.map(Text)
images = st.builds(Media, st.just("image"), st.just("image/png"), st.sampled_from(["aGk=", "aG8="]))
objects = st.dictionaries(words, st.integers(-9, 9) | words | st.booleans() | st.none(), max_size=3)
schema = st.just({"type": "object", "properties": {"a": {"type": "string"}}})


@st.composite
def conversations(draw: st.DrawFn, operation: Operation) -> list[Turn]:
    """Draw turns as every format can have them: a result follows its call."""
    turns = [Turn("system", [draw(texts)])] if draw(st.booleans()) else []
    for index in range(draw(st.integers(1, 3))):
        turns.append(Turn("user", draw(st.lists(texts | images, min_size=1, max_size=2))))
        names = [f"call_{index}_{number}" for number in range(draw(st.integers(0, 2)))]
        calls = [Call(name, "tool", encode_json(draw(objects)).decode()) for name in names]
        said: list[Any] = draw(st.lists(texts, max_size=1)) or ([] if calls else [Text("ok")])
        if draw(st.booleans()):
            maker = MAKERS[operation]
            opaque = Opaque(maker, draw(st.sampled_from(["sig", "a.b=="]))) if maker else None
            said = [Thinking(draw(words), opaque), *said]
        turns.append(Turn("assistant", [*said, *calls]))
        if calls:
            turns.append(Turn("user", [Result(name, [draw(texts)]) for name in names]))
    return turns


@st.composite
def requests(draw: st.DrawFn, operation: Operation) -> Request:
    """Draw a request that a format can say in full."""
    request = Request(turns=draw(conversations(operation)), max_tokens=draw(st.integers(5000, 9000)))
    request.temperature = draw(st.none() | st.sampled_from([0, 0.5, 1]))
    request.user = draw(st.none() | words)
    if draw(st.booleans()):
        tool = Tool("tool", draw(st.none() | words), draw(schema), draw(st.booleans()) or None)
        request.tools = [tool]
        request.choice = draw(st.sampled_from(["auto", "none", "required", Named(["tool"])]))
        request.parallel_tools = draw(st.booleans()) if request.choice != "none" else None
    if draw(st.booleans()):
        request.shape = Shape(None, draw(schema), True)
    if operation is not RESPONSES:
        request.stop = draw(st.lists(words, max_size=2))
        request.top_k = draw(st.none() | st.integers(1, 9))
    if operation not in (MESSAGES, COHERE_CHAT):
        request.cache_key = draw(st.none() | words)
        request.reasoning = draw(st.none() | st.sampled_from([Reasoning("low"), Reasoning("high")]))
    if operation is MISTRAL_CHAT:
        request.user = None  # it has no word for it
    return _as_cohere_can(request, draw) if operation is COHERE_CHAT else request


def _as_cohere_can(request: Request, draw: st.DrawFn) -> Request:
    """Take what Cohere's format has no word for out of a request, and add what only it says so."""
    request.user = request.parallel_tools = None
    request.choice = draw(st.sampled_from([None, "none", "required"])) if request.tools else None
    thoughts = [Reasoning(budget_tokens=700), Reasoning(is_off=True), Reasoning(is_adaptive=True)]
    request.reasoning = draw(st.none() | st.sampled_from(thoughts))
    request.seed = draw(st.none() | st.integers(0, 9))
    return request


def seen(request: Request) -> dict[str, Any]:
    """Return what two requests that mean the same share; turns are joined, names of ours are left out."""
    turns = [(turn.role, list(turn.parts)) for turn in merged(_split(request.turns))]
    shape = request.shape and (request.shape.schema, bool(request.shape.strict))
    tools = [(tool.name, tool.description, tool.schema, bool(tool.strict)) for tool in request.tools]
    asked = request.reasoning
    effort = asked and (asked.effort, asked.budget_tokens, asked.is_off)
    plain = ("max_tokens", "temperature", "user", "choice", "parallel_tools", "stop", "top_k", "cache_key")
    plain = (*plain, "seed")
    return {"turns": turns, "shape": shape, "tools": tools, "effort": effort} | {
        name: getattr(request, name) for name in plain
    }


def _split(turns: list[Turn]) -> list[Turn]:
    """Join what formats may write as one text or as two."""
    found = []
    for turn in turns:
        parts: list[Any] = []
        for part in turn.parts:
            is_joined = parts and isinstance(part, Text) and isinstance(parts[-1], Text)
            if is_joined:
                parts[-1] = Text(parts[-1].text + "\n\n" + part.text)
            else:
                parts.append(replace(part, detail=None) if isinstance(part, Media) else part)
        found.append(Turn(turn.role, parts))
    return found


@pytest.mark.parametrize("operation", MAKERS, ids=lambda each: each.name)
@settings(max_examples=150, deadline=None)
@given(drawn=st.data())
def test_what_is_written_is_what_was_asked(operation: Operation, drawn: st.DataObject) -> None:
    request = drawn.draw(requests(operation))
    loss = Loss("the deployment chat/1")
    expected = seen(request)
    back, manners = BACKS.get(operation, BACKS[CHAT]), MANNERS
    if operation is MISTRAL_CHAT:
        manners = replace(MANNERS, is_mistral=True, takes_user=False)
    body = back.encode_request(Back.of(replace(request), manners), loss)
    again = FRONTS[operation].decode_request(json.loads(json.dumps(body)), Loss("back"))
    assert loss.dropped == {}
    assert seen(again) == expected
