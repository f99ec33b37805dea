"""Gemini in translation: what is written is what was asked, what is read is what was said."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from fakes.gemini import DUMMY, event, piece
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic.alias_generators import to_camel

from jupyterhub_ai_gateway.dialects import gemini_front
from jupyterhub_ai_gateway.dialects.bridge import Bridge, Crossing
from jupyterhub_ai_gateway.dialects.canonical import (
    FILTER,
    LENGTH,
    STOP,
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
    Named,
    Opaque,
    Open,
    Reasoning,
    Request,
    Result,
    Shape,
    Text,
    Thinking,
    Tool,
    Turn,
    Used,
)
from jupyterhub_ai_gateway.dialects.codec import Back, Context, Manners, encode_json, merged, wrap
from jupyterhub_ai_gateway.dialects.gemini_back import _BROKEN, FINISHES, GeminiBack, GeminiReader
from jupyterhub_ai_gateway.dialects.gemini_front import GeminiFront, json_schema, signature_of
from jupyterhub_ai_gateway.dialects.loss import Loss, Refused
from jupyterhub_ai_gateway.dialects.opening import close_request, open_request
from jupyterhub_ai_gateway.dialects.sse import EventFrames
from jupyterhub_ai_gateway.errors import RequestFault, Untranslatable, UpstreamBroken
from jupyterhub_ai_gateway.vocabulary import CHAT, GENERATE_CONTENT, MESSAGES, Operation, Usage

WHERE = "the deployment model/1"
FRONT, BACK = GeminiFront(), GeminiBack()
OWN = Opaque("gemini", "c2lnbmF0dXJl")

words = st.text(
    alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1
)
objects = st.dictionaries(words, st.integers(-9, 9) | words | st.booleans() | st.none(), max_size=3)
schemas = st.just({"type": "object", "properties": {"a": {"type": "string"}}})
media = st.sampled_from(
    [
        Media("image", "image/png", base64="aGk="),
        Media("audio", "audio/wav", base64="aG8="),
        Media("file", "application/pdf", base64="aGE="),
        Media("image", "image/png", url="https://example.org/x.png"),
    ]
)


def back_of(request: Request, model: str = "gemini-3-flash", **more: Any) -> Back:
    return Back.of(request, Manners(model=model, **more))


@st.composite
def conversations(draw: st.DrawFn) -> list[Turn]:
    turns = [Turn("system", [Text(draw(words))])] if draw(st.booleans()) else []
    for index in range(draw(st.integers(1, 3))):
        turns.append(Turn("user", [Text(draw(words)), *draw(st.lists(media, max_size=1))]))
        ids = [f"id_{index}_{number}" for number in range(draw(st.integers(0, 2)))]
        calls = [Call(id_, f"tool_{id_[-1]}", encode_json(draw(objects)).decode()) for id_ in ids]
        if calls:
            calls[0] = replace(calls[0], opaque=OWN)
        said: list[Any] = [Thinking(draw(words))] if draw(st.booleans()) else []
        if draw(st.booleans()) or not calls:
            said.append(Text(draw(words)))
            if draw(st.booleans()):
                said.append(Thinking("", OWN, is_redacted=True))
        if said and isinstance(said[-1], Thinking) and said[-1].is_redacted and calls:
            calls[0] = replace(calls[0], opaque=Opaque("gemini", "b3RoZXI="))
        turns.append(Turn("assistant", [*said, *calls]))
        if calls:
            results = [Result(id_, [Text(draw(words))], draw(st.booleans())) for id_ in ids]
            turns.append(Turn("user", results))
    return turns


@st.composite
def requests(draw: st.DrawFn) -> Request:
    request = Request(turns=draw(conversations()))
    request.max_tokens = draw(st.none() | st.integers(1, 9000))
    request.temperature = draw(st.none() | st.sampled_from([0, 0.5, 1.5]))
    request.top_p, request.top_k = draw(st.none() | st.just(0.5)), draw(st.none() | st.integers(1, 9))
    request.n, request.seed = draw(st.none() | st.integers(1, 3)), draw(st.none() | st.integers(0, 9))
    request.stop = draw(st.lists(words, max_size=2))
    request.presence_penalty = draw(st.none() | st.just(0.5))
    request.frequency_penalty = draw(st.none() | st.just(0.25))
    request.logprobs = draw(st.none() | st.just(True))
    request.top_logprobs = 3 if request.logprobs else None
    if draw(st.booleans()):
        request.choice = draw(
            st.sampled_from(["auto", "none", "required", Named(["tool_0"]), Named(["tool_1"], must=False)])
        )
        is_strict = request.choice == Named(["tool_1"], must=False) or None
        request.tools = [
            Tool(f"tool_{number}", draw(st.none() | words), draw(schemas), is_strict) for number in range(2)
        ]
    if draw(st.booleans()):
        request.shape = Shape(None, draw(schemas), True)
    request.reasoning = draw(st.none() | st.sampled_from([Reasoning("low"), Reasoning("high")]))
    return request


def asked_for(request: Request) -> dict[str, Any]:
    """Return what two requests that mean the same share."""
    plain = ("tools", "choice", "max_tokens", "temperature", "top_p", "top_k", "stop", "seed", "n")
    more = ("frequency_penalty", "presence_penalty", "logprobs", "top_logprobs", "shape", "reasoning")
    found = {name: getattr(request, name) for name in (*plain, *more)}
    return {"turns": [(turn.role, list(turn.parts)) for turn in merged(request.turns)], **found}


@settings(max_examples=200, deadline=None)
@given(request=requests())
def test_what_is_written_is_what_was_asked(request: Request) -> None:
    expected, loss, lost = asked_for(request), Loss(WHERE), Loss(WHERE)
    body = BACK.encode_request(back_of(replace(request)), loss)
    assert asked_for(FRONT.decode_request(json.loads(json.dumps(body)), lost)) == expected
    assert not loss.dropped
    assert not lost.dropped


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    candidates = []
    for number in range(draw(st.integers(1, 2))):
        parts: list[Any] = [Thinking(draw(words))] if draw(st.booleans()) else []
        cites = draw(st.sampled_from([(), (Citation("https://example.org", "Example"),)]))
        parts.append(Text(draw(words), cites))
        parts += draw(
            st.sampled_from(
                [[], [Thinking("", OWN, is_redacted=True)], [Media("image", "image/png", "aGk=")]]
            )
        )
        calls = [
            Call(f"id_{number}_{index}", "tool", encode_json(draw(objects)).decode(), opaque=OWN)
            for index in range(draw(st.integers(0, 2)))
        ]
        finish = TOOLS if calls else draw(st.sampled_from([STOP, LENGTH, FILTER]))
        candidates.append(Candidate([*parts, *calls], finish))
    usage = draw(st.none() | st.just(Usage(20, 9, 5, 4)) | st.just(Usage(20, 9)))
    return Answer(candidates, draw(st.sampled_from(["gemini-3-flash", "other"])), usage)


@settings(max_examples=200, deadline=None)
@given(answer=answers())
def test_what_is_read_is_what_was_said(answer: Answer) -> None:
    request = Request()
    context = Context("req_1", 1, "model", request)
    written = json.loads(encode_json(FRONT.encode_answer(answer, context)))
    types.GenerateContentResponse.model_validate(_of_the_sdk(written))
    assert BACK.decode_answer(written, back_of(request)) == answer


def _of_the_sdk(document: Any) -> Any:
    """Rename what Google's REST calls otherwise than the SDK's types do."""
    text = json.dumps(document).replace('"citationSources"', '"citations"')
    return json.loads(text)


@settings(max_examples=200, deadline=None)
@given(answer=answers())
def test_streams_say_the_same(answer: Answer) -> None:
    request = Request()
    encoder = FRONT.encoder(Context("req_1", 1, "model", request))
    stream = b"".join([*map(encoder.encode, _events(answer)), encoder.close()])
    reader, frames = GeminiReader(back_of(request)), EventFrames()
    events = [found for name, body in frames.feed(stream) for found in reader.feed(name, body)]
    assert _answer([*events, *reader.close()]) == answer


def _events(answer: Answer) -> list[Event]:
    events: list[Event] = [Begin(answer.model)]
    index = 0
    for number, candidate in enumerate(answer.candidates):
        for part in candidate.parts:
            empty: Any = part
            text = ""
            if isinstance(part, Text) or (isinstance(part, Thinking) and not part.is_redacted):
                empty, text = type(part)(""), part.text
            elif isinstance(part, Call):
                empty, text = replace(part, arguments=""), part.arguments
            events.append(Open(index, empty, number))
            events += [Delta(index, letter) for letter in text]
            opaque = part.opaque if isinstance(part, Thinking) else None
            events.append(Close(index, opaque, part.citations if isinstance(part, Text) else ()))
            index += 1
        events.append(Finish(candidate.finish or STOP, candidate=number))
    return [*events, Used(answer.usage)] if answer.usage is not None else events


def _answer(events: list[Event]) -> Answer:
    """Put a stream together again; what it cites is told at its end, so it is the first text's."""
    answer = Answer([])
    places: dict[int, tuple[Candidate, int]] = {}
    for found in events:
        if isinstance(found, Begin):
            answer.model = found.model
        elif isinstance(found, Used):
            answer.usage = found.usage
        elif isinstance(found, Open):
            while len(answer.candidates) <= found.candidate:
                answer.candidates.append(Candidate())
            candidate = answer.candidates[found.candidate]
            places[found.index] = (candidate, len(candidate.parts))
            candidate.parts.append(found.part)
        elif isinstance(found, Delta):
            candidate, at = places[found.index]
            part: Any = candidate.parts[at]
            if isinstance(part, Call):
                candidate.parts[at] = replace(part, arguments=part.arguments + found.text)
            else:
                candidate.parts[at] = replace(part, text=part.text + found.text)
        elif isinstance(found, Close):
            candidate, at = places[found.index]
            part = candidate.parts[at]
            if isinstance(part, Text) and found.citations:
                candidate.parts[at] = replace(part, citations=found.citations)
        else:
            answer.candidates[found.candidate].finish = found.reason
    return answer


