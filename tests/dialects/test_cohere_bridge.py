"""Cohere's format towards callers, without any socket: fields, answers, streams, and what goes wrong."""

from __future__ import annotations

import inspect
import json
import random
import tracemalloc
import types
import typing
from dataclasses import replace
from typing import Any

import cohere
import cohere.types
import msgspec
import pydantic
import pytest
import typing_extensions
from cohere.v2 import types as v2_types
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyterhub_ai_gateway.dialects import cohere_front, vector_fronts
from jupyterhub_ai_gateway.dialects.bridge import BACKS, FRONTS, Bridge, Crossing
from jupyterhub_ai_gateway.dialects.canonical import (
    FILTER,
    LENGTH,
    REFUSED,
    STOP,
    STOP_SEQUENCE,
    TOOLS,
    Answer,
    Begin,
    Call,
    Candidate,
    Citation,
    Close,
    Delta,
    Event,
    Finish,
    Media,
    Opaque,
    Open,
    Refusal,
    Request,
    Text,
    Thinking,
    Used,
)
from jupyterhub_ai_gateway.dialects.codec import Back, Context, Manners, encode_json, unwrap
from jupyterhub_ai_gateway.dialects.cohere import CohereTap, read_answer
from jupyterhub_ai_gateway.dialects.cohere_stream import MAX_CITED_CHARS
from jupyterhub_ai_gateway.dialects.loss import MAPPED, Loss, Refused
from jupyterhub_ai_gateway.dialects.sse import EventFrames
from jupyterhub_ai_gateway.errors import RequestFault, Untranslatable, UpstreamBroken
from jupyterhub_ai_gateway.vocabulary import CHAT, COHERE_CHAT, MESSAGES, Operation, Usage

USER = [{"role": "user", "content": "Hi"}]
WHERE = "the deployment chat/1"
FRONT, BACK = FRONTS[COHERE_CHAT], BACKS[COHERE_CHAT]


def cross(back: Operation = CHAT, *, stream: bool = False, **fields: Any) -> Crossing:
    bridge = Bridge(COHERE_CHAT, back, Manners(model="claude-sonnet-4-5", where=WHERE))
    given = {"messages": USER, **fields}
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in given.items()}
    return bridge.cross(raw, is_stream=stream, wants_usage=True, request_id="req_1", created=1)


def context() -> Context:
    return Context("req_1", 1, "model", Request())


# Every field has a verb

T = cohere.types
TABLES: dict[Any, Any] = {
    T.UserChatMessageV2: cohere_front.USER,
    T.AssistantChatMessageV2: cohere_front.ASSISTANT,
    T.SystemChatMessageV2: cohere_front.SYSTEM,
    T.ToolChatMessageV2: cohere_front.TOOL_MESSAGE,
    T.TextContent: cohere_front.TEXT,
    T.ImageUrlContent: cohere_front.IMAGE,
    T.ImageUrl: cohere_front.IMAGE_URL,
    T.TextAssistantMessageV2ContentOneItem: cohere_front.TEXT,
    T.ThinkingAssistantMessageV2ContentOneItem: cohere_front.THINKING_PART,
    T.TextSystemMessageV2ContentOneItem: cohere_front.TEXT,
    T.TextToolContent: cohere_front.TEXT,
    T.DocumentToolContent: cohere_front.DOCUMENT_PART,
    T.Document: cohere_front.DOCUMENT,
    T.ToolCallV2: cohere_front.TOOL_CALL,
    T.ToolCallV2Function: cohere_front.FUNCTION_OF_CALL,
    T.ToolV2: cohere_front.TOOL,
    T.ToolV2Function: cohere_front.FUNCTION,
    T.Thinking: cohere_front.THINKING,
    T.TextResponseFormatV2: cohere_front.FORMAT,
    T.JsonObjectResponseFormatV2: cohere_front.FORMAT,
    T.CitationOptions: cohere_front.CITATIONS,
    T.EmbedInput: vector_fronts.COHERE_INPUT,
    T.TextEmbedContent: vector_fronts.COHERE_CONTENT,
    T.ImageUrlEmbedContent: vector_fronts.COHERE_CONTENT,
}
FUNCTIONS = {
    cohere.ClientV2.chat: cohere_front.REQUEST,
    cohere.ClientV2.chat_stream: cohere_front.REQUEST,
    cohere.ClientV2.embed: vector_fronts.COHERE,
}


