"""What real servers sent, on its way to a caller who speaks the same: unchanged, and read aright."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from typing_extensions import override

from jupyterhub_ai_gateway.dialects.dialect import DIALECT_OF
from jupyterhub_ai_gateway.dialects.openai_stream import DONE
from jupyterhub_ai_gateway.dialects.opening import FORMATS, Asked
from jupyterhub_ai_gateway.providers.bedrock_exchange import Unframed
from jupyterhub_ai_gateway.upstream.base import Exchange, Write
from jupyterhub_ai_gateway.vocabulary import (
    CHAT,
    COHERE_CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    GENERATE_CONTENT,
    IMAGES,
    MESSAGES,
    RERANK,
    RESPONSES,
    Operation,
    Usage,
)

from .cassettes import Recording, cuts, found, recordings
from .readers import Heard, heard

KIN = (CHAT, COMPLETIONS, MESSAGES, RESPONSES, GENERATE_CONTENT, COHERE_CHAT)
STREAMS = found(*KIN, is_stream=True)
WHOLE = found(*KIN, is_stream=False)


def test_packages_with_recordings_are_here() -> None:
    assert len(recordings()) > 1500


def asked(operation: Operation, *, wants_usage: bool = True) -> Asked:
    return Asked(FORMATS[operation], {}, "model", True, wants_usage, False)


class Pieces(Exchange):
    """An answer of Bedrock's, in pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self.status = 200
        self.headers: Mapping[bytes, bytes] = {}

    @override
    async def read(self, limit: int) -> bytes:
        raise NotImplementedError

    @override
    async def relay(self, write: Write) -> None:
        for piece in self._pieces:
            waiting = write(piece)
            if waiting is not None:
                await waiting

    @override
    def close(self) -> None:
        pass


def unframed(pieces: list[bytes]) -> list[bytes]:
    """Return what the taps are fed of one of AWS's event streams."""
    passed: list[bytes] = []

    def write(piece: bytes) -> None:
        passed.append(piece)

    asyncio.run(Unframed(Pieces(pieces)).relay(write))
    return passed


def as_sent(recording: Recording) -> bytes:
    """Return the stream as it is relayed, made without our decoder where it has a frame."""
    if not recording.is_framed:
        return recording.body
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (json.loads(data)["type"].encode(), data) for data in recording.chunks
    )


def ended(operation: Operation, stream: bytes) -> bytes:
    """Return a stream with the end that OpenAI's have, and that transformers' server leaves out."""
    is_open = operation in (CHAT, COMPLETIONS) and not stream.endswith(DONE)
    return stream + DONE if is_open else stream


def told(usage: Usage | None) -> Any:
    if usage is None:
        return (None, None, None)
    return (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens)


def counted(got: Heard) -> Any:
    return (got.input, got.output, got.cached)


@pytest.mark.parametrize("recording", STREAMS, ids=str)
def test_stream_passes_as_it_came_however_it_is_cut(recording: Recording) -> None:
    operation = recording.operation
    assert operation is not None
    whole = as_sent(recording)
    own = heard(operation, whole, is_stream=True, sdk=recording.sdk)
    for cut in [lambda body: iter([body]), *cuts(recording)]:
        tap = DIALECT_OF[operation].tap(asked(operation))
        pieces = list(cut(recording.body))
        if recording.is_framed:
            pieces = unframed(pieces)
        passed = b"".join(tap.feed(piece) for piece in pieces) + tap.close()
        assert passed == ended(operation, whole)
        assert not tap.has_error
        assert told(tap.usage) == counted(own)
        assert tap.answered_model == own.model


@pytest.mark.parametrize("recording", found(CHAT, COMPLETIONS, is_stream=True), ids=str)
def test_only_the_usage_that_we_asked_for_is_hidden(recording: Recording) -> None:
    operation = recording.operation
    assert operation is not None
    kept = []
    for event in re.findall(rb".*?\n\n", recording.body, re.DOTALL):
        data = event.removeprefix(b"data: ").strip()
        document = json.loads(data) if data.startswith(b"{") else {"choices": [1]}
        if document.get("choices") or not document.get("usage"):
            kept.append(event)
    for cut in cuts(recording):
        tap = DIALECT_OF[operation].tap(asked(operation, wants_usage=False))
        assert b"".join(tap.feed(piece) for piece in cut(recording.body)) + tap.close() == ended(
            operation, b"".join(kept)
        )


@pytest.mark.parametrize("recording", WHOLE, ids=str)
def test_whole_answer_is_read_as_the_vendor_s_sdk_reads_it(recording: Recording) -> None:
    operation = recording.operation
    assert operation is not None
    answer = DIALECT_OF[operation].read_answer(recording.body)
    assert answer.is_error == bool(recording.documents[0].get("error"))
    if not answer.is_error:
        own = heard(operation, recording.body, is_stream=False, sdk=recording.sdk)
        assert told(answer.usage) == counted(own)
        assert answer.answered_model == own.model


@pytest.mark.parametrize("recording", found(EMBEDDINGS, IMAGES, RERANK), ids=str)
def test_answer_of_another_kind_is_no_error(recording: Recording) -> None:
    assert recording.operation is not None
    answer = DIALECT_OF[recording.operation]
    read = answer.read_answer(recording.body)
    document = recording.documents[0]
    assert not read.is_error
    assert read.answered_model == document.get("model")
    if recording.operation is EMBEDDINGS:
        assert told(read.usage)[0] == document["usage"]["prompt_tokens"]
