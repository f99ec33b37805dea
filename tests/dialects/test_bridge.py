"""Translation itself, without any socket: fields, tools, thoughts, streams, and what goes wrong."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
import pytest

from jupyterhub_ai_gateway.dialects.anthropic import read_answer
from jupyterhub_ai_gateway.dialects.bridge import BACKS, Bridge, Crossing
from jupyterhub_ai_gateway.dialects.canonical import Request, Text, Turn
from jupyterhub_ai_gateway.dialects.codec import Back, Manners
from jupyterhub_ai_gateway.dialects.loss import Loss
from jupyterhub_ai_gateway.dialects.sse import MAX_EVENT_BYTES, EventFrames
from jupyterhub_ai_gateway.errors import RequestFault, Untranslatable, UpstreamBroken, UpstreamFault
from jupyterhub_ai_gateway.vocabulary import (
    CHAT,
    COHERE_CHAT,
    COMPLETIONS,
    MESSAGES,
    RESPONSES,
    Operation,
    Usage,
)

USER = [{"role": "user", "content": "Hi"}]
WHERE = "the deployment chat/1"


def cross(
    front: Operation,
    back: Operation,
    *,
    manners: Manners | None = None,
    stream: bool = False,
    **fields: Any,
) -> Crossing:
    bridge = Bridge(front, back, manners or Manners(model="claude-sonnet-4-5", where=WHERE))
    if front is MESSAGES:
        fields = {"max_tokens": 100, **fields}
    if front is not RESPONSES and front is not COMPLETIONS:
        fields = {"messages": USER, **fields}
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()}
    return bridge.cross(raw, is_stream=stream, wants_usage=True, request_id="req_1", created=1)


def refuse(body: bytes) -> UpstreamFault:
    return UpstreamBroken(f"told: {body.decode()}")


def sse(*events: Any) -> bytes:
    return b"".join(
        each if isinstance(each, bytes) else b"data: " + json.dumps(each).encode() + b"\n\n"
        for each in events
    )


def translated(crossing: Crossing, *events: Any, cuts: Iterator[int] | None = None) -> list[Any]:
    """Return the documents of the caller's stream."""
    tap, data = crossing.tap(refuse), sse(*events)
    written = b""
    while data:
        size = next(cuts) if cuts else len(data)
        written, data = written + tap.feed(data[:size]), data[size:]
    written += tap.close()
    return [
        json.loads(line[6:])
        for line in written.decode().split("\n")
        if line.startswith("data: ") and line != "data: [DONE]"
    ]


def chunk(delta: Any, finish: str | None = None, **more: Any) -> Any:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}


def call(index: int, arguments: str, id_: str | None = None, name: str | None = None) -> Any:
    function = {"arguments": arguments, **({"name": name} if name else {})}
    return chunk({"tool_calls": [{"index": index, **({"id": id_} if id_ else {}), "function": function}]})


# Fields


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"temperature": 0.3}, {"temperature": 0.3}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"max_completion_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({}, {"max_tokens": 32000}),
        ({"user": "pseudonym"}, {"metadata": {"user_id": "pseudonym"}}),
        ({"top_k": 3}, {"top_k": 3}),
    ],
)
def test_chat_fields_for_claude(given: Any, sent: Any) -> None:
    crossing = cross(CHAT, MESSAGES, **given)
    assert {name: crossing.body.get(name) for name in sent} == sent
    assert crossing.dropped == []


@pytest.mark.parametrize(
    ("given", "dropped"),
    [
        ({"seed": 7}, ["seed"]),
        ({"frequency_penalty": 1, "presence_penalty": 1}, ["frequency_penalty", "presence_penalty"]),
        ({"temperature": 1.4}, ["temperature"]),
        ({"temperature": 0.5, "top_p": 0.5}, ["top_p"]),
        ({"metadata": {"a": "b"}, "new_field": 1}, ["metadata", "new_field"]),
        ({"messages": [{"role": "user", "content": "Hi", "name": "Ada"}] * 40}, ["messages.name"]),
        ({"logprobs": False, "n": 1, "seed": None}, []),
    ],
)
def test_what_only_tunes_is_dropped_and_named(given: Any, dropped: list[str]) -> None:
    assert cross(CHAT, MESSAGES, **given).dropped == dropped


