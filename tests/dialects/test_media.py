"""What a tap beside images and sound reads, however they are cut; what a whole answer says; rankings."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest

from jupyterhub_ai_gateway.dialects.media import MAX_USAGE_BYTES, MediaTap, passed_type, read_answer
from jupyterhub_ai_gateway.dialects.rerank import error_object, to_cohere, to_tei
from jupyterhub_ai_gateway.errors import NotFound, UpstreamBroken
from jupyterhub_ai_gateway.vocabulary import IMAGES, SPEECH, TRANSCRIPTIONS, Operation, Usage

IMAGE = "iVBORw0KGgo" * 3000
TOKENS = {
    "input_tokens": 50,
    "output_tokens": 272,
    "input_tokens_details": {"image_tokens": 40, "text_tokens": 10},
}


def event(**fields: Any) -> bytes:
    return b"event: " + fields["type"].encode() + b"\ndata: " + json.dumps(fields).encode() + b"\n\n"


STREAMS: dict[str, tuple[list[bytes], Usage | None]] = {
    "images": (
        [
            event(type="image_generation.partial_image", b64_json=IMAGE, usage=None),
            event(type="image_generation.completed", b64_json=IMAGE, usage=TOKENS, size="1024x1024"),
        ],
        Usage(50, 272, input_image_tokens=40, images=1),
    ),
    "edits": (
        [
            event(type="image_edit.completed", usage=TOKENS, b64_json=IMAGE),
            event(type="image_edit.completed", usage=TOKENS, b64_json=IMAGE),
        ],
        Usage(50, 272, input_image_tokens=40, images=2),
    ),
    "speech": (
        [
            event(type="speech.audio.delta", audio=IMAGE),
            event(type="speech.audio.done", usage={"input_tokens": 9, "output_tokens": 80}),
        ],
        Usage(9, 80, output_audio_tokens=80),
    ),
    "transcript": (
        [
            event(type="transcript.text.delta", delta='He said "usage": {"input_tokens": 1}'),
            event(
                type="transcript.text.done",
                text="done",
                usage={
                    "type": "tokens",
                    "input_tokens": 14,
                    "output_tokens": 45,
                    "input_token_details": {"audio_tokens": 10, "text_tokens": 4},
                },
            ),
            b"data: [DONE]\n\n",
        ],
        Usage(14, 45, input_audio_tokens=10),
    ),
    "seconds": (
        [event(type="transcript.text.done", text="x", usage={"type": "duration", "seconds": 7})],
        Usage(audio_seconds=7.0),
    ),
    "chunks": (
        [
            b'data: {"object": "transcription.chunk", "choices": [{"delta": {"content": "Hi"}}]}\n\n',
            b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}], '
            b'"usage": {"prompt_tokens": 3, "completion_tokens": 4}}\n\n',
        ],
        Usage(3, 4),
    ),
    "untold": ([event(type="transcript.text.done", text="x")], None),
}


def cuts(data: bytes) -> list[list[bytes]]:
    found = [[data], [data[i : i + 1] for i in range(len(data))] if len(data) < 5000 else [data]]
    for seed in range(6):
        dice, rest, pieces = random.Random(seed), data, []
        while rest:
            size = dice.choice([1, 7, 60, 3000, 20000])
            pieces.append(rest[:size])
            rest = rest[size:]
        found.append(pieces)
    return found


@pytest.mark.parametrize("name", STREAMS)
def test_stream_passes_as_it_came_and_is_read(name: str) -> None:
    events, usage = STREAMS[name]
    data = b"".join(events)
    for pieces in cuts(data):
        tap = MediaTap()
        assert b"".join(tap.feed(piece) for piece in pieces) == data
        assert tap.close() == b""
        assert tap.usage == usage
        assert tap.is_aligned
        assert not tap.has_error


def test_tap_knows_where_an_event_ends() -> None:
    tap = MediaTap()
    assert tap.is_aligned
    tap.feed(b"data: x\n")
    assert not tap.is_aligned
    tap.feed(b"\n")
    assert tap.is_aligned
    tap.feed(b"data: x\r\n\r\n")
    assert tap.is_aligned


@pytest.mark.parametrize("name", STREAMS)
def test_stream_without_its_end_is_broken(name: str) -> None:
    tap = MediaTap()
    tap.feed(b'data: {"type": "image_generation.partial_image"}\n\n')
    with pytest.raises(UpstreamBroken):
        tap.close()


@pytest.mark.parametrize(
    "failed", [b'data: {"error": {"message": "x"}}\n\n', event(type="error", code="x")]
)
def test_error_in_a_stream_is_seen(failed: bytes) -> None:
    tap = MediaTap()
    tap.feed(failed)
    assert tap.has_error
    assert tap.latest_event == failed
    tap.close()


@pytest.mark.parametrize(
    "usage", ['{"input_tokens": -1}', '{"input_tokens": "many"}', '{"input_tokens": 1' + " " * 9000 + "}"]
)
def test_usage_that_makes_no_sense_is_none(usage: str) -> None:
    for pieces in cuts(b'{"usage": ' + usage.encode() + b', "data": [{"b64_json": "x"}]}'):
        tap = MediaTap(counts_data=True)
        for piece in pieces:
            tap.feed(piece)
            assert len(tap._tail) <= MAX_USAGE_BYTES
        assert tap.usage is None or tap.usage.input_tokens is None


def test_images_of_an_answer_that_passes_are_counted() -> None:
    body = json.dumps({"data": [{"b64_json": IMAGE}, {"url": "x"}], "usage": TOKENS}).encode()
    for pieces in cuts(body):
        tap = MediaTap(counts_data=True)
        for piece in pieces:
            tap.feed(piece)
        assert tap.usage == Usage(50, 272, input_image_tokens=40, images=2)


@pytest.mark.parametrize(
    ("document", "usage"),
    [
        ({"data": [{"url": "x"}] * 3}, Usage(images=3)),
        ({"data": [{"url": "x"}], "usage": TOKENS}, Usage(50, 272, input_image_tokens=40, images=1)),
        ({"text": "x"}, None),
        ({"text": "x", "duration": 6.5}, Usage(audio_seconds=6.5)),
        ({"text": "x", "duration": "6.5"}, None),
        (
            {"text": "x", "duration": 6.5, "usage": {"type": "duration", "seconds": 7}},
            Usage(audio_seconds=7.0),
        ),
        ({"results": [], "usage": {"total_tokens": 30}}, Usage(30)),
        ({"results": [], "meta": {"billed_units": {"search_units": 2.0}}}, Usage(search_units=2)),
        (
            {"results": [], "meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 7}}},
            Usage(7, search_units=1),
        ),
        (
            {"results": [], "usage": {"cost": 0.001, "search_units": 1, "total_tokens": 9}},
            Usage(9, reported_nanousd=1_000_000, search_units=1),
        ),
        ({"results": [], "usage": {"total_tokens": "many"}}, None),
    ],
)
def test_what_whole_answers_say(document: dict[str, Any], usage: Usage | None) -> None:
    answer = read_answer(json.dumps(document).encode())
    assert answer.usage == usage
    assert not answer.is_error


def test_error_with_a_good_status_is_one() -> None:
    assert read_answer(b'{"error": {"message": "x"}}').is_error
    assert not read_answer(b'{"error": null, "data": []}').is_error
    with pytest.raises(UpstreamBroken):
        read_answer(b"<html>")


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        (IMAGES, "application/json"),
        (SPEECH, "audio/mpeg"),
        (SPEECH, "audio/pcm;rate=24000;channels=1"),
        (SPEECH, "application/octet-stream"),
        (TRANSCRIPTIONS, "text/plain; charset=utf-8"),
        (TRANSCRIPTIONS, "text/vtt"),
        (TRANSCRIPTIONS, "Application/JSON"),
    ],
)
def test_kinds_that_pass(operation: Operation, kind: str) -> None:
    assert passed_type(operation, kind.encode()) == kind


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        (IMAGES, "audio/mpeg"),
        (SPEECH, "text/html"),
        (SPEECH, "audio/mpeg\r\nSet-Cookie: x=y"),
        (TRANSCRIPTIONS, "text/html"),
        (TRANSCRIPTIONS, "text/plain; x=<script>"),
        (SPEECH, ""),
    ],
)
def test_kinds_that_do_not(operation: Operation, kind: str) -> None:
    with pytest.raises(UpstreamBroken):
        passed_type(operation, kind.encode())


def raw(**fields: Any) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()}


def test_ranking_in_the_words_of_tei() -> None:
    fields = raw(model="m", query="q", documents=["a"], return_documents=True, top_n=1, truncate=True)
    to_tei(fields)
    assert fields == raw(query="q", texts=["a"], return_text=True, truncate=True)


LIST = [{"index": 0, "score": 0.25}, {"index": 1, "relevance_score": 1, "document": "b"}]


@pytest.mark.parametrize(("top_n", "count"), [(None, 2), (1, 1), (5, 2), ("1", 2)])
def test_bare_list_becomes_cohere_s_answer(top_n: Any, count: int) -> None:
    asked = {} if top_n is None else raw(top_n=top_n)
    results = json.loads(to_cohere(json.dumps(LIST).encode(), asked))["results"]
    assert results[0] == {"index": 1, "relevance_score": 1.0, "document": {"text": "b"}}
    assert len(results) == count


def test_cohere_s_own_answer_stays_as_it_is() -> None:
    body = b'{ "results": [] }'
    assert to_cohere(body, {}) is body


@pytest.mark.parametrize("body", [b"[1]", b"[{}]", b"[", b'[{"index": 0, "score": "x"}]'])
def test_ranking_that_cannot_be_read_is_broken(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        to_cohere(body, {})


def test_failure_says_it_in_cohere_s_words_too() -> None:
    document = json.loads(error_object(NotFound("There is none.")))
    assert document["message"] == document["error"]["message"] == "There is none."
