"""The pieces of one of Mistral's chats towards a caller, and what they share with a whole answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..vocabulary import Usage
from .canonical import (
    Begin,
    Call,
    Close,
    Delta,
    Event,
    Finish,
    Json,
    Media,
    Opaque,
    Open,
    Part,
    Refusal,
    Text,
    Thinking,
    Used,
)
from .chat_front import DONE, usage_object
from .codec import MAX_HELD_CHARS, Context, broken, data_url, encode_json, usage_or_none, wrap


def thought(text: str, opaque: Opaque | None = None) -> dict[str, Json]:
    """Return a thought, with what only its maker can read."""
    words = [{"type": "text", "text": text}] if text else []
    signed = {} if opaque is None else {"signature": wrap(opaque)}
    return {"type": "thinking", "thinking": words, **signed}


def pieces_of(part: Part) -> Iterator[dict[str, Json]]:
    """Write what a part is in a list of content; what a call has signed comes before it."""
    if isinstance(part, Text | Refusal):
        if part.text:
            yield {"type": "text", "text": part.text}
    elif isinstance(part, Thinking):
        yield thought(part.text, part.opaque)
    elif isinstance(part, Media):
        yield {"type": "image_url", "image_url": {"url": data_url(part, "image/png")}}
    elif isinstance(part, Call) and part.opaque is not None:
        yield thought("", part.opaque)


def call_of(part: Call, index: int, arguments: str) -> Json:
    """Write a call."""
    function = {"name": part.name, "arguments": arguments or "{}"}
    return {"id": part.id, "type": "function", "function": function, "index": index}


class MistralStream:
    """Writes a stream of chunks. A call is written once it is whole, as Mistral does."""

    def __init__(self, context: Context, finishes: Mapping[str, str]) -> None:
        self._context = context
        self._finishes = finishes
        self._model = context.model
        self._usage: Usage | None = None
        self._greeted: set[int] = set()
        self._parts: dict[int, Open] = {}
        self._calls: dict[int, int] = {}  # how many calls each candidate has
        self._held: list[str] = []
        self._held_chars = 0
        self._ends: dict[int, str] = {}

    def encode(self, event: Event) -> bytes:
        if isinstance(event, Begin):
            self._model = event.model or self._model
        if isinstance(event, Begin | Used):
            self._usage = event.usage or self._usage
            return b""
        if isinstance(event, Finish):
            self._ends[event.candidate] = self._finishes[event.reason]
            return b""
        if isinstance(event, Open):
            self._parts[event.index] = event
            return self._opened(event)
        return self._delta(event) if isinstance(event, Delta) else self._closed(event)

    def close(self) -> bytes:
        """Write the end: why it ends, and what it cost, in one chunk."""
        greetings = b"".join(map(self._greeting, self._ends))
        choices = [
            {"index": candidate, "delta": {"content": ""}, "finish_reason": reason}
            for candidate, reason in self._ends.items()
        ]
        usage = usage_object(usage_or_none(self._usage))
        return greetings + self._write({"choices": choices, "usage": usage}) + DONE

    def _opened(self, event: Open) -> bytes:
        greeting, part = self._greeting(event.candidate), event.part
        if isinstance(part, Call):
            self._held, self._held_chars = [part.arguments], len(part.arguments)
            signed = list(pieces_of(part))
            return greeting + (self._chunk(event.candidate, {"content": signed}) if signed else b"")
        if isinstance(part, Media):
            return greeting + self._chunk(event.candidate, {"content": list(pieces_of(part))})
        words = part.text if isinstance(part, Text | Refusal | Thinking) else ""
        return greeting + (self._words(event, words) if words else b"")

    def _delta(self, event: Delta) -> bytes:
        opened = self._parts[event.index]
        if not isinstance(opened.part, Call):
            return self._words(opened, event.text, list(event.logprobs))
        self._held.append(event.text)
        self._held_chars += len(event.text)
        if self._held_chars > MAX_HELD_CHARS:
            raise broken("the arguments of a tool call are too long")
        return b""

    def _closed(self, event: Close) -> bytes:
        opened = self._parts.pop(event.index)
        candidate, part = opened.candidate, opened.part
        if isinstance(part, Call):
            index = self._calls.get(candidate, 0)
            self._calls[candidate] = index + 1
            arguments, self._held = "".join(self._held), []
            return self._chunk(candidate, {"content": "", "tool_calls": [call_of(part, index, arguments)]})
        opaque = event.opaque or (part.opaque if isinstance(part, Thinking) else None)
        return b"" if opaque is None else self._chunk(candidate, {"content": [thought("", opaque)]})

    def _words(self, opened: Open, text: str, logprobs: Json = None) -> bytes:
        is_thought = isinstance(opened.part, Thinking)
        return self._chunk(opened.candidate, {"content": [thought(text)] if is_thought else text}, logprobs)

    def _greeting(self, candidate: int) -> bytes:
        if candidate in self._greeted:
            return b""
        self._greeted.add(candidate)
        return self._chunk(candidate, {"role": "assistant", "content": ""})

    def _chunk(self, candidate: int, delta: Json, logprobs: Json = None) -> bytes:
        choice = {"index": candidate, "delta": delta, "finish_reason": None}
        return self._write(
            {"choices": [{**choice, "logprobs": {"content": logprobs}} if logprobs else choice]}
        )

    def _write(self, more: dict[str, Json]) -> bytes:
        context = self._context
        head = {"id": context.request_id, "object": "chat.completion.chunk", "created": context.created}
        return b"data: " + encode_json({**head, "model": self._model, **more}) + b"\n\n"
