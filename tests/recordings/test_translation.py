"""What real servers sent, on its way to callers who speak another format: nothing of it is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, get_args

import msgspec
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from google.genai.types import GenerateContentResponse
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

from jupyterhub_ai_gateway.dialects.bridge import Bridge, Crossing
from jupyterhub_ai_gateway.dialects.codec import Manners
from jupyterhub_ai_gateway.errors import UpstreamBroken, UpstreamFault
from jupyterhub_ai_gateway.vocabulary import (
    CHAT,
    COHERE_CHAT,
    COMPLETIONS,
    CONVERSE,
    GENERATE_CONTENT,
    MESSAGES,
    RESPONSES,
    Operation,
)

from .cassettes import Recording, cuts, found
from .readers import Heard, Said, heard
from .test_kin import as_sent, unframed

BACKS = (CHAT, MESSAGES, RESPONSES, GENERATE_CONTENT, CONVERSE, COHERE_CHAT)
FRONTS = (CHAT, MESSAGES, RESPONSES, GENERATE_CONTENT)
ASKED_FOR = [each for each in found(*BACKS) if each.asked and "functions" not in each.asked]
"""All but what was read again by its id, and what was asked by the name that tools had in 2023."""
STREAMS = [each for each in ASKED_FOR if each.is_stream]
WHOLE = [each for each in ASKED_FOR if not each.is_stream]
ASKED: dict[Operation, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
    COMPLETIONS: {"prompt": "Hi"},
    MESSAGES: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9},
    RESPONSES: {"input": "Hi"},
    GENERATE_CONTENT: {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
}
ANSWERS: dict[Operation, type[BaseModel]] = {
    CHAT: ChatCompletion,
    COMPLETIONS: Completion,
    MESSAGES: Message,
    RESPONSES: Response,
    GENERATE_CONTENT: GenerateContentResponse,
}
"""What the SDK of a format says a whole answer is."""
EVENTS: dict[Operation, dict[str, type[BaseModel]]] = {
    CHAT: {"": ChatCompletionChunk},
    COMPLETIONS: {"": Completion},
    GENERATE_CONTENT: {"": GenerateContentResponse},
    **{
        operation: {each.model_fields["type"].annotation.__args__[0]: each for each in get_args(union)}
        for operation, union in (
            (MESSAGES, get_args(RawMessageStreamEvent)[0]),
            (RESPONSES, get_args(ResponseStreamEvent)[0]),
        )
    },
}
"""The same of an event of a stream, by its type."""


def crossing(front: Operation, recording: Recording) -> Crossing:
    assert recording.operation is not None
    manners = Manners(model="model", where="model/1")
    fields = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in ASKED[front].items()}
    bridge = Bridge(front, recording.operation, manners)
    return bridge.cross(
        fields, is_stream=recording.is_stream, wants_usage=True, request_id="req_1", created=1
    )


def refuse(body: bytes) -> UpstreamFault:
    return UpstreamBroken(body.decode())


def streamed(front: Operation, recording: Recording, pieces: list[bytes]) -> tuple[bytes, Any]:
    """Return what the caller is sent, and the tap."""
    tap = crossing(front, recording).tap(refuse)
    if recording.is_framed:
        pieces = unframed(pieces)
    return b"".join([tap.feed(piece) for piece in pieces]) + tap.close(), tap


def events_of(stream: bytes) -> Iterator[Any]:
    for line in stream.split(b"\n"):
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            event = json.loads(line[6:])
            if event != {"type": "ping"}:  # which Anthropic's types leave out
                yield event


def check(operation: Operation, document: Any, own: Heard, *, is_event: bool) -> None:
    """Let the SDK's type look at what a caller gets. A number that nobody knows is null, for all types."""
    kind = EVENTS[operation][document.get("type", "")] if is_event else ANSWERS[operation]
    for holder in (document, document.get("response")):
        if isinstance(holder, dict) and isinstance(holder.get("usage"), dict):
            holder["usage"] = _known(holder["usage"])
    kind.model_validate(document)


def _known(usage: Any) -> Any:
    return {
        name: _known(value) if isinstance(value, dict) else 0 if value is None else value
        for name, value in usage.items()
    }