@pytest.mark.parametrize(
    ("front", "back", "given", "param"),
    [
        (CHAT, MESSAGES, {"n": 2}, "n"),
        (CHAT, MESSAGES, {"logprobs": True}, "logprobs"),
        (CHAT, MESSAGES, {"modalities": ["text", "audio"]}, "modalities"),
        (CHAT, MESSAGES, {"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
        (CHAT, RESPONSES, {"stop": ["END"]}, "stop"),
        (MESSAGES, CHAT, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
        (RESPONSES, CHAT, {"input": "Hi", "tools": [{"type": "web_search"}]}, "tools[0]"),
        (RESPONSES, CHAT, {"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        (COMPLETIONS, CHAT, {"prompt": "Hi", "suffix": "!"}, "suffix"),
        (COMPLETIONS, CHAT, {"prompt": ["Hi", "Ho"]}, "prompt"),
        (COMPLETIONS, CHAT, {"prompt": [1, 2]}, "prompt"),
    ],
)
def test_what_would_change_the_answer_is_refused(
    front: Operation, back: Operation, given: Any, param: str
) -> None:
    with pytest.raises(Untranslatable) as caught:
        cross(front, back, **given)
    assert caught.value.param == param
    assert caught.value.public.startswith(f"{param} ")
    assert WHERE in caught.value.public


@pytest.mark.parametrize(
    ("front", "given", "param"),
    [
        (CHAT, {"temperature": "hot"}, "temperature"),
        (CHAT, {"max_tokens": 1.5}, "max_tokens"),
        (CHAT, {"messages": ["Hi"]}, "messages[0].role"),
        (CHAT, {"messages": [{"role": "robot", "content": ""}]}, "messages[0].role"),
        (
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
        ),
        (CHAT, {"tools": [{"type": "function"}]}, "tools[0].function"),
        (CHAT, {"tool_choice": 7}, "tool_choice"),
        (CHAT, {"response_format": {"type": "json_schema"}}, "response_format"),
        (MESSAGES, {"max_tokens": None}, "max_tokens"),
        (
            MESSAGES,
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "messages[0].content[0].source",
        ),
        (RESPONSES, {"input": [{"type": "function_call", "call_id": "x"}]}, "input[0].name"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(front: Operation, given: Any, param: str) -> None:
    with pytest.raises(RequestFault) as caught:
        cross(front, CHAT if front is not CHAT else MESSAGES, **given)
    assert (caught.value.param, type(caught.value)) == (param, RequestFault)


def test_system_texts_come_first_for_claude() -> None:
    messages = [
        {"role": "system", "content": "A"},
        *USER,
        {"role": "developer", "content": [{"type": "text", "text": "B"}]},
        {"role": "assistant", "content": "Ho"},
        {"role": "assistant", "content": "Hum"},
        *USER,
    ]
    body = cross(CHAT, MESSAGES, messages=messages).body
    assert [block["text"] for block in body["system"]] == ["A", "B"]
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert [block["text"] for block in body["messages"][1]["content"]] == ["Ho", "Hum"]


@pytest.mark.parametrize(
    ("model", "given", "thinking", "effort"),
    [
        (
            "claude-opus-4-5-20251101",
            {"reasoning_effort": "low"},
            {"type": "enabled", "budget_tokens": 2048},
            "low",
        ),
        (
            "claude-sonnet-4-5",
            {"reasoning_effort": "low"},
            {"type": "enabled", "budget_tokens": 2048},
            None,
        ),
        (
            "claude-3-7-sonnet-20250219",
            {"reasoning_effort": "high"},
            {"type": "enabled", "budget_tokens": 16384},
            None,
        ),
        ("claude-opus-4-6", {"reasoning_effort": "high"}, {"type": "adaptive"}, "high"),
        ("claude-3-5-sonnet-20241022", {"reasoning_effort": "high"}, None, None),
        ("claude-sonnet-4-5", {"reasoning_effort": "none"}, None, None),
        (
            "claude-sonnet-4-5",
            {"reasoning": {"max_tokens": 3000}},
            {"type": "enabled", "budget_tokens": 3000},
            None,
        ),
        ("claude-sonnet-4-5", {"reasoning_effort": "high", "max_tokens": 500}, None, None),
        ("claude-opus-4-5", {"reasoning_effort": "high", "max_tokens": 500}, None, "high"),
        ("claude-sonnet-4-5", {}, None, None),
    ],
)
def test_how_hard_claude_thinks(model: str, given: Any, thinking: Any, effort: str | None) -> None:
    body = cross(CHAT, MESSAGES, manners=Manners(model=model, where=WHERE), **given).body
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == effort


def test_claude_does_not_think_where_its_thoughts_are_lost() -> None:
    said = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        *USER,
        {"role": "assistant", "content": None, "tool_calls": [said]},
        {"role": "tool", "tool_call_id": "c1", "content": "7"},
    ]
    crossing = cross(CHAT, MESSAGES, messages=messages, reasoning_effort="low")
    assert "thinking" not in crossing.body
    assert crossing.dropped == ["reasoning_effort"]


# Tools


def test_names_that_a_host_does_not_take_come_back_as_they_were() -> None:
    long = "mcp__a_very_long_server_name_of_somebody__and_an_even_longer_name_of_a_tool"
    tools = [{"name": long, "input_schema": {}}, {"name": "dots.and spaces", "input_schema": {}}]
    crossing = cross(MESSAGES, CHAT, tools=tools, stream=True)
    sent = [tool["function"]["name"] for tool in crossing.body["tools"]]
    assert all(len(name) <= 64 and "." not in name and " " not in name for name in sent)
    events = translated(
        crossing,
        call(0, "{}", "c1", sent[0]),
        call(1, "{}", "c2", sent[1]),
        chunk({}, "tool_calls"),
        b"data: [DONE]\n\n",
    )
    blocks = [event["content_block"]["name"] for event in events if event["type"] == "content_block_start"]
    assert blocks == [long, "dots.and spaces"]


@pytest.mark.parametrize("is_stream", [False, True])
def test_custom_tools_are_functions_where_there_are_none(is_stream: bool) -> None:
    patch = '*** Begin Patch\n+ "quoted"\n*** End Patch'
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}
    tool = {"type": "custom", "name": "apply_patch", "description": "Edits.", "format": grammar}
    before = {"type": "custom_tool_call", "call_id": "c0", "name": "apply_patch", "input": "old"}
    after = {"type": "custom_tool_call_output", "call_id": "c0", "output": "done"}
    crossing = cross(RESPONSES, CHAT, stream=is_stream, tools=[tool], input=[*USER, before, after])
    function = crossing.body["tools"][0]["function"]
    assert function["parameters"]["required"] == ["input"]
    assert "start: /.+/" in function["description"]
    assert crossing.body["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"input":"old"}'
    assert crossing.body["messages"][2] == {"role": "tool", "tool_call_id": "c0", "content": "done"}
    arguments = json.dumps({"input": patch})
    if is_stream:
        events = translated(
            crossing,
            call(0, "", "c1", "apply_patch"),
            *(call(0, piece) for piece in arguments),
            chunk({}, "tool_calls"),
        )
        item = events[-1]["response"]["output"][0]
        done = [event for event in events if event["type"] == "response.custom_tool_call_input.done"]
        assert done[0]["input"] == patch
    else:
        function = {"name": "apply_patch", "arguments": arguments}
        message = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": function}]}
        answer = {"model": "m", "choices": [{"message": message, "finish_reason": "tool_calls"}]}
        item = json.loads(crossing.answer(json.dumps(answer).encode())[0])["output"][0]
    assert (item["type"], item["call_id"], item["input"]) == ("custom_tool_call", "c1", patch)


def test_tools_of_a_namespace_come_back_with_it() -> None:
    inner = {"type": "function", "name": "search", "parameters": {"type": "object", "properties": {}}}
    space = {"type": "namespace", "name": "library", "description": "Books", "tools": [inner]}
    crossing = cross(RESPONSES, CHAT, input="Hi", tools=[space])
    assert crossing.body["tools"][0]["function"]["name"] == "library__search"
    function = {"name": "library__search", "arguments": "{}"}
    message = {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": function}]}
    answer = {"choices": [{"message": message, "finish_reason": "tool_calls"}]}
    item = json.loads(crossing.answer(json.dumps(answer).encode())[0])["output"][0]
    assert (item["name"], item["namespace"]) == ("search", "library")


@pytest.mark.parametrize(
    ("front", "choice", "sent"),
    [
        (CHAT, "required", {"type": "any"}),
        (CHAT, "any", {"type": "any"}),
        (CHAT, "none", {"type": "none"}),
        (CHAT, {"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
        (RESPONSES, {"type": "function", "name": "f"}, {"type": "tool", "name": "f"}),
    ],
)
def test_choices_for_claude(front: Operation, choice: Any, sent: Any) -> None:
    function = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    tool = {"type": "function", "function": function} if front is CHAT else {"type": "function", **function}
    more = {} if front is CHAT else {"input": "Hi"}
    assert cross(front, MESSAGES, tools=[tool], tool_choice=choice, **more).body["tool_choice"] == sent


def test_only_the_tools_that_may_be_chosen_are_offered() -> None:
    tools = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in "abc"]
    allowed = {
        "mode": "required",
        "tools": [{"type": "function", "function": {"name": name}} for name in "ac"],
    }
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    body = cross(CHAT, MESSAGES, tools=tools, tool_choice=choice, parallel_tool_calls=False).body
    assert [tool["name"] for tool in body["tools"]] == ["a", "c"]
    assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


def test_a_picture_that_a_tool_gave_follows_for_hosts_that_take_texts_alone() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    use = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [picture], "is_error": False}
    messages = [*USER, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    sent = cross(MESSAGES, CHAT, messages=messages).body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "user"]
    assert sent[3]["content"][1]["image_url"]["url"] == "data:image/png;base64,aGk="


def test_mistral_s_own_ways() -> None:
    manners = Manners(model="m", is_mistral=True, takes_user=False, call_ids=re.compile("[A-Za-z0-9]{9}"))
    use = {"type": "tool_use", "id": "toolu_01A", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_01A", "content": "7"}
    messages = [*USER, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    body = cross(
        MESSAGES, CHAT, manners=manners, messages=messages, tools=tools, tool_choice={"type": "any"}
    ).body
    id_ = body["messages"][1]["tool_calls"][0]["id"]
    assert re.fullmatch("[A-Za-z0-9]{9}", id_)
    assert body["messages"][2]["tool_call_id"] == id_
    assert body["tool_choice"] == "any"
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}
    content = [thinking, {"type": "text", "text": "Ho"}]
    answer = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
    blocks = json.loads(cross(MESSAGES, CHAT).answer(json.dumps(answer).encode())[0])["content"]
    assert [(block["type"], block.get("thinking") or block.get("text")) for block in blocks] == [
        ("thinking", "Hm"),
        ("text", "Ho"),
    ]


# Answers


@pytest.mark.parametrize(
    ("front", "reason", "told"),
    [
        (CHAT, "max_tokens", "length"),
        (CHAT, "refusal", "content_filter"),
        (CHAT, "stop_sequence", "stop"),
        (CHAT, "model_context_window_exceeded", "length"),
        (RESPONSES, "max_tokens", {"reason": "max_output_tokens"}),
        (RESPONSES, "refusal", {"reason": "content_filter"}),
        (RESPONSES, "end_turn", None),
    ],
)
def test_why_claude_ended(front: Operation, reason: str, told: Any) -> None:
    answer = {"type": "message", "content": [{"type": "text", "text": "Ho"}], "stop_reason": reason}
    crossing = cross(front, MESSAGES, **({"input": "Hi"} if front is RESPONSES else {}))
    found = json.loads(crossing.answer(json.dumps(answer).encode())[0])
    assert told == (found["choices"][0]["finish_reason"] if front is CHAT else found["incomplete_details"])


def test_first_event_of_azure_s_that_names_no_model_is_not_the_beginning() -> None:
    filtered = {**chunk({}), "choices": [], "model": "", "prompt_filter_results": []}
    stream = [filtered, chunk({"content": "Hi"}), chunk({}, "stop"), b"data: [DONE]\n\n"]
    assert translated(cross(MESSAGES, CHAT, stream=True), *stream)[0]["message"]["model"] == "m"


def test_cohere_s_stream_may_end_as_openai_s_do() -> None:
    told = {"message": {"content": {"type": "text", "text": "Hi"}}}
    stream = [
        {"type": "message-start", "id": "c-1", "delta": {"message": {"role": "assistant", "content": []}}},
        {"type": "content-start", "index": 0, "delta": told},
        {"type": "content-end", "index": 0},
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}},
        b"data: [DONE]\n\n",
    ]
    events = translated(cross(CHAT, COHERE_CHAT, stream=True), *stream)
    assert [event["choices"][0]["delta"].get("content") for event in events[:2]] == ["", "Hi"]


def test_arguments_that_come_with_the_beginning_of_a_call_are_kept() -> None:
    use = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
    stream = [
        {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": use},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    events = translated(cross(CHAT, MESSAGES, stream=True), *stream)
    calls = [
        call
        for event in events
        for each in event["choices"]
        for call in each["delta"].get("tool_calls", ())
    ]
    assert "".join(call["function"]["arguments"] for call in calls) == '{"a":1}'


@pytest.mark.parametrize("is_stream", [False, True])
def test_refusal_reaches_a_caller_of_completions_as_words(is_stream: bool) -> None:
    crossing = cross(COMPLETIONS, CHAT, stream=is_stream, prompt="Hi")
    if is_stream:
        events = translated(crossing, chunk({"refusal": "No."}), chunk({}, "stop"), b"data: [DONE]\n\n")
    else:
        message = {"role": "assistant", "content": None, "refusal": "No."}
        answer = {"model": "m", "choices": [{"message": message, "finish_reason": "stop"}]}
        events = [json.loads(crossing.answer(json.dumps(answer).encode())[0])]
    assert "".join(each["text"] for event in events for each in event["choices"]) == "No."


def test_answer_that_azure_s_filter_took_back_ends_for_that_reason() -> None:
    taken = {"index": 0, "finish_reason": "content_filter", "logprobs": None}
    answer = {"model": "m", "choices": [taken], "usage": {"prompt_tokens": 15, "completion_tokens": 19}}
    found = json.loads(cross(MESSAGES, CHAT).answer(json.dumps(answer).encode())[0])
    assert (found["content"], found["stop_reason"]) == ([], "refusal")


def test_making_a_conversation_shorter_is_counted() -> None:
    shortened = {
        "type": "compaction",
        "input_tokens": 83555,
        "output_tokens": 154,
        "cache_read_input_tokens": 7,
    }
    rest = {"type": "message", "input_tokens": 224, "output_tokens": 22, "cache_read_input_tokens": 0}
    usage = {**rest, "iterations": [shortened, rest]}
    del usage["type"]
    answer = {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "usage": usage}
    _, known = cross(CHAT, MESSAGES).answer(json.dumps(answer).encode())
    assert known.usage == Usage(83555 + 224 + 7, 176, 7)
    assert read_answer(json.dumps(answer).encode()).usage == known.usage


def test_usage_is_told_by_kind_and_the_unknown_is_null() -> None:
    answer = {"type": "message", "content": [], "stop_reason": "end_turn"}
    usage = {
        "input_tokens": 3,
        "output_tokens": 2,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 4,
    }
    body, known = cross(CHAT, MESSAGES).answer(json.dumps({**answer, "usage": usage}).encode())
    assert known.usage == Usage(12, 2, 5, cache_write_tokens=4)
    found = json.loads(body)["usage"]
    assert (found["prompt_tokens"], found["total_tokens"]) == (12, 14)
    assert found["prompt_tokens_details"] == {"cached_tokens": 5, "cache_write_tokens": 4}
    body, known = cross(CHAT, MESSAGES).answer(json.dumps(answer).encode())
    assert known.usage is None
    assert "usage" not in json.loads(body)


def test_redacted_thoughts_survive_a_chat_client() -> None:
    content = [
        {"type": "redacted_thinking", "data": "secret"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {}},
    ]
    answer = {"type": "message", "content": content, "stop_reason": "tool_use"}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    message = json.loads(cross(CHAT, MESSAGES, tools=tools).answer(json.dumps(answer).encode())[0])
    said = message["choices"][0]["message"]
    back = [*USER, said, {"role": "tool", "tool_call_id": "t1", "content": "7"}]
    sent = cross(CHAT, MESSAGES, tools=tools, messages=back, reasoning_effort="low").body
    assert sent["messages"][1]["content"][0] == content[0]
    assert sent["thinking"]["type"] == "enabled"


def test_citations_are_kept() -> None:
    cite = {
        "type": "web_search_result_location",
        "url": "https://a.example",
        "title": "A",
        "cited_text": "x",
    }
    answer = {"content": [{"type": "text", "text": "Ho", "citations": [cite]}], "stop_reason": "end_turn"}
    message = json.loads(cross(CHAT, MESSAGES).answer(json.dumps(answer).encode())[0])["choices"][0][
        "message"
    ]
    assert message["annotations"][0]["url_citation"]["url"] == "https://a.example"


@pytest.mark.parametrize("back", [CHAT, MESSAGES, RESPONSES])
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"nope", b'{"choices": [7]}', b'{"content": [7]}', b'{"output": [7]}']
)
def test_what_is_no_answer_is_told_to_be_broken(back: Operation, body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        cross(COMPLETIONS, back, prompt="Hi").answer(body)


def test_an_error_in_the_place_of_an_answer_is_one() -> None:
    assert cross(MESSAGES, CHAT).answer(b'{"error": {"message": "no"}}')[1].is_error
    assert cross(CHAT, MESSAGES).answer(b'{"type": "error", "error": {}}')[1].is_error


# Streams

CONVERSATION = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "Hm, Wörter"}),
    chunk({"content": "Guten "}),
    chunk({"content": 'Täg\u2028 \\ "so"'}),
    call(0, "", "c1", "f"),
    call(0, '{"a": "b'),
    call(0, '\\n"}'),
    call(1, "{}", "c2", "f"),
    chunk({}, "tool_calls"),
    {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}},
    b": comment\n\n",
    b"data: [DONE]\n\n",
]


@pytest.mark.parametrize("front", [MESSAGES, RESPONSES, COMPLETIONS])
def test_any_cut_gives_the_same_stream(front: Operation) -> None:
    more: Any = {MESSAGES: {}, RESPONSES: {"input": "Hi"}, COMPLETIONS: {"prompt": "Hi"}}[front]
    whole = translated(cross(front, CHAT, stream=True, **more), *CONVERSATION)
    for seed in range(20):
        cuts = iter(partial(random.Random(seed).randint, 1, 30), 0)
        assert translated(cross(front, CHAT, stream=True, **more), *CONVERSATION, cuts=cuts) == whole
    bytewise = iter(lambda: 1, 0)
    assert translated(cross(front, CHAT, stream=True, **more), *CONVERSATION, cuts=bytewise) == whole


def test_the_order_of_a_message_s_events() -> None:
    events = translated(cross(MESSAGES, CHAT, stream=True), *CONVERSATION)
    short = [event["type"].removeprefix("content_block_") for event in events]
    assert short == [
        *("message_start", "start", "ping", "delta", "delta", "stop"),
        *("start", "delta", "delta", "stop"),
        *("start", "delta", "delta", "stop"),
        *("start", "delta", "stop"),
        *("message_delta", "message_stop"),
    ]
    assert [event["index"] for event in events if event["type"] == "content_block_stop"] == [0, 1, 2, 3]
    assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert events[-2]["usage"]["input_tokens"] == 5


def test_the_life_of_a_response() -> None:
    events = translated(cross(RESPONSES, CHAT, stream=True, input="Hi"), *CONVERSATION)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"].removeprefix("response.") for event in events] == [
        *("created", "in_progress"),
        *("output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done"),
        *("output_item.done", "completed"),
    ]
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "function_call"]
    assert output[2]["arguments"] == '{"a": "b\\n"}'
    added = [event["item"]["id"] for event in events if event["type"] == "response.output_item.added"]
    assert added == [item["id"] for item in output]


@pytest.mark.parametrize(
    "events",
    [
        [],
        [chunk({"content": "Ho"})],
        [b"data: nope\n\n"],
        [b"data: [1]\n\n"],
        [call(0, "", "c1", "f"), call(1, "", "c2", "f"), call(0, "{}")],
        [call(0, "{}")],
    ],
    ids=["empty", "no end", "no JSON", "no object", "mixed calls", "no name"],
)
def test_a_broken_stream_is_never_a_good_end(events: list[Any]) -> None:
    with pytest.raises(UpstreamBroken):
        translated(cross(MESSAGES, CHAT, stream=True), *events)


@pytest.mark.parametrize(
    "events",
    [
        [b'event: message_stop\ndata: {"type": "message_delta"}\n\n'],
        [
            {"type": "message_start", "message": {}},
            {"type": "content_block_start", "index": 0, "content_block": 7},
        ],
        [{"type": "message_start", "message": {}}, {"type": "content_block_delta", "index": 0}],
    ],
)
def test_a_broken_message_is_never_a_good_end(events: list[Any]) -> None:
    with pytest.raises(UpstreamBroken):
        translated(cross(CHAT, MESSAGES, stream=True), *events)


def test_an_error_that_the_provider_tells_in_its_stream_is_its_error() -> None:
    with pytest.raises(UpstreamFault, match="Overloaded"):
        translated(
            cross(CHAT, MESSAGES, stream=True), {"type": "error", "error": {"message": "Overloaded"}}
        )
    with pytest.raises(UpstreamFault, match="no GPU"):
        translated(cross(MESSAGES, CHAT, stream=True), {"error": {"message": "no GPU"}})


def test_what_is_held_is_bounded() -> None:
    with pytest.raises(UpstreamBroken):
        EventFrames().feed(b"x" * (MAX_EVENT_BYTES + 1))
    tap = cross(RESPONSES, CHAT, stream=True, input="Hi").tap(refuse)
    piece = sse(chunk({"content": "x" * 1024 * 1024}))
    with pytest.raises(UpstreamBroken):
        for _ in range(9):
            tap.feed(piece)


def test_events_are_found_as_the_standard_says() -> None:
    frames = EventFrames()
    data = b"\xef\xbb\xbf: hi\r\nevent:  a\r\ndata: 1\r\ndata:2\r\n\r\ndata\r\rid: 7\n\nevent: b\ndata: 3"
    found = [event for index in range(len(data)) for event in frames.feed(data[index : index + 1])]
    assert found + frames.close() == [(" a", b"1\n2"), ("", b""), ("b", b"3")]


def test_usual_time_in_the_cache_is_not_told() -> None:
    """Older Claudes at other hosts refuse to be told a time, be it the usual one."""
    said = [Text("Hi", cache="5m"), Text("you", cache="1h")]
    back = Back.of(Request([Turn("user", said)]), Manners(model="claude-sonnet-4"))
    content = BACKS[MESSAGES].encode_request(back, Loss(WHERE))["messages"][0]["content"]
    assert [block["cache_control"].get("ttl") for block in content] == [None, "1h"]
