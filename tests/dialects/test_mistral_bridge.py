"""Mistral's format towards its SDK, without any socket: fields, answers, streams, and what goes wrong."""

from __future__ import annotations

import inspect
import json
import typing
from typing import Any

import mistralai.client.models as models
import msgspec
import pydantic
import pytest
import typing_extensions
from mistralai.client.chat import Chat
from mistralai.client.embeddings import Embeddings
from mistralai.client.models import contentchunk

from jupyterhub_ai_gateway.dialects import mistral_front, vector_fronts
from jupyterhub_ai_gateway.dialects.bridge import FRONTS, Bridge, Crossing
from jupyterhub_ai_gateway.dialects.canonical import (
    FILTER,
    LENGTH,
    STOP,
    TOOLS,
    Answer,
    Begin,
    Call,
    Candidate,
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
from jupyterhub_ai_gateway.dialects.codec import MAX_HELD_CHARS, Context, Manners
from jupyterhub_ai_gateway.dialects.loss import Loss, Refused
from jupyterhub_ai_gateway.errors import RequestFault, Untranslatable, UpstreamBroken
from jupyterhub_ai_gateway.vocabulary import CHAT, MESSAGES, MISTRAL_CHAT, Operation, Usage

USER = [{"role": "user", "content": "Hi"}]
WHERE = "the deployment chat/1"
FRONT = FRONTS[MISTRAL_CHAT]


def cross(back: Operation = CHAT, **fields: Any) -> Crossing:
    bridge = Bridge(MISTRAL_CHAT, back, Manners(model="claude-sonnet-4-5", where=WHERE, takes_top_k=True))
    given = {"messages": USER, **fields}
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in given.items()}
    return bridge.cross(raw, is_stream=False, wants_usage=True, request_id="req_1", created=1)


def context() -> Context:
    return Context("req_1", 1, "model", Request())


# Every field has a verb

TABLES: dict[Any, Any] = {
    models.SystemMessage: mistral_front.SYSTEM,
    models.UserMessage: mistral_front.USER,
    models.AssistantMessage: mistral_front.ASSISTANT,
    models.ToolMessage: mistral_front.TOOL_MESSAGE,
    models.TextChunk: mistral_front.TEXT,
    models.ImageURLChunk: mistral_front.IMAGE,
    models.ImageURL: mistral_front.IMAGE_URL,
    models.DocumentURLChunk: mistral_front.DOCUMENT,
    models.AudioChunk: mistral_front.AUDIO,
    models.FileChunk: mistral_front.FILE,
    models.ReferenceChunk: mistral_front.REFERENCE,
    models.ThinkChunk: mistral_front.THINKING,
    models.ToolCall: mistral_front.TOOL_CALL,
    models.FunctionCall: mistral_front.FUNCTION_OF_CALL,
    models.Tool: mistral_front.TOOL,
    models.Function: mistral_front.FUNCTION,
    models.ToolChoice: mistral_front.CHOICE,
    models.FunctionName: mistral_front.CHOSEN,
    models.ResponseFormat: mistral_front.FORMAT,
    models.JSONSchema: mistral_front.SCHEMA,
    models.EmbeddingRequest: vector_fronts.MISTRAL,
    models.ChatCompletionRequest: mistral_front.REQUEST,
    models.ChatCompletionStreamRequest: mistral_front.REQUEST,
}
OF_THE_SDK = {"self", "retries", "server_url", "timeout_ms", "http_headers"}


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.__name__)
def test_every_field_has_a_verb(kind: type[pydantic.BaseModel]) -> None:
    names = {field.alias or name for name, field in kind.model_fields.items()}
    assert names - set(TABLES[kind]) == set()


@pytest.mark.parametrize(
    ("function", "table", "renamed"),
    [
        (Chat.complete, mistral_front.REQUEST, set()),
        (Chat.stream, mistral_front.REQUEST, set()),
        (Embeddings.create, vector_fronts.MISTRAL, {"inputs"}),
    ],
)
def test_every_argument_of_the_sdk_has_a_verb(function: Any, table: Any, renamed: set[str]) -> None:
    names = {name.strip("_") for name in inspect.signature(function).parameters}
    assert {name for name in names if name not in OF_THE_SDK} - set(table) - renamed == set()


