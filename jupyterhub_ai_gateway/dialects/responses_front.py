"""OpenAI's Responses API towards a caller, without memory: requests read, answers and streams written.

Source: https://platform.openai.com/docs/api-reference/responses and /responses-streaming (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from ..vocabulary import Usage
from .canonical import (
    CONTEXT,
    FILTER,
    LENGTH,
    REFUSED,
    Answer,
    Begin,
    Call,
    Candidate,
    Citation,
    Close,
    Delta,
    Event,
    Finish,
    Json,
    Media,
    Named,
    Opaque,
    Open,
    Part,
    Reasoning,
    Refusal,
    Request,
    Result,
    Shape,
    Text,
    Thinking,
    Tool,
    Turn,
    Used,
)
from .chat_front import file_of
from .codec import MAX_HELD_CHARS, Context, broken, encode_json, media_of_url, unwrap, wrap
from .loss import DROPPED, IGNORED, MAPPED, Loss, Reader, Refused, Table, kind_of, wrong

MAKER = "openai"
_FILE = Refused("names a file of the provider's account")

REQUEST: Table = {
    "input": MAPPED,
    "instructions": MAPPED,
    "model": IGNORED,
    "stream": IGNORED,
    "store": IGNORED,
    "background": IGNORED,
    "background_options": IGNORED,
    "conversation": IGNORED,
    "previous_response_id": IGNORED,
    "prompt": IGNORED,
    "safety_identifier": IGNORED,
    "stream_options": IGNORED,
    "access_programs": DROPPED,
    "context_management": DROPPED,
    "image": DROPPED,
    "include": MAPPED,
    "max_output_tokens": MAPPED,
    "max_tool_calls": DROPPED,
    "metadata": MAPPED,
    "moderation": DROPPED,
    "parallel_tool_calls": MAPPED,
    "prompt_cache_key": MAPPED,
    "prompt_cache_options": DROPPED,
    "prompt_cache_retention": DROPPED,
    "reasoning": MAPPED,
    "service_tier": MAPPED,
    "temperature": MAPPED,
    "text": MAPPED,
    "tool_choice": MAPPED,
    "tools": MAPPED,
    "top_logprobs": MAPPED,
    "top_p": MAPPED,
    "truncation": MAPPED,
    "user": MAPPED,
}
_NAMES = {
    "max_output_tokens": "max_tokens",
    "parallel_tool_calls": "parallel_tools",
    "prompt_cache_key": "cache_key",
    "reasoning": "reasoning",
    "service_tier": "service_tier",
    "temperature": "temperature",
    "tool_choice": "choice",
    "tools": "tools",
    "top_logprobs": "top_logprobs",
    "top_p": "top_p",
    "user": "user",
}
MESSAGE: Table = {
    "type": MAPPED,
    "role": MAPPED,
    "content": MAPPED,
    "id": IGNORED,
    "status": IGNORED,
    "phase": IGNORED,
}
INPUT_TEXT: Table = {"type": MAPPED, "text": MAPPED, "prompt_cache_breakpoint": DROPPED}
OUTPUT_TEXT: Table = {"type": MAPPED, "text": MAPPED, "annotations": IGNORED, "logprobs": IGNORED}
INPUT_IMAGE: Table = {
    "type": MAPPED,
    "image_url": MAPPED,
    "detail": MAPPED,
    "file_id": _FILE,
    "prompt_cache_breakpoint": DROPPED,
}
INPUT_FILE: Table = {
    "type": MAPPED,
    "file_data": MAPPED,
    "file_url": MAPPED,
    "filename": MAPPED,
    "file_id": _FILE,
    "detail": DROPPED,
    "prompt_cache_breakpoint": DROPPED,
}
REFUSAL: Table = {"type": MAPPED, "refusal": MAPPED}
FUNCTION_CALL: Table = {
    "type": MAPPED,
    "call_id": MAPPED,
    "name": MAPPED,
    "namespace": MAPPED,
    "arguments": MAPPED,
    "id": IGNORED,
    "status": IGNORED,
    "caller": IGNORED,
    "async": DROPPED,
}
CUSTOM_CALL: Table = {**FUNCTION_CALL, "input": MAPPED}
OUTPUT: Table = {
    "type": MAPPED,
    "call_id": MAPPED,
    "output": MAPPED,
    "id": IGNORED,
    "status": IGNORED,
    "caller": IGNORED,
    "name": IGNORED,
    "namespace": IGNORED,
}
REASONING_ITEM: Table = {
    "type": MAPPED,
    "summary": MAPPED,
    "content": MAPPED,
    "encrypted_content": MAPPED,
    "id": IGNORED,
    "status": IGNORED,
}
FUNCTION: Table = {
    "type": MAPPED,
    "name": MAPPED,
    "description": MAPPED,
    "parameters": MAPPED,
    "strict": MAPPED,
    "allowed_callers": DROPPED,
    "async": DROPPED,
    "defer_loading": DROPPED,
    "output_schema": DROPPED,
}
CUSTOM: Table = {
    "type": MAPPED,
    "name": MAPPED,
    "description": MAPPED,
    "format": MAPPED,
    "allowed_callers": DROPPED,
    "async": DROPPED,
    "defer_loading": DROPPED,
}
NAMESPACE: Table = {"type": MAPPED, "name": MAPPED, "description": IGNORED, "tools": MAPPED}
REASONING: Table = {
    "effort": MAPPED,
    "summary": MAPPED,
    "generate_summary": MAPPED,
    "context": DROPPED,
    "mode": DROPPED,
}
TEXT: Table = {"format": MAPPED, "verbosity": MAPPED}
FORMAT: Table = {
    "type": MAPPED,
    "name": MAPPED,
    "schema": MAPPED,
    "strict": MAPPED,
    "description": MAPPED,
}
_ECHOED = (
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "reasoning",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
    "user",
)
_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")


class ResponsesFront:
    """The half of the Responses API that faces a caller."""

    def decode_request(self, fields: dict[str, Json], loss: Loss) -> Request:
        reader = Reader(fields, "", REQUEST, loss)
        if reader.any("truncation") == "auto":
            loss.drop("truncation")
        spaces: dict[str, tuple[str, str]] = {}
        tools = [
            tool for place, item in reader.items("tools") for tool in _tools(item, place, loss, spaces)
        ]
        text = reader.child("text", TEXT)
        request = Request(
            turns=[*_instructions(reader), *_input(reader)],
            tools=tools,
            choice=_choice(reader),
            parallel_tools=reader.flag("parallel_tool_calls"),
            max_tokens=reader.integer("max_output_tokens"),
            temperature=reader.number("temperature"),
            top_p=reader.number("top_p"),
            top_logprobs=reader.integer("top_logprobs") or None,
            logprobs=True if "message.output_text.logprobs" in reader.texts("include") else None,
            shape=None if text is None else _shape(text),
            verbosity=None if text is None else text.text("verbosity"),
            reasoning=_reasoning(reader),
            service_tier=reader.text("service_tier"),
            cache_key=reader.text("prompt_cache_key"),
            user=reader.text("user"),
            echo={name: fields[name] for name in _ECHOED if fields.get(name) is not None},
            spaces=spaces,
        )
        request.names = {
            **reader.names_of(_NAMES),
            "shape": "text.format",
            "verbosity": "text.verbosity",
            "logprobs": "include",
        }
        return request

    def encode_answer(self, answer: Answer, context: Context) -> Json:
        candidate = answer.candidates[0]
        items = _Items(context)
        output = [item for part in candidate.parts for item in items.of(part)]
        return response(context, answer.model, output, candidate, answer.usage)

    def encoder(self, context: Context) -> ResponsesStream:
        return ResponsesStream(context)


def _instructions(reader: Reader) -> Iterator[Turn]:
    value = reader.text("instructions")
    if value:
        yield Turn("system", [Text(value)])


def _input(reader: Reader) -> Iterator[Turn]:
    value = reader.any("input")
    if isinstance(value, str):
        yield Turn("user", [Text(value)])
        return
    for place, item in reader.items("input"):
        yield _item(item, place, reader.loss)


def _item(item: Json, place: str, loss: Loss) -> Turn:
    kind = kind_of(item, place, "message")
    if kind == "message":
        return _message(Reader(item, place, MESSAGE, loss))
    if kind == "reasoning":
        return Turn("assistant", [_thinking(Reader(item, place, REASONING_ITEM, loss))])
    if kind in ("function_call", "custom_tool_call"):
        is_custom = kind == "custom_tool_call"
        reader = Reader(item, place, CUSTOM_CALL if is_custom else FUNCTION_CALL, loss)
        name = _full(reader.text("namespace"), reader.required("name"))
        arguments = reader.text("input" if is_custom else "arguments") or ""
        return Turn("assistant", [Call(reader.required("call_id"), name, arguments, is_custom)])
    if kind in ("function_call_output", "custom_tool_call_output"):
        reader = Reader(item, place, OUTPUT, loss)
        is_custom = kind == "custom_tool_call_output"
        return Turn("user", [Result(reader.required("call_id"), _output(reader), is_custom=is_custom)])
    if kind == "item_reference":
        loss.refuse(place, "refers to an answer that is not kept; send the item itself")
    return loss.refuse(place, f"is of the type {kind}, which only OpenAI's own models know")


def _message(reader: Reader) -> Turn:
    role = reader.any("role")
    if role not in ("user", "assistant", "system", "developer"):
        raise wrong(reader.place("role"), "must be user, assistant, system or developer")
    content = reader.any("content")
    parts: Sequence[Part]
    if isinstance(content, str):
        parts = [Text(content)]
    else:
        parts = [_part(item, place, reader.loss) for place, item in reader.items("content")]
    return Turn("system" if role == "developer" else role, parts)


def _part(item: Json, place: str, loss: Loss) -> Part:
    kind = kind_of(item, place)
    if kind in _TEXTS:
        return Text(
            Reader(item, place, OUTPUT_TEXT if kind == "output_text" else INPUT_TEXT, loss).required("text")
        )
    if kind == "input_image":
        reader = Reader(item, place, INPUT_IMAGE, loss)
        return media_of_url(
            reader.required("image_url"), reader.place("image_url"), detail=reader.text("detail")
        )
    if kind == "input_file":
        reader = Reader(item, place, INPUT_FILE, loss)
        url = reader.text("file_url")
        if url is not None:
            return Media("file", url=url, name=reader.text("filename"))
        return file_of(reader.required("file_data"), reader.place("file_data"), reader.text("filename"))
    if kind == "refusal":
        return Refusal(Reader(item, place, REFUSAL, loss).required("refusal"))
    return loss.refuse(place, f"is of the type {kind}")


def _output(reader: Reader) -> list[Text | Media]:
    value = reader.any("output")
    if isinstance(value, str):
        return [Text(value)]
    parts = [_part(item, place, reader.loss) for place, item in reader.items("output")]
    return [part for part in parts if isinstance(part, Text | Media)]


def _thinking(reader: Reader) -> Thinking:
    words: list[str] = []
    for name in ("summary", "content"):
        found = [item.get("text") for _, item in reader.items(name) if isinstance(item, dict)]
        words = words or [word for word in found if isinstance(word, str)]
    opaque = unwrap(reader.text("encrypted_content"), MAKER)
    is_redacted = opaque is not None and opaque.maker != MAKER and not words
    return Thinking("\n\n".join(words), opaque, is_redacted)


def _full(space: str | None, name: str) -> str:
    return name if space is None else f"{space}__{name}"


def _tools(item: Json, place: str, loss: Loss, spaces: dict[str, tuple[str, str]]) -> Iterator[Tool]:
    kind = kind_of(item, place)
    if kind == "namespace":
        space = Reader(item, place, NAMESPACE, loss)
        own = space.required("name")
        for where, inner in space.items("tools"):
            for tool in _tools(inner, where, loss, spaces):
                name = _full(own, tool.name)
                spaces[name] = (own, tool.name)
                yield Tool(name, tool.description, tool.schema, tool.strict, tool.is_custom, tool.grammar)
    elif kind == "function":
        reader = Reader(item, place, FUNCTION, loss)
        yield Tool(
            reader.required("name"),
            reader.text("description"),
            reader.object("parameters"),
            reader.flag("strict"),
        )
    elif kind == "custom":
        reader = Reader(item, place, CUSTOM, loss)
        form = reader.object("format") or {}
        grammar = {key: form[key] for key in ("syntax", "definition") if key in form}
        is_grammar = form.get("type") == "grammar"
        yield Tool(
            reader.required("name"),
            reader.text("description"),
            is_custom=True,
            grammar=grammar if is_grammar else None,
        )
    else:
        loss.refuse(place, f"is a tool of the type {kind}, which only OpenAI can run")


def _choice(reader: Reader) -> str | Named | None:
    value = reader.any("tool_choice")
    if value is None or value in ("auto", "none", "required"):
        return cast(str | None, value)
    if isinstance(value, dict) and value.get("type") == "allowed_tools":
        names = [tool.get("name") for tool in value.get("tools") or () if isinstance(tool, dict)]
        return Named(
            [name for name in names if isinstance(name, str)], must=value.get("mode") == "required"
        )
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        return Named([value["name"]])
    raise wrong("tool_choice", 'must be "auto", "none", "required" or name a function')


def _reasoning(reader: Reader) -> Reasoning | None:
    own = reader.child("reasoning", REASONING)
    if own is None:
        return None
    effort = own.text("effort")
    summary = own.text("summary") or own.text("generate_summary")
    if effort is None and summary is None:
        return None
    return Reasoning(effort, is_off=effort == "none", summary=summary)


def _shape(text: Reader) -> Shape | None:
    form = text.child("format", FORMAT)
    if form is None or form.text("type") in (None, "text"):
        return None
    if form.text("type") == "json_object":
        return Shape()
    if form.text("type") != "json_schema" or form.object("schema") is None:
        raise wrong("text.format", "must be of the type text, json_object or json_schema, with its schema")
    return Shape(form.text("name"), form.object("schema"), form.flag("strict"), form.text("description"))


class _Items:
    """Makes the items of an answer, with their ids."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._count = 0

    def of(self, part: Part) -> Iterator[dict[str, Json]]:
        item = self.begun(part)
        if item is None:
            return
        if isinstance(part, Text | Refusal):
            item["content"] = [content_of(part)]
        elif isinstance(part, Thinking):
            item["summary"] = summary_of(part.text)
            item["encrypted_content"] = kept_of(part.opaque, part.text)
        elif isinstance(part, Call):
            item["input" if part.is_custom else "arguments"] = part.arguments
        if "status" in item:
            item["status"] = "completed"
        if isinstance(part, Call) and part.opaque is not None:
            yield from self.of(Thinking("", part.opaque))
        yield item

    def begun(self, part: Part) -> dict[str, Json] | None:
        """Return an item as it begins."""
        self._count += 1
        own = f"{self._context.request_id}_{self._count}"
        if isinstance(part, Text | Refusal):
            item: dict[str, Json] = {"id": f"msg_{own}", "type": "message", "role": "assistant"}
            return {**item, "status": "in_progress", "content": []}
        if isinstance(part, Thinking):
            return {"id": f"rs_{own}", "type": "reasoning", "summary": []}
        if isinstance(part, Call):
            return self._call(part, own)
        if isinstance(part, Media) and part.kind == "image":
            item = {"id": f"ig_{own}", "type": "image_generation_call", "status": "in_progress"}
            return {**item, "result": part.base64}
        return None

    def _call(self, part: Call, own: str) -> dict[str, Json]:
        space, name = self._context.request.spaces.get(part.name, (None, part.name))
        named = {"call_id": part.id, "name": name}
        if space is not None:
            named["namespace"] = space
        if part.is_custom:
            return {
                "id": f"ctc_{own}",
                "type": "custom_tool_call",
                "status": "in_progress",
                **named,
                "input": "",
            }
        return {
            "id": f"fc_{own}",
            "type": "function_call",
            "status": "in_progress",
            **named,
            "arguments": "",
        }