def arguments(function: Any) -> dict[str, Any]:
    hints = typing_extensions.get_type_hints(function)
    names = [
        name for name in inspect.signature(function).parameters if name not in ("self", "request_options")
    ]
    return {name: hints[name] for name in names}


def within(kind: Any, found: set[Any]) -> set[Any]:
    """Find every type of an object within a type, as far as what holds it is read."""
    if inspect.isclass(kind) and issubclass(kind, pydantic.BaseModel):
        if kind not in found:
            found.add(kind)
            for name, field in kind.model_fields.items():
                if TABLES.get(kind, {}).get(field.alias or name, MAPPED) is MAPPED:
                    within(field.annotation, found)
        return found
    for each in typing.get_args(kind):
        if isinstance(each, type | types.GenericAlias | types.UnionType) or typing.get_origin(each):
            within(each, found)
    return found


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda each: each.__name__)
def test_every_argument_of_the_sdk_has_a_verb(function: Any) -> None:
    table = FUNCTIONS[function]
    assert set(arguments(function)) - set(table) == set()
    for name, kind in arguments(function).items():
        if table[name] is MAPPED:
            for each in within(kind, set()):
                assert each in TABLES, (name, each)


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.__name__)
def test_every_field_has_a_verb(kind: Any) -> None:
    names = {field.alias or name for name, field in kind.model_fields.items()}
    assert names - set(TABLES[kind]) == set()


def test_a_reason_is_the_end_of_a_sentence() -> None:
    for table in (*TABLES.values(), *FUNCTIONS.values()):
        for verb in table.values():
            if isinstance(verb, Refused):
                assert verb.why[0].islower()
                assert verb.why[-1] not in ".!"


def test_every_reason_to_end_is_one_of_coheres() -> None:
    known = typing.get_args(typing.get_args(T.ChatFinishReason)[0])
    assert set(cohere_front.FINISHES.values()) <= set(known)


# What is read


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"messages": [{"role": "developer", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].image_url.url",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"thinking": {"type": "perhaps"}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "token_budget": "x"}}, "thinking.token_budget"),
        ({"response_format": {"type": "json_schema"}}, "response_format.type"),
        ({"p": "x"}, "p"),
        ({"messages": [], "documents": ["a"], "citation_options": {"mode": "off"}}, "documents"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(given: Any, param: str) -> None:
    with pytest.raises(RequestFault) as caught:
        cross(**given)
    assert caught.value.param == param
    assert not isinstance(caught.value, Untranslatable)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"documents": ["Tall."]}, "documents"),
        ({"raw_prompting": True}, "raw_prompting"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
    ],
)
def test_what_would_change_the_answer_is_refused(given: Any, param: str) -> None:
    with pytest.raises(Untranslatable) as caught:
        cross(**given)
    assert caught.value.param == param
    assert WHERE in caught.value.public


def test_documents_that_need_no_citing_come_before_the_question() -> None:
    found = [{"id": "d1", "data": {"title": "A", "text": "Tall."}}, "Short."]
    said = [{"role": "user", "content": "First"}, {"role": "assistant", "content": "Yes"}, *USER]
    sent = cross(messages=said, documents=found, citation_options={"mode": "OFF"}).body["messages"]
    assert sent[0]["content"] == "First"
    texts = [part["text"] for part in sent[2]["content"]]
    assert texts == ['d1:\n{"title":"A","text":"Tall."}', "Short.", "Hi"]


def test_zero_for_k_is_none_at_all() -> None:
    assert "top_k" not in cross(MESSAGES, k=0).body
    assert cross(MESSAGES, k=3).body["top_k"] == 3


# What is written

words = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1)
objects = st.dictionaries(words, st.integers(-9, 9) | words | st.booleans() | st.none(), max_size=3)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    parts: list[Any] = [Thinking(draw(words))] if draw(st.booleans()) else []
    parts += [Text(each) for each in draw(st.lists(words, max_size=2))]
    calls = [
        Call(f"call_{index}", "tool", encode_json(draw(objects)).decode())
        for index in range(draw(st.integers(0, 2)))
    ]
    finish = TOOLS if calls else draw(st.sampled_from([STOP, LENGTH, STOP_SEQUENCE]))
    if not parts and not calls:
        parts = [Text("ok")]
    usage = draw(st.none() | st.just(Usage(20, 9, 5)) | st.just(Usage(20, 9)) | st.just(Usage(None, 9)))
    return Answer([Candidate([*parts, *calls], finish)], None, usage)