# Towards Gemini


def crossing(front: Operation, model: str = "gemini-3-pro", **fields: Any) -> Crossing:
    document = {"messages": [{"role": "user", "content": "Hi"}], **fields}
    if front is GENERATE_CONTENT:
        document = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], **fields}
    raw = {name: json.dumps(value).encode() for name, value in document.items()}
    back = MESSAGES if front is GENERATE_CONTENT else GENERATE_CONTENT
    bridge = Bridge(front, back, Manners(model=model, where=WHERE))
    return bridge.cross(raw, is_stream=False, wants_usage=True, request_id="r", created=1)  # type: ignore[arg-type]


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
OTHER = {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}}
GOES_ON = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": None, "tool_calls": [CALL, OTHER]},
    {"role": "tool", "tool_call_id": "c1", "content": "one"},
    {"role": "tool", "tool_call_id": "c2", "content": "two"},
]


@pytest.mark.parametrize(
    ("model", "signatures"),
    [
        ("gemini-3-pro", [DUMMY, None]),
        ("gemini-flash-latest", [DUMMY, None]),
        ("gemini-2.5-pro", [None, None]),
    ],
)
def test_lost_signature_of_the_present_turn_is_made_up_for(
    model: str, signatures: list[str | None]
) -> None:
    contents = crossing(CHAT, model, messages=GOES_ON).body["contents"]
    assert [part.get("thoughtSignature") for part in contents[1]["parts"]] == signatures
    assert [part["functionResponse"]["response"] for part in contents[2]["parts"]] == [
        {"output": "one"},
        {"output": "two"},
    ]
    assert [part["functionResponse"]["name"] for part in contents[2]["parts"]] == ["f", "g"]
    later = [*GOES_ON, {"role": "assistant", "content": "Fine."}, {"role": "user", "content": "And?"}]
    assert DUMMY not in json.dumps(crossing(CHAT, model, messages=later).body)


