"""Anthropic's Messages API towards a caller: requests read, answers and streams written.

Source: https://platform.claude.com/docs/en/api/messages and /streaming (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ..vocabulary import Usage
from .canonical import (
    CONTEXT,
    FILTER,
    LENGTH,
    PAUSE,
    REFUSED,
    STOP,
    STOP_SEQUENCE,
    TOOLS,
    Answer,
    Begin,
    Call,
    Citation,
    Close,
    Delta,
    Event,
    Json,
    Media,
    Named,
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
from .codec import Context, arguments_object, encode_json, unwrap, wrap
from .loss import DROPPED, IGNORED, MAPPED, Loss, Reader, Refused, Table, kind_of, wrong

_FILE = Refused("names a file of the provider's account")
_SERVER = Refused("is of a tool that the provider itself runs")

REQUEST: Table = {
    "max_tokens": MAPPED,
    "messages": MAPPED,
    "model": IGNORED,
    "stream": IGNORED,
    "cache_control": DROPPED,
    "container": IGNORED,
    "mcp_servers": IGNORED,
    "context_management": DROPPED,
    "diagnostics": DROPPED,
    "inference_geo": DROPPED,
    "metadata": MAPPED,
    "output_config": MAPPED,
    "output_format": MAPPED,
    "service_tier": MAPPED,
    "speed": DROPPED,
    "stop_sequences": MAPPED,
    "system": MAPPED,
    "temperature": MAPPED,
    "thinking": MAPPED,
    "tool_choice": MAPPED,
    "tools": MAPPED,
    "top_k": MAPPED,
    "top_p": MAPPED,
    "user_profile_id": DROPPED,
    "workspace_id": DROPPED,
}
_NAMES = {
    "max_tokens": "max_tokens",
    "metadata": "user",
    "output_format": "shape",
    "service_tier": "service_tier",
    "stop_sequences": "stop",
    "temperature": "temperature",
    "thinking": "reasoning",
    "tool_choice": "choice",
    "tools": "tools",
    "top_k": "top_k",
    "top_p": "top_p",
}
MESSAGE: Table = {"role": MAPPED, "content": MAPPED}
TEXT: Table = {"type": MAPPED, "text": MAPPED, "cache_control": MAPPED, "citations": IGNORED}
IMAGE: Table = {"type": MAPPED, "source": MAPPED, "cache_control": MAPPED, "transformations": DROPPED}
DOCUMENT: Table = {
    "type": MAPPED,
    "source": MAPPED,
    "cache_control": MAPPED,
    "citations": MAPPED,
    "context": MAPPED,
    "title": MAPPED,
}
SOURCE: Table = {
    "type": MAPPED,
    "data": MAPPED,
    "media_type": MAPPED,
    "url": MAPPED,
    "content": MAPPED,
    "file_id": _FILE,
}
SEARCH_RESULT: Table = {
    "type": MAPPED,
    "content": MAPPED,
    "source": MAPPED,
    "title": MAPPED,
    "cache_control": MAPPED,
    "citations": MAPPED,
}
THINKING: Table = {"type": MAPPED, "thinking": MAPPED, "signature": MAPPED}
REDACTED: Table = {"type": MAPPED, "data": MAPPED}
TOOL_USE: Table = {
    "type": MAPPED,
    "id": MAPPED,
    "name": MAPPED,
    "input": MAPPED,
    "cache_control": MAPPED,
    "caller": IGNORED,
    "toolset_name": IGNORED,
}
TOOL_RESULT: Table = {
    "type": MAPPED,
    "tool_use_id": MAPPED,
    "content": MAPPED,
    "is_error": MAPPED,
    "cache_control": MAPPED,
    "toolset_name": IGNORED,
}
TOOL: Table = {
    "type": MAPPED,
    "name": MAPPED,
    "description": MAPPED,
    "input_schema": MAPPED,
    "cache_control": MAPPED,
    "strict": MAPPED,
    "allowed_callers": DROPPED,
    "defer_loading": DROPPED,
    "eager_input_streaming": DROPPED,
    "input_examples": DROPPED,
}
CHOICE: Table = {"type": MAPPED, "name": MAPPED, "disable_parallel_tool_use": MAPPED}
THINKING_CONFIG: Table = {"type": MAPPED, "budget_tokens": MAPPED, "display": MAPPED}
OUTPUT_CONFIG: Table = {"effort": MAPPED, "format": MAPPED, "task_budget": DROPPED}
FORMAT: Table = {"type": MAPPED, "schema": MAPPED}
METADATA: Table = {"user_id": MAPPED}
CACHE: Table = {"type": MAPPED, "ttl": MAPPED}

FINISHES: Mapping[str, str] = {
    STOP: "end_turn",
    STOP_SEQUENCE: "stop_sequence",
    LENGTH: "max_tokens",
    CONTEXT: "model_context_window_exceeded",
    TOOLS: "tool_use",
    FILTER: "refusal",
    REFUSED: "refusal",
    PAUSE: "pause_turn",
}
_SHOWN_KINDS = "text, image, document, search_result, thinking, redacted_thinking, tool_use or tool_result"


class MessagesFront:
    """The half of the Messages API that faces a caller."""

    def decode_request(self, fields: dict[str, Json], loss: Loss) -> Request:
        reader = Reader(fields, "", REQUEST, loss)
        choice, parallel = _choice(reader)
        metadata = reader.child("metadata", METADATA)
        request = Request(
            turns=[
                *_system(reader),
                *(_turn(item, place, loss) for place, item in reader.items("messages")),
            ],
            tools=[_tool(item, place, loss) for place, item in reader.items("tools")],
            choice=choice,
            parallel_tools=parallel,
            max_tokens=reader.integer("max_tokens"),
            temperature=reader.number("temperature"),
            top_p=reader.number("top_p"),
            top_k=reader.integer("top_k"),
            stop=reader.texts("stop_sequences"),
            service_tier=reader.text("service_tier"),
            user=None if metadata is None else metadata.text("user_id"),
        )
        if request.max_tokens is None:
            raise wrong("max_tokens", "is missing")
        request.names = {**reader.names_of(_NAMES), "has_cache": "cache_control"}
        request.has_cache = loss.has_cache
        _output(reader, request)
        return request

    def encode_answer(self, answer: Answer, context: Context) -> Json:
        candidate = answer.candidates[0]
        return {
            "id": f"msg_{context.request_id}",
            "type": "message",
            "role": "assistant",
            "model": answer.model or context.model,
            "content": [block for part in candidate.parts for block in _blocks(part)],
            "stop_reason": FINISHES[candidate.finish or STOP],
            "stop_sequence": candidate.stop_sequence,
            "usage": usage_object(answer.usage),
        }

    def encoder(self, context: Context) -> MessagesStream:
        return MessagesStream(context)


def _system(reader: Reader) -> Iterator[Turn]:
    value = reader.any("system")
    if isinstance(value, str):
        yield Turn("system", [Text(value)])
    elif value is not None:
        parts = [_part(item, place, reader.loss) for place, item in reader.items("system")]
        yield Turn("system", parts)


def _turn(item: Json, place: str, loss: Loss) -> Turn:
    reader = Reader(item, place, MESSAGE, loss)
    role = reader.any("role")
    if role not in ("user", "assistant", "system"):
        raise wrong(reader.place("role"), "must be user, assistant or system")
    content = reader.any("content")
    if isinstance(content, str):
        return Turn(role, [Text(content)])
    if content is None:
        raise wrong(reader.place("content"), "is missing")
    return Turn(role, [_part(block, where, loss) for where, block in reader.items("content")])


def _part(item: Json, place: str, loss: Loss) -> Part:
    kind = kind_of(item, place)
    read = _PARTS.get(kind)
    if read is not None:
        return read(item, place, loss)
    if kind in _SERVER_BLOCKS:
        loss.refuse(place, _SERVER.why)
    raise wrong(f"{place}.type", f"must be {_SHOWN_KINDS}")


_SERVER_BLOCKS = (
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "mcp_tool_use",
    "mcp_tool_result",
    "container_upload",
    "tool_reference",
    "browser_state",
    "compaction",
)


def _cache(reader: Reader) -> str | None:
    control = reader.child("cache_control", CACHE)
    if control is None:
        return None
    reader.loss.has_cache = True
    return control.text("ttl") or "5m"


def _text(item: Json, place: str, loss: Loss) -> Text:
    reader = Reader(item, place, TEXT, loss)
    return Text(reader.required("text"), cache=_cache(reader))


def _image(item: Json, place: str, loss: Loss) -> Media:
    reader = Reader(item, place, IMAGE, loss)
    source = _source(reader)
    if source.any("type") == "url":
        return Media("image", url=source.required("url"), cache=_cache(reader))
    media_type, data = source.required("media_type"), source.required("data")
    return Media("image", media_type, base64=data, cache=_cache(reader))


def _source(reader: Reader) -> Reader:
    source = reader.child("source", SOURCE)
    if source is None:
        raise wrong(reader.place("source"), "is missing")
    return source


def _document(item: Json, place: str, loss: Loss) -> Media:
    reader = Reader(item, place, DOCUMENT, loss)
    source = _source(reader)
    cites = reader.object("citations") or {}
    cache, name, context = _cache(reader), reader.text("title"), reader.text("context")
    is_cited = cites.get("enabled") is True
    kind = source.any("type")
    if kind == "url":
        url = source.required("url")
        return Media("file", None, url=url, name=name, context=context, is_cited=is_cited, cache=cache)
    if kind == "base64":
        media_type, data = source.text("media_type") or "application/pdf", source.required("data")
        return Media("file", media_type, data, name=name, context=context, is_cited=is_cited, cache=cache)
    if kind == "text":
        text = source.required("data")
    elif kind == "content":
        text = _plain_text(source)
    else:
        raise wrong(source.place("type"), "must be base64, text, content or url")
    return Media(
        "file", "text/plain", text=text, name=name, context=context, is_cited=is_cited, cache=cache
    )


def _plain_text(reader: Reader) -> str:
    content = reader.any("content")
    if isinstance(content, str):
        return content
    words = []
    for place, item in reader.items("content"):
        if kind_of(item, place) != "text":
            reader.loss.refuse(place, "is a picture within a document")
        words.append(Reader(item, place, TEXT, reader.loss).required("text"))
    return "\n".join(words)


def _search_result(item: Json, place: str, loss: Loss) -> Media:
    reader = Reader(item, place, SEARCH_RESULT, loss)
    return Media(
        "file",
        "text/plain",
        text=f"{reader.required('source')}\n{_plain_text(reader)}",
        name=reader.text("title"),
        cache=_cache(reader),
    )


def _thinking(item: Json, place: str, loss: Loss) -> Thinking:
    reader = Reader(item, place, THINKING, loss)
    return Thinking(reader.text("thinking") or "", unwrap(reader.text("signature"), "anthropic"))


def _redacted(item: Json, place: str, loss: Loss) -> Thinking:
    reader = Reader(item, place, REDACTED, loss)
    return Thinking("", unwrap(reader.required("data"), "anthropic"), is_redacted=True)


def _tool_use(item: Json, place: str, loss: Loss) -> Call:
    reader = Reader(item, place, TOOL_USE, loss)
    arguments = encode_json(reader.object("input") or {}).decode()
    return Call(reader.required("id"), reader.required("name"), arguments, cache=_cache(reader))


def _tool_result(item: Json, place: str, loss: Loss) -> Result:
    reader = Reader(item, place, TOOL_RESULT, loss)
    content = reader.any("content")
    parts: list[Text | Media] = []
    if isinstance(content, str):
        parts = [Text(content)]
    elif content is not None:
        for where, block in reader.items("content"):
            part = _part(block, where, loss)
            if not isinstance(part, Text | Media):
                raise wrong(f"{where}.type", "must be text, image, document or search_result")
            parts.append(part)
    is_error = bool(reader.flag("is_error"))
    return Result(reader.required("tool_use_id"), parts, is_error, cache=_cache(reader))


_PARTS: Mapping[str, Callable[[Json, str, Loss], Part]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
}


def _tool(item: Json, place: str, loss: Loss) -> Tool:
    kind = kind_of(item, place, "custom")
    if kind != "custom":
        loss.refuse(place, f"is a tool of the type {kind}, which only Anthropic's own models know")
    reader = Reader(item, place, TOOL, loss)
    schema = reader.object("input_schema")
    if schema is None:
        raise wrong(reader.place("input_schema"), "is missing")
    return Tool(
        reader.required("name"),
        reader.text("description"),
        schema,
        reader.flag("strict"),
        cache=_cache(reader),
    )


def _choice(reader: Reader) -> tuple[str | Named | None, bool | None]:
    choice = reader.child("tool_choice", CHOICE)
    if choice is None:
        return None, None
    is_single = choice.flag("disable_parallel_tool_use")
    parallel = None if is_single is None else not is_single
    kind = choice.any("type")
    if kind == "tool":
        return Named([choice.required("name")]), parallel
    known = {"auto": "auto", "any": "required", "none": "none"}
    if kind not in known:
        raise wrong("tool_choice.type", "must be auto, any, tool or none")
    return known[kind], parallel


def _output(reader: Reader, request: Request) -> None:
    """Read how to think, and the shape of the answer."""
    config = reader.child("output_config", OUTPUT_CONFIG)
    form = reader.child("output_format", FORMAT)
    effort = None
    if config is not None:
        effort = config.text("effort")
        form = config.child("format", FORMAT) or form
        if form is not None:
            request.names["shape"] = "output_config.format"
    if form is not None:
        request.shape = Shape(schema=form.object("schema"), strict=True)
    thinking = reader.child("thinking", THINKING_CONFIG)
    if thinking is None:
        if effort is not None:
            request.reasoning = Reasoning(effort)
            request.names["reasoning"] = "output_config.effort"
        return
    kind = thinking.any("type")
    request.reasoning = Reasoning(
        effort,
        thinking.integer("budget_tokens"),
        is_adaptive=kind in ("adaptive", "between_tools"),
        is_off=kind == "disabled",
        is_hidden=thinking.any("display") == "omitted",
    )


def _blocks(part: Part) -> Iterator[Json]:
    """Write a part of an answer as blocks."""
    if isinstance(part, Text):
        block: dict[str, Json] = {"type": "text", "text": part.text}
        if part.citations:
            block["citations"] = [citation(cite) for cite in part.citations]
        yield block
    elif isinstance(part, Refusal):
        yield {"type": "text", "text": part.text}
    elif isinstance(part, Thinking):
        yield from _thinking_blocks(part)
    elif isinstance(part, Call):
        if part.opaque is not None:
            yield {"type": "redacted_thinking", "data": wrap(part.opaque)}
        input_ = {"input": part.arguments} if part.is_custom else arguments_object(part.arguments)
        yield {"type": "tool_use", "id": part.id, "name": part.name, "input": input_}


def _thinking_blocks(part: Thinking) -> Iterator[Json]:
    if part.is_redacted:
        yield {"type": "redacted_thinking", "data": wrap(part.opaque)}
    else:
        yield {"type": "thinking", "thinking": part.text, "signature": wrap(part.opaque)}


def citation(cite: Citation) -> Json:
    """Return where a text comes from, as a result of a search."""
    return {
        "type": "web_search_result_location",
        "url": cite.url,
        "title": cite.title,
        "cited_text": cite.quote or "",
        "encrypted_index": "",
    }


def usage_object(usage: Usage | None) -> Json:
    """Return usage in Anthropic's words: its input is without what was cached. What is unknown is null."""
    if usage is None:
        return {"input_tokens": None, "output_tokens": None}
    read, written = usage.cached_input_tokens, usage.cache_write_tokens
    into = usage.input_tokens
    return {
        "input_tokens": None if into is None else max(0, into - (read or 0) - (written or 0)),
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
    }


