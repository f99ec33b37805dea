"""Images, sound, transcripts and the like on the way back: what they used, and whether they are whole.

Source: https://platform.openai.com/docs/api-reference/images, /audio and /moderations,
https://docs.cohere.com/reference/rerank, https://jina.ai/reranker (read 2026-11).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from ..errors import UpstreamBroken, UpstreamFault
from ..vocabulary import (
    IMAGE_EDITS,
    IMAGE_VARIATIONS,
    IMAGES,
    SPEECH,
    TRANSCRIPTIONS,
    TRANSLATIONS,
    Operation,
    Usage,
)
from .openai_answer import NOTHING, Answer, Count, is_given, model_name, nanousd

CONTENT = re.compile(rb'"type"\s*:\s*"(?!error)[a-z]|"choices"\s*:|\[DONE\]')
"""What is in an event with which an answer has begun, for good."""
MAX_USAGE_BYTES = 4096
MAX_LATEST_BYTES = 65536

_TAIL_BYTES = 64
_MARK = re.compile(
    rb'"usage"\s*:\s*\{|"type"\s*:\s*"([a-z_.]{1,40})"|"(?:b64_json|url)"\s*:\s*"|'
    rb'"error"\s*:\s*[{"]|\[DONE\]|"finish_reason"\s*:\s*"'
)
_IMAGE_MADE = re.compile(rb"image_(?:generation|edit)\.completed")
_ENDED = re.compile(rb".*\.(?:completed|done)")
_JSON = ("application/json",)
_SOUND_OR_DATA = ("audio/", "application/octet-stream", "application/ogg")
_TEXTS = ("text/plain", "text/vtt", "text/srt", "application/x-subrip", "application/octet-stream")
_MEDIA_TYPE = re.compile(
    r'[a-z]+/[a-z0-9.+\-]+(?:\s*;\s*[a-z0-9\-]+="?[a-z0-9._\-]+"?){0,4}', re.IGNORECASE
)
_PASSED: Mapping[Operation, tuple[str, ...]] = {
    IMAGES: _JSON,
    IMAGE_EDITS: _JSON,
    IMAGE_VARIATIONS: _JSON,
    SPEECH: (*_SOUND_OR_DATA, *_JSON),
    TRANSCRIPTIONS: (*_TEXTS, *_JSON),
    TRANSLATIONS: (*_TEXTS, *_JSON),
}


class _Details(msgspec.Struct):
    audio_tokens: Count | None = None
    image_tokens: Count | None = None
    cached_tokens: Count | None = None
    reasoning_tokens: Count | None = None


class UsageObject(msgspec.Struct):
    """Usage in all the words that the vendors of these formats have for it.

    A recording is counted in tokens or in seconds; who ranks counts all tokens together, or units.
    """

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    input_tokens_details: _Details | None = None
    input_token_details: _Details | None = None
    output_tokens_details: _Details | None = None
    seconds: float | None = None
    search_units: Count | None = None
    cost: float | str | None = None

    def usage(self, *, is_sound: bool = False) -> Usage | None:
        """Return it in our words; None when it says nothing. With `is_sound` all of the output is that."""
        into = self.prompt_tokens if self.input_tokens is None else self.input_tokens
        out = self.completion_tokens if self.output_tokens is None else self.output_tokens
        if into is None and out is None:
            into = self.total_tokens
        if into is None and out is None and self.seconds is None and self.search_units is None:
            return None
        read = self.input_tokens_details or self.input_token_details or _NO_DETAILS
        written = self.output_tokens_details or _NO_DETAILS
        return Usage(
            into,
            out,
            cached_input_tokens=read.cached_tokens,
            reasoning_tokens=written.reasoning_tokens,
            input_audio_tokens=read.audio_tokens,
            input_image_tokens=read.image_tokens,
            output_audio_tokens=out if is_sound else written.audio_tokens,
            reported_nanousd=nanousd(self.cost),
            audio_seconds=_seconds(self.seconds),
            search_units=self.search_units,
        )


_NO_DETAILS = _Details()


class _Tokens(msgspec.Struct):
    input_tokens: float | None = None


class _Billed(msgspec.Struct):
    search_units: float | None = None


class _Meta(msgspec.Struct):
    billed_units: _Billed | None = None
    tokens: _Tokens | None = None


class _Answer(msgspec.Struct):
    usage: UsageObject | None = None
    meta: _Meta | None = None
    duration: float | str | None = None
    error: msgspec.Raw = NOTHING
    model: msgspec.Raw = NOTHING
    data: list[msgspec.Raw] | None = None
    text: msgspec.Raw = NOTHING
    results: msgspec.Raw = NOTHING


class _OddAnswer(msgspec.Struct):
    error: msgspec.Raw = NOTHING
    model: msgspec.Raw = NOTHING
    data: msgspec.Raw = NOTHING
    text: msgspec.Raw = NOTHING
    results: msgspec.Raw = NOTHING


_answer = msgspec.json.Decoder(_Answer).decode
_odd_answer = msgspec.json.Decoder(_OddAnswer).decode
_usage_object = msgspec.json.Decoder(UsageObject).decode


def read_answer(body: bytes) -> Answer:
    """Read a whole answer. `UpstreamBroken` for what is no JSON object."""
    found: _Answer | _OddAnswer
    usage: Usage | None = None
    try:
        try:
            found = _answer(body)
            usage = _usage_of(found)
        except msgspec.ValidationError:  # a usage that makes no sense
            found = _odd_answer(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        text = "The model's provider sent an answer that is not valid JSON."
        raise UpstreamBroken(text, detail="the answer is not a JSON object") from None
    has_content = found.data is not None or is_given(found.text) or is_given(found.results)
    return Answer(usage, is_given(found.error) and not has_content, model_name(found.model))


def _usage_of(answer: _Answer) -> Usage | None:
    usage = None if answer.usage is None else answer.usage.usage()
    more: dict[str, Any] = {}
    if answer.meta is not None and answer.meta.billed_units is not None:
        more["search_units"] = _whole(answer.meta.billed_units.search_units)
    if answer.meta is not None and answer.meta.tokens is not None:
        more["input_tokens"] = _whole(answer.meta.tokens.input_tokens)
    if isinstance(answer.duration, float) and (usage is None or usage.audio_seconds is None):
        more["audio_seconds"] = _seconds(answer.duration)
    if answer.data is not None:
        more["images"] = len(answer.data)
    more = {name: value for name, value in more.items() if value is not None}
    return (usage or Usage())._replace(**more) if more else usage


def _whole(number: float | None) -> int | None:
    return int(number) if number is not None and 0 <= number < 1e12 else None


def _seconds(number: float | None) -> float | None:
    return number if number is not None and 0 <= number < 1e9 else None


def passed_type(operation: Operation, header: bytes) -> str:
    """Return the Content-Type of an answer that may pass. `UpstreamBroken` for another one."""
    found = header.decode("latin-1").strip()
    is_fine = _MEDIA_TYPE.fullmatch(found) is not None and found.lower().startswith(_PASSED[operation])
    if not is_fine:
        text = "The model's provider sent an answer of the wrong kind."
        raise UpstreamBroken(text, detail="its Content-Type is none of this operation")
    return found


class MediaTap:
    """Reads beside an answer that passes, however it is cut and however long its pieces are.

    Nothing is held back, and no more of it is kept than the usage. With `counts_data` each image of a JSON
    answer counts, else each event that ends one.
    """

    __slots__ = (
        "_counts_data",
        "_has_ended",
        "_images",
        "_is_sound",
        "_last",
        "_open",
        "_tail",
        "_told",
        "answered_model",
        "has_error",
        "has_events",
        "latest_event",
    )

    failure: ClassVar[UpstreamFault | None] = None

    def __init__(self, *, counts_data: bool = False) -> None:
        self._counts_data = counts_data
        self._tail = b""  # the end of what has passed, in which a mark may begin
        self._last = b"\n\n"  # the last bytes that have passed
        self._open: bytes | None = None  # as much of a usage as has come
        self._told: UsageObject | None = None
        self._images = 0
        self._is_sound = False
        self._has_ended = False  # True once an event has come that ends a stream
        self.answered_model: str | None = None
        self.has_error = False
        self.has_events = False
        self.latest_event = b""

    def last(self, event: bytes, *, is_first: bool) -> bytes:
        """Return an event of ours with which the answer ends."""
        return event

    @property
    def usage(self) -> Usage | None:
        """Return what was told so far."""
        usage = None if self._told is None else self._told.usage(is_sound=self._is_sound)
        return (usage or Usage())._replace(images=self._images) if self._images else usage

    @property
    def is_aligned(self) -> bool:
        """Say whether what has passed ends where an event does."""
        return self._last.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))

    def feed(self, piece: bytes) -> bytes:
        """Look at a piece, and return it."""
        if not piece:
            return piece
        self.has_events = True
        self._last = (self._last + piece)[-4:] if len(piece) < 4 else piece[-4:]
        self.latest_event = piece[-MAX_LATEST_BYTES:]
        rest, seen = (piece, 0) if self._open is not None else (self._tail + piece, len(self._tail))
        while rest:
            rest = self._look(rest, seen) if self._open is None else self._take(rest)
            seen = 0
        return piece

    def close(self) -> bytes:
        """Say that the stream has come to its regular end. `UpstreamBroken` when that was too early."""
        if not (self._has_ended or self.has_error):
            raise UpstreamBroken(
                "The model's provider ended its answer in the middle.", detail="the stream has no end"
            )
        return b""

    def _look(self, window: bytes, seen: int) -> bytes:
        """Note the marks that end behind `seen` bytes; return what follows where a usage begins."""
        self._tail = window[-_TAIL_BYTES:]
        if b'"' not in window and b"[" not in window:  # within an image
            return b""
        for found in _MARK.finditer(window):
            if found.end() <= seen:
                continue
            if found[0].startswith(b'"usage"'):
                self._open, self._tail = b"{", b""
                return window[found.end() :]
            self._note(found)
        return b""

    def _note(self, mark: re.Match[bytes]) -> None:
        text, kind = mark[0], mark[1]
        if kind is not None:
            self._images += _IMAGE_MADE.fullmatch(kind) is not None
            self._is_sound = self._is_sound or kind.startswith(b"speech.")
            self.has_error = self.has_error or kind == b"error"
            self._has_ended = self._has_ended or _ENDED.fullmatch(kind) is not None
        elif text.startswith(b'"error'):
            self.has_error = True
        elif text.startswith((b"[DONE]", b'"finish')):
            self._has_ended = True
        else:
            self._images += self._counts_data

    def _take(self, piece: bytes) -> bytes:
        """Take more of a usage, and return what follows it."""
        known = self._open or b""
        self._open = known + piece[:MAX_USAGE_BYTES]
        end = _end_of_object(self._open)
        if end is None:
            if len(self._open) > MAX_USAGE_BYTES:
                self._open = None
            return b""
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):  # what makes no sense is none
            self._told = _usage_object(self._open[:end])
        self._open = None
        return piece[max(0, end - len(known)) :]


def _end_of_object(text: bytes) -> int | None:
    """Return where the object ends that a text begins with; None where it does not yet."""
    depth = 0
    for found in re.finditer(rb'[{}]|"(?:[^"\\]|\\.)*"', text):
        depth += {b"{": 1, b"}": -1}.get(found[0], 0)
        if depth == 0 and found[0] == b"}":
            return found.end()
    return None
