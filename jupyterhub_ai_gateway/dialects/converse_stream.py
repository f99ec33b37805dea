"""Bedrock's ConverseStream read, event by event, and what answers and streams have in common.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStreamOutput.html
(read 2026-11).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping

import msgspec

from ..vocabulary import Usage
from .canonical import (
    CONTEXT,
    FILTER,
    LENGTH,
    STOP,
    STOP_SEQUENCE,
    TOOLS,
    Begin,
    Call,
    Citation,
    Close,
    Delta,
    Event,
    Finish,
    Json,
    Opaque,
    Open,
    Part,
    Text,
    Thinking,
    Used,
)
from .chat_back import object_of
from .codec import MAX_HELD_CHARS, Back, ToldError, broken, ended_early, objects_of, unpacked
from .openai_answer import Count

SEALED = "bedrock"
"""Who made what is redacted: whoever it was, it goes back to Bedrock alone."""

FINISHES: Mapping[Json, str | None] = {
    "end_turn": STOP,
    "tool_use": TOOLS,
    "max_tokens": LENGTH,
    "stop_sequence": STOP_SEQUENCE,
    "guardrail_intervened": FILTER,
    "content_filtered": FILTER,
    "model_context_window_exceeded": CONTEXT,
    "malformed_model_output": None,
    "malformed_tool_use": None,
}
"""Why an answer ends; None where that is a failure."""


class _Written(msgspec.Struct):
    ttl: str | None = None
    inputTokens: Count | None = None  # noqa: N815 - AWS's name


class _Usage(msgspec.Struct, rename="camel"):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_write_input_tokens: Count | None = None
    cache_details: list[_Written] | None = None


def read_usage(value: Json) -> Usage | None:
    """Read a usage, whose `inputTokens` are without those that a cache has to do with."""
    try:
        told = msgspec.convert(value, _Usage)
    except msgspec.ValidationError:
        return None
    if told.input_tokens is None and told.output_tokens is None:
        return None
    parts = (told.input_tokens, told.cache_read_input_tokens, told.cache_write_input_tokens)
    hours = [each.inputTokens for each in told.cache_details or () if each.ttl == "1h"]
    return Usage(
        None if told.input_tokens is None else sum(part or 0 for part in parts),
        told.output_tokens,
        told.cache_read_input_tokens,
        cache_write_tokens=told.cache_write_input_tokens,
        cache_write_1h_tokens=sum(hour or 0 for hour in hours) if hours else None,
    )


def opaque_of(maker: str, signature: Json) -> Opaque | None:
    """Return a signature; None for none."""
    return Opaque(maker, signature) if isinstance(signature, str) and signature else None


def read_citation(found: Json) -> Iterator[Citation]:
    """Read where something in a text comes from, when that is an address."""
    if not isinstance(found, dict):
        return
    location = found.get("location")
    web = location.get("web") if isinstance(location, dict) else None
    url = web.get("url") if isinstance(web, dict) else None
    if isinstance(url, str):
        sources = [each.get("text") for each in objects_of(found.get("sourceContent"))]
        quote = "".join(each for each in sources if isinstance(each, str))
        title = found.get("title")
        yield Citation(url, title if isinstance(title, str) else None, quote or None)


class ConverseReader:
    """Reads the events of one answer. `maker` signs its thoughts."""

    def __init__(self, back: Back, maker: str) -> None:
        self._back = back
        self._maker = maker
        self._block: _Block | None = None
        self._at: int | None = None  # which block of Bedrock's is open
        self._next = 0
        self._finish: str | None = None

    def feed(self, name: str, body: bytes) -> Iterator[Event]:
        if name == "error":
            raise ToldError(body)
        event = object_of(body)
        if name == "messageStart":
            yield Begin()
        elif name == "contentBlockStart":
            yield from self._start(event)
        elif name == "contentBlockDelta":
            yield from self._delta(event)
        elif name == "contentBlockStop":
            yield from self._shut()
        elif name == "messageStop":
            self._stop(event.get("stopReason"))
        elif name == "metadata":
            usage = read_usage(event.get("usage"))
            if usage is not None:
                yield Used(usage)

    def close(self) -> Iterator[Event]:
        if self._finish is None:
            raise ended_early()
        yield from self._shut()
        yield Finish(self._finish)

    def _stop(self, reason: Json) -> None:
        finish = FINISHES.get(str(reason), STOP)
        if finish is None:
            raise broken(f"the model failed: {reason}")
        self._finish = finish

    def _start(self, event: Mapping[str, Json]) -> Iterator[Event]:
        yield from self._shut()
        start = event.get("start")
        use = start.get("toolUse") if isinstance(start, dict) else None
        if use is None:
            return  # whatever it is, its deltas tell
        id_, name = (use.get("toolUseId"), use.get("name")) if isinstance(use, dict) else (None, None)
        if not isinstance(id_, str) or not isinstance(name, str):
            raise broken("a tool call has no id or no name")
        yield from self._open(event, self._back.call(id_, name, ""))

    def _delta(self, event: Mapping[str, Json]) -> Iterator[Event]:
        delta = event.get("delta")
        if not isinstance(delta, dict):
            raise broken("a delta of the stream has no content")
        if event.get("contentBlockIndex") != self._at:
            yield from self._shut()
        if isinstance(delta.get("text"), str):
            yield from self._words(event, Text(""), delta["text"])
        elif isinstance(delta.get("toolUse"), dict):
            yield from self._arguments(delta["toolUse"].get("input"))
        elif isinstance(delta.get("reasoningContent"), dict):
            yield from self._thought(event, delta["reasoningContent"])
        elif "citation" in delta:
            if self._block is None:
                yield from self._open(event, Text(""))
            self._opened.citations += tuple(read_citation(delta["citation"]))

    def _arguments(self, text: Json) -> Iterator[Event]:
        if self._block is None:
            raise broken("arguments belong to no tool call")
        yield from self._block.more(text if isinstance(text, str) else "")

    def _thought(self, event: Mapping[str, Json], inner: Mapping[str, Json]) -> Iterator[Event]:
        sealed = inner.get("redactedContent")
        if isinstance(sealed, str):
            if self._block is None:
                self._at = event.get("contentBlockIndex")
                self._block = _Block(-1, Thinking("", is_redacted=True), self._back)
            self._block.seal(sealed)
            return
        text = inner.get("text")
        yield from self._words(event, Thinking(), text if isinstance(text, str) else "")
        self._opened.opaque = opaque_of(self._maker, inner.get("signature")) or self._opened.opaque

    def _words(self, event: Mapping[str, Json], part: Part, text: str) -> Iterator[Event]:
        if self._block is None:
            yield from self._open(event, part)
        yield from self._opened.more(text)

    @property
    def _opened(self) -> _Block:
        if self._block is None:
            raise broken("a delta of the stream belongs to no block")
        return self._block

    def _open(self, event: Mapping[str, Json], part: Part) -> Iterator[Event]:
        self._at = event.get("contentBlockIndex")
        self._block = _Block(self._next, part, self._back)
        yield Open(self._next, part)
        self._next += 1

    def _shut(self) -> Iterator[Event]:
        block, self._block, self._at = self._block, None, None
        if block is None:
            return
        if block.sealed:
            opaque = Opaque(SEALED, base64.b64encode(b"".join(block.sealed)).decode())
            yield Open(self._next, Thinking("", opaque, is_redacted=True))
            yield Close(self._next, opaque)
            self._next += 1
        else:
            yield from block.close()


class _Block:
    """A block that is being read. The arguments of a custom tool are held to the end."""

    def __init__(self, index: int, part: Part, back: Back) -> None:
        self.opaque: Opaque | None = None
        self.citations: tuple[Citation, ...] = ()
        self.sealed: list[bytes] = []
        self._index = index
        is_held = isinstance(part, Call) and part.is_custom and not back.manners.takes_custom_tools
        self._held: list[str] | None = [] if is_held else None
        self._held_chars = 0

    def seal(self, data: str) -> None:
        """Take what only its maker can read."""
        self._hold(len(data))
        try:
            self.sealed.append(base64.b64decode(data, validate=True))
        except binascii.Error:
            raise broken("a sealed thought is no base64") from None

    def more(self, text: str) -> Iterator[Event]:
        """Take words, or arguments."""
        if not text:
            return
        if self._held is None:
            yield Delta(self._index, text)
            return
        self._hold(len(text))
        self._held.append(text)

    def close(self) -> Iterator[Event]:
        """Return what is left."""
        if self._held:
            yield Delta(self._index, unpacked("".join(self._held)))
        yield Close(self._index, self.opaque, self.citations)

    def _hold(self, chars: int) -> None:
        self._held_chars += chars
        if self._held_chars > MAX_HELD_CHARS:
            raise broken("a part of the answer is too long")
