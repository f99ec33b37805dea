"""OpenAI's Responses API on the way back: answers, streams, failures.

Source: https://platform.openai.com/docs/api-reference/responses and /responses-streaming; what the SDK
raises as an error: openai-python `_streaming.py` (both read 2026-11).
"""

from __future__ import annotations

import re

import msgspec
from typing_extensions import override

from ..errors import Fault, UpstreamBroken
from ..vocabulary import Usage
from .openai_answer import NOTHING, Answer, Count, is_given, model_name
from .openai_stream import StreamTap, data_of

CONTENT = re.compile(rb'"type"\s*:\s*"response\.(?:[a-z_.]+\.delta|completed|incomplete)"')
"""What is in an event with which an answer has begun, for good."""
MAX_EVENT_BYTES = 8 * 1024 * 1024
"""The last event repeats the whole answer, and the first ones all tools and instructions."""

_ENDED = re.compile(rb'"type"\s*:\s*"response\.(?:completed|incomplete|failed)"')
_ERROR = re.compile(rb'"type"\s*:\s*"(?:error|response\.failed)"')
_encode = msgspec.json.Encoder().encode


class _InputDetails(msgspec.Struct):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: Count | None = None


class UsageObject(msgspec.Struct):
    """Usage as this format has it: details are parts of the totals."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None

    def usage(self) -> Usage | None:
        """Return it in our words; None when it says nothing."""
        if self.input_tokens is None and self.output_tokens is None:
            return None
        into, out = self.input_tokens_details, self.output_tokens_details
        return Usage(
            self.input_tokens,
            self.output_tokens,
            None if into is None else into.cached_tokens,
            None if out is None else out.reasoning_tokens,
            None if into is None else into.cache_write_tokens,
        )


class _Response(msgspec.Struct):
    usage: UsageObject | None = None
    error: msgspec.Raw = NOTHING
    model: msgspec.Raw = NOTHING


class _OddResponse(msgspec.Struct):
    error: msgspec.Raw = NOTHING
    model: msgspec.Raw = NOTHING


class _Event(msgspec.Struct):
    response: _Response | None = None


_response = msgspec.json.Decoder(_Response).decode
_odd_response = msgspec.json.Decoder(_OddResponse).decode
_event = msgspec.json.Decoder(_Event).decode


def read_answer(body: bytes) -> Answer:
    """Read a whole answer. `UpstreamBroken` for what is no JSON object."""
    try:
        try:
            found = _response(body)
        except msgspec.ValidationError:  # a usage that makes no sense
            odd = _odd_response(body)
            return Answer(None, is_given(odd.error), model_name(odd.model))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        text = "The model's provider sent an answer that is not valid JSON."
        raise UpstreamBroken(text, detail="the answer is not a JSON object") from None
    usage = None if found.usage is None else found.usage.usage()
    return Answer(usage, is_given(found.error), model_name(found.model))


class ResponsesTap(StreamTap):
    """Reads a stream of this format: usage and the end from its last event, `response.completed`."""

    __slots__ = ()
    max_held_bytes = MAX_EVENT_BYTES

    def __init__(self) -> None:
        super().__init__(hides_usage=False)

    @override
    def _is_hidden(self, event: bytes) -> bool:
        try:
            found = _event(data_of(event)).response
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return False
        if found is not None and found.usage is not None:
            self.usage = found.usage.usage() or self.usage
        return False

    @override
    def _ending(self, latest: bytes) -> bytes | None:
        return b"" if self.has_error or _ENDED.search(latest) else None

    @property
    @override
    def has_error(self) -> bool:
        return any(_ERROR.search(piece) is not None for piece in self._latest)


def error_event(fault: Fault, request_id: str) -> bytes:
    """Return what a stream that fails after its start ends with: the format's own, and what SDKs raise."""
    error = {
        "message": fault.public,
        "type": fault.kind,
        "param": fault.param,
        "code": fault.code,
        **fault.more,
    }
    event = {
        "type": "error",
        "code": fault.code,
        "message": fault.public,
        "param": fault.param,
        "sequence_number": 0,
        "error": error,
    }
    return b"event: error\ndata: " + _encode(event) + b"\n\n"