def content_of(part: Text | Refusal) -> Json:
    """Return words as the content of a message."""
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    notes = [annotation(cite) for cite in part.citations]
    return {"type": "output_text", "text": part.text, "annotations": notes, "logprobs": list(part.logprobs)}


def annotation(cite: Citation) -> Json:
    """Return where a text comes from."""
    return {
        "type": "url_citation",
        "url": cite.url,
        "title": cite.title or "",
        "start_index": cite.start or 0,
        "end_index": cite.end or 0,
    }


def summary_of(text: str) -> list[Json]:
    """Return thoughts as a summary."""
    return [{"type": "summary_text", "text": text}] if text else []


def kept_of(opaque: Opaque | None, text: str) -> str | None:
    """Return what a caller keeps of a thought."""
    return None if opaque is None and not text else wrap(opaque)


def usage_object(usage: Usage | None) -> Json:
    """Return usage in the words of Responses; what is not known is null."""
    if usage is None:
        return None
    into, out = usage.input_tokens, usage.output_tokens
    return {
        "input_tokens": into,
        "input_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "output_tokens": out,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": None if into is None or out is None else into + out,
    }


def response(
    context: Context,
    model: str | None,
    output: Sequence[Json],
    candidate: Candidate | None,
    usage: Usage | None,
) -> dict[str, Json]:
    """Return the object of a response; without a candidate it is still in progress."""
    reason = None if candidate is None else candidate.finish
    why = {LENGTH: "max_output_tokens", CONTEXT: "max_output_tokens", FILTER: "content_filter"}.get(
        reason or ""
    )
    if reason == REFUSED:
        why = "content_filter"
    status = "in_progress" if candidate is None else "incomplete" if why else "completed"
    asked = context.request.echo
    return {
        "id": f"resp_{context.request_id}",
        "object": "response",
        "created_at": context.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": why} if why else None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "model": model or context.model,
        "output": list(output),
        "parallel_tool_calls": asked.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None, **(asked.get("reasoning") or {})},
        "store": False,
        "temperature": asked.get("temperature"),
        "text": asked.get("text", {"format": {"type": "text"}}),
        "tool_choice": asked.get("tool_choice", "auto"),
        "tools": asked.get("tools", []),
        "top_p": asked.get("top_p"),
        "truncation": asked.get("truncation", "disabled"),
        "usage": usage_object(usage),
        "user": asked.get("user"),
        "metadata": asked.get("metadata", {}),
    }


