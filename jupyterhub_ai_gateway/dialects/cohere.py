"""Cohere's API of version 2 on the way back: answers, streams, failures.

A failure within a stream is its last event with the reason ERROR: the SDKs raise nothing for it.

Source: https://docs.cohere.com/reference/chat-stream, /embed and /errors, and the types of cohere 7.3
(read 2026-11).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from typing_extensions import override

from ..errors import Fault, UpstreamBroken
from ..vocabulary import Usage
from .cohere_back import ended_badly, usage_of
from .openai_answer import NOTHING, Answer, is_given
from .openai_stream import StreamTap, data_of

CONTENT = re.compile(
    rb'"type"\s*:\s*"(?:content-delta|tool-plan-delta|tool-call-start|tool-call-delta|message-end)"'
)
"""What is in an event with which an answer has begun, for good."""

_END = re.compile(rb'"type"\s*:\s*"message-end"')
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class _Answer(msgspec.Struct):
    message: msgspec.Raw = NOTHING
    embeddings: msgspec.Raw = NOTHING
    usage: msgspec.Raw = NOTHING
    meta: msgspec.Raw = NOTHING


_answer = msgspec.json.Decoder(_Answer).decode


def read_answer(body: bytes) -> Answer:
    """Read a whole answer. `UpstreamBroken` for what is no JSON object."""
    try:
        found = _answer(body)
        usage = usage_of(_decode(found.usage if is_given(found.usage) else found.meta or b"null"))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        text = "The model's provider sent an answer that is not valid JSON."
        raise UpstreamBroken(text, detail="the answer is not a JSON object") from None
    has_vectors = is_given(found.embeddings)
    if has_vectors and usage is not None:
        usage = Usage(usage.input_tokens, 0)
    is_error = bytes(found.message)[:1] == b'"' and not has_vectors
    return Answer(usage, is_error, None)


class CohereTap(StreamTap):
    """Reads a stream of this format: all that counts is in its last event, `message-end`."""

    __slots__ = ("_failure",)

    def __init__(self) -> None:
        super().__init__(hides_usage=False)
        self._failure: str | None = None  # the provider's words once it has failed

    @override
    def _event(self, event: bytes) -> bytes:
        if self.is_aligned and _END.search(event):
            self._look_at(data_of(event))
        return super()._event(event)

    @override
    def feed(self, piece: bytes) -> bytes:
        return self._feed_slowly(piece) if _END.search(piece) else super().feed(piece)

    def _look_at(self, data: bytes) -> None:
        try:
            delta = _decode(data).get("delta")
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, AttributeError):
            return
        if isinstance(delta, dict):
            self.usage = usage_of(delta.get("usage")) or self.usage
            self._failure = ended_badly(delta)

    @override
    def _is_hidden(self, event: bytes) -> bool:
        return False

    @override
    def _ending(self, latest: bytes) -> bytes | None:
        return b"" if _END.search(latest) else None

    @property
    @override
    def has_error(self) -> bool:
        return self._failure is not None

    @property
    @override
    def latest_event(self) -> bytes:
        """Return the failure as an error answer has it, once there is one."""
        if self._failure is None:
            return super().latest_event
        return b"data: " + _encode({"message": self._failure}) + b"\n\n"


def error_object(fault: Fault, request_id: str) -> bytes:
    """Return the body of a failed answer; `code` is ours, beside what Cohere has."""
    return _encode({"id": request_id, "message": fault.public, "code": fault.code, **fault.more})


def error_event(fault: Fault, request_id: str) -> bytes:
    """Return what a stream that fails after its start ends with."""
    return event(
        "message-end", {"id": request_id, "delta": {"error": fault.public, "finish_reason": "ERROR"}}
    )


def event(kind: str, more: dict[str, Any]) -> bytes:
    """Write an event of a stream."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind, **more}))