def test_signature_that_was_kept_is_given_back() -> None:
    signed = {**CALL, "extra_content": {"google": {"thought_signature": "c2ln"}}}
    said = {"role": "assistant", "content": None, "tool_calls": [signed]}
    messages = [GOES_ON[0], said, GOES_ON[2]]
    part = crossing(CHAT, messages=messages).body["contents"][1]["parts"][0]
    assert part["thoughtSignature"] == "c2ln"
    block = {"type": "redacted_thinking", "data": wrap(Opaque("gemini", "c2ln"))}
    use = {"type": "tool_use", "id": "c1", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "c1", "content": "one"}
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [block, use]},
        {"role": "user", "content": [result]},
    ]
    part = crossing(MESSAGES, messages=turns, max_tokens=9).body["contents"][1]["parts"][0]
    assert part["thoughtSignature"] == "c2ln"
    assert part["functionCall"]["name"] == "f"


@pytest.mark.parametrize(
    ("model", "given", "thinking"),
    [
        (
            "gemini-3-pro",
            {"reasoning_effort": "minimal"},
            {"includeThoughts": True, "thinkingLevel": "LOW"},
        ),
        (
            "gemini-3-flash",
            {"reasoning_effort": "minimal"},
            {"includeThoughts": True, "thinkingLevel": "MINIMAL"},
        ),
        ("gemini-3-pro", {"reasoning_effort": "xhigh"}, {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        (
            "gemini-2.5-flash",
            {"reasoning_effort": "medium"},
            {"includeThoughts": True, "thinkingBudget": 8192},
        ),
        ("gemini-2.5-flash", {"reasoning_effort": "none"}, {"thinkingBudget": 0}),
        ("gemini-2.5-pro", {"reasoning_effort": "none"}, {"thinkingBudget": 128}),
        ("gemini-2.0-flash", {"reasoning_effort": "high"}, None),
        ("gemini-3-pro", {}, None),
    ],
)
def test_thinking_as_the_model_takes_it(model: str, given: Any, thinking: Any) -> None:
    found = crossing(CHAT, model, **given)
    assert found.body.get("generationConfig", {}).get("thinkingConfig") == thinking
    assert found.dropped == (["reasoning_effort"] if "2.0" in model else [])


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        (None, None),
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "f"}}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_choice_of_tools(choice: Any, written: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    more = {} if choice is None else {"tool_choice": choice}
    body = crossing(CHAT, tools=tools, **more).body
    assert body.get("toolConfig", {}).get("functionCallingConfig") == written
    assert body["tools"] == [
        {"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}]}
    ]


def test_what_gemini_lacks_is_dropped_and_named() -> None:
    tuning = {"logit_bias": {"1": 2}, "prompt_cache_key": "x", "verbosity": "low"}
    given = {**tuning, "parallel_tool_calls": False}
    assert sorted(crossing(CHAT, **given).dropped) == sorted(given)


@pytest.mark.parametrize(
    "url",
    [
        "https://generativelanguage.googleapis.com/v1beta/files/x",
        "https://GENERATIVELANGUAGE.googleapis.com./v1beta/files/x",
        "https://storage.cloud.google.com/bucket/x",
    ],
)
def test_file_of_the_account_is_refused_in_translation_too(url: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    with pytest.raises(Untranslatable, match="everybody shares"):
        crossing(CHAT, messages=[{"role": "user", "content": content}])


def test_system_alone_is_what_the_user_says() -> None:
    body = crossing(CHAT, messages=[{"role": "system", "content": "Hello"}]).body
    assert body == {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}


def read(document: Any, **more: Any) -> Answer:
    request = Request(**more)
    return BACK.decode_answer(document, back_of(request))


def test_calls_without_ids_get_one_each_in_the_whole_conversation() -> None:
    calls = [{"functionCall": {"name": "f", "args": {}}}, {"functionCall": {"name": "f", "args": {"a": 1}}}]
    turns = [Turn("assistant", [Call("call_0", "f", "{}")])]
    found = read(piece(calls, "STOP"), turns=turns).candidates[0]
    assert [part.id for part in found.parts if isinstance(part, Call)] == ["call_1", "call_2"]
    assert found.finish == TOOLS
    reader = GeminiReader(back_of(Request(turns=turns)))
    events = [*reader.feed("", event(piece(calls))[6:]), *reader.feed("", event(piece([], "STOP"))[6:])]
    assert [each.part.id for each in events if isinstance(each, Open) and isinstance(each.part, Call)] == [
        "call_1",
        "call_2",
    ]
    assert list(reader.close()) == [Finish(TOOLS)]


def test_vertex_is_sent_no_ids() -> None:
    request = Request(turns=[Turn("user", [Text("x")]), Turn("assistant", [Call("c", "f", "{}")])])
    body = BACK.encode_request(back_of(request, takes_call_ids=False), Loss(WHERE))
    assert "id" not in body["contents"][1]["parts"][0]["functionCall"]


def test_logprobs_and_grounding() -> None:
    logprobs = {
        "chosenCandidates": [{"token": "Hé", "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "Ho", "logProbability": -1.5}]}],
    }
    grounding = {
        "groundingChunks": [{"web": {"uri": "https://example.org", "title": "Example"}}],
        "groundingSupports": [{"segment": {"text": "Hé"}, "groundingChunkIndices": [0, 9]}],
    }
    document = piece([{"text": "Hé"}], "STOP")
    document["candidates"][0] |= {"logprobsResult": logprobs, "groundingMetadata": grounding}
    (text,) = read(document).candidates[0].parts
    assert isinstance(text, Text)
    assert text.citations == (Citation("https://example.org", "Example", "Hé"),)
    assert text.logprobs[0]["logprob"] == -0.5
    assert text.logprobs[0]["bytes"] == list("Hé".encode())
    assert text.logprobs[0]["top_logprobs"][0]["token"] == "Ho"


def test_prompt_that_is_refused_is_a_filtered_answer() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}}
    assert read(blocked).candidates == [Candidate([], FILTER)]
    reader = GeminiReader(back_of(Request()))
    assert list(reader.feed("", json.dumps(blocked).encode())) == [Begin(None)]
    assert list(reader.close()) == [Finish(FILTER)]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"candidates": []},
        {"candidates": ["x"]},
        piece([{"functionCall": {}}], "STOP"),
        piece([], "MALFORMED_FUNCTION_CALL"),
        [],
    ],
)
def test_answer_that_is_none_is_the_provider_s_fault(document: Any) -> None:
    with pytest.raises(UpstreamBroken):
        read(document)