@settings(max_examples=200, deadline=None)
@given(answer=answers())
def test_what_is_read_is_what_was_said(answer: Answer) -> None:
    written = json.loads(encode_json(FRONT.encode_answer(answer, context())))
    v2_types.V2ChatResponse.model_validate(written, strict=True)
    assert BACK.decode_answer(written, Back.of(Request(), Manners())) == answer


@settings(max_examples=200, deadline=None)
@given(answer=answers(), seed=st.integers(0, 5))
def test_streams_say_the_same_however_they_are_cut(answer: Answer, seed: int) -> None:
    encoder = FRONT.encoder(context())
    stream = b"".join([*map(encoder.encode, _events(answer)), encoder.close()])
    chance, frames = random.Random(seed), EventFrames()
    reader = BACK.decoder(Back.of(Request(), Manners()))
    events: list[Event] = []
    tap, passed = CohereTap(), b""
    while stream:
        size = chance.randint(1, 40) if seed else 1
        piece, stream = stream[:size], stream[size:]
        passed += tap.feed(piece)
        events += [found for name, body in frames.feed(piece) for found in reader.feed(name, body)]
    assert tap.close() == b""
    assert tap.usage == answer.usage
    assert _answer([*events, *reader.close()]) == answer


def _events(answer: Answer) -> list[Event]:
    (candidate,) = answer.candidates
    events: list[Event] = [Begin()]
    for index, part in enumerate(candidate.parts):
        if isinstance(part, Call):
            events.append(Open(index, replace(part, arguments="")))
            events += [Delta(index, letter) for letter in part.arguments]
        elif isinstance(part, Text | Thinking):
            events.append(Open(index, type(part)("")))
            events += [Delta(index, letter) for letter in part.text]
        events.append(Close(index))
    events.append(Finish(candidate.finish or STOP))
    return [*events, Used(answer.usage)] if answer.usage is not None else events


def _answer(events: list[Event]) -> Answer:
    candidate = Candidate()
    answer = Answer([candidate])
    for found in events:
        if isinstance(found, Used):
            answer.usage = found.usage
        elif isinstance(found, Open):
            candidate.parts.append(found.part)
        elif isinstance(found, Delta):
            part: Any = candidate.parts[found.index]
            name = "arguments" if isinstance(part, Call) else "text"
            candidate.parts[found.index] = replace(part, **{name: getattr(part, name) + found.text})
        elif isinstance(found, Finish):
            candidate.finish = found.reason
    return answer


def kinds(stream: bytes) -> list[str]:
    return [name for name, body in EventFrames().feed(stream) if body != b"[DONE]"]


def test_the_order_of_a_messages_events() -> None:
    parts = [Thinking("Hm"), Text("Hi"), Call("c1", "f", "{}"), Call("c2", "g", "{}")]
    encoder = FRONT.encoder(context())
    events = _events(Answer([Candidate(parts, TOOLS)], None, Usage(1, 2)))
    stream = b"".join([*map(encoder.encode, events), encoder.close()])
    assert kinds(stream) == [
        "message-start",
        *("content-start", "content-delta", "content-delta", "content-end"),
        *("content-start", "content-delta", "content-delta", "content-end"),
        *("tool-call-start", "tool-call-delta", "tool-call-delta", "tool-call-end"),
        *("tool-call-start", "tool-call-delta", "tool-call-delta", "tool-call-end"),
        "message-end",
    ]
    assert stream.endswith(b"data: [DONE]\n\n")
    told = [json.loads(body) for _, body in EventFrames().feed(stream) if body != b"[DONE]"]
    assert [each.get("index") for each in told] == [None, *[0] * 4, *[1] * 4, *[0] * 4, *[1] * 4, None]
    adapter: Any = pydantic.TypeAdapter(v2_types.V2ChatStreamResponse)
    for each in told:
        assert adapter.validate_python(each, strict=True).type == each["type"]


def test_an_answer_of_nothing_has_its_beginning_and_its_end() -> None:
    encoder = FRONT.encoder(context())
    assert kinds(encoder.encode(Finish(STOP)) + encoder.close()) == ["message-start", "message-end"]
    whole = FRONT.encode_answer(Answer([Candidate()]), context())
    assert whole["message"]["content"] == [{"type": "text", "text": ""}]
    assert "usage" not in whole


