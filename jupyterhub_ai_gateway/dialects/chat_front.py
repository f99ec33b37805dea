"""OpenAI's chat completions towards a caller: requests read, answers and streams written.

Source: https://platform.openai.com/docs/api-reference/chat (read 2026-11). What others have added and many
clients read: `reasoning_content` (DeepSeek, vLLM), `reasoning_details` (OpenRouter,
https://openrouter.ai/docs/use-cases/reasoning-tokens), `extra_content.google.thought_signature`
(https://ai.google.dev/gemini-api/docs/thought-signatures).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, cast

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
    Candidate,
    Citation,
    Close,
    Delta,
    Event,
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
from .codec import Context, data_url, encode_json, media_of_url, text_of, unwrap, wrap
from .loss import DROPPED, IGNORED, MAPPED, Loss, Reader, Refused, Table, kind_of, wrong

_ACCOUNT = Refused("names a file of the provider's account")
_SPOKEN = Refused("asks for speech")
_OLDER = Refused("is the older form of tools; send tools and tool_choice")

REQUEST: Table = {
    "messages": MAPPED,
    "model": IGNORED,
    "stream": IGNORED,
    "stream_options": IGNORED,
    "store": IGNORED,
    "safety_identifier": IGNORED,
    "audio": _SPOKEN,
    "function_call": _OLDER,
    "functions": _OLDER,
    "frequency_penalty": MAPPED,
    "logit_bias": MAPPED,
    "logprobs": MAPPED,
    "max_completion_tokens": MAPPED,
    "max_tokens": MAPPED,
    "metadata": DROPPED,
    "modalities": MAPPED,
    "moderation": DROPPED,
    "n": MAPPED,
    "parallel_tool_calls": MAPPED,
    "prediction": DROPPED,
    "presence_penalty": MAPPED,
    "prompt_cache_key": MAPPED,
    "prompt_cache_options": DROPPED,
    "prompt_cache_retention": DROPPED,
    "random_seed": MAPPED,
    "reasoning": MAPPED,
    "reasoning_effort": MAPPED,
    "response_format": MAPPED,
    "seed": MAPPED,
    "service_tier": MAPPED,
    "stop": MAPPED,
    "temperature": MAPPED,
    "tool_choice": MAPPED,
    "tools": MAPPED,
    "top_k": MAPPED,
    "top_logprobs": MAPPED,
    "top_p": MAPPED,
    "user": MAPPED,
    "verbosity": MAPPED,
    "web_search_options": Refused("asks for a search in the web"),
}
_NAMES = {
    "max_completion_tokens": "max_tokens",
    "parallel_tool_calls": "parallel_tools",
    "prompt_cache_key": "cache_key",
    "random_seed": "seed",
    "reasoning_effort": "reasoning",
    "response_format": "shape",
    "tool_choice": "choice",
} | {
    name: name
    for name in (
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_tokens",
        "n",
        "presence_penalty",
        "reasoning",
        "seed",
        "service_tier",
        "stop",
        "temperature",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
    )
}
SYSTEM: Table = {"role": MAPPED, "content": MAPPED, "name": DROPPED}
USER = SYSTEM
ASSISTANT: Table = {
    "role": MAPPED,
    "content": MAPPED,
    "refusal": MAPPED,
    "tool_calls": MAPPED,
    "reasoning_content": MAPPED,
    "reasoning": MAPPED,
    "reasoning_details": MAPPED,
    "function_call": _OLDER,
    "audio": _SPOKEN,
    "annotations": IGNORED,
    "name": DROPPED,
}
TOOL: Table = {"role": MAPPED, "content": MAPPED, "tool_call_id": MAPPED, "name": IGNORED}
TEXT_PART: Table = {"type": MAPPED, "text": MAPPED, "prompt_cache_breakpoint": MAPPED}
IMAGE_PART: Table = {"type": MAPPED, "image_url": MAPPED, "prompt_cache_breakpoint": DROPPED}
IMAGE_URL: Table = {"url": MAPPED, "detail": MAPPED}
AUDIO_PART: Table = {"type": MAPPED, "input_audio": MAPPED, "prompt_cache_breakpoint": DROPPED}
AUDIO: Table = {"data": MAPPED, "format": MAPPED}
FILE_PART: Table = {"type": MAPPED, "file": MAPPED, "prompt_cache_breakpoint": DROPPED}
FILE: Table = {"file_data": MAPPED, "filename": MAPPED, "file_id": _ACCOUNT, "detail": DROPPED}
REFUSAL_PART: Table = {"type": MAPPED, "refusal": MAPPED}
TOOL_CALL: Table = {
    "id": MAPPED,
    "type": MAPPED,
    "function": MAPPED,
    "custom": MAPPED,
    "extra_content": MAPPED,
    "index": IGNORED,
}
FUNCTION_OF_CALL: Table = {"name": MAPPED, "arguments": MAPPED}
CUSTOM_OF_CALL: Table = {"name": MAPPED, "input": MAPPED}
FUNCTION_TOOL: Table = {"type": MAPPED, "function": MAPPED, "custom": MAPPED}
FUNCTION: Table = {"name": MAPPED, "description": MAPPED, "parameters": MAPPED, "strict": MAPPED}
CUSTOM: Table = {"name": MAPPED, "description": MAPPED, "format": MAPPED}
FORMAT: Table = {"type": MAPPED, "json_schema": MAPPED}
SCHEMA: Table = {"name": MAPPED, "description": MAPPED, "schema": MAPPED, "strict": MAPPED}
REASONING: Table = {"effort": MAPPED, "max_tokens": MAPPED, "enabled": MAPPED, "exclude": MAPPED}

_AUDIO_TYPES: Mapping[str, str] = {"wav": "audio/wav", "mp3": "audio/mpeg"}
FINISHES: Mapping[str, str] = {
    STOP: "stop",
    STOP_SEQUENCE: "stop",
    LENGTH: "length",
    CONTEXT: "length",
    TOOLS: "tool_calls",
    FILTER: "content_filter",
    REFUSED: "content_filter",
    PAUSE: "stop",
}
DONE: Final = b"data: [DONE]\n\n"


class ChatFront:
    """The half of chat completions that faces a caller."""

    def decode_request(self, fields: dict[str, Json], loss: Loss) -> Request:
        reader = Reader(fields, "", REQUEST, loss)
        if reader.any("modalities") not in (None, ["text"], []):
            loss.refuse("modalities", "asks for more than text")
        request = Request(
            turns=[_turn(item, place, loss) for place, item in reader.items("messages")],
            tools=[_tool(item, place, loss) for place, item in reader.items("tools")],
            choice=_choice(reader),
            parallel_tools=reader.flag("parallel_tool_calls"),
            max_tokens=reader.integer("max_completion_tokens") or reader.integer("max_tokens"),
            temperature=reader.number("temperature"),
            top_p=reader.number("top_p"),
            top_k=reader.integer("top_k"),
            stop=reader.texts("stop"),
            seed=reader.integer("seed") or reader.integer("random_seed"),
            n=reader.integer("n"),
            frequency_penalty=reader.number("frequency_penalty"),
            presence_penalty=reader.number("presence_penalty"),
            logit_bias=reader.object("logit_bias"),
            logprobs=reader.flag("logprobs"),
            top_logprobs=reader.integer("top_logprobs"),
            shape=_shape(reader),
            reasoning=_reasoning(reader),
            verbosity=reader.text("verbosity"),
            service_tier=reader.text("service_tier"),
            cache_key=reader.text("prompt_cache_key"),
            user=reader.text("user"),
        )
        request.names = {**reader.names_of(_NAMES), "has_cache": "prompt_cache_breakpoint"}
        request.has_cache = loss.has_cache
        return request

    def encode_answer(self, answer: Answer, context: Context) -> Json:
        document = {
            "id": f"chatcmpl-{context.request_id}",
            "object": "chat.completion",
            "created": context.created,
            "model": answer.model or context.model,
            "choices": [_choice_of(each, index) for index, each in enumerate(answer.candidates)],
        }
        if answer.usage is not None:
            document["usage"] = usage_object(answer.usage)
        return document

    def encoder(self, context: Context) -> ChatStream:
        return ChatStream(context)


def _turn(item: Json, place: str, loss: Loss) -> Turn:
    role = item.get("role") if isinstance(item, dict) else None
    if role in ("system", "developer"):
        reader = Reader(item, place, SYSTEM, loss)
        return Turn("system", list(_content(reader, "content")))
    if role == "user":
        return Turn("user", list(_content(Reader(item, place, USER, loss), "content")))
    if role == "assistant":
        return Turn("assistant", list(_said(Reader(item, place, ASSISTANT, loss))))
    if role == "tool":
        reader = Reader(item, place, TOOL, loss)
        parts = [part for part in _content(reader, "content") if isinstance(part, Text | Media)]
        return Turn("user", [Result(reader.required("tool_call_id"), parts)])
    if role == "function":
        loss.refuse(f"{place}.role", "is of the older form of tools; send the role tool")
    raise wrong(f"{place}.role", "must be system, developer, user, assistant or tool")


def _content(reader: Reader, name: str) -> Iterator[Part]:
    value = reader.any(name)
    if value is None:
        return
    if isinstance(value, str):
        yield Text(value)
        return
    for place, item in reader.items(name):
        yield _part(item, place, reader.loss)


def _part(item: Json, place: str, loss: Loss) -> Part:
    kind = kind_of(item, place)
    if kind == "text":
        reader = Reader(item, place, TEXT_PART, loss)
        is_marked = "prompt_cache_breakpoint" in reader
        loss.has_cache |= is_marked
        return Text(reader.required("text"), cache="5m" if is_marked else None)
    if kind == "image_url":
        return _image(Reader(item, place, IMAGE_PART, loss))
    if kind == "input_audio":
        audio = Reader(item, place, AUDIO_PART, loss).child("input_audio", AUDIO)
        if audio is None:
            raise wrong(f"{place}.input_audio", "is missing")
        form = audio.required("format")
        return Media("audio", _AUDIO_TYPES.get(form, f"audio/{form}"), base64=audio.required("data"))
    if kind == "file":
        file = Reader(item, place, FILE_PART, loss).child("file", FILE)
        if file is None:
            raise wrong(f"{place}.file", "is missing")
        return file_of(file.required("file_data"), file.place("file_data"), file.text("filename"))
    if kind == "refusal":
        return Refusal(Reader(item, place, REFUSAL_PART, loss).required("refusal"))
    raise wrong(f"{place}.type", "must be text, image_url, input_audio, file or refusal")


def _image(reader: Reader) -> Media:
    value = reader.any("image_url")
    if isinstance(value, str):  # not OpenAI's, but common
        return media_of_url(value, reader.place("image_url"))
    image = reader.child("image_url", IMAGE_URL)
    if image is None:
        raise wrong(reader.place("image_url"), "is missing")
    return media_of_url(image.required("url"), image.place("url"), detail=image.text("detail"))


def file_of(value: str, place: str, name: str | None) -> Media:
    """Read a file's data: a data URL, or bare base64 of a PDF."""
    if value.startswith("data:"):
        return media_of_url(value, place, "file", name=name)
    return Media("file", "application/pdf", base64=value, name=name)