# From Gemini's callers


def decoded(**fields: Any) -> Request:
    return FRONT.decode_request(
        {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], **fields}, Loss(WHERE)
    )


def test_both_spellings_and_single_objects_are_read() -> None:
    request = FRONT.decode_request(
        {
            "contents": {"parts": {"text": "Hi"}},
            "system_instruction": {"parts": {"text": "Be kind."}},
            "tools": {"function_declarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]},
            "tool_config": {"function_calling_config": {"mode": "any", "allowed_function_names": ["f"]}},
            "generation_config": {
                "max_output_tokens": 5,
                "top_p": 0.5,
                "thinking_config": {"thinking_budget": 0},
            },
        },
        Loss(WHERE),
    )
    assert request.turns == [Turn("system", [Text("Be kind.")]), Turn("user", [Text("Hi")])]
    assert request.tools == [Tool("f", None, {"type": "object"})]
    assert (request.choice, request.max_tokens, request.top_p) == (Named(["f"]), 5, 0.5)
    assert request.reasoning == Reasoning(is_off=True, is_hidden=True)


def test_text_of_a_document_in_a_result_is_told_as_words() -> None:
    call = Turn("assistant", [Call("c1", "find", "{}")])
    document = Media("file", "text/plain", text="20 days", name="Leave policy")
    request = Request(turns=[Turn("user", [Text("?")]), call, Turn("user", [Result("c1", [document])])])
    body = BACK.encode_request(back_of(request), Loss(WHERE))
    response = body["contents"][2]["parts"][0]["functionResponse"]
    assert response["response"] == {"output": "Leave policy:\n20 days"}
    assert "parts" not in response


def test_results_without_ids_are_of_the_calls_in_their_order() -> None:
    call = {"functionCall": {"name": "f", "args": {}}}
    result = {"functionResponse": {"name": "f", "response": {"result": "one"}}}
    other = {"functionResponse": {"name": "f", "response": {"a": 1}}}
    contents = [
        {"role": "user", "parts": [{"text": "Hi"}]},
        {"role": "model", "parts": [call, call]},
        {"role": "function", "parts": [result, other]},
    ]
    turns = decoded(contents=contents).turns
    calls = [part for part in turns[1].parts if isinstance(part, Call)]
    assert [part.id for part in calls] == ["call_0", "call_1"]
    assert turns[2].parts == [Result("call_0", [Text("one")]), Result("call_1", [Text('{"a":1}')])]


def test_thoughts_of_others_come_back_as_their_maker_left_them() -> None:
    claude = Opaque("anthropic", "sig.nature==")
    parts = [
        {"text": "I ", "thought": True},
        {"text": "think.", "thought": True},
        {"text": "", "thought": True, "thoughtSignature": signature_of(claude).replace("+", "-")},
        {"functionCall": {"id": "1", "name": "f", "args": {}}, "thoughtSignature": "c2ln"},
    ]
    base64.b64decode(signature_of(claude), validate=True)
    turns = decoded(contents=[{"role": "model", "parts": [part]} for part in parts]).turns
    assert turns == [
        Turn(
            "assistant",
            [Thinking("I think.", claude), Call("1", "f", "{}", opaque=Opaque("gemini", "c2ln"))],
        )
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"googleSearch": {}, "functionDeclarations": []}]}, None),
        ({"tools": [{"codeExecution": {"x": 1}}]}, "tools[0].codeExecution"),
        ({"generationConfig": {"responseModalities": ["IMAGE"]}}, "generationConfig.responseModalities"),
        ({"generationConfig": {"responseMimeType": "text/x.enum"}}, "generationConfig.responseMimeType"),
        ({"generationConfig": {"speechConfig": {"a": 1}}}, "generationConfig.speechConfig"),
        (
            {"contents": [{"parts": [{"executableCode": {"code": "1"}}]}]},
            "contents[0].parts[0].executableCode",
        ),
        (
            {"contents": [{"parts": [{"inlineData": {"mimeType": "video/mp4", "data": "aGk="}}]}]},
            "contents[0].parts[0].inlineData",
        ),
    ],
)
def test_what_would_change_the_answer_is_refused(fields: Any, param: str | None) -> None:
    if param is None:
        decoded(**fields)  # an empty object asks for nothing
        return
    with pytest.raises(Untranslatable) as caught:
        decoded(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"contents": [{"role": "robot", "parts": []}]}, "contents[0].role"),
        ({"contents": [{"parts": [{}]}]}, "contents[0].parts[0]"),
        ({"contents": [{"parts": [{"functionResponse": {"name": "f"}}]}]}, None),
        ({"contents": [{"parts": [{"text": 5}]}]}, "contents[0].parts[0].text"),
        (
            {"toolConfig": {"functionCallingConfig": {"mode": "MAYBE"}}},
            "toolConfig.functionCallingConfig.mode",
        ),
        ({"generationConfig": {"maxOutputTokens": "many"}}, "generationConfig.maxOutputTokens"),
    ],
)
def test_what_is_wrong_is_named(fields: Any, param: str | None) -> None:
    with pytest.raises(RequestFault) as caught:
        decoded(**fields)
    assert param in (None, caught.value.param)


