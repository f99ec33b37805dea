"""The events of a Cohere chat towards a caller, one part open at a time.

Source: https://docs.cohere.com/docs/streaming and /reference/chat-stream (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..vocabulary import Usage
from .canonical import (
    STOP,
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
    Refusal,
    Text,
    Thinking,
    Used,
)
from .codec import Context, wrap
from .cohere import event as written

MAX_CITED_CHARS = 256 * 1024
"""How much of a piece is held to repeat what of it is cited."""
DONE = b"data: [DONE]\n\n"


class CohereStream:
    """Writes the life of a message: it starts, its pieces start and end, it ends with what it cost."""

    def __init__(
        self, context: Context, finishes: Mapping[str, str], usage_object: Callable[[Usage], Json]
    ) -> None:
        self._context = context
        self._finishes = finishes
        self._usage_object = usage_object
        self._usage: Usage | None = None
        self._finish = STOP
        self._has_begun = False
        self._part: Part | None = None
        self._pieces = self._calls = self._cites = 0  # how many have begun
        self._said: list[str] = []
        self._said_chars = 0

    def encode(self, event: Event) -> bytes:
        if isinstance(event, Begin | Used):
            self._usage = event.usage or self._usage
            return self._begin() if isinstance(event, Begin) else b""
        if isinstance(event, Finish):
            if event.candidate == 0:
                self._finish = event.reason
            return b""
        if isinstance(event, Open):
            return self._begin() + self._opened(event.part)
        return self._delta(event) if isinstance(event, Delta) else self._closed(event)

    def close(self) -> bytes:
        delta: dict[str, Json] = {"finish_reason": self._finishes[self._finish]}
        if delta["finish_reason"] == "ERROR":
            delta["error"] = "The model's provider stopped this answer: its content was refused."
        if self._usage is not None:
            delta["usage"] = self._usage_object(self._usage)
        end = written("message-end", {"id": self._context.request_id, "delta": delta})
        return self._begin() + end + DONE

    def _begin(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        message = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        return written("message-start", {"id": self._context.request_id, "delta": {"message": message}})

    def _opened(self, part: Part) -> bytes:
        self._part, self._said, self._said_chars = part, [], 0
        if isinstance(part, Call):
            self._calls += 1
            function = {"name": part.name, "arguments": part.arguments}
            call = {"id": part.id, "type": "function", "function": function}
            return self._event("tool-call-start", {"tool_calls": call}, self._calls - 1)
        if not isinstance(part, Text | Refusal | Thinking):
            return b""  # Cohere's answers have no pictures
        self._pieces += 1
        kind = "thinking" if isinstance(part, Thinking) else "text"
        self._hold(part.text)
        content = {"type": kind, kind: part.text}
        return self._event("content-start", {"content": content}, self._pieces - 1)

    def _delta(self, event: Delta) -> bytes:
        if isinstance(self._part, Call):
            function = {"function": {"arguments": event.text}}
            return self._event("tool-call-delta", {"tool_calls": function}, self._calls - 1)
        kind = "thinking" if isinstance(self._part, Thinking) else "text"
        if kind == "text":
            self._hold(event.text)
        told = _joined(event.logprobs) if event.logprobs else None
        return self._event("content-delta", {"content": {kind: event.text}}, self._pieces - 1, told)

    def _closed(self, event: Close) -> bytes:
        part, self._part = self._part, None
        if isinstance(part, Call):
            return self._signed("tool-call-delta", "tool_calls", event.opaque or part.opaque) + written(
                "tool-call-end", {"index": self._calls - 1}
            )
        if not isinstance(part, Text | Refusal | Thinking):
            return b""
        opaque = event.opaque or (part.opaque if isinstance(part, Thinking) else None)
        end = written("content-end", {"index": self._pieces - 1})
        return (
            self._signed("content-delta", "content", opaque)
            + b"".join(map(self._cite, event.citations))
            + end
        )

    def _signed(self, kind: str, name: str, opaque: Opaque | None) -> bytes:
        """Write what only its maker can read, as one more piece of what is open."""
        if opaque is None:
            return b""
        index = (self._calls if name == "tool_calls" else self._pieces) - 1
        return self._event(kind, {name: signed({}, opaque)}, index)

    def _cite(self, cite: Citation) -> bytes:
        made = citation(cite, self._pieces - 1, "".join(self._said))
        index, self._cites = self._cites, self._cites + 1
        start = self._event("citation-start", {"citations": made}, index)
        return start + written("citation-end", {"index": index})

    def _hold(self, text: str) -> None:
        if self._said_chars <= MAX_CITED_CHARS:
            self._said.append(text)
            self._said_chars += len(text)

    def _event(self, kind: str, message: Json, index: int, logprobs: Json = None) -> bytes:
        more = {"index": index, "delta": {"message": message}}
        return written(kind, more if logprobs is None else {**more, "logprobs": logprobs})


def signed(made: dict[str, Json], opaque: Opaque | None) -> dict[str, Json]:
    """Return a piece with what only its maker can read beside it."""
    return made if opaque is None else {**made, "signature": wrap(opaque)}


def citation(cite: Citation, content_index: int, text: str) -> Json:
    """Return where something comes from: a page is told as a document whose id is its address."""
    page = {"url": cite.url, "title": cite.title, "snippet": cite.quote}
    document = {name: value for name, value in page.items() if value is not None}
    source = {"type": "document", "id": cite.url, "document": document}
    found: dict[str, Json] = {"sources": [source], "content_index": content_index, "type": "TEXT_CONTENT"}
    if cite.start is not None and cite.end is not None:
        found |= {"start": cite.start, "end": cite.end, "text": text[cite.start : cite.end]}
    return found


def logprob(found: Json) -> Json:
    """Return a probability in Cohere's words; which tokens they are nobody else tells."""
    return {"text": found.get("token"), "token_ids": [], "logprobs": [found.get("logprob")]}


def _joined(found: object) -> Json:
    """Return the probabilities of a piece of a stream as one."""
    each = [logprob(one) for one in found] if isinstance(found, list | tuple) else []
    return {
        "text": "".join(str(one["text"] or "") for one in each),
        "token_ids": [],
        "logprobs": [value for one in each for value in one["logprobs"]],
    }