def test_every_piece_of_content_and_every_tool_is_known() -> None:
    assert len(contentchunk._CONTENT_CHUNK_VARIANTS) > 6
    for kind in contentchunk._CONTENT_CHUNK_VARIANTS:
        if kind in ("reference", "thinking"):
            continue  # which may be empty
        with pytest.raises(RequestFault) as caught:
            cross(messages=[{"role": "user", "content": [{"type": kind}]}])
        is_of_the_account = kind in ("file", "resource", "resource_link")
        assert isinstance(caught.value, Untranslatable) == is_of_the_account, kind
        assert "must be text, thinking" not in caught.value.public, kind
    tools = typing.get_args(models.ChatCompletionRequestTool)
    for each in tools:
        kind = typing.get_args(typing_extensions.get_type_hints(each)["type"])
        word = next((word for word in kind if isinstance(word, str)), "function")
        with pytest.raises(RequestFault) as caught:
            cross(tools=[{"type": word}])
        assert isinstance(caught.value, Untranslatable) == (word != "function")


def test_a_reason_is_the_end_of_a_sentence() -> None:
    for table in TABLES.values():
        for verb in table.values():
            if isinstance(verb, Refused):
                assert verb.why[0].islower()
                assert verb.why[-1] not in ".!"


# What is read


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"random_seed": 4}, {"seed": 4}),
        ({"tool_choice": "any", "tools": [{"function": {"name": "f"}}]}, {"tool_choice": "required"}),
        ({"prompt_mode": "reasoning"}, {"reasoning_effort": None}),
        ({"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
        ({"reasoning_effort": "none"}, {"reasoning_effort": "none"}),
        ({"stop": "x"}, {"stop": ["x"]}),
        ({"top_k": 4, "n": 2}, {"top_k": 4, "n": 2}),
        (
            {"parallel_tool_calls": False, "tools": [{"function": {"name": "f"}}]},
            {"parallel_tool_calls": False},
        ),
        ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
        ({"response_format": {"type": "text"}}, {"response_format": None}),
    ],
)
def test_fields_for_others(given: Any, sent: Any) -> None:
    body = cross(**given).body
    assert {name: body.get(name) for name in sent} == sent


def test_pieces_of_content_for_others() -> None:
    pieces = [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": "https://a.org/a.png"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}},
        {"type": "input_audio", "input_audio": "UklGRiQA"},
        {
            "type": "document_url",
            "document_url": "data:application/pdf;base64,aGk=",
            "document_name": "a.pdf",
        },
        {"type": "reference", "reference_ids": [1]},
    ]
    (message,) = cross(messages=[{"role": "user", "content": pieces}]).body["messages"]
    assert message["content"] == [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "https://a.org/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRiQA", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"}},
    ]


def test_arguments_may_be_an_object() -> None:
    call = {"id": "callid001", "function": {"name": "f", "arguments": {"a": 1}}}
    said = [
        *USER,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "callid001", "content": "1"},
    ]
    (sent,) = cross(messages=said).body["messages"][1]["tool_calls"]
    assert sent["function"] == {"name": "f", "arguments": '{"a":1}'}


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"messages": [{"role": "developer", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": "x"}]}]},
            "messages[0].content[0].input_audio",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]},
            "messages[0].tool_calls[0].function",
        ),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tool_choice": "some"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"random_seed": "x"}, "random_seed"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(given: Any, param: str) -> None:
    with pytest.raises(RequestFault) as caught:
        cross(**given)
    assert caught.value.param == param
    assert not isinstance(caught.value, Untranslatable)


# What is written


def written(*events: Event) -> list[Any]:
    encoder = FRONT.encoder(context())
    stream = b"".join([*map(encoder.encode, events), encoder.close()])
    *chunks, done, rest = stream.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    documents = [json.loads(each.removeprefix(b"data: ")) for each in chunks]
    for each in documents:
        models.CompletionChunk.model_validate(each)
    return documents