def test_google_s_own_schema_becomes_json_schema() -> None:
    assert json_schema(
        {
            "type": "OBJECT",
            "properties": {
                "type": {"type": "STRING", "nullable": True, "max_length": "5"},
                "list": {"type": "ARRAY", "items": {"anyOf": [{"type": "INTEGER"}, {"type": "NULL"}]}},
            },
            "propertyOrdering": ["list", "type"],
            "required": ["type"],
        }
    ) == {
        "type": "object",
        "properties": {
            "type": {"type": ["string", "null"], "maxLength": 5},
            "list": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
        },
        "required": ["type"],
    }


def test_gemini_s_fields_for_claude() -> None:
    found = crossing(
        GENERATE_CONTENT,
        "claude-sonnet-4-5",
        systemInstruction={"parts": [{"text": "Be kind."}]},
        generationConfig={"maxOutputTokens": 9, "stopSequences": ["END"], "seed": 7, "topK": 40.0},
        safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT"}],
        serviceTier="flex",
    )
    assert found.body["max_tokens"] == 9
    assert found.body["stop_sequences"] == ["END"]
    assert found.body["top_k"] == 40
    assert found.body["system"] == [{"type": "text", "text": "Be kind."}]
    assert sorted(found.dropped) == ["generationConfig.seed", "safetySettings", "service_tier"]


