"""The echo speaks OpenAI's formats as strictly as the SDK reads them, and always says the same."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from jupyterhub_ai_gateway.providers.echo import answer
from jupyterhub_ai_gateway.providers.echo_samples import sample_of

CHAT = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi there"}]}
SCHEMA = {
    "type": "object",
    "required": ["city", "days", "unit", "tags", "inner"],
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 3},
        "unit": {"enum": ["C", "F"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "inner": {"$ref": "#/$defs/inner"},
        "optional": {"type": "number"},
    },
    "$defs": {"inner": {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}}},
}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]


async def ask(path: str, document: Any) -> Any:
    exchange = answer(path, json.dumps(document).encode(), "echo", 0.0)
    found = json.loads(await exchange.read(10**7))
    assert exchange.status == (400 if "error" in found else 200)
    return found


async def stream(path: str, document: Any) -> list[Any]:
    pieces: list[bytes] = []
    exchange = answer(path, json.dumps({**document, "stream": True}).encode(), "echo", 0.0)
    await exchange.relay(pieces.append)
    assert pieces.pop() == b"data: [DONE]\n\n"
    return [json.loads(piece.removeprefix(b"data: ")) for piece in pieces]


async def test_chat_says_what_it_is_and_what_it_heard() -> None:
    found = ChatCompletion.model_validate(await ask("/chat/completions", CHAT))
    text = found.choices[0].message.content or ""
    assert text.startswith("You said: Hi there")
    assert "operator" in text
    assert found.usage is not None
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    assert await ask("/chat/completions", CHAT) == found.model_dump(exclude_unset=True)


async def test_stream_says_the_same() -> None:
    chunks = [
        ChatCompletionChunk.model_validate(chunk) for chunk in await stream("/chat/completions", CHAT)
    ]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == (await ask("/chat/completions", CHAT))["choices"][0]["message"]["content"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    told = await stream("/chat/completions", {**CHAT, "stream_options": {"include_usage": True}})
    assert told[-1]["choices"] == []
    assert told[-1]["usage"] == (await ask("/chat/completions", CHAT))["usage"]
    assert all(chunk["usage"] is None for chunk in told[:-1])


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_length_is_limited(field: str) -> None:
    found = await ask("/chat/completions", {**CHAT, field: 2})
    assert found["choices"][0]["finish_reason"] == "length"
    assert found["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("stop", ["there", ["nothing", "there"]])
async def test_stop_word_stops(stop: Any) -> None:
    found = await ask("/chat/completions", {**CHAT, "stop": stop})
    assert found["choices"][0]["message"]["content"] == "You said: Hi "
    assert found["choices"][0]["finish_reason"] == "stop"


async def test_choices_are_as_many_as_asked_for() -> None:
    found = await ask("/chat/completions", {**CHAT, "n": 3})
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2]
    assert {
        chunk["choices"][0]["index"] for chunk in await stream("/chat/completions", {**CHAT, "n": 3})
    } == {0, 1, 2}


async def test_tool_is_called_with_arguments_that_fit() -> None:
    found = ChatCompletion.model_validate(await ask("/chat/completions", {**CHAT, "tools": TOOLS}))
    assert found.choices[0].finish_reason == "tool_calls"
    calls = found.choices[0].message.tool_calls
    assert calls is not None
    call = calls[0]
    assert call.type == "function"
    Draft202012Validator(SCHEMA).validate(json.loads(call.function.arguments))
    deltas = [
        chunk["choices"][0]["delta"]
        for chunk in await stream("/chat/completions", {**CHAT, "tools": TOOLS})
    ]
    streamed = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert (streamed[0]["id"], streamed[0]["function"]["name"]) == (call.id, "weather")
    assert "".join(each["function"]["arguments"] for each in streamed) == call.function.arguments


async def test_result_of_a_tool_is_answered_in_words() -> None:
    messages = [*CHAT["messages"], {"role": "tool", "tool_call_id": "x", "content": "21 °C"}]
    found = await ask("/chat/completions", {"messages": messages, "tools": TOOLS})
    assert found["choices"][0]["message"]["content"].startswith("You said: 21 °C")


@pytest.mark.parametrize(
    ("choice", "is_called"),
    [
        ("none", False),
        ("auto", True),
        ("required", True),
        ({"type": "function", "function": {"name": "weather"}}, True),
    ],
)
async def test_choice_of_tools_is_respected(choice: Any, is_called: bool) -> None:
    found = await ask("/chat/completions", {**CHAT, "tools": TOOLS, "tool_choice": choice})
    assert ("tool_calls" in found["choices"][0]["message"]) is is_called


async def test_json_is_json() -> None:
    for format_, schema in [
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}, SCHEMA),
    ]:
        found = await ask("/chat/completions", {**CHAT, "response_format": format_})
        Draft202012Validator(schema).validate(json.loads(found["choices"][0]["message"]["content"]))


def test_sample_of_a_schema_that_holds_itself_ends() -> None:
    schema: Any = {"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#"}}}
    assert "next" in sample_of(schema)


async def test_completion_in_every_form() -> None:
    found = Completion.model_validate(await ask("/completions", {"prompt": ["Hi", "Ho"]}))
    assert len(found.choices) == 2
    choices = [chunk["choices"][0] for chunk in await stream("/completions", {"prompt": "Hi"})]
    assert "".join(choice["text"] for choice in choices).startswith("You said: Hi")
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    assert (await ask("/completions", {"prompt": [1, 2, 3]}))["choices"][0]["text"].startswith(
        "You said: 1 2 3"
    )


async def test_embeddings_are_unit_vectors_that_depend_on_the_text() -> None:
    document = {"input": ["a", "b", "a"], "dimensions": 7}
    found = CreateEmbeddingResponse.model_validate(await ask("/embeddings", document))
    a, b, again = (item.embedding for item in found.data)
    assert a == again != b
    assert len(a) == 7
    assert math.isclose(sum(number * number for number in a), 1.0, rel_tol=1e-6)
    packed = await ask("/embeddings", {**document, "encoding_format": "base64"})
    unpacked = struct.unpack("<7f", base64.b64decode(packed["data"][0]["embedding"]))
    assert unpacked == pytest.approx(a)


@pytest.mark.parametrize(
    ("path", "document", "param"),
    [
        ("/chat/completions", {"messages": "x"}, "messages"),
        ("/chat/completions", {"messages": ["x"]}, "messages"),
        ("/chat/completions", {**CHAT, "n": 99}, "n"),
        ("/completions", {}, "prompt"),
        ("/embeddings", {"input": []}, "input"),
        ("/embeddings", {"input": "x", "dimensions": 0.5}, "dimensions"),
    ],
)
async def test_wrong_request_is_refused_as_a_host_would(path: str, document: Any, param: str) -> None:
    assert (await ask(path, document))["error"]["param"] == param


async def test_stream_takes_its_time_and_can_be_left() -> None:
    exchange = answer("/chat/completions", json.dumps({**CHAT, "stream": True}).encode(), "echo", 3600.0)
    relaying = asyncio.ensure_future(exchange.relay(lambda piece: None))
    await asyncio.sleep(0)
    relaying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await relaying
    exchange.close()


WRONG = [
    ("/chat/completions", {"messages": "x"}, "messages"),
    ("/chat/completions", {"messages": []}, "messages"),
    ("/chat/completions", {}, "messages"),
    ("/chat/completions", {**CHAT, "n": 99}, "n"),
    ("/chat/completions", {**CHAT, "stop": 7}, "stop"),
    ("/chat/completions", {**CHAT, "tools": 7}, "tools"),
    ("/chat/completions", {**CHAT, "tools": ["x"]}, "tools"),
    ("/chat/completions", {**CHAT, "tool_choice": {"function": "x"}}, "tool_choice"),
    (
        "/chat/completions",
        {**CHAT, "response_format": {"type": "json_schema", "json_schema": 7}},
        "response_format",
    ),
    ("/completions", {"prompt": ["x", 1]}, "prompt"),
    ("/completions", {"prompt": ["x"] * 129}, "prompt"),
    ("/embeddings", {"input": ["x"] * 2049}, "input"),
    ("/embeddings", {"input": ["x"] * 200, "dimensions": 4096}, "dimensions"),
]


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("path", "document", "param"), WRONG)
async def test_wrong_request_is_refused_before_anything_is_sent(
    path: str, document: Any, param: str, is_stream: bool
) -> None:
    exchange = answer(path, json.dumps({**document, "stream": is_stream}).encode(), "echo", 0.0)
    assert exchange.status == 400
    assert json.loads(await exchange.read(10**6))["error"]["param"] == param


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"messages": [{"role": "user", "content": "x"}], "seed": ' + b"9" * 5000 + b"}",
    ],
)
async def test_body_that_cannot_be_read_is_refused(body: bytes) -> None:
    assert answer("/chat/completions", body, "echo", 0.0).status == 400


def _nested_arrays(depth: int) -> Any:
    return {"type": "array", "minItems": 8, "items": _nested_arrays(depth - 1)} if depth else {}


@pytest.mark.parametrize(
    "schema",
    [
        _nested_arrays(8),
        {"type": "object", "required": ["a"] * 1000, "properties": {"a": {"$ref": "#"}}},
        {"type": "object", "required": [str(i) for i in range(10**5)]},
        {"type": "string", "minLength": 10**12},
        {
            "type": "array",
            "minItems": 8,
            "items": {"type": "array", "minItems": 8, "items": {"const": "x" * 9**5}},
        },
        {"$ref": "#/" + "a/" * 10**5},
    ],
    ids=["arrays", "itself", "keys", "letters", "constants", "reference"],
)
def test_sample_of_a_greedy_schema_stays_small(schema: Any) -> None:
    assert len(json.dumps(sample_of(schema))) < 10**5


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "required": 7},
        {"type": "object", "required": [[1], None]},
        {"type": "object", "required": ["a"], "properties": [1]},
        {"type": "array", "minItems": "x"},
        {"type": "string", "minLength": None},
        {"type": "integer", "minimum": "x"},
        {"type": []},
        {"type": {}},
        {"enum": 5},
        {"anyOf": {"a": 1}},
        {"$ref": 7},
        {"required": ["a"], "properties": {"a": True}},
    ],
    ids=str,
)
def test_sample_of_what_is_no_schema_is_something(schema: Any) -> None:
    json.dumps(sample_of(schema))


def test_sample_of_a_number_fits_its_minimum() -> None:
    assert sample_of({"type": "integer", "minimum": 2.5}) == 3
    assert sample_of({"type": "number", "minimum": 2.5}) == 2.5


async def test_each_prompt_is_answered() -> None:
    document = {"prompt": ["Hi", "Ho"], "n": 2, "max_tokens": 3}
    found = await ask("/completions", document)
    assert [choice["text"].split()[-1] for choice in found["choices"]] == ["Hi", "Hi", "Ho", "Ho"]
    texts = ["", "", "", ""]
    for chunk in await stream("/completions", document):
        texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert texts == [choice["text"] for choice in found["choices"]]


async def test_long_run_of_blanks_is_counted_in_one_go() -> None:
    """A pattern that looked back would need hours for this."""
    found = await ask("/chat/completions", {"messages": [{"role": "user", "content": " " * 10**6}]})
    assert found["usage"]["prompt_tokens"] == 4
