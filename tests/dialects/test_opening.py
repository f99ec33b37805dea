"""What goes through as it came, and what does not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_ai_gateway.dialects.opening import FORMATS, close_request, open_request
from jupyterhub_ai_gateway.dialects.policy import (
    GEMINI_REFUSED,
    REASONS,
    REFUSE,
    REFUSE_FILE_IDS,
    REFUSE_FILES,
    REFUSE_SHARED_TOOLS,
    UNSTORED,
    camel,
)
from jupyterhub_ai_gateway.errors import RequestFault
from jupyterhub_ai_gateway.vocabulary import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MISTRAL_CHAT,
    RESPONSES,
    Operation,
)
from jupyterhub_ai_gateway.vocabulary import (
    MESSAGES as ANTHROPIC,
)

MESSAGES = [{"role": "user", "content": "Hi"}]
SENT = msgspec.Raw(b'"gpt-4o-mini"')

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
OWN = {"model", "messages", "stream", "stream_options", "user", "safety_identifier", "store"}


def through(body: bytes, operation: Operation = CHAT, **more: Any) -> Any:
    return json.loads(close_request(open_request(operation, body), SENT, lambda: "pseudonym", **more))


@given(st.dictionaries(st.text().filter(lambda key: key not in OWN), JSON_VALUES, max_size=8))
def test_everything_but_the_model_arrives_as_it_was(fields: dict[str, Any]) -> None:
    document = {"messages": MESSAGES, **fields, "model": "chat"}
    assert through(json.dumps(document).encode()) == {**document, "model": "gpt-4o-mini"}


def test_values_are_the_caller_s_own_bytes() -> None:
    messages = b'[ {"role":"user","content":"\\u00e9 \xc3\xa9"} ]'
    body = b'{"model":"chat","messages":' + messages + b',"x":1e2,"y":{"a":1,"a":2}}'
    sent = close_request(open_request(CHAT, body), SENT, str)
    for part in (messages, b'"x":1e2', b'{"a":1,"a":2}'):
        assert part in sent


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"cheap","model":"dear","messages":[1]}',
        b'{"model":"cheap","mod\\u0065l":"dear","messages":[1]}',
        b'{"\\u006dodel":"cheap","model":"dear","messages":[1]}',
    ],
)
def test_duplicate_model_is_read_and_sent_as_one(body: bytes) -> None:
    asked = open_request(CHAT, body)
    assert asked.asked_model == "dear"
    sent = close_request(asked, SENT, str)
    assert sent.count(b"odel") == 1
    assert json.loads(sent)["model"] == "gpt-4o-mini"


@pytest.mark.parametrize(
    ("body", "param", "part"),
    [
        (b"", None, "has no body"),
        (b"nonsense", None, "not valid JSON"),
        (b'{"model":"chat"', None, "not valid JSON"),
        (b"[]", None, "must be a JSON object"),
        (b"null", None, "must be a JSON object"),
        (b'{"a":' + b"[" * 100_000, None, "not JSON that can be read"),
        (b"{}", "model", "model is missing"),
        (b'{"model":null,"messages":[1]}', "model", "must be text"),
        (b'{"model":7,"messages":[1]}', "model", "must be text"),
        (b'{"model":["chat"],"messages":[1]}', "model", "must be text"),
        (b'{"model":"","messages":[1]}', "model", "1 to 256 characters"),
        (b'{"model":"' + b"x" * 300 + b'","messages":[1]}', "model", "1 to 256 characters"),
        (b'{"model":"\xff","messages":[1]}', "model", "not valid text"),
        (b'{"model":"chat"}', "messages", "messages is missing"),
        (b'{"model":"chat","messages":"Hi"}', "messages", "a list of messages"),
        (b'{"model":"chat","messages":[ ]}', "messages", "must not be empty"),
        (b'{"model":"chat","messages":[1],"stream":"true"}', "stream", "true or false"),
        (b'{"model":"chat","messages":[1],"stream":1}', "stream", "true or false"),
        (
            b'{"model":"chat","messages":[1],"stream":true,"stream_options":7}',
            "stream_options",
            "an object",
        ),
        (
            b'{"model":"chat","messages":[1],"stream":true,"stream_options":{"include_usage":"yes"}}',
            "include_usage",
            "true or false",
        ),
    ],
)
def test_what_is_wrong_is_named(body: bytes, param: str | None, part: str) -> None:
    with pytest.raises(RequestFault, match=part) as caught:
        open_request(CHAT, body)
    assert caught.value.param == param
    assert caught.value.status == 400


def test_no_error_quotes_the_body() -> None:
    with pytest.raises(RequestFault) as caught:
        open_request(CHAT, b'{"model":"chat","messages":["SECRET PROMPT" oops]}')
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("prompt", ['"Hi"', '["a","b"]', "[1,2]", "[[1],[2]]"])
def test_completions_take_every_kind_of_prompt(prompt: str) -> None:
    body = f'{{"model":"c","prompt":{prompt}}}'.encode()
    assert through(body, COMPLETIONS)["prompt"] == json.loads(prompt)


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (None, {"include_usage": True}),
        ("null", {"include_usage": True}),
        ("{}", {"include_usage": True}),
        ('{"include_usage":false}', {"include_usage": True}),
        ('{"include_obfuscation":false}', {"include_obfuscation": False, "include_usage": True}),
        ('{"include_usage":true}', {"include_usage": True}),
    ],
)
def test_usage_of_a_stream_is_asked_for(options: str | None, sent: dict[str, Any]) -> None:
    extra = "" if options is None else f',"stream_options":{options}'
    body = f'{{"model":"chat","messages":[1],"stream":true{extra}}}'.encode()
    assert through(body)["stream_options"] == sent
    asked = open_request(CHAT, body)
    assert asked.wants_usage is (options == '{"include_usage":true}')


def test_usage_is_not_asked_of_a_host_that_refuses_to_be_asked() -> None:
    body = b'{"model":"chat","messages":[1],"stream":true}'
    assert "stream_options" not in through(body, asks_for_usage=False)


@pytest.mark.parametrize("stream", ["false", "null"])
def test_plain_request_gets_no_stream_options(stream: str) -> None:
    assert "stream_options" not in through(f'{{"model":"chat","messages":[1],"stream":{stream}}}'.encode())


def test_caller_is_named_by_a_pseudonym_where_they_name_themselves() -> None:
    body = b'{"model":"chat","messages":[1],"user":"alice@uni.edu","safety_identifier":"alice"}'
    sent = through(body)
    assert (sent["user"], sent["safety_identifier"]) == ("pseudonym", "pseudonym")
    assert "user" not in through(b'{"model":"chat","messages":[1]}')


@pytest.mark.parametrize("value", ["true", '"yes"', "{}"])
def test_store_is_refused_and_says_why(value: str) -> None:
    asked = open_request(CHAT, f'{{"model":"chat","messages":[1],"store":{value}}}'.encode())
    with pytest.raises(RequestFault, match="everybody here shares") as caught:
        close_request(asked, SENT, str)
    assert (caught.value.param, caught.value.slug) == ("store", "field_refused")


def test_store_that_stores_nothing_goes_through() -> None:
    assert through(b'{"model":"chat","messages":[1],"store":false}')["store"] is False


def asked_with(operation: Operation, conversation: str) -> bytes:
    """Write a request around a conversation in JSON, and send it on."""
    name = "input" if operation is RESPONSES else "messages"
    body = f'{{"model": "m", "max_tokens": 5, "{name}": {conversation}}}'.encode()
    return close_request(open_request(operation, body), SENT, lambda: "p")


FILES = [
    (CHAT, '[{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]', "file"),
    (CHAT, '[{"role": "user", "content": [{"type": "file", "file": {"\\u0066ile_id": "f"}}]}]', "file"),
    (ANTHROPIC, '[{"content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]', "source"),
    (ANTHROPIC, '[{"content": [{"type": "container_upload", "file_id": "f"}]}]', ""),
    (
        ANTHROPIC,
        '[{"content": [{"type": "tool_result", "content": [{"source": {"file_id": "f"}}]}]}]',
        "content[0].source",
    ),
    (RESPONSES, '[{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]', ""),
    (RESPONSES, '[{"type": "function_call_output", "output": [{"file_id": "f"}]}]', ""),
    (MISTRAL_CHAT, '[{"content": [{"type": "file", "file_id": "f"}]}]', ""),
]


@pytest.mark.parametrize(("operation", "conversation", "place"), FILES)
def test_files_of_the_account_are_refused_by_their_place(
    operation: Operation, conversation: str, place: str
) -> None:
    with pytest.raises(RequestFault) as caught:
        asked_with(operation, conversation)
    assert caught.value.slug == "field_refused"
    assert caught.value.param is not None
    assert caught.value.param.endswith(f"{place}.file_id" if place else "[0].file_id")


@pytest.mark.parametrize(
    "conversation",
    [
        '[{"content": [{"type": "tool_use", "name": "open", "input": {"file_id": "f"}}]}]',
        '[{"content": "say \\"file_id\\": 1"}]',
        '[{"content": "\\u0066ile_id"}]',
        '[{"content": [{"type": "file", "file": {"file_id": null, "file_data": "data:,x"}}]}]',
        '"file_id"',
    ],
)
def test_words_and_arguments_that_look_like_files_pass(conversation: str) -> None:
    for operation in (CHAT, ANTHROPIC, RESPONSES, MISTRAL_CHAT):
        if operation is RESPONSES or conversation.startswith("["):
            assert conversation.encode() in asked_with(operation, conversation)


def test_each_refused_field_has_its_reason() -> None:
    refusing = (REFUSE, UNSTORED, REFUSE_SHARED_TOOLS, REFUSE_FILE_IDS, REFUSE_FILES)
    refused = {
        name for format_ in FORMATS.values() for name, verb in format_.verbs.items() if verb in refusing
    }
    within = {"fileData"}.union(*GEMINI_REFUSED.values())
    assert {name if name in REASONS else camel(name) for name in refused} | within == set(REASONS)


def test_request_can_be_closed_again_for_another_attempt() -> None:
    asked = open_request(CHAT, b'{"model":"chat","messages":[1],"user":"a"}')
    first = close_request(asked, SENT, lambda: "p1", amend=lambda operation, fields: fields.pop("messages"))
    second = json.loads(close_request(asked, msgspec.Raw(b'"other"'), lambda: "p2"))
    assert b"messages" not in first
    assert second == {"model": "other", "messages": [1], "user": "p2"}


def test_model_is_left_out_where_the_url_says_it() -> None:
    asked = open_request(CHAT, b'{"model":"chat","messages":[1]}')
    assert "model" not in json.loads(close_request(asked, None, str))


@pytest.mark.parametrize(
    ("encoding", "wants"),
    [("", False), (',"encoding_format":"base64"', True), (',"encoding_format":"float"', False)],
)
def test_encoding_of_embeddings_is_noted(encoding: str, wants: bool) -> None:
    asked = open_request(EMBEDDINGS, f'{{"model":"e","input":"x"{encoding}}}'.encode())
    assert asked.wants_base64 is wants
    assert not asked.is_stream