@pytest.mark.parametrize("reason", [FILTER, REFUSED])
def test_what_a_filter_cut_is_told_as_a_failure(reason: str) -> None:
    encoder = FRONT.encoder(context())
    begun = [Open(0, Text("")), Delta(0, "No"), Close(0), Finish(reason)]
    stream = b"".join([*map(encoder.encode, begun), encoder.close()])
    last = json.loads(EventFrames().feed(stream)[-2][1])
    assert last["delta"]["finish_reason"] == "ERROR"
    assert "refused" in last["delta"]["error"]
    answer = Answer([Candidate([Refusal("I will not.")], reason)])
    whole = FRONT.encode_answer(answer, context())
    assert whole["finish_reason"] == "ERROR"
    assert whole["message"]["content"] == [{"type": "text", "text": "I will not."}]


def test_what_only_its_maker_reads_comes_back_to_it() -> None:
    own = Opaque("anthropic", "c2ln")
    parts: list[Any] = [Thinking("Hm", own), Thinking("", own, is_redacted=True)]
    parts += [Media("image", "image/png", "aGk="), Call("c1", "f", "{}", opaque=Opaque("gemini", "Zw=="))]
    whole = FRONT.encode_answer(Answer([Candidate(parts, TOOLS)]), context())
    assert [unwrap(each["signature"], "") for each in whole["message"]["content"]] == [own, own]
    messages = [*USER, whole["message"], {"role": "tool", "tool_call_id": "c1", "content": "1"}]
    said = FRONT.decode_request({"messages": messages}, Loss(WHERE)).turns[1].parts
    assert said == [parts[0], parts[1], parts[3]]
    encoder = FRONT.encoder(context())
    events: list[Event] = []
    for index, part in enumerate(parts):
        events += [Open(index, part), Close(index, getattr(part, "opaque", None))]
    stream = b"".join([*map(encoder.encode, [*events, Finish(TOOLS)]), encoder.close()])
    assert stream.count(b'"signature":"aig1.anthropic.c2ln"') == 2
    assert stream.count(b'"signature":"aig1.gemini.Zw=="') == 1
    assert b"aGk=" not in stream


def test_a_page_that_is_cited_whole_has_no_place() -> None:
    text = Text("It is tall.", [Citation("https://a.org", "A", "so tall")])
    (found,) = FRONT.encode_answer(Answer([Candidate([text])]), context())["message"]["citations"]
    page = {"url": "https://a.org", "title": "A", "snippet": "so tall"}
    assert found == {
        "sources": [{"type": "document", "id": "https://a.org", "document": page}],
        "content_index": 0,
        "type": "TEXT_CONTENT",
    }


def test_what_is_held_of_a_stream_is_bounded() -> None:
    encoder = FRONT.encoder(context())
    encoder.encode(Open(0, Text("")))
    piece = "x" * 65536
    encoder.encode(Delta(0, piece))
    tracemalloc.start()
    try:
        for _ in range(400):  # 25 MB of words
            encoder.encode(Delta(0, str(bytearray(piece, "ascii"), "ascii")))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 4 * MAX_CITED_CHARS


# The same format as it comes


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff"])
def test_what_is_no_answer_is_told_to_be_broken(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        read_answer(body)


@pytest.mark.parametrize(
    ("document", "usage", "is_error"),
    [
        ({"message": {"role": "assistant"}, "usage": {"tokens": {"input_tokens": 3}}}, Usage(3), False),
        ({"message": {}, "usage": {"billed_units": {"search_units": 1}}}, None, False),
        ({"message": "no"}, None, True),
        ({"id": "e", "embeddings": {}, "meta": {"billed_units": {"input_tokens": 3}}}, Usage(3, 0), False),
        ({"message": {}, "usage": {"tokens": {"input_tokens": "x", "output_tokens": -1}}}, None, False),
        ({"message": {}, "usage": 5}, None, False),
    ],
)
def test_whole_answers_are_read(document: Any, usage: Usage | None, is_error: bool) -> None:
    found = read_answer(json.dumps(document).encode())
    assert (found.usage, found.is_error) == (usage, is_error)


def test_a_stream_that_stops_is_broken_and_one_that_fails_is_an_error() -> None:
    begun = b'event: content-delta\ndata: {"type":"content-delta","index":0}\n\n'
    tap = CohereTap()
    assert tap.feed(begun) == begun
    with pytest.raises(UpstreamBroken):
        tap.close()
    tap = CohereTap()
    failed = b'data: {"type":"message-end","delta":{"finish_reason":"TIMEOUT","error":"Too slow."}}\n\n'
    assert tap.feed(begun + failed) == begun + failed
    assert tap.has_error
    assert json.loads(tap.latest_event[6:]) == {"message": "Too slow."}
    assert tap.close() == b""