def fronts(recording: Recording) -> list[Operation]:
    """Return who else may hear it: those who can ask for several answers, or for a tool that takes text."""
    takers = (CHAT, RESPONSES) if b'"custom_tool_call"' in recording.body else FRONTS
    others = [front for front in takers if front is not recording.operation]
    own = original(recording)
    return [front for front in others if len(own.said) == 1 or front in (CHAT, GENERATE_CONTENT)]


def original(recording: Recording) -> Heard:
    assert recording.operation is not None
    body = recording.body if recording.operation is CONVERSE else as_sent(recording)
    return heard(recording.operation, body, is_stream=recording.is_stream, sdk=recording.sdk)


def agree(got: Heard, own: Heard, front: Operation) -> None:
    """Say that a caller got what the provider said."""
    assert len(got.said) == len(own.said)
    for heard_, said in zip(got.said, own.said, strict=True):
        assert heard_.text + heard_.refusal == said.text + said.refusal
        assert _ids(heard_, said) == _calls(said)
        assert heard_.thinking == said.thinking
        assert heard_.end == said.end
    if own.input is not None or front is not MESSAGES:  # which begins with a number, known or not
        assert got.tokens == own.tokens
    assert (got.cached or 0) == (own.cached or 0)
    if own.model is not None:
        assert got.model == own.model


def _calls(said: Said) -> list[Any]:
    return [(id_, name, arguments) for id_, name, arguments in said.calls]


def _ids(got: Said, said: Said) -> list[Any]:
    """Return the calls; where the provider gives them no ids, any will do that is unique."""
    assert len({id_ for id_, *_ in got.calls}) == len(got.calls)
    return [
        (id_ if own[0] else own[0], *rest) for (id_, *rest), own in zip(got.calls, said.calls, strict=True)
    ]


@pytest.mark.parametrize("recording", STREAMS, ids=str)
def test_stream_reaches_every_other_caller_whole(recording: Recording) -> None:
    own = original(recording)
    for front in fronts(recording):
        stream, tap = streamed(front, recording, [recording.body])
        for event in events_of(stream):
            check(front, event, own, is_event=True)
        agree(heard(front, stream, is_stream=True), own, front)
        assert tap.usage is None or (tap.usage.input_tokens, tap.usage.output_tokens) == own.tokens


@pytest.mark.parametrize("recording", STREAMS, ids=str)
def test_cuts_change_nothing_in_a_translated_stream(recording: Recording) -> None:
    all_cuts: list[Callable[[bytes], Iterator[bytes]]] = cuts(recording)
    for front in fronts(recording):
        expected, _ = streamed(front, recording, [recording.body])
        for cut in all_cuts:
            assert streamed(front, recording, list(cut(recording.body)))[0] == expected


@pytest.mark.parametrize("recording", WHOLE, ids=str)
def test_answer_reaches_every_other_caller_whole(recording: Recording) -> None:
    if recording.documents[0].get("error"):
        for front in FRONTS:
            _, answer = crossing(front, recording).answer(recording.body)
            assert answer.is_error
        return
    own = original(recording)
    for front in fronts(recording):
        body, answer = crossing(front, recording).answer(recording.body)
        check(front, json.loads(body), own, is_event=False)
        agree(heard(front, body, is_stream=False), own, front)
        assert answer.usage is None or (answer.usage.input_tokens, answer.usage.output_tokens) == own.tokens


@pytest.mark.parametrize("recording", ASKED_FOR, ids=str)
def test_words_reach_a_caller_of_completions(recording: Recording) -> None:
    if not recording.is_stream and recording.documents[0].get("error"):
        return
    own = original(recording)
    if recording.is_stream:
        written, _ = streamed(COMPLETIONS, recording, [recording.body])
    else:
        written, _ = crossing(COMPLETIONS, recording).answer(recording.body)
        if not own.said[0].calls:  # which cannot be where no tool was offered
            check(COMPLETIONS, json.loads(written), own, is_event=False)
    got = heard(COMPLETIONS, written, is_stream=recording.is_stream)
    assert [said.text for said in got.said] == [said.text + said.refusal for said in own.said]
    assert got.tokens == own.tokens