def _said(reader: Reader) -> Iterator[Part]:
    yield from _thoughts(reader)
    yield from (part for part in _content(reader, "content") if not _is_empty(part))
    refusal = reader.text("refusal")
    if refusal:
        yield Refusal(refusal)
    for place, item in reader.items("tool_calls"):
        yield _call(Reader(item, place, TOOL_CALL, reader.loss))


def _is_empty(part: Part) -> bool:
    return isinstance(part, Text) and not part.text


def _thoughts(reader: Reader) -> Iterator[Thinking]:
    details = [item for _, item in reader.items("reasoning_details") if isinstance(item, dict)]
    for item in details:
        kept = item.get("data") if item.get("type") == "reasoning.encrypted" else item.get("signature")
        opaque = unwrap(kept, str(item.get("format"))) if isinstance(kept, str) else None
        text = item.get("text") or item.get("summary") or ""
        if isinstance(text, str) and (text or opaque):
            yield Thinking(text, opaque, is_redacted=item.get("type") == "reasoning.encrypted")
    if not details:
        text = reader.text("reasoning_content") or reader.text("reasoning")
        if text:
            yield Thinking(text)


def _call(reader: Reader) -> Call:
    id_ = reader.required("id")
    custom = reader.child("custom", CUSTOM_OF_CALL)
    if custom is not None:
        return Call(id_, custom.required("name"), custom.required("input"), is_custom=True)
    function = reader.child("function", FUNCTION_OF_CALL)
    if function is None:
        raise wrong(reader.place("function"), "is missing")
    extra = reader.any("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    kept = google.get("thought_signature") if isinstance(google, dict) else None
    opaque = Opaque("gemini", kept) if isinstance(kept, str) and kept else None
    return Call(id_, function.required("name"), function.text("arguments") or "", opaque=opaque)


def _tool(item: Json, place: str, loss: Loss) -> Tool:
    kind = kind_of(item, place)
    reader = Reader(item, place, FUNCTION_TOOL, loss)
    if kind == "function":
        function = reader.child("function", FUNCTION)
        if function is None:
            raise wrong(reader.place("function"), "is missing")
        return Tool(
            function.required("name"),
            function.text("description"),
            function.object("parameters"),
            function.flag("strict"),
        )
    if kind == "custom":
        custom = reader.child("custom", CUSTOM)
        if custom is None:
            raise wrong(reader.place("custom"), "is missing")
        form = custom.object("format") or {}
        grammar = form.get("grammar") if form.get("type") == "grammar" else None
        return Tool(custom.required("name"), custom.text("description"), is_custom=True, grammar=grammar)
    return loss.refuse(place, f"is a tool of the type {kind}, which the provider itself would run")


def _choice(reader: Reader) -> str | Named | None:
    value = reader.any("tool_choice")
    if value == "any":  # as clients of Mistral's say it
        return "required"
    if value is None or value in ("auto", "none", "required"):
        return cast(str | None, value)
    if isinstance(value, dict):
        allowed = value.get("allowed_tools")
        if isinstance(allowed, dict):
            names = [_name_of(tool) for tool in allowed.get("tools") or []]
            return Named([name for name in names if name], must=allowed.get("mode") == "required")
        name = _name_of(value)
        if name:
            return Named([name])
    raise wrong("tool_choice", 'must be "auto", "none", "required" or name a tool')


def _name_of(tool: Json) -> str | None:
    if not isinstance(tool, dict):
        return None
    inner = tool.get("function") or tool.get("custom")
    name = inner.get("name") if isinstance(inner, dict) else None
    return name if isinstance(name, str) else None


def _shape(reader: Reader) -> Shape | None:
    form = reader.child("response_format", FORMAT)
    if form is None or form.text("type") in (None, "text"):
        return None
    if form.text("type") == "json_object":
        return Shape()
    schema = form.child("json_schema", SCHEMA)
    if form.text("type") != "json_schema" or schema is None:
        raise wrong(
            "response_format", "must be of the type text, json_object or json_schema, with its schema"
        )
    return Shape(
        schema.text("name"), schema.object("schema"), schema.flag("strict"), schema.text("description")
    )


def _reasoning(reader: Reader) -> Reasoning | None:
    effort = reader.text("reasoning_effort")
    own = reader.child("reasoning", REASONING)
    if own is not None:
        effort = effort or own.text("effort")
        budget, is_on = own.integer("max_tokens"), own.flag("enabled")
        is_off = is_on is False or effort == "none"
        return Reasoning(
            effort,
            budget,
            is_adaptive=bool(is_on) and effort is None and budget is None,
            is_off=is_off,
            is_hidden=bool(own.flag("exclude")),
        )
    return None if effort is None else Reasoning(effort, is_off=effort == "none")


def _choice_of(candidate: Candidate, index: int) -> Json:
    message: dict[str, Json] = {"role": "assistant", "content": text_of(candidate.parts) or None}
    message["refusal"] = "".join(part.text for part in candidate.parts if isinstance(part, Refusal)) or None
    thinking = [part for part in candidate.parts if isinstance(part, Thinking)]
    if any(part.text for part in thinking):
        message["reasoning_content"] = "".join(part.text for part in thinking)
    details = [_detail(part, at) for at, part in enumerate(thinking) if part.opaque is not None]
    if details:
        message["reasoning_details"] = details
    calls = [part for part in candidate.parts if isinstance(part, Call)]
    if calls:
        message["tool_calls"] = [_tool_call(part) for part in calls]
    images = [part for part in candidate.parts if isinstance(part, Media)]
    if images:
        message["images"] = [_image_part(part) for part in images]
    found = [cite for part in candidate.parts if isinstance(part, Text) for cite in part.citations]
    if found:
        message["annotations"] = [annotation(cite) for cite in found]
    logprobs = [item for part in candidate.parts if isinstance(part, Text) for item in part.logprobs]
    return {
        "index": index,
        "message": message,
        "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
        "finish_reason": FINISHES[candidate.finish or STOP],
    }


def _detail(part: Thinking, index: int) -> Json:
    maker = part.opaque.maker if part.opaque is not None else None
    if part.is_redacted:
        return {"type": "reasoning.encrypted", "data": wrap(part.opaque), "format": maker, "index": index}
    return {
        "type": "reasoning.text",
        "text": part.text,
        "signature": wrap(part.opaque),
        "format": maker,
        "index": index,
    }


def _tool_call(part: Call) -> dict[str, Json]:
    if part.is_custom:
        return {"id": part.id, "type": "custom", "custom": {"name": part.name, "input": part.arguments}}
    call: dict[str, Json] = {
        "id": part.id,
        "type": "function",
        "function": {"name": part.name, "arguments": part.arguments},
    }
    if part.opaque is not None and part.opaque.maker == "gemini":
        call["extra_content"] = {"google": {"thought_signature": part.opaque.blob}}
    return call


def _image_part(part: Media) -> Json:
    return {"type": "image_url", "image_url": {"url": data_url(part, "image/png")}}


def annotation(cite: Citation) -> Json:
    """Return where a text comes from; the places in it are 0 where they are not known."""
    found = {"url": cite.url, "title": cite.title or "", "start_index": cite.start or 0}
    return {"type": "url_citation", "url_citation": {**found, "end_index": cite.end or 0}}


def usage_object(usage: Usage) -> Json:
    """Return usage in Chat's words; what is not known is null."""
    known = usage.input_tokens is not None and usage.output_tokens is not None
    document: dict[str, Json] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": (usage.input_tokens or 0) + (usage.output_tokens or 0) if known else None,
    }
    into = {
        "cached_tokens": usage.cached_input_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "audio_tokens": usage.input_audio_tokens,
    }
    out = {"reasoning_tokens": usage.reasoning_tokens, "audio_tokens": usage.output_audio_tokens}
    for name, details in (("prompt_tokens_details", into), ("completion_tokens_details", out)):
        told = {key: value for key, value in details.items() if value is not None}
        if told:
            document[name] = told
    return document


