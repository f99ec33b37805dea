"""The tap on a stream, whole, byte by byte and cut at random places."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes.upstream import BYTE_BY_BYTE, WHOLE, random_cuts
from fakes.vendor import chat_chunk, sse

from jupyterhub_ai_gateway.dialects.openai_stream import DONE, MAX_HELD_BYTES, StreamTap
from jupyterhub_ai_gateway.errors import UpstreamBroken
from jupyterhub_ai_gateway.vocabulary import Usage

Cut = Callable[[bytes], Iterator[bytes]]
CUTS = [WHOLE, BYTE_BY_BYTE, *(random_cuts(seed) for seed in range(8))]
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}
USAGE_EVENT = {**chat_chunk(), "choices": [], "usage": USAGE}
CONTENT = sse(chat_chunk({"content": "Hello"}), chat_chunk({"content": " you"}))
FINISH = sse(chat_chunk({}, finish_reason="stop"))
END = sse("[DONE]")


def tapped(stream: bytes, cut: Cut = WHOLE, *, hides_usage: bool = True) -> tuple[bytes, StreamTap]:
    """Feed a stream piece by piece and close; what has been passed on always ends with an event's end."""
    tap = StreamTap(hides_usage=hides_usage)
    passed = b""
    for piece in cut(stream):
        passed += tap.feed(piece)
        assert not tap.is_aligned or not passed or passed.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))
    return passed + tap.close(), tap


@pytest.mark.parametrize("cut", CUTS)
def test_stream_passes_as_it_came(cut: Cut) -> None:
    stream = b"".join([*CONTENT, *FINISH, *END])
    passed, tap = tapped(stream, cut)
    assert passed == stream
    assert tap.usage is None
    assert not tap.has_error


@pytest.mark.parametrize("cut", CUTS)
def test_usage_that_we_asked_for_is_read_and_hidden(cut: Cut) -> None:
    nulls = [piece.replace(b"}\n\n", b',"usage":null}\n\n') for piece in CONTENT]
    stream = b"".join([*nulls, *FINISH, *sse(USAGE_EVENT), *END])
    passed, tap = tapped(stream, cut)
    assert passed == b"".join([*nulls, *FINISH, *END])
    assert tap.usage == Usage(9, 4, 2, None)


@pytest.mark.parametrize("cut", CUTS)
def test_usage_that_the_caller_asked_for_is_passed_on(cut: Cut) -> None:
    stream = b"".join([*CONTENT, *FINISH, *sse(USAGE_EVENT), *END])
    passed, tap = tapped(stream, cut, hides_usage=False)
    assert passed == stream
    assert tap.usage == Usage(9, 4, 2, None)


@pytest.mark.parametrize("cut", CUTS)
def test_usage_beside_content_is_read_and_passed_on(cut: Cut) -> None:
    last = {**chat_chunk({}, finish_reason="stop"), "usage": USAGE}
    stream = b"".join([*CONTENT, *sse(last), *END])
    passed, tap = tapped(stream, cut)
    assert passed == stream
    assert tap.usage == Usage(9, 4, 2, None)


def test_the_word_usage_in_a_text_is_no_usage() -> None:
    stream = b"".join([*sse(chat_chunk({"content": '"usage": {"prompt_tokens": 5}'})), *FINISH, *END])
    passed, tap = tapped(stream)
    assert passed == stream
    assert tap.usage is None


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\r\r", b"\n\n"])
def test_every_line_end_of_the_standard_is_understood(end: bytes, cut: Cut) -> None:
    events = [*CONTENT, *FINISH, *sse(USAGE_EVENT), *END]
    stream = b"".join(piece.removesuffix(b"\n\n") + end for piece in events)
    passed, tap = tapped(stream, cut)
    assert passed == stream.replace(b"data: " + json.dumps(USAGE_EVENT).encode() + end, b"")
    assert tap.usage == Usage(9, 4, 2, None)