# Conversations that go on natively


def test_foreign_signatures_are_taken_out_of_native_conversations() -> None:
    foreign = signature_of(Opaque("anthropic", "sig"))
    assert foreign.startswith("YWlnMS")
    parts = [
        {"text": "", "thought": True, "thoughtSignature": foreign},
        {"text": "Hello", "thoughtSignature": foreign},
        {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": foreign},
        {"functionCall": {"name": "g", "args": {}}, "thoughtSignature": "c2ln"},
    ]
    body = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}, {"role": "model", "parts": parts}]}
    asked = open_request(GENERATE_CONTENT, json.dumps(body).encode(), "flash")
    sent = json.loads(close_request(asked, None, lambda: "somebody"))["contents"][1]["parts"]
    assert sent == [
        {"text": "Hello"},
        {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": DUMMY},
        {"functionCall": {"name": "g", "args": {}}, "thoughtSignature": "c2ln"},
    ]


# Verbs

TABLES: dict[Any, Any] = {
    types.Content: gemini_front.CONTENT,
    types.Part: gemini_front.PART,
    types.Blob: gemini_front.BLOB,
    types.FileData: gemini_front.FILE_DATA,
    types.FunctionCall: gemini_front.CALL,
    types.FunctionResponse: gemini_front.RESPONSE,
    types.FunctionResponsePart: gemini_front.RESPONSE_PART,
    types.FunctionResponseBlob: gemini_front.BLOB,
    types.FunctionResponseFileData: gemini_front.FILE_DATA,
    types.Tool: gemini_front.TOOL,
    types.FunctionDeclaration: gemini_front.DECLARATION,
    types.ToolConfig: gemini_front.TOOL_CONFIG,
    types.FunctionCallingConfig: gemini_front.CALLING,
    types.GenerationConfig: gemini_front.CONFIG,
    types.ThinkingConfig: gemini_front.THINKING,
}
OF_THE_SDK = {
    *("httpOptions", "shouldReturnHttpResponse", "automaticFunctionCalling", "automaticContinuation"),
    "generationOutputConfig",
}


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.__name__)
def test_every_field_has_a_verb(kind: Any) -> None:
    assert {to_camel(name) for name in kind.model_fields} - set(TABLES[kind]) == set()


def test_every_field_of_the_config_has_a_verb() -> None:
    known = {*gemini_front.REQUEST, *gemini_front.CONFIG, *OF_THE_SDK}
    assert {to_camel(name) for name in types.GenerateContentConfig.model_fields} - known == set()


def test_every_finish_reason_is_decided() -> None:
    stops = {"FINISH_REASON_UNSPECIFIED", "STOP", "OTHER", "ESCALATION", "PUP_LIMITED_DISABLED"}
    pictures = {"IMAGE_OTHER", "NO_IMAGE"}
    known = {*FINISHES, *_BROKEN, *stops, *pictures}
    assert {each.value for each in types.FinishReason} - known == set()


def test_a_reason_is_the_end_of_a_sentence() -> None:
    for table in (*TABLES.values(), gemini_front.REQUEST):
        for verb in table.values():
            if isinstance(verb, Refused):
                assert verb.why[0].islower()
                assert verb.why[-1] not in ".!"
