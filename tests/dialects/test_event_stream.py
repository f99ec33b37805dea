"""AWS's event stream is read as botocore reads it, under any cut, and nothing wrong is passed over."""

from __future__ import annotations

import struct
import zlib
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from fakes.event_stream import Sized, event, framed, header, message
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_ai_gateway.dialects.event_stream import (
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    EventStreamDecoder,
    Message,
)
from jupyterhub_ai_gateway.errors import UpstreamBroken

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
sizes = st.sampled_from([1, 2, 4, 8])
numbers = sizes.flatmap(
    lambda size: st.integers(-(2 ** (8 * size - 1)), 2 ** (8 * size - 1) - 1).map(lambda n: Sized(n, size))
)
moments = st.integers(-(10**13), 10**14).map(lambda ms: EPOCH + timedelta(milliseconds=ms))
values = st.one_of(
    st.booleans(), numbers, st.binary(max_size=40), st.text(max_size=20), moments, st.uuids()
)
messages = st.tuples(st.dictionaries(st.text(min_size=1, max_size=20), values, max_size=6), st.binary())


def told(found: Message) -> tuple[dict[str, Any], bytes]:
    return dict(found.headers), found.payload


def plain(value: Any) -> Any:
    """Return a header's value as botocore has it, which leaves times and UUIDs as they are sent."""
    if isinstance(value, datetime):
        return (value - EPOCH) // timedelta(milliseconds=1)
    return value.bytes if hasattr(value, "hex") and hasattr(value, "urn") else value


def read(pieces: list[bytes]) -> list[Message]:
    decoder = EventStreamDecoder()
    found = [each for piece in pieces for each in decoder.feed(piece)]
    decoder.close()
    return found


@given(st.lists(messages, max_size=4), st.randoms(use_true_random=False))
def test_every_cut_gives_the_same_messages_as_botocore_reads(sent: Any, dice: Any) -> None:
    whole = b"".join(message(*each) for each in sent)
    places = sorted(dice.choices(range(len(whole) + 1), k=5))
    pieces = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]
    for cut in ([whole], [bytes([byte]) for byte in whole], pieces):
        assert [told(each) for each in read(cut)] == [(headers, payload) for headers, payload in sent]
    buffer = EventStreamBuffer()
    buffer.add_data(whole)
    theirs = [(each.headers, each.payload) for each in buffer]
    assert theirs == [
        ({name: plain(value) for name, value in each.headers.items()}, each.payload)
        for each in read([whole])
    ]


@given(messages, st.integers(0), st.integers(1, 255))
def test_one_wrong_byte_anywhere_is_noticed(sent: Any, at: int, change: int) -> None:
    whole = bytearray(message(*sent))
    whole[at % len(whole)] ^= change
    with pytest.raises(UpstreamBroken):
        read([bytes(whole)])


def test_end_in_the_middle_is_noticed_wherever_it_is() -> None:
    whole = event("messageStart", {"role": "assistant"})
    assert read([whole])[0].text(":event-type") == "messageStart"
    for end in range(1, len(whole)):
        with pytest.raises(UpstreamBroken):
            read([whole[:end]])


def prelude(total: int, headers: int) -> bytes:
    start = struct.pack(">II", total, headers)
    return start + struct.pack(">I", zlib.crc32(start))


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (prelude(16 + MAX_PAYLOAD_BYTES + 1, 0), "too long"),
        (prelude(16 + MAX_HEADER_BYTES + 1, MAX_HEADER_BYTES + 1), "too long"),
        (prelude(2**32 - 1, 0), "too long"),
        (prelude(15, 0), "shorter"),
        (prelude(20, 8), "shorter"),
        (b"HTTP/1.1 200 OK", "checksum of a message's lengths"),
        (framed(b"\x00\x07\x00\x01a", b""), "no name"),
        (framed(header("a", True) * 2, b""), "twice"),
        (framed(b"\x01a\x0a", b""), "unknown type"),
        (framed(b"\x01a\x07\x00\x05abc", b""), "cut"),
        (framed(b"\x01\xff\x00", b""), "cannot be read"),
        (framed(b"\x01a\x07\x00\x01\xff", b""), "cannot be read"),
        (framed(b"\x01a\x08\x7f" + b"\xff" * 7, b""), "cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_held(data: bytes, detail: str) -> None:
    with pytest.raises(UpstreamBroken) as caught:
        list(EventStreamDecoder().feed(data))
    assert detail in str(caught.value.detail)


def test_messages_before_a_broken_one_are_read() -> None:
    good = event("a", {})
    found = EventStreamDecoder().feed(good * 2 + good[:-1] + b"?")
    assert [next(found).text(":event-type") for _ in range(2)] == ["a", "a"]
    with pytest.raises(UpstreamBroken):
        next(found)


def test_longest_message_is_read() -> None:
    payload = bytes(MAX_PAYLOAD_BYTES)
    assert len(read([framed(header(":event-type", "x"), payload)])[0].payload) == MAX_PAYLOAD_BYTES


def test_message_does_not_show_its_content() -> None:
    assert "secret" not in repr(read([event("chunk", {"bytes": "secret"})]))