class ResponsesStream:
    """Writes the life of a response. The whole answer is held, as its last event repeats it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._items = _Items(context)
        self._model: str | None = None
        self._usage: Usage | None = None
        self._number = 0
        self._is_begun = False
        self._output: list[dict[str, Json]] = []
        self._item: dict[str, Json] | None = None
        self._part: Part | None = None
        self._words: list[str] = []
        self._logprobs: list[Json] = []
        self._held_chars = 0

    def encode(self, event: Event) -> bytes:
        if isinstance(event, Begin):
            self._model, self._usage = event.model, event.usage
            return self._begin()
        if isinstance(event, Used):
            self._usage = event.usage
            return b""
        if isinstance(event, Open):
            return self._begin() + self._open(event.part)
        if isinstance(event, Delta):
            return self._delta(event)
        if isinstance(event, Close):
            return self._close(event)
        return self._begin() + self._end(event)

    def close(self) -> bytes:
        return b""

    def _begin(self) -> bytes:
        if self._is_begun:
            return b""
        self._is_begun = True
        begun = response(self._context, self._model, [], None, None)
        return self._write("response.created", response=begun) + self._write(
            "response.in_progress", response=begun
        )

    def _end(self, event: Finish) -> bytes:
        candidate = Candidate([], event.reason, event.stop_sequence)
        ended = response(self._context, self._model, self._output, candidate, self._usage)
        return self._write(f"response.{ended['status']}", response=ended)

    def _open(self, part: Part) -> bytes:
        written = b""
        if isinstance(part, Call) and part.opaque is not None:
            written = self._open(Thinking("")) + self._close(Close(0, part.opaque))
        self._part = part
        self._item = item = self._items.begun(part)
        self._words, self._logprobs = [], []
        if item is None:
            return written
        written += self._write("response.output_item.added", output_index=len(self._output), item=item)
        if isinstance(part, Text | Refusal):
            empty = content_of(type(part)(""))
            written += self._place("response.content_part.added", content_index=0, part=empty)
        words = part.text if isinstance(part, Text | Refusal | Thinking) else ""
        return written + (self._delta(Delta(0, words)) if words else b"")

    def _delta(self, event: Delta) -> bytes:
        part = self._part
        if self._item is None or part is None:
            return b""
        self._held_chars += len(event.text)
        if self._held_chars > MAX_HELD_CHARS:
            raise broken(f"the answer is longer than {MAX_HELD_CHARS} characters")
        is_first = not self._words
        self._words.append(event.text)
        if isinstance(part, Text):
            self._logprobs += event.logprobs
            return self._place(
                "response.output_text.delta",
                content_index=0,
                delta=event.text,
                logprobs=list(event.logprobs),
            )
        if isinstance(part, Refusal):
            return self._place("response.refusal.delta", content_index=0, delta=event.text)
        if isinstance(part, Thinking):
            begun = b""
            if is_first:
                empty = {"type": "summary_text", "text": ""}
                begun = self._place("response.reasoning_summary_part.added", summary_index=0, part=empty)
            return begun + self._place(
                "response.reasoning_summary_text.delta", summary_index=0, delta=event.text
            )
        kind = (
            "custom_tool_call_input"
            if isinstance(part, Call) and part.is_custom
            else "function_call_arguments"
        )
        return self._place(f"response.{kind}.delta", delta=event.text)

    def _close(self, event: Close) -> bytes:
        part, item = self._part, self._item
        self._part = self._item = None
        if item is None or part is None:
            return b""
        self._item = item
        words = "".join(self._words)
        written = self._done(part, item, words, event)
        if "status" in item:
            item["status"] = "completed"
        written += self._write("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        self._item = None
        return written

    def _done(self, part: Part, item: dict[str, Json], words: str, event: Close) -> bytes:
        """Complete an item, and say so."""
        if isinstance(part, Text):
            return self._text_done(item, Text(words, event.citations, tuple(self._logprobs)))
        if isinstance(part, Refusal):
            content = content_of(Refusal(words))
            item["content"] = [content]
            written = self._place("response.refusal.done", content_index=0, refusal=words)
            return written + self._place("response.content_part.done", content_index=0, part=content)
        if isinstance(part, Thinking):
            return self._thought_done(part, item, words, event)
        if isinstance(part, Call):
            name = "input" if part.is_custom else "arguments"
            item[name] = words
            kind = "custom_tool_call_input" if part.is_custom else "function_call_arguments"
            more = {} if part.is_custom else {"name": item["name"]}
            return self._place(f"response.{kind}.done", **{name: words}, **more)
        return b""

    def _text_done(self, item: dict[str, Json], text: Text) -> bytes:
        content = content_of(text)
        item["content"] = [content]
        notes = b"".join(
            self._place(
                "response.output_text.annotation.added",
                content_index=0,
                annotation_index=index,
                annotation=note,
            )
            for index, note in enumerate(content["annotations"])
        )
        done = self._place(
            "response.output_text.done", content_index=0, text=text.text, logprobs=list(text.logprobs)
        )
        return notes + done + self._place("response.content_part.done", content_index=0, part=content)

    def _thought_done(self, part: Thinking, item: dict[str, Json], words: str, event: Close) -> bytes:
        item["summary"] = summary_of(words)
        item["encrypted_content"] = kept_of(event.opaque or part.opaque, words)
        if not words:
            return b""
        whole = item["summary"][0]
        written = self._place("response.reasoning_summary_text.done", summary_index=0, text=words)
        return written + self._place("response.reasoning_summary_part.done", summary_index=0, part=whole)

    def _place(self, kind: str, **fields: Json) -> bytes:
        """Write an event of the item that is open."""
        assert self._item is not None  # noqa: S101 - whoever calls has looked
        return self._write(kind, item_id=self._item["id"], output_index=len(self._output), **fields)

    def _write(self, kind: str, **fields: Json) -> bytes:
        document: Mapping[str, Json] = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode_json(document))