class ChatStream:
    """Writes a stream of chunks."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._model = context.model
        self._usage: Usage | None = None
        self._greeted: set[int] = set()
        self._parts: dict[int, tuple[int, Part]] = {}
        self._calls: dict[int, int] = {}  # how many calls each candidate has begun
        self._thoughts: dict[int, int] = {}
        self._thought: list[str] = []  # the words of the thought that is open, for its detail

    def encode(self, event: Event) -> bytes:
        if isinstance(event, Begin):
            self._model = event.model or self._model
            self._usage = event.usage
            return b""
        if isinstance(event, Used):
            self._usage = event.usage
            return b""
        if isinstance(event, Open):
            self._parts[event.index] = (event.candidate, event.part)
            self._thought = []
            return self._opened(event.candidate, event.part)
        if isinstance(event, Delta):
            candidate, part = self._parts[event.index]
            return self._delta(candidate, self._more(candidate, part, event.text), event.logprobs)
        if isinstance(event, Close):
            candidate, part = self._parts.pop(event.index)
            return self._closed(candidate, part, event)
        return self._greeting(event.candidate) + self._delta(
            event.candidate, {}, (), FINISHES[event.reason]
        )

    def close(self) -> bytes:
        if not self._context.wants_usage:
            return DONE
        usage = None if self._usage is None else usage_object(self._usage)
        return _sse({**self._head(), "choices": [], "usage": usage}) + DONE

    def _opened(self, candidate: int, part: Part) -> bytes:
        greeting = self._greeting(candidate)
        if isinstance(part, Call):
            index = self._calls.get(candidate, 0)
            self._calls[candidate] = index + 1
            return greeting + self._delta(candidate, {"tool_calls": [{"index": index, **_tool_call(part)}]})
        if isinstance(part, Media):
            return greeting + self._delta(candidate, {"images": [_image_part(part)]})
        if isinstance(part, Text | Refusal | Thinking) and part.text:
            return greeting + self._delta(candidate, self._more(candidate, part, part.text))
        return greeting

    def _more(self, candidate: int, part: Part, text: str) -> Json:
        if isinstance(part, Text):
            return {"content": text}
        if isinstance(part, Refusal):
            return {"refusal": text}
        if isinstance(part, Thinking):
            self._thought.append(text)
            return {"reasoning_content": text}
        index = self._calls[candidate] - 1
        if isinstance(part, Call) and part.is_custom:
            return {"tool_calls": [{"index": index, "custom": {"input": text}}]}
        return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}

    def _closed(self, candidate: int, part: Part, event: Close) -> bytes:
        if isinstance(part, Thinking) and event.opaque is not None:
            index = self._thoughts.get(candidate, 0)
            self._thoughts[candidate] = index + 1
            told = Thinking("".join(self._thought), event.opaque, part.is_redacted)
            return self._delta(candidate, {"reasoning_details": [_detail(told, index)]})
        if isinstance(part, Text) and event.citations:
            return self._delta(candidate, {"annotations": [annotation(cite) for cite in event.citations]})
        return b""

    def _greeting(self, candidate: int) -> bytes:
        if candidate in self._greeted:
            return b""
        self._greeted.add(candidate)
        return self._delta(candidate, {"role": "assistant", "content": ""})

    def _delta(
        self, candidate: int, delta: Json, logprobs: object = (), finish_reason: str | None = None
    ) -> bytes:
        choice = {
            "index": candidate,
            "delta": delta,
            "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
            "finish_reason": finish_reason,
        }
        return _sse({**self._head(), "choices": [choice]})

    def _head(self) -> dict[str, Json]:
        return {
            "id": f"chatcmpl-{self._context.request_id}",
            "object": "chat.completion.chunk",
            "created": self._context.created,
            "model": self._model,
        }


def _sse(document: Json) -> bytes:
    return b"data: " + encode_json(document) + b"\n\n"
