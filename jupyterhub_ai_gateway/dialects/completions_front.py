"""OpenAI's older completions towards a caller, for models that only chat: the prompt is what a user says.

Source: https://platform.openai.com/docs/api-reference/completions (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Sequence

from .canonical import (
    STOP,
    Answer,
    Begin,
    Delta,
    Event,
    Finish,
    Json,
    Open,
    Part,
    Refusal,
    Request,
    Text,
    Turn,
    Used,
)
from .chat_front import DONE, FINISHES, usage_object
from .codec import Context, encode_json, text_of
from .loss import IGNORED, MAPPED, Loss, Reader, Refused, Table, wrong

_NO_CHAT = Refused("is nothing that a model which only chats can do")

REQUEST: Table = {
    "prompt": MAPPED,
    "model": IGNORED,
    "stream": IGNORED,
    "stream_options": IGNORED,
    "best_of": MAPPED,
    "echo": _NO_CHAT,
    "suffix": _NO_CHAT,
    "logprobs": _NO_CHAT,
    "frequency_penalty": MAPPED,
    "logit_bias": MAPPED,
    "max_tokens": MAPPED,
    "n": MAPPED,
    "presence_penalty": MAPPED,
    "seed": MAPPED,
    "stop": MAPPED,
    "temperature": MAPPED,
    "top_k": MAPPED,
    "top_p": MAPPED,
    "user": MAPPED,
}
_NAMES = {name: name for name, verb in REQUEST.items() if verb is MAPPED}


class CompletionsFront:
    """The half of completions that faces a caller."""

    def decode_request(self, fields: dict[str, Json], loss: Loss) -> Request:
        reader = Reader(fields, "", REQUEST, loss)
        if (reader.integer("best_of") or 1) > (reader.integer("n") or 1):
            loss.refuse("best_of", "asks for the best of several answers")
        request = Request(
            turns=[Turn("user", [Text(_prompt(reader))])],
            max_tokens=reader.integer("max_tokens"),
            temperature=reader.number("temperature"),
            top_p=reader.number("top_p"),
            top_k=reader.integer("top_k"),
            stop=reader.texts("stop"),
            seed=reader.integer("seed"),
            n=reader.integer("n"),
            frequency_penalty=reader.number("frequency_penalty"),
            presence_penalty=reader.number("presence_penalty"),
            logit_bias=reader.object("logit_bias"),
            user=reader.text("user"),
        )
        request.names = reader.names_of(_NAMES)
        return request

    def encode_answer(self, answer: Answer, context: Context) -> Json:
        choices = [
            _choice(_words(each.parts), index, FINISHES[each.finish or STOP])
            for index, each in enumerate(answer.candidates)
        ]
        document = {**_head(context, answer.model), "choices": choices}
        if answer.usage is not None:
            document["usage"] = usage_object(answer.usage)
        return document

    def encoder(self, context: Context) -> CompletionsStream:
        return CompletionsStream(context)


def _prompt(reader: Reader) -> str:
    value = reader.any("prompt")
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0]
    if isinstance(value, list) and value and not all(isinstance(item, str) for item in value):
        reader.loss.refuse("prompt", "is of tokens, whose meaning is another model's")
    if isinstance(value, list) and value:
        reader.loss.refuse("prompt", "holds several prompts")
    raise wrong("prompt", "must be text")


def _head(context: Context, model: str | None) -> dict[str, Json]:
    return {
        "id": f"cmpl-{context.request_id}",
        "object": "text_completion",
        "created": context.created,
        "model": model or context.model,
    }


def _words(parts: Sequence[Part]) -> str:
    """Return the text; a refusal is words like others here."""
    return text_of(Text(part.text) if isinstance(part, Refusal) else part for part in parts)


def _choice(text: str, index: int, finish_reason: str | None) -> Json:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish_reason}


class CompletionsStream:
    """Writes a stream of texts; thoughts and whatever else is no text have no place in it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._model: str | None = None
        self._texts: dict[int, int] = {}
        self._usage: Json = None

    def encode(self, event: Event) -> bytes:
        if isinstance(event, Begin):
            self._model = event.model
        elif isinstance(event, Used):
            self._usage = usage_object(event.usage)
        elif isinstance(event, Open) and isinstance(event.part, Text | Refusal):
            self._texts[event.index] = event.candidate
        elif isinstance(event, Delta) and event.index in self._texts:
            return self._write([_choice(event.text, self._texts[event.index], None)])
        elif isinstance(event, Finish):
            return self._write([_choice("", event.candidate, FINISHES[event.reason])])
        return b""

    def close(self) -> bytes:
        if not self._context.wants_usage:
            return DONE
        return self._write([], usage=self._usage) + DONE

    def _write(self, choices: list[Json], **more: Json) -> bytes:
        document = {**_head(self._context, self._model), "choices": choices, **more}
        return b"data: " + encode_json(document) + b"\n\n"
