"""Cohere's chat, version 2, towards a caller: requests read, answers and streams written.

Thoughts are pieces of the content, of the type `thinking`. What only their maker can read stands beside
them as `signature`, which Cohere does not have and its SDKs keep; a caller who sends the pieces back as
they came keeps it. A tool call has it too, where its maker wants that.

Source: https://docs.cohere.com/reference/chat and /chat-stream; the types of cohere 7.3 (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ..vocabulary import Usage
from .canonical import (
    CONTEXT,
    FILTER,
    LENGTH,
    NONE,
    PAUSE,
    REFUSED,
    REQUIRED,
    STOP,
    STOP_SEQUENCE,
    TOOLS,
    Answer,
    Call,
    Citation,
    Json,
    Media,
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
)
from .codec import Context, encode_json, media_of_url, unwrap
from .cohere_stream import CohereStream, citation, logprob, signed
from .loss import DROPPED, IGNORED, MAPPED, Loss, Reader, Refused, Table, kind_of, wrong

REQUEST: Table = {
    "messages": MAPPED,
    "model": IGNORED,
    "stream": IGNORED,
    "tools": MAPPED,
    "strict_tools": MAPPED,
    "tool_choice": MAPPED,
    "documents": MAPPED,
    "citation_options": MAPPED,
    "response_format": MAPPED,
    "safety_mode": DROPPED,
    "max_tokens": MAPPED,
    "stop_sequences": MAPPED,
    "temperature": MAPPED,
    "seed": MAPPED,
    "frequency_penalty": MAPPED,
    "presence_penalty": MAPPED,
    "k": MAPPED,
    "p": MAPPED,
    "logprobs": MAPPED,
    "thinking": MAPPED,
    "priority": DROPPED,
    "raw_prompting": Refused("is for Cohere's own models alone"),
}
USER: Table = {"role": MAPPED, "content": MAPPED}
SYSTEM = USER
ASSISTANT: Table = {
    "role": MAPPED,
    "content": MAPPED,
    "tool_calls": MAPPED,
    "tool_plan": MAPPED,
    "citations": IGNORED,
}
TOOL_MESSAGE: Table = {"role": MAPPED, "tool_call_id": MAPPED, "content": MAPPED}
TEXT: Table = {"type": MAPPED, "text": MAPPED}
IMAGE: Table = {"type": MAPPED, "image_url": MAPPED}
IMAGE_URL: Table = {"url": MAPPED, "detail": MAPPED}
THINKING_PART: Table = {"type": MAPPED, "thinking": MAPPED, "signature": MAPPED}
DOCUMENT_PART: Table = {"type": MAPPED, "document": MAPPED}
DOCUMENT: Table = {"id": MAPPED, "data": MAPPED}
TOOL_CALL: Table = {"id": MAPPED, "type": MAPPED, "function": MAPPED, "signature": MAPPED}
FUNCTION_OF_CALL: Table = {"name": MAPPED, "arguments": MAPPED}
TOOL: Table = {"type": MAPPED, "function": MAPPED}
FUNCTION: Table = {"name": MAPPED, "description": MAPPED, "parameters": MAPPED}
THINKING: Table = {"type": MAPPED, "token_budget": MAPPED}
FORMAT: Table = {"type": MAPPED, "json_schema": MAPPED}
CITATIONS: Table = {"mode": MAPPED}

_NAMES = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "p": "top_p",
    "k": "top_k",
    "seed": "seed",
    "stop_sequences": "stop",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "logprobs": "logprobs",
    "tools": "tools",
    "tool_choice": "choice",
    "response_format": "shape",
    "thinking": "reasoning",
}
_UNCITED = ("OFF", "DISABLED")
PartReader = Callable[[Json, str, Loss], Part]

FINISHES: Mapping[str, str] = {
    STOP: "COMPLETE",
    STOP_SEQUENCE: "STOP_SEQUENCE",
    LENGTH: "MAX_TOKENS",
    CONTEXT: "MAX_TOKENS",
    TOOLS: "TOOL_CALL",
    FILTER: "ERROR",
    REFUSED: "ERROR",
    PAUSE: "MAX_TOKENS",
}
"""A content filter has no word of its own in this version: what it cut is told as a failure."""


class CohereFront:
    """The half of Cohere's chat that faces a caller."""

    def decode_request(self, fields: dict[str, Json], loss: Loss) -> Request:
        reader = Reader(fields, "", REQUEST, loss)
        turns = [_turn(item, place, loss) for place, item in reader.items("messages")]
        is_strict = reader.flag("strict_tools")
        request = Request(
            turns=_with_documents(turns, reader),
            tools=[_tool(item, place, loss, is_strict) for place, item in reader.items("tools")],
            choice=_choice(reader),
            max_tokens=reader.integer("max_tokens"),
            temperature=reader.number("temperature"),
            top_p=reader.number("p"),
            top_k=reader.integer("k") or None,  # 0 is off
            stop=reader.texts("stop_sequences"),
            seed=reader.integer("seed"),
            frequency_penalty=reader.number("frequency_penalty"),
            presence_penalty=reader.number("presence_penalty"),
            logprobs=reader.flag("logprobs"),
            shape=_shape(reader),
            reasoning=_reasoning(reader),
        )
        request.names = reader.names_of(_NAMES)
        return request

    def encode_answer(self, answer: Answer, context: Context) -> Json:
        candidate = answer.candidates[0]
        document: dict[str, Json] = {
            "id": context.request_id,
            "finish_reason": FINISHES[candidate.finish or STOP],
            "message": _message(candidate.parts),
        }
        if answer.usage is not None:
            document["usage"] = usage_object(answer.usage)
        texts = [part for part in candidate.parts if isinstance(part, Text)]
        logprobs = [logprob(each) for part in texts for each in part.logprobs]
        return document | ({"logprobs": logprobs} if logprobs else {})

    def encoder(self, context: Context) -> CohereStream:
        return CohereStream(context, FINISHES, usage_object)


