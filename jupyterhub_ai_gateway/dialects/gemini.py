"""Google's Gemini API on the way back: answers, streams, failures.

A stream comes as server-sent events (`alt=sse`), or as one JSON array; we ask for events, always, and make
the array of them. Neither has a mark at its end: an answer ends with a finish reason.

Source: https://ai.google.dev/api/generate-content; the types, and how errors in a stream are told:
google-genai 3.4, `types.py` and `_api_client.py` (read 2026-11).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Protocol

import msgspec
from typing_extensions import override

from ..errors import Fault, UpstreamBroken, UpstreamFault
from ..vocabulary import Usage
from .openai_answer import NOTHING, Answer, Count, is_given, model_name
from .openai_stream import StreamTap, data_of
from .sse import EventFrames

KEEP_ALIVE = b"\n\n"
"""Empty lines: google-genai takes a comment for JSON."""
CONTENT = re.compile(
    rb'"text"\s*:\s*"[^"]|"(?:functionCall|inlineData|executableCode|codeExecutionResult|toolCall)"\s*:\s*{|'
    rb'"(?:finishReason|blockReason)"\s*:\s*"'
)
"""What is in an event with which an answer has begun, for good."""
MAX_EVENT_BYTES = 32 * 1024 * 1024
"""An image comes as one event."""

_STATUSES: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""What an error of a status is called. Source: google/rpc/code.proto (read 2026-11)."""
_KNOWN = {
    *_STATUSES.values(),
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "ALREADY_EXISTS",
    "INTERNAL",
    "UNKNOWN",
}
_DOMAIN = "jupyterhub-ai-gateway"

_encode = msgspec.json.Encoder().encode


class _Modality(msgspec.Struct):
    modality: str | None = None
    tokenCount: Count | None = None  # noqa: N815 - Google's name


class UsageObject(msgspec.Struct):
    """Usage as this format has it.

    What was read from a cache is in `promptTokenCount`; what tools put into the prompt is not, and neither
    is thinking in `candidatesTokenCount`, except where the total says that it is.
    """

    promptTokenCount: Count | None = None  # noqa: N815
    toolUsePromptTokenCount: Count | None = None  # noqa: N815
    cachedContentTokenCount: Count | None = None  # noqa: N815
    candidatesTokenCount: Count | None = None  # noqa: N815
    thoughtsTokenCount: Count | None = None  # noqa: N815
    totalTokenCount: Count | None = None  # noqa: N815
    promptTokensDetails: list[_Modality] | None = None  # noqa: N815
    candidatesTokensDetails: list[_Modality] | None = None  # noqa: N815

    def usage(self) -> Usage | None:
        """Return it in our words; None when it says nothing."""
        into = _sum(self.promptTokenCount, self.toolUsePromptTokenCount)
        out = _sum(self.candidatesTokenCount, self.thoughtsTokenCount)
        if into is None and out is None:
            return None
        if self._counts_thoughts_twice(into, out):
            out = self.candidatesTokenCount
        return Usage(
            into,
            out,
            self.cachedContentTokenCount,
            self.thoughtsTokenCount,
            input_audio_tokens=_of(self.promptTokensDetails, "AUDIO"),
            input_image_tokens=_of(self.promptTokensDetails, "IMAGE"),
            output_audio_tokens=_of(self.candidatesTokensDetails, "AUDIO"),
        )

    def _counts_thoughts_twice(self, into: int | None, out: int | None) -> bool:
        if not self.thoughtsTokenCount or self.candidatesTokenCount is None or out is None:
            return False
        return self.totalTokenCount == (into or 0) + self.candidatesTokenCount


def _sum(*parts: int | None) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def _of(details: list[_Modality] | None, modality: str) -> int | None:
    return _sum(*(each.tokenCount for each in details or () if each.modality == modality))


class _Candidate(msgspec.Struct):
    finishReason: str | None = None  # noqa: N815


class _Feedback(msgspec.Struct):
    blockReason: str | None = None  # noqa: N815


class _Answer(msgspec.Struct):
    candidates: list[_Candidate] | None = None
    promptFeedback: _Feedback | None = None  # noqa: N815
    usageMetadata: UsageObject | None = None  # noqa: N815
    modelVersion: msgspec.Raw = NOTHING  # noqa: N815
    error: msgspec.Raw = NOTHING

    @property
    def is_end(self) -> bool:
        """Say whether nothing but numbers can follow."""
        if self.promptFeedback is not None and self.promptFeedback.blockReason is not None:
            return True
        return any(each.finishReason is not None for each in self.candidates or ())


class _OddAnswer(msgspec.Struct):
    modelVersion: msgspec.Raw = NOTHING  # noqa: N815
    error: msgspec.Raw = NOTHING


_answer = msgspec.json.Decoder(_Answer).decode
_odd_answer = msgspec.json.Decoder(_OddAnswer).decode


