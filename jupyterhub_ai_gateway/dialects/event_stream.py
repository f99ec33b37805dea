"""AWS's binary event stream (`application/vnd.amazon.eventstream`): bytes in, messages out.

    total length 4 | length of headers 4 | CRC-32 of these 8 | headers | payload | CRC-32 of all before it

All numbers are big-endian. What the messages mean lives in `providers.bedrock` and `converse_back`.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html and
https://smithy.io/2.0/aws/amazon-eventstream.html (read 2026-11).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Final
from uuid import UUID

from ..errors import UpstreamBroken

MAX_HEADER_BYTES: Final = 128 * 1024
MAX_PAYLOAD_BYTES: Final = 24 * 1024 * 1024
"""What AWS's own clients take of one message. A longer one ends the stream before it is held."""

_PRELUDE: Final = struct.Struct(">III")
_CRC: Final = struct.Struct(">I")
_LEAST_BYTES: Final = _PRELUDE.size + _CRC.size
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)

Value = bool | int | bytes | str | datetime | UUID


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `headers` have the types that the format has; timestamps are aware, in UTC."""

    headers: Mapping[str, Value]
    payload: bytes = field(repr=False)

    def text(self, name: str) -> str:
        """Return a header's text; "" for one that is not there, or is no text."""
        value = self.headers.get(name)
        return value if isinstance(value, str) else ""


class EventStreamDecoder:
    """Reads one stream. `feed` every piece, then `close`.

    Both raise `UpstreamBroken` for what is no such stream: lengths that cannot be, a checksum that does
    not fit, a header that cannot be read, an end in the middle.
    """

    __slots__ = ("_held", "_wanted")

    def __init__(self) -> None:
        self._held = bytearray()
        self._wanted = 0  # how long the message at the start is, once that is known

    def feed(self, piece: bytes) -> Iterator[Message]:
        """Take a piece, however it was cut, and yield the messages that it completes.

        Those before one that cannot be read are yielded first.
        """
        self._held += piece
        return self._messages()

    def _messages(self) -> Iterator[Message]:
        while self._is_whole():
            whole = bytes(memoryview(self._held)[: self._wanted])
            del self._held[: self._wanted]
            self._wanted = 0
            yield _message(whole)

    def close(self) -> None:
        """Note that the stream has ended."""
        if self._held:
            raise _broken("the event stream ends in the middle of a message")

    def _is_whole(self) -> bool:
        """Look whether all of the next message is here; its lengths are checked before it is held."""
        if not self._wanted and len(self._held) >= _PRELUDE.size:
            total, headers, crc = _PRELUDE.unpack_from(self._held)
            if zlib.crc32(memoryview(self._held)[:8]) != crc:
                raise _broken("the checksum of a message's lengths does not fit")
            payload = total - headers - _LEAST_BYTES
            if payload < 0:
                raise _broken("a message is shorter than its headers")
            if headers > MAX_HEADER_BYTES or payload > MAX_PAYLOAD_BYTES:
                raise _broken("a message of the event stream is too long")
            self._wanted = total
        return bool(self._wanted) and len(self._held) >= self._wanted


def _message(whole: bytes) -> Message:
    end = len(whole) - _CRC.size
    if zlib.crc32(memoryview(whole)[:end]) != _CRC.unpack_from(whole, end)[0]:
        raise _broken("the checksum of a message does not fit")
    start = _PRELUDE.size + _PRELUDE.unpack_from(whole)[1]
    return Message(_headers(whole[_PRELUDE.size : start]), whole[start:end])


def _headers(data: bytes) -> dict[str, Value]:
    headers: dict[str, Value] = {}
    reader = _Reader(data)
    try:
        while reader.at < len(data):
            name = reader.sized(1).decode()
            if not name or name in headers:
                raise _broken("a header of a message has no name, or one that is there twice")
            read = _READERS.get(reader.number(1))
            if read is None:
                raise _broken("a header of a message is of an unknown type")
            headers[name] = read(reader)
    except (UnicodeDecodeError, OverflowError):
        raise _broken("a header of a message cannot be read") from None
    return headers


class _Reader:
    """Takes values off the headers; `UpstreamBroken` where they are cut."""

    __slots__ = ("_data", "at")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        found = self._data[self.at : self.at + count]
        if len(found) < count:
            raise _broken("a header of a message is cut")
        self.at += count
        return found

    def number(self, count: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(count), "big", signed=signed)

    def sized(self, count: int) -> bytes:
        """Take bytes whose length is told by a number before them, of `count` bytes."""
        return self.take(self.number(count))


_READERS: Mapping[int, Callable[[_Reader], Value]] = {
    0: lambda reader: True,
    1: lambda reader: False,
    2: lambda reader: reader.number(1, signed=True),
    3: lambda reader: reader.number(2, signed=True),
    4: lambda reader: reader.number(4, signed=True),
    5: lambda reader: reader.number(8, signed=True),
    6: lambda reader: reader.sized(2),
    7: lambda reader: reader.sized(2).decode(),
    8: lambda reader: _EPOCH + timedelta(milliseconds=reader.number(8, signed=True)),
    9: lambda reader: UUID(bytes=reader.take(16)),
}
"""How each type of a header is read."""


def _broken(detail: str) -> UpstreamBroken:
    return UpstreamBroken("The model's provider sent an answer that cannot be read.", detail=detail)