def test_the_order_of_a_streams_chunks() -> None:
    own = Opaque("anthropic", "c2ln")
    chunks = written(
        Begin("claude"),
        Open(0, Thinking()),
        Delta(0, "Hm"),
        Close(0, own),
        Open(1, Text("")),
        Delta(1, "Hi", ({"token": "Hi", "logprob": -1},)),
        Close(1),
        Open(2, Call("c1", "f", opaque=Opaque("gemini", "Zw=="))),
        Delta(2, '{"a":'),
        Delta(2, "1}"),
        Close(2),
        Open(3, Call("c2", "g")),
        Close(3),
        Used(Usage(1, 2)),
        Finish(TOOLS),
    )
    deltas = [each["choices"][0]["delta"] for each in chunks]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]},
        {"content": [{"type": "thinking", "thinking": [], "signature": "aig1.anthropic.c2ln"}]},
        {"content": "Hi"},
        {"content": [{"type": "thinking", "thinking": [], "signature": "aig1.gemini.Zw=="}]},
        {
            "content": "",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"a":1}'},
                    "index": 0,
                }
            ],
        },
        {
            "content": "",
            "tool_calls": [
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}, "index": 1}
            ],
        },
        {"content": ""},
    ]
    assert {each["model"] for each in chunks} == {"claude"}
    assert [each["choices"][0]["finish_reason"] for each in chunks[-2:]] == [None, "tool_calls"]
    assert [("usage" in each) for each in chunks] == [False] * 7 + [True]
    assert chunks[3]["choices"][0]["logprobs"] == {"content": [{"token": "Hi", "logprob": -1}]}


def test_candidates_of_a_stream_each_have_their_end() -> None:
    chunks = written(
        Open(0, Text(""), 0), Delta(0, "a"), Close(0), Open(1, Text(""), 1), Delta(1, "b"), Close(1),
        Finish(STOP, candidate=0), Finish(LENGTH, candidate=1),
    )  # fmt: skip
    assert [(each["index"], each["finish_reason"]) for each in chunks[-1]["choices"]] == [
        (0, "stop"),
        (1, "length"),
    ]
    assert chunks[-1]["usage"] == {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}


def test_a_whole_answer() -> None:
    parts: list[Any] = [Thinking("Hm", Opaque("anthropic", "c2ln")), Text("Hi"), Call("c1", "f", "{}")]
    found = FRONT.encode_answer(Answer([Candidate(parts, TOOLS)], "claude", Usage(1, 2, 1)), context())
    parsed = models.ChatCompletionResponse.model_validate(found)
    assert parsed.usage.total_tokens == 3
    message = found["choices"][0]["message"]
    assert [each["type"] for each in message["content"]] == ["thinking", "text"]
    assert FRONT.decode_request({"messages": [message]}, Loss(WHERE)).turns[0].parts == parts
    plain = FRONT.encode_answer(Answer([Candidate([Refusal("No.")], FILTER)]), context())
    choice = plain["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("No.", "error")
    assert choice["message"]["tool_calls"] is None
    picture = Answer([Candidate([Media("image", "image/png", "aGk=")])])
    (piece,) = FRONT.encode_answer(picture, context())["choices"][0]["message"]["content"]
    assert piece == {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}


def test_every_reason_to_end_is_one_of_mistrals() -> None:
    hints = typing_extensions.get_type_hints(models.ChatCompletionChoice)
    known = typing.get_args(typing.get_args(hints["finish_reason"])[0])
    assert "stop" in known
    assert set(mistral_front.FINISHES.values()) <= set(known)


def test_what_is_held_of_a_call_is_bounded() -> None:
    encoder = FRONT.encoder(context())
    encoder.encode(Open(0, Call("c1", "f")))
    with pytest.raises(UpstreamBroken):
        for _ in range(MAX_HELD_CHARS // 65536 + 1):
            encoder.encode(Delta(0, "x" * 65536))


def test_what_cannot_be_said_names_the_deployment() -> None:
    with pytest.raises(Untranslatable) as caught:
        cross(MESSAGES, n=2)
    assert (caught.value.param, WHERE in caught.value.public) == ("n", True)