def _read(data: bytes) -> _Answer:
    """Read an answer, or a piece of one; one whose usage makes no sense as far as it can be read."""
    try:
        return _answer(data)
    except msgspec.ValidationError:
        odd = _odd_answer(data)
        return _Answer(modelVersion=odd.modelVersion, error=odd.error)


def read_answer(body: bytes) -> Answer:
    """Read a whole answer. `UpstreamBroken` for what is no JSON object."""
    try:
        found = _read(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        text = "The model's provider sent an answer that is not valid JSON."
        raise UpstreamBroken(text, detail="the answer is not a JSON object") from None
    usage = None if found.usageMetadata is None else found.usageMetadata.usage()
    return Answer(usage, is_given(found.error), model_name(found.modelVersion))


class GeminiTap(StreamTap):
    """Reads a stream of this format: usage from each event, the end from a finish reason."""

    __slots__ = ("_has_ended", "_has_failed", "_model")
    max_held_bytes = MAX_EVENT_BYTES

    def __init__(self) -> None:
        super().__init__(hides_usage=False)
        self._has_ended = False  # True once there is a finish reason
        self._has_failed = False  # True once an event was an error
        self._model: str | None = None

    @override
    def feed(self, piece: bytes) -> bytes:
        return self._feed_slowly(piece)

    @override
    def _event(self, event: bytes) -> bytes:
        if self.is_aligned:
            self._look_at(data_of(event))
        return super()._event(event)

    def _look_at(self, data: bytes) -> None:
        try:
            found = _read(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return
        if found.usageMetadata is not None:
            self.usage = found.usageMetadata.usage() or self.usage
        self._has_ended = self._has_ended or found.is_end
        self._has_failed = self._has_failed or is_given(found.error)
        self._model = self._model or model_name(found.modelVersion)

    @override
    def _is_hidden(self, event: bytes) -> bool:
        return False

    @override
    def _ending(self, latest: bytes) -> bytes | None:
        return b"" if self._has_ended or self._has_failed else None

    @property
    @override
    def has_error(self) -> bool:
        return self._has_failed

    @property
    @override
    def answered_model(self) -> str | None:
        return self._model


class Tap(Protocol):
    """What reads a stream, straight or in translation."""

    usage: Usage | None

    @property
    def answered_model(self) -> str | None: ...
    @property
    def has_error(self) -> bool: ...
    @property
    def failure(self) -> UpstreamFault | None: ...
    @property
    def latest_event(self) -> bytes: ...

    def feed(self, piece: bytes) -> bytes: ...
    def close(self) -> bytes: ...


class ArrayTap:
    """Makes one JSON array of a stream of events that another tap reads."""

    is_aligned = True

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._frames = EventFrames(MAX_EVENT_BYTES)
        self._has_begun = False  # True once the bracket is out

    @property
    def usage(self) -> Usage | None:
        """Return what the other one knows, as all of these do."""
        return self._tap.usage

    @property
    def answered_model(self) -> str | None:
        return self._tap.answered_model

    @property
    def has_error(self) -> bool:
        return self._tap.has_error

    @property
    def failure(self) -> UpstreamFault | None:
        return self._tap.failure

    @property
    def latest_event(self) -> bytes:
        return self._tap.latest_event

    def feed(self, piece: bytes) -> bytes:
        return self._framed(self._frames.feed(self._tap.feed(piece)))

    def close(self) -> bytes:
        rest = self._framed(self._frames.feed(self._tap.close()) + self._frames.close())
        return rest + (b"]" if self._has_begun else b"[]")

    def last(self, event: bytes, *, is_first: bool) -> bytes:
        return (b"[" if is_first else b",\r\n") + data_of(event) + b"]"

    def _framed(self, events: list[tuple[str, bytes]]) -> bytes:
        written = []
        for _, data in events:
            written.append((b",\r\n" if self._has_begun else b"[") + data)
            self._has_begun = True
        return b"".join(written)


def error_object(fault: Fault, request_id: str) -> bytes:
    """Return the body of a failed answer, with Google's own details: the reason, and when to come back."""
    return _encode({"error": _error(fault, request_id)})


def error_event(fault: Fault, request_id: str) -> bytes:
    """Return what a stream that fails after its start ends with."""
    return b"data: " + error_object(fault, request_id) + b"\r\n\r\n"


def _error(fault: Fault, request_id: str) -> dict[str, object]:
    named = {"param": fault.param, **fault.more, "request_id": request_id}
    metadata = {name: str(value) for name, value in named.items() if value is not None}
    details: list[dict[str, object]] = [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": fault.code,
            "domain": _DOMAIN,
            "metadata": metadata,
        }
    ]
    if fault.retry_after_s is not None:
        seconds = max(1, math.ceil(fault.retry_after_s))
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"})
    usual = _STATUSES.get(fault.status) or ("INVALID_ARGUMENT" if fault.status < 500 else "INTERNAL")
    status = fault.code if fault.code in _KNOWN else usual
    return {"code": fault.status, "message": fault.public, "status": status, "details": details}
