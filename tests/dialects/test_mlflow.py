"""MLflow's forms, turned into OpenAI's and back."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from jupyterhub_ai_gateway.dialects.mlflow import (
    CompletionChunks,
    MlflowForm,
    client_version,
    is_legacy,
    legacy_answer,
    operation_of,
)
from jupyterhub_ai_gateway.dialects.opening import close_request
from jupyterhub_ai_gateway.errors import RequestFault, UpstreamBroken
from jupyterhub_ai_gateway.vocabulary import CHAT, COMPLETIONS, EMBEDDINGS, Operation

HI: list[Any] = [{"role": "user", "content": "Hi"}]
LEGACY = MlflowForm(is_legacy=True)


def sent(form: MlflowForm, operation: Operation, scale: float = 1.0, **fields: Any) -> Any:
    """Return what a provider is sent for a request by a path of `m`."""
    asked = form.open(operation, json.dumps(fields).encode(), "m")
    return json.loads(close_request(form.scaled(asked, scale), None, str))


@pytest.mark.parametrize(
    ("agent", "body", "expected"),
    [
        ("mlflow-python-client/2.5.0", {"messages": HI}, True),
        ("mlflow-python-client/2.8.1", {"messages": HI, "n": 2}, True),
        ("mlflow-python-client/2.9.0", {"messages": HI}, False),
        ("mlflow-python-client/3.18.0", {"messages": HI}, False),
        ("mlflow-python-client/2.22.1", {"messages": HI, "candidate_count": 2}, True),
        ("curl/8", {"text": "a"}, True),
        ("curl/8", {"texts": ["a"]}, True),
        ("curl/8", {"text": "a", "input": "a"}, False),
        ("curl/8", {"candidate_count": 1, "n": 1}, False),
        ("", {"messages": HI}, False),
    ],
)
def test_old_form_is_for_old_clients_and_old_fields(agent: str, body: Any, expected: bool) -> None:
    assert is_legacy(agent, json.dumps(body).encode()) is expected


def test_what_is_no_json_is_of_no_form() -> None:
    assert not is_legacy("curl/8", b"{")
    assert client_version("python-requests/2.5") is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"messages": HI}, CHAT),
        ({"input": "a"}, EMBEDDINGS),
        ({"prompt": "a"}, COMPLETIONS),
        ({}, CHAT),
    ],
)
def test_body_says_what_it_asks_for(body: Any, expected: Operation) -> None:
    assert operation_of(json.dumps(body).encode()) is expected


def test_old_request_becomes_openai_s() -> None:
    found = sent(LEGACY, CHAT, messages=HI, candidate_count=2, temperature=0.3, stop=["x"], top_k=5)
    assert found == {"messages": HI, "n": 2, "temperature": 0.6, "stop": ["x"], "top_k": 5}
    assert sent(LEGACY, EMBEDDINGS, text="a") == {"input": "a"}
    assert sent(LEGACY, EMBEDDINGS, texts=["a", "b"]) == {"input": ["a", "b"]}
    assert sent(LEGACY, EMBEDDINGS, input="a") == {"input": "a"}


@pytest.mark.parametrize(
    ("operation", "fields", "part"),
    [
        (CHAT, {"messages": HI, "n": 2}, "Use `candidate_count` instead"),
        (CHAT, {"messages": HI, "temperature": 1.5}, "from 0 to 1"),
        (CHAT, {"messages": HI, "temperature": "hot"}, "from 0 to 1"),
        (CHAT, {"messages": HI, "candidate_count": 6}, "from 1 to 5"),
        (CHAT, {"messages": HI, "candidate_count": "2"}, "from 1 to 5"),
        (CHAT, {"messages": HI, "stream": True}, "/endpoints/NAME/invocations"),
        (EMBEDDINGS, {"text": "a", "texts": ["a"]}, "mean the same"),
        (COMPLETIONS, {"candidate_count": 1}, "prompt is missing"),
    ],
)
def test_old_request_that_is_wrong_is_refused(operation: Operation, fields: Any, part: str) -> None:
    with pytest.raises(RequestFault, match=part) as caught:
        sent(LEGACY, operation, **fields)
    assert caught.value.status == 400


def test_temperature_is_turned_into_the_provider_s_range() -> None:
    assert sent(MlflowForm(), CHAT, 0.5, messages=HI, temperature=1)["temperature"] == 0.5
    assert sent(LEGACY, CHAT, 0.5, messages=HI, temperature=1)["temperature"] == 1.0
    assert sent(MlflowForm(scales=False), CHAT, 0.5, messages=HI, temperature=1)["temperature"] == 1
    assert "temperature" not in sent(MlflowForm(), CHAT, 0.5, messages=HI)
    assert sent(MlflowForm(), CHAT, 0.5, messages=HI, temperature="hot")["temperature"] == "hot"


def test_default_temperature_is_for_those_who_send_none() -> None:
    form = MlflowForm(default_temperature=0.0)
    assert sent(form, CHAT, messages=HI)["temperature"] == 0.0
    assert sent(form, CHAT, messages=HI, temperature=1)["temperature"] == 1
    assert "temperature" not in sent(form, EMBEDDINGS, input="a")


def test_model_may_be_repeated_where_that_is_allowed() -> None:
    form = MlflowForm(own_models=frozenset({"m"}))
    assert sent(form, CHAT, messages=HI, model="m") == {"messages": HI}
    for other in (MlflowForm(), form):
        with pytest.raises(RequestFault, match="'model' is not permitted"):
            sent(other, CHAT, messages=HI, model="x")


def test_answers_become_old_ones() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    message = {"role": "assistant", "content": "Hello", "refusal": None}
    chat = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage, "model": "gpt"}
    metadata = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7, "model": "gpt"}
    assert json.loads(legacy_answer(CHAT, json.dumps(chat).encode())) == {
        "candidates": [
            {
                "message": {"role": "assistant", "content": "Hello"},
                "metadata": {"finish_reason": "stop"},
            }
        ],
        "metadata": {**metadata, "route_type": "llm/v1/chat"},
    }
    text = {"choices": [{"text": "Hello", "finish_reason": "length"}], "usage": usage, "model": "gpt"}
    assert json.loads(legacy_answer(COMPLETIONS, json.dumps(text).encode())) == {
        "candidates": [{"text": "Hello", "metadata": {"finish_reason": "length"}}],
        "metadata": {**metadata, "route_type": "llm/v1/completions"},
    }
    vectors = {"data": [{"embedding": [1.0, 2.0]}, {"embedding": [3.0]}], "model": "e"}
    assert json.loads(legacy_answer(EMBEDDINGS, json.dumps(vectors).encode())) == {
        "embeddings": [[1.0, 2.0], [3.0]],
        "metadata": {
            "input_tokens": None,
            "output_tokens": 0,
            "total_tokens": None,
            "model": "e",
            "route_type": "llm/v1/embeddings",
        },
    }


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"choices": [{}]}', b'{"choices": 3}', b"x"])
def test_answer_that_cannot_be_told_is_the_provider_s_fault(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        legacy_answer(CHAT, body)


def test_chunks_have_text_and_delta_however_they_are_cut() -> None:
    def chunk(text: str) -> bytes:
        choice = {"index": 0, "text": text, "finish_reason": None}
        document = {"object": "text_completion", "choices": [choice]}
        return f"data: {json.dumps(document)}\n\n".encode()

    stream = chunk("He") + chunk("llo\n\nyou") + b": keep-alive\n\ndata: [DONE]\n\nrest"
    whole = CompletionChunks()
    expected = whole.feed(stream) + whole.close()
    events = expected.split(b"\n\n")
    first = json.loads(events[0][6:])
    assert first["object"] == "text_completion_chunk"
    assert first["choices"][0]["text"] == first["choices"][0]["delta"]["content"] == "He"
    assert events[2:] == [b": keep-alive", b"data: [DONE]", b"rest"]
    rng = random.Random(1)
    for longest in (1, 3, 50):
        chunks, found, start = CompletionChunks(), b"", 0
        while start < len(stream):
            end = start + rng.randint(1, longest)
            found += chunks.feed(stream[start:end])
            start = end
        assert found + chunks.close() == expected