class MessagesStream:
    """Writes the events of a message."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._usage: Usage | None = None
        self._model = context.model
        self._is_begun = False
        self._has_pinged = False
        self._block = -1
        self._parts: dict[int, Part] = {}
        self._held: list[str] = []

    def encode(self, event: Event) -> bytes:
        if isinstance(event, Begin):
            self._model, self._usage = event.model or self._model, event.usage
            return self._begin()
        if isinstance(event, Used):
            self._usage = event.usage
            return b""
        if isinstance(event, Open):
            return self._begin() + self._open(event)
        if isinstance(event, Delta):
            return self._delta(self._parts[event.index], event.text)
        if isinstance(event, Close):
            return self._close(self._parts.pop(event.index), event)
        delta = {"stop_reason": FINISHES[event.reason], "stop_sequence": event.stop_sequence}
        usage = usage_object(self._usage)
        return self._begin() + _sse("message_delta", {"delta": delta, "usage": usage})

    def close(self) -> bytes:
        return _sse("message_stop", {})

    def _begin(self) -> bytes:
        if self._is_begun:
            return b""
        self._is_begun = True
        told = usage_object(self._usage)
        message: dict[str, Json] = {
            "id": f"msg_{self._context.request_id}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            # SDKs add up from here, and take what the end tells in its place
            "usage": {**told, "input_tokens": told["input_tokens"] or 0, "output_tokens": 0},
        }
        return _sse("message_start", {"message": message})

    def _open(self, event: Open) -> bytes:
        part = event.part
        self._parts[event.index] = part
        if isinstance(part, Media):
            return b""  # there is no block for it
        written = b""
        if isinstance(part, Thinking) and part.is_redacted:
            return b""  # its data comes at its end
        if isinstance(part, Call) and part.opaque is not None:
            written = self._whole({"type": "redacted_thinking", "data": wrap(part.opaque)})
        written += self._start(_empty(part))
        words = part.text if isinstance(part, Text | Thinking | Refusal) else ""
        return written + (self._delta(part, words) if words else b"")

    def _delta(self, part: Part, text: str) -> bytes:
        if isinstance(part, Media):
            return b""
        if isinstance(part, Call):
            if part.is_custom:
                self._held.append(text)
                return b""
            return self._more({"type": "input_json_delta", "partial_json": text})
        if isinstance(part, Thinking):
            return self._more({"type": "thinking_delta", "thinking": text})
        return self._more({"type": "text_delta", "text": text})

    def _close(self, part: Part, event: Close) -> bytes:
        if isinstance(part, Media):
            return b""
        if isinstance(part, Thinking):
            if part.is_redacted:
                return self._whole({"type": "redacted_thinking", "data": wrap(event.opaque or part.opaque)})
            signature = wrap(event.opaque or part.opaque)
            return self._more({"type": "signature_delta", "signature": signature}) + self._stop()
        written = b"".join(
            self._more({"type": "citations_delta", "citation": citation(cite)}) for cite in event.citations
        )
        if isinstance(part, Call) and part.is_custom:
            held, self._held = "".join(self._held), []
            text = encode_json({"input": held}).decode()
            written += self._more({"type": "input_json_delta", "partial_json": text})
        return written + self._stop()

    def _whole(self, block: Json) -> bytes:
        return self._start(block) + self._stop()

    def _start(self, block: Json) -> bytes:
        self._block += 1
        written = _sse("content_block_start", {"index": self._block, "content_block": block})
        if self._has_pinged:
            return written
        self._has_pinged = True
        return written + _sse("ping", {})

    def _more(self, delta: Json) -> bytes:
        return _sse("content_block_delta", {"index": self._block, "delta": delta})

    def _stop(self) -> bytes:
        return _sse("content_block_stop", {"index": self._block})


def _empty(part: Part) -> Json:
    """Return the block that a part begins with."""
    if isinstance(part, Call):
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
    if isinstance(part, Thinking):
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


def _sse(name: str, fields: Mapping[str, Json]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode_json({"type": name, **fields}))
