"""Anthropic's Messages API on the way back: answers, streams, failures.

Source: https://platform.claude.com/docs/en/api/messages, /streaming and /errors (read 2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from typing_extensions import override

from ..errors import TOO_LONG, Fault, UpstreamBroken
from ..vocabulary import Usage
from .openai_answer import NOTHING, Answer, Count, model_name
from .openai_stream import StreamTap, data_of

_STOPPED = re.compile(rb'"type"\s*:\s*"message_stop"')
_ERROR = re.compile(rb"(?:^|[\r\n])event: ?error[\r\n]")

CONTENT = re.compile(rb'"type"\s*:\s*"(?:content_block_delta|message_delta|message_stop)"')
"""What is in an event with which an answer has begun, for good."""

_BETA = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
_MOST_BETAS = 32
_SHARED_BETAS = ("files-api-", "skills-", "mcp-client-")

_KINDS: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""What an error of a status is called; below 500 all others are invalid requests."""

_TOO_LONG_WORDS = re.compile("prompt is too long", re.IGNORECASE)
_encode = msgspec.json.Encoder().encode


class _CacheWrites(msgspec.Struct):
    ephemeral_1h_input_tokens: Count | None = None


class _Iteration(msgspec.Struct):
    type: str | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None


class UsageObject(msgspec.Struct):
    """Usage as this format has it: `input_tokens` is without what was written to or read from a cache.

    What it took to shorten a conversation stands in `iterations` alone, and is billed like the rest.

    Source: https://platform.claude.com/docs/en/build-with-claude/compaction (read 2026-11).
    """

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation: _CacheWrites | None = None
    iterations: list[_Iteration] | None = None

    def updated(self, later: UsageObject) -> UsageObject:
        """Return what is known once a later event of the same stream has been read."""
        fields = {name: getattr(later, name) for name in self.__struct_fields__}
        known = {name: value for name, value in fields.items() if value is not None}
        return msgspec.structs.replace(self, **known)

    def usage(self) -> Usage | None:
        """Return it in our words; None when it says nothing."""
        if self.input_tokens is None and self.output_tokens is None:
            return None
        read, written = self._all("cache_read_input_tokens"), self._all("cache_creation_input_tokens")
        plain = self._all("input_tokens")
        hour = self.cache_creation
        return Usage(
            None if plain is None else plain + (read or 0) + (written or 0),
            self._all("output_tokens"),
            read,
            cache_write_tokens=written,
            cache_write_1h_tokens=None if hour is None else hour.ephemeral_1h_input_tokens,
        )

    def _all(self, name: str) -> int | None:
        """Return a count with that of making the conversation shorter."""
        shortened = [getattr(each, name) for each in self.iterations or () if each.type == "compaction"]
        told = [count for count in (getattr(self, name), *shortened) if count is not None]
        return sum(told) if told else None


class _Answer(msgspec.Struct):
    type: str | None = None
    model: msgspec.Raw = NOTHING
    usage: UsageObject | None = None


class _OddAnswer(msgspec.Struct):
    type: str | None = None


class _Message(msgspec.Struct):
    usage: UsageObject | None = None


class _Event(msgspec.Struct):
    message: _Message | None = None
    usage: UsageObject | None = None


_answer = msgspec.json.Decoder(_Answer).decode
_odd_answer = msgspec.json.Decoder(_OddAnswer).decode
_event = msgspec.json.Decoder(_Event).decode


def read_answer(body: bytes) -> Answer:
    """Read a whole answer. `UpstreamBroken` for what is no JSON object."""
    try:
        try:
            answer = _answer(body)
        except msgspec.ValidationError:  # a usage that makes no sense
            return Answer(None, _odd_answer(body).type == "error", None)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        text = "The model's provider sent an answer that is not valid JSON."
        raise UpstreamBroken(text, detail="the answer is not a JSON object") from None
    usage = None if answer.usage is None else answer.usage.usage()
    return Answer(usage, answer.type == "error", model_name(answer.model))


class MessagesTap(StreamTap):
    """Reads a stream of this format: usage from its first and last events, the end from `message_stop`."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        super().__init__(hides_usage=False)
        self._told = UsageObject()

    @override
    def _is_hidden(self, event: bytes) -> bool:
        try:
            found = _event(data_of(event))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return False
        for told in (found.message.usage if found.message else None, found.usage):
            if told is not None:
                self._told = self._told.updated(told)
                self.usage = self._told.usage()
        return False

    @override
    def _ending(self, latest: bytes) -> bytes | None:
        return b"" if self.has_error or _STOPPED.search(latest) else None

    @property
    @override
    def has_error(self) -> bool:
        return any(_ERROR.search(piece) is not None for piece in self._latest)


def allowed_betas(value: str) -> tuple[list[str], list[str]]:
    """Part the features that a caller asks for into those that the provider may hear of, and the others.

    Files, skills and connectors are the account's, which all callers share.
    """
    words = [word.strip() for word in value.split(",")]
    known = [word for word in words if _BETA.fullmatch(word)][:_MOST_BETAS]
    return (
        [word for word in known if not word.startswith(_SHARED_BETAS)],
        [word for word in known if word.startswith(_SHARED_BETAS)],
    )


def error_object(fault: Fault, request_id: str) -> bytes:
    """Return the body of a failed answer; `code` is ours, beside what the SDKs read."""
    kind = _KINDS.get(fault.status) or ("invalid_request_error" if fault.status < 500 else "api_error")
    message = fault.public
    if fault.slug == TOO_LONG and not _TOO_LONG_WORDS.search(message):
        message = f"prompt is too long: {message}"  # clients look for these words
    error = {"type": kind, "message": message, "code": fault.code, **fault.more}
    return _encode({"type": "error", "error": error, "request_id": request_id})


def error_event(fault: Fault, request_id: str) -> bytes:
    """Return what a stream that fails after its start ends with."""
    return b"event: error\ndata: " + error_object(fault, request_id) + b"\n\n"
