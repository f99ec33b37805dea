"""The frames of real streams, found by us and by others: server-sent events, and AWS's messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from botocore.eventstream import EventStreamBuffer
from openai import OpenAI, Stream

from jupyterhub_ai_gateway.dialects.event_stream import EventStreamDecoder
from jupyterhub_ai_gateway.dialects.sse import EventFrames

from .cassettes import Recording, cuts, streams

EVERY = streams()
FRAMED = [each for each in EVERY if each.is_framed]
EVENTS = [each for each in EVERY if not each.is_framed]


def test_there_are_streams_of_both_kinds() -> None:
    assert len(FRAMED) > 20
    assert len(EVENTS) > 80


def sdk_s(body: bytes) -> list[tuple[str, str]]:
    """Return what OpenAI's SDK, which follows the standard, finds in a stream."""
    request = httpx.Request("POST", "http://127.0.0.1/")
    answer: Any = httpx.Response(200, content=body, request=request)
    with OpenAI(api_key="x") as client:
        found = Stream[object](cast_to=object, response=answer, client=client)._iter_events()
        return [(each.event or "", each.data) for each in found if each.data]


@pytest.mark.parametrize("recording", EVENTS, ids=str)
def test_events_are_those_that_an_sdk_finds(recording: Recording) -> None:
    expected = sdk_s(recording.body)
    for cut in [_whole, *cuts(recording)]:
        frames = EventFrames()
        found = [event for piece in cut(recording.body) for event in frames.feed(piece)] + frames.close()
        assert [(name, body.decode()) for name, body in found] == expected


@pytest.mark.parametrize("recording", FRAMED, ids=str)
def test_messages_are_those_that_botocore_finds(recording: Recording) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(recording.body)
    expected = [(dict(each.headers), each.payload) for each in buffer]
    for cut in [_whole, *cuts(recording)]:
        decoder = EventStreamDecoder()
        found = [message for piece in cut(recording.body) for message in decoder.feed(piece)]
        decoder.close()
        assert [(dict(each.headers), each.payload) for each in found] == expected


def _whole(body: bytes) -> Iterator[bytes]:
    yield body
