"""Bedrock's answers in the shape that the rest of the house reads: event streams as server-sent events."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping

import msgspec
from typing_extensions import override

from ..dialects.event_stream import EventStreamDecoder, Message
from ..dialects.openai_answer import Count
from ..errors import UpstreamBroken
from ..upstream.base import Exchange, Write
from .bedrock_refusals import error_of_exception

_FRAMED = b"application/vnd.amazon.eventstream"
_LINE_ENDS = re.compile(rb"[\r\n]+")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_encode = msgspec.json.Encoder().encode


class _Chunk(msgspec.Struct):
    data: bytes = msgspec.field(name="bytes")


class _Native(msgspec.Struct):
    type: str


class _Count(msgspec.Struct):
    tokens: Count = msgspec.field(name="inputTokens")


_chunk = msgspec.json.Decoder(_Chunk).decode
_native = msgspec.json.Decoder(_Native).decode
_count = msgspec.json.Decoder(_Count).decode


def is_framed(headers: Mapping[bytes, bytes]) -> bool:
    """Say whether an answer is one of AWS's event streams."""
    return headers.get(b"content-type", b"").lower().startswith(_FRAMED)


class Unframed(Exchange):
    """A stream of AWS's as server-sent events, which the taps read.

    A `chunk` holds an event of the model's own format, and becomes that; other events become one of their
    name with the JSON that they had. An exception becomes an event `error`, as Anthropic has it.
    """

    def __init__(self, inner: Exchange) -> None:
        self._inner = inner
        self.status = inner.status
        self.headers = {**inner.headers, b"content-type": b"text/event-stream"}

    @override
    async def read(self, limit: int) -> bytes:
        return await self._inner.read(limit)

    @override
    async def relay(self, write: Write) -> None:
        decoder = EventStreamDecoder()

        def translate(piece: bytes) -> Awaitable[None] | None:
            events: list[bytes] = []
            try:
                for message in decoder.feed(piece):
                    events.append(_event(message))
            except UpstreamBroken as fault:
                if not events:
                    raise
                return _then_fail(write(b"".join(events)), fault)
            return write(b"".join(events)) if events else None

        await self._inner.relay(translate)
        decoder.close()

    @override
    def close(self) -> None:
        self._inner.close()


class Counted(Exchange):
    """An answer about a number of tokens, in Anthropic's words."""

    def __init__(self, inner: Exchange) -> None:
        self._inner = inner
        self.status = inner.status
        self.headers = inner.headers

    @override
    async def read(self, limit: int) -> bytes:
        body = await self._inner.read(limit)
        try:
            return _encode({"input_tokens": _count(body).tokens})
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise _broken("the answer does not tell a number of tokens") from None

    @override
    async def relay(self, write: Write) -> None:
        await self._inner.relay(write)

    @override
    def close(self) -> None:
        self._inner.close()


async def _then_fail(waiting: Awaitable[None] | None, fault: UpstreamBroken) -> None:
    """Let what came before the fault be sent."""
    if waiting is not None:
        await waiting
    raise fault


def _event(message: Message) -> bytes:
    kind = message.text(":message-type")
    if kind == "exception":
        return _sse("error", error_of_exception(message.text(":exception-type"), message.payload))
    if kind == "error":
        said = {"message": message.text(":error-message")}
        return _sse("error", error_of_exception(message.text(":error-code"), _encode(said)))
    if kind != "event":
        raise _broken("a message of the event stream is of an unknown kind")
    name = message.text(":event-type")
    if name != "chunk":
        return _sse(name, message.payload)
    try:
        data = _chunk(message.payload).data
        return _sse(_native(data).type, data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _broken("a chunk of the event stream cannot be read") from None


def _sse(name: str, data: bytes) -> bytes:
    """Write an event. In JSON a line end is a blank like any other."""
    if not _NAME.fullmatch(name):
        raise _broken("an event of the stream has no name")
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _LINE_ENDS.sub(b" ", data))


def _broken(detail: str) -> UpstreamBroken:
    return UpstreamBroken("The model's provider sent an answer that cannot be read.", detail=detail)