@pytest.mark.parametrize("cut", CUTS)
def test_comments_and_other_fields_pass(cut: Cut) -> None:
    stream = b": hello\n\nevent: x\nid: 7\n" + b"".join([*CONTENT, *FINISH, *END])
    assert tapped(stream, cut)[0] == stream


@pytest.mark.parametrize("cut", CUTS)
def test_forgotten_done_is_added_after_a_finish_reason(cut: Cut) -> None:
    stream = b"".join([*CONTENT, *FINISH])
    assert tapped(stream, cut)[0] == stream + DONE


@pytest.mark.parametrize("rest", [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r\n"])
@pytest.mark.parametrize("cut", CUTS)
def test_done_without_its_empty_line_counts(rest: bytes, cut: Cut) -> None:
    stream = b"".join([*CONTENT, *FINISH])
    assert tapped(stream + rest, cut)[0] == stream + DONE


@pytest.mark.parametrize("cut", CUTS)
def test_usage_in_a_last_event_without_its_empty_line_is_read(cut: Cut) -> None:
    stream = b"".join([*CONTENT, *FINISH])
    passed, tap = tapped(stream + sse(USAGE_EVENT)[0].rstrip(), cut)
    assert passed == stream + DONE
    assert tap.usage == Usage(9, 4, 2, None)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    "stream",
    [
        b"".join(CONTENT),
        b"".join(CONTENT)[:-9],
        CONTENT[0] + FINISH[0][:-20],
        CONTENT[0] + b"data: [DO",
    ],
)
def test_stream_that_ends_too_early_is_broken(stream: bytes, cut: Cut) -> None:
    with pytest.raises(UpstreamBroken, match="in the middle"):
        tapped(stream, cut)


@pytest.mark.parametrize("stream", [b"", b"\n\n", sse(USAGE_EVENT)[0]])
def test_stream_without_any_event_never_began(stream: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        tapped(stream)


MISTRAL_S = {"object": "error", "message": "Overloaded", "type": "service_unavailable", "code": "3000"}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("error", [{"error": {"message": "Overloaded", "code": 503}}, MISTRAL_S])
def test_error_in_a_stream_is_passed_on_and_known(cut: Cut, error: Any) -> None:
    stream = b"".join([*CONTENT, *sse(error)])
    passed, tap = tapped(stream, cut)
    assert passed == stream
    assert tap.has_error


def test_word_error_in_a_text_is_no_error() -> None:
    _, tap = tapped(b"".join([*sse(chat_chunk({"content": '"error": {"x": 1}'})), *FINISH, *END]))
    assert not tap.has_error


@pytest.mark.parametrize("cut", CUTS)
def test_error_of_a_filter_within_a_choice_is_no_error(cut: Cut) -> None:
    filtered = {"error": {"code": "content_filter_error", "message": "The contents are not filtered"}}
    chunk = chat_chunk({"content": "Hello"})
    chunk["choices"][0]["content_filter_result"] = filtered
    stream = b"".join([*sse(chunk), *FINISH, *END])
    passed, tap = tapped(stream, cut)
    assert passed == stream
    assert not tap.has_error


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    "before", [b": OPENROUTER PROCESSING\n\n", *sse({**chat_chunk(), "choices": [], "model": ""})]
)
def test_model_is_named_by_the_first_event_that_has_a_name(before: bytes, cut: Cut) -> None:
    stream = b"".join([before, *CONTENT, *FINISH, *END])
    passed, tap = tapped(stream, cut)
    assert passed == stream
    assert tap.answered_model == chat_chunk()["model"]


def test_event_of_any_length_passes_in_bounded_memory() -> None:
    tap = StreamTap(hides_usage=True)
    held = 0
    sent = received = b""
    for piece in [
        b'data: {"choices":[{"delta":{"content":"',
        *[b"x" * 8192] * 40,
        b'"},"finish_reason":"stop"}]}\n\n',
        DONE,
    ]:
        received += piece
        sent += tap.feed(piece)
        held = max(held, len(received) - len(sent))
    assert sent + tap.close() == received
    assert held <= MAX_HELD_BYTES + 8192
