"""A tap on an OpenAI stream: passes it on as it came, reads its usage, knows whether it is complete."""

from __future__ import annotations

import re
from collections import deque
from typing import ClassVar, Final

import msgspec

from ..errors import UpstreamBroken, UpstreamFault
from ..vocabulary import Usage
from .openai_answer import NOTHING, is_given, model_name, read_usage

DONE: Final = b"data: [DONE]\n\n"
KEEP_ALIVE: Final = b": keep-alive\n\n"
MAX_HELD_BYTES = 65536
"""An event longer than this is passed on before its end has come."""

_USAGE: Final = b'"usage"'
_NO_USAGE = re.compile(rb'"usage"\s*:\s*null')
_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
_DONE_LINE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_ERROR = re.compile(rb'"error"\s*:\s*[{"]|"object"\s*:\s*"error"')
_MODEL = re.compile(rb'"model"\s*:\s*("[^"\\]{1,200}")')
CONTENT = re.compile(
    rb'"(?:content|text|reasoning|reasoning_content|refusal|arguments|name)"\s*:\s*"[^"]|'
    rb'"finish_reason"\s*:\s*"|\[DONE\]'
)
"""What is in an event with which an answer has begun, for good."""
_LATEST = 16
_MOST_UNNAMED = 64
"""In how many pieces the model's name is looked for: Azure's first event names none, OpenRouter begins with
comments, and some hosts never say it."""


class _Chunk(msgspec.Struct):
    usage: msgspec.Raw = NOTHING
    choices: list[msgspec.Raw] | None = None


class _Told(msgspec.Struct):
    error: msgspec.Raw = NOTHING
    object: msgspec.Raw = NOTHING


_told = msgspec.json.Decoder(_Told).decode
_chunk = msgspec.json.Decoder(_Chunk).decode


class StreamTap:
    """Reads one stream of server-sent events. `feed` every piece, then `close`; what they return is sent.

    Whole events leave as soon as they are whole, so what has been sent always ends with an event's end,
    unless `is_aligned` says otherwise. `usage` is None until the provider has told it. With
    `hides_usage` the extra event that tells it is kept back: the caller did not ask for one.
    """

    __slots__ = (
        "_held",
        "_hides_usage",
        "_latest",
        "_named",
        "_unnamed",
        "has_events",
        "is_aligned",
        "usage",
    )

    max_held_bytes = MAX_HELD_BYTES
    failure: ClassVar[UpstreamFault | None] = None

    def __init__(self, *, hides_usage: bool) -> None:
        self._hides_usage = hides_usage
        self._held = b""
        self._named: str | None = None  # what the provider calls the model that answers
        self._unnamed = _MOST_UNNAMED  # in how many more pieces its name is looked for
        self._latest: deque[bytes] = deque(maxlen=_LATEST)
        self.has_events = False  # True once anything was passed on
        self.is_aligned = True  # False while the last thing passed on is the beginning of an event
        self.usage: Usage | None = None

    def feed(self, piece: bytes) -> bytes:
        """Take a piece, however it was cut, and return what can be passed on."""
        if not self._held and piece.endswith(b"\n\n") and self.is_aligned and not _tells_usage(piece):
            self._latest.append(piece)
            if self._unnamed:
                self._look_for_name(piece)
            return piece
        return self._feed_slowly(piece)

    def close(self) -> bytes:
        """Return what is left to be passed on at the regular end. `UpstreamBroken` when it came too early.

        A stream that ends after a finish reason without the final `[DONE]` gets one: some providers
        leave it out, and the SDKs wait for it.
        """
        rest = self._close_event()
        latest = b"".join(self._latest)
        if not self.has_events:
            raise UpstreamBroken(
                "The model's provider ended its answer before it began.", detail="the stream was empty"
            )
        ending = self._ending(latest)
        if ending is None:
            raise UpstreamBroken(
                "The model's provider ended its answer in the middle.", detail="the stream has no end"
            )
        return rest + ending

    def _ending(self, latest: bytes) -> bytes | None:
        """Return what the end lacks, which may be nothing; None when it is not the end."""
        if self.has_error or _DONE_LINE.search(latest):
            return b""
        return DONE if _FINISHED.search(latest) else None

    def last(self, event: bytes, *, is_first: bool) -> bytes:
        """Return an event of ours with which the answer ends; `is_first` where nothing has been sent."""
        return event

    @property
    def has_error(self) -> bool:
        """Say whether one of the last events is an error, which is how providers fail in a stream."""
        return any(_ERROR.search(piece) is not None and _tells_error(piece) for piece in self._latest)

    @property
    def answered_model(self) -> str | None:
        """Return what the provider calls the model that answers; None as long as it has not said."""
        return self._named

    @property
    def latest_event(self) -> bytes:
        """Return what was passed on last."""
        return self._latest[-1] if self._latest else b""

    def _look_for_name(self, piece: bytes) -> None:
        self.has_events = True
        found = _MODEL.search(piece)
        self._named = None if found is None else model_name(found[1])
        self._unnamed = self._unnamed - 1 if self._named is None else 0

    def _feed_slowly(self, piece: bytes) -> bytes:
        data = self._held + piece
        passed: list[bytes] = []
        start = 0
        # A line end may be cut in two: look again at the last bytes that were held
        for end in _EVENT_END.finditer(data, max(0, len(self._held) - 3)):
            if end.end() > start:
                passed.append(self._event(data[start : end.end()]))
                start = end.end()
        self._held = data[start:]
        if start:
            self.is_aligned = True
        if len(self._held) > self.max_held_bytes:
            passed.append(self._held)
            self._latest.append(self._held[-1024:])
            self._held = b""
            self.is_aligned = False
            self.has_events = True
        return b"".join(passed)

    def _event(self, event: bytes) -> bytes:
        """Return a whole event, or nothing when it is ours alone."""
        if self.is_aligned and _tells_usage(event) and self._is_hidden(event):
            return b""
        if event.strip():
            if self._unnamed:
                self._look_for_name(event)
            self._latest.append(event)
        return event

    def _is_hidden(self, event: bytes) -> bool:
        """Read the usage of an event; say whether it tells nothing else and was asked for by us alone."""
        try:
            chunk = _chunk(data_of(event))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return False
        self.usage = read_usage(chunk.usage) or self.usage
        return self._hides_usage and not chunk.choices

    def _close_event(self) -> bytes:
        """Take what is held as an event if it is one, but for the empty line after it."""
        held, self._held = self._held, b""
        if not held.strip():
            return b""
        if not self.is_aligned:
            raise UpstreamBroken(
                "The model's provider ended its answer in the middle.", detail="the last event is cut"
            )
        data = data_of(held)
        if data != b"[DONE]" and not _is_json(data):
            return b""
        return self._event(held.rstrip(b"\r\n") + b"\n\n")


def _tells_usage(piece: bytes) -> bool:
    """Say whether a piece has a usage other than null. In texts the quotation marks would be escaped."""
    count = piece.count(_USAGE)
    return count > 0 and count > len(_NO_USAGE.findall(piece))


def _tells_error(piece: bytes) -> bool:
    """Say whether an event is an error, and not one with an error in a choice, as Azure's filter has."""
    return any(_is_error(data_of(event)) for event in _EVENT_END.split(piece))


def _is_error(data: bytes) -> bool:
    try:
        told = _told(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return is_given(told.error) or bytes(told.object) == b'"error"'  # as Mistral, and older vLLMs, say it


def data_of(event: bytes) -> bytes:
    """Join the data lines of an event; nothing for one without any."""
    lines = [line[5:] for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(line.removeprefix(b" ") for line in lines)


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return True