# Reading


def _turn(item: Json, place: str, loss: Loss) -> Turn:
    role = item.get("role") if isinstance(item, dict) else None
    if role == "system":
        return Turn("system", list(_content(Reader(item, place, SYSTEM, loss), _system_part)))
    if role == "user":
        return Turn("user", list(_content(Reader(item, place, USER, loss), _user_part)))
    if role == "assistant":
        return Turn("assistant", list(_said(Reader(item, place, ASSISTANT, loss))))
    if role == "tool":
        reader = Reader(item, place, TOOL_MESSAGE, loss)
        parts = [part for part in _content(reader, _tool_part) if isinstance(part, Text | Media)]
        return Turn("user", [Result(reader.required("tool_call_id"), parts)])
    raise wrong(f"{place}.role", "must be system, user, assistant or tool")


def _content(reader: Reader, read: PartReader) -> Iterator[Part]:
    value = reader.any("content")
    if isinstance(value, str):
        yield Text(value)
        return
    for place, item in reader.items("content"):
        yield read(item, place, reader.loss)


def _system_part(item: Json, place: str, loss: Loss) -> Part:
    if kind_of(item, place, "text") != "text":
        raise wrong(f"{place}.type", "must be text")
    return Text(Reader(item, place, TEXT, loss).required("text"))


def _user_part(item: Json, place: str, loss: Loss) -> Part:
    kind = kind_of(item, place)
    if kind == "text":
        return Text(Reader(item, place, TEXT, loss).required("text"))
    if kind == "image_url":
        image = Reader(item, place, IMAGE, loss).child("image_url", IMAGE_URL)
        if image is None:
            raise wrong(f"{place}.image_url", "is missing")
        return media_of_url(image.required("url"), image.place("url"), detail=image.text("detail"))
    if kind == "document":
        return _document(Reader(item, place, DOCUMENT_PART, loss))
    raise wrong(f"{place}.type", "must be text or image_url")


def _tool_part(item: Json, place: str, loss: Loss) -> Part:
    kind = kind_of(item, place)
    if kind == "text":
        return Text(Reader(item, place, TEXT, loss).required("text"))
    if kind == "document":
        return _document(Reader(item, place, DOCUMENT_PART, loss))
    raise wrong(f"{place}.type", "must be text or document")


def _document(reader: Reader) -> Text:
    """Read a document that stands in a message: what it holds, as JSON."""
    document = reader.child("document", DOCUMENT)
    if document is None:
        raise wrong(reader.place("document"), "is missing")
    return Text(encode_json(document.object("data") or {}).decode())


def _said(reader: Reader) -> Iterator[Part]:
    plan = reader.text("tool_plan")
    if plan:
        yield Thinking(plan)
    yield from (part for part in _content(reader, _assistant_part) if part != Text(""))
    for place, item in reader.items("tool_calls"):
        yield _call(Reader(item, place, TOOL_CALL, reader.loss))


def _assistant_part(item: Json, place: str, loss: Loss) -> Part:
    kind = kind_of(item, place)
    if kind == "text":
        return Text(Reader(item, place, TEXT, loss).required("text"))
    if kind == "thinking":
        reader = Reader(item, place, THINKING_PART, loss)
        text, opaque = reader.text("thinking") or "", unwrap(reader.text("signature"), "")
        return Thinking(text, opaque, is_redacted=not text)
    raise wrong(f"{place}.type", "must be text or thinking")


def _call(reader: Reader) -> Call:
    function = reader.child("function", FUNCTION_OF_CALL)
    if function is None:
        raise wrong(reader.place("function"), "is missing")
    opaque = unwrap(reader.text("signature"), "")
    name, arguments = function.required("name"), function.text("arguments") or ""
    return Call(reader.required("id"), name, arguments, opaque=opaque)


def _with_documents(turns: list[Turn], reader: Reader) -> list[Turn]:
    """Put the documents before the last question, where they are to be read and need not be cited."""
    documents = list(reader.items("documents"))
    options = reader.child("citation_options", CITATIONS)
    mode = None if options is None else options.text("mode")
    is_uncited = mode is not None and mode.upper() in _UNCITED
    if not documents:
        if mode is not None and not is_uncited:
            reader.loss.drop("citation_options")
        return turns
    if not is_uncited:
        why = "asks for an answer that cites them; with citation_options.mode OFF they are only read"
        reader.loss.refuse("documents", why)
    last = max((at for at, turn in enumerate(turns) if _is_question(turn)), default=None)
    if last is None:
        raise wrong("documents", "needs a message of the user's")
    parts = [_file(item, place, reader.loss) for place, item in documents]
    return [*turns[:last], Turn("user", [*parts, *turns[last].parts]), *turns[last + 1 :]]


def _is_question(turn: Turn) -> bool:
    return turn.role == "user" and not any(isinstance(part, Result) for part in turn.parts)


def _file(item: Json, place: str, loss: Loss) -> Media:
    if isinstance(item, str):
        return Media("file", "text/plain", text=item)
    document = Reader(item, place, DOCUMENT, loss)
    text = encode_json(document.object("data") or {}).decode()
    return Media("file", "text/plain", text=text, name=document.text("id"))


def _tool(item: Json, place: str, loss: Loss, is_strict: bool | None) -> Tool:
    kind = kind_of(item, place, "function")
    if kind != "function":
        loss.refuse(place, f"is a tool of the type {kind}, which the provider itself would run")
    function = Reader(item, place, TOOL, loss).child("function", FUNCTION)
    if function is None:
        raise wrong(f"{place}.function", "is missing")
    schema = function.object("parameters")
    return Tool(function.required("name"), function.text("description"), schema, is_strict or None)


def _choice(reader: Reader) -> str | None:
    value = reader.text("tool_choice")
    if value is None or value.upper() == "AUTO":
        return None
    if value.upper() not in ("REQUIRED", "NONE"):
        raise wrong("tool_choice", "must be REQUIRED or NONE, or be left out")
    return REQUIRED if value.upper() == "REQUIRED" else NONE


def _shape(reader: Reader) -> Shape | None:
    form = reader.child("response_format", FORMAT)
    if form is None or form.text("type") in (None, "text"):
        return None
    if form.text("type") != "json_object":
        raise wrong("response_format.type", "must be text or json_object")
    schema = form.object("json_schema")
    return Shape(schema=schema, strict=True if schema is not None else None)


def _reasoning(reader: Reader) -> Reasoning | None:
    thinking = reader.child("thinking", THINKING)
    if thinking is None:
        return None
    kind, budget = thinking.text("type"), thinking.integer("token_budget")
    if kind not in ("enabled", "disabled"):
        raise wrong("thinking.type", "must be enabled or disabled")
    is_off = kind == "disabled"
    is_adaptive = budget is None and not is_off
    return Reasoning(budget_tokens=None if is_off else budget, is_adaptive=is_adaptive, is_off=is_off)


# Writing


def _message(parts: list[Part]) -> dict[str, Json]:
    message: dict[str, Json] = {"role": "assistant"}
    calls = [_tool_call(part) for part in parts if isinstance(part, Call)]
    content = [(part, _piece(part)) for part in parts if isinstance(part, Text | Refusal | Thinking)]
    kept = [(part, piece) for part, piece in content if piece is not None]
    if calls:
        message["tool_calls"] = calls
    if kept or not calls:
        message["content"] = [piece for _, piece in kept] or [{"type": "text", "text": ""}]
    cited = [
        citation(cite, index, part.text)
        for index, (part, _) in enumerate(kept)
        for cite in _citations(part)
    ]
    return message | ({"citations": cited} if cited else {})


def _citations(part: Part) -> tuple[Citation, ...]:
    return tuple(part.citations) if isinstance(part, Text) else ()


def _piece(part: Part) -> dict[str, Json] | None:
    """Write a piece of the content; None for one that says nothing."""
    if isinstance(part, Thinking):
        made = signed({"type": "thinking", "thinking": part.text}, part.opaque)
        return made if part.text or part.opaque is not None else None
    text = part.text if isinstance(part, Text | Refusal) else ""
    return {"type": "text", "text": text} if text else None


def _tool_call(part: Call) -> dict[str, Json]:
    function = {"name": part.name, "arguments": part.arguments}
    return signed({"id": part.id, "type": "function", "function": function}, part.opaque)


def usage_object(usage: Usage) -> dict[str, Json]:
    """Return usage in Cohere's words. What is unknown is left out."""
    counts = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    known = {name: value for name, value in counts.items() if value is not None}
    written: dict[str, Json] = {"billed_units": known, "tokens": known} if known else {}
    if usage.cached_input_tokens is not None:
        written["cached_tokens"] = usage.cached_input_tokens
    return written
