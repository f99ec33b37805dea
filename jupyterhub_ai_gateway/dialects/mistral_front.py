"""Mistral's chat completions towards its own SDK: requests read, answers written.

They look like OpenAI's, and differ where it matters to that SDK: content is a list where there are
thoughts, which carry what only their maker can read as their `signature`; a call comes whole; the last
piece of a stream has both the reason and the usage.

Source: https://docs.mistral.ai/api/ and /capabilities/reasoning; the types of mistralai 3.7 (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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
    Call,
    Candidate,
    Json,
    Media,
    MediaKind,
    Named,
    Part,
    Reasoning,
    Request,
    Result,
    Shape,
    Text,
    Thinking,
    Tool,
    Turn,
)
from .chat_back import MISTRAL
from .chat_front import usage_object
from .codec import Context, encode_json, media_of_url, unwrap, usage_or_none
from .loss import DROPPED, IGNORED, MAPPED, Loss, Reader, Refused, Table, kind_of, wrong
from .mistral_stream import MistralStream, call_of, pieces_of

_FILE = Refused("names a file of the provider's account")
_QUESTION = Refused("asks for probabilities of the question")

REQUEST: Table = {
    "messages": MAPPED,
    "model": IGNORED,
    "stream": IGNORED,
    "temperature": MAPPED,
    "top_p": MAPPED,
    "top_k": MAPPED,
    "max_tokens": MAPPED,
    "min_tokens": DROPPED,
    "stop": MAPPED,
    "random_seed": MAPPED,
    "metadata": DROPPED,
    "response_format": MAPPED,
    "tools": MAPPED,
    "tool_choice": MAPPED,
    "parallel_tool_calls": MAPPED,
    "presence_penalty": MAPPED,
    "frequency_penalty": MAPPED,
    "repetition_penalty": DROPPED,
    "logprobs": MAPPED,
    "top_logprobs": MAPPED,
    "prompt_logprobs": _QUESTION,
    "top_prompt_logprobs": _QUESTION,
    "n": MAPPED,
    "prediction": DROPPED,
    "reasoning_effort": MAPPED,
    "prompt_mode": MAPPED,
    "guardrails": Refused("asks for checks that only Mistral itself makes"),
    "prompt_cache_key": MAPPED,
    "service_tier": MAPPED,
    "safe_prompt": MAPPED,
}
SYSTEM: Table = {"role": MAPPED, "content": MAPPED}
USER = SYSTEM
ASSISTANT: Table = {
    "role": MAPPED,
    "content": MAPPED,
    "tool_calls": MAPPED,
    "prefix": Refused("is the beginning of the answer, with which other models do not go on"),
}
TOOL_MESSAGE: Table = {"role": MAPPED, "content": MAPPED, "tool_call_id": MAPPED, "name": IGNORED}
TEXT: Table = {"type": MAPPED, "text": MAPPED}
IMAGE: Table = {"type": MAPPED, "image_url": MAPPED}
IMAGE_URL: Table = {"url": MAPPED, "detail": MAPPED}
DOCUMENT: Table = {"type": MAPPED, "document_url": MAPPED, "document_name": MAPPED}
AUDIO: Table = {"type": MAPPED, "input_audio": MAPPED}
FILE: Table = {"type": MAPPED, "file_id": _FILE}
REFERENCE: Table = {"type": MAPPED, "reference_ids": IGNORED}
THINKING: Table = {"type": MAPPED, "thinking": MAPPED, "signature": MAPPED, "closed": IGNORED}
TOOL_CALL: Table = {"id": MAPPED, "type": IGNORED, "function": MAPPED, "index": IGNORED}
FUNCTION_OF_CALL: Table = {"name": MAPPED, "arguments": MAPPED}
TOOL: Table = {"type": MAPPED, "function": MAPPED}
FUNCTION: Table = {"name": MAPPED, "description": MAPPED, "parameters": MAPPED, "strict": MAPPED}
CHOICE: Table = {"type": MAPPED, "function": MAPPED}
CHOSEN: Table = {"name": MAPPED}
FORMAT: Table = {"type": MAPPED, "json_schema": MAPPED}
SCHEMA: Table = {"name": MAPPED, "description": MAPPED, "schema": MAPPED, "strict": MAPPED}

_NAMES = {
    **{name: name for name in ("temperature", "top_p", "top_k", "max_tokens", "stop", "tools", "n")},
    **{name: name for name in ("presence_penalty", "frequency_penalty", "logprobs", "top_logprobs")},
    "random_seed": "seed",
    "response_format": "shape",
    "tool_choice": "choice",
    "parallel_tool_calls": "parallel_tools",
    "reasoning_effort": "reasoning",
    "prompt_mode": "reasoning",
    "prompt_cache_key": "cache_key",
    "service_tier": "service_tier",
}
_TIERS = {"auto": "auto", "standard_only": "default"}
_SOUNDS = {
    "UklGR": "audio/wav",
    "SUQz": "audio/mpeg",
    "//": "audio/mpeg",
    "T2dn": "audio/ogg",
    "ZkxhQ": "audio/flac",
}
"""How recordings begin in base64, for this format does not say of which kind one is."""

FINISHES: Mapping[str, str] = {
    STOP: "stop",
    STOP_SEQUENCE: "stop",
    LENGTH: "length",
    CONTEXT: "model_length",
    TOOLS: "tool_calls",
    FILTER: "error",
    REFUSED: "error",
    PAUSE: "length",
}


class MistralFront:
    """The half of Mistral's chat completions that faces a caller."""

    def decode_request(self, fields: dict[str, Json], loss: Loss) -> Request:
        reader = Reader(fields, "", REQUEST, loss)
        if reader.flag("safe_prompt"):
            loss.drop("safe_prompt")
        tier = reader.text("service_tier")
        request = Request(
            turns=[_turn(item, place, loss) for place, item in reader.items("messages")],
            tools=[_tool(item, place, loss) for place, item in reader.items("tools")],
            choice=_choice(reader),
            parallel_tools=reader.flag("parallel_tool_calls"),
            max_tokens=reader.integer("max_tokens"),
            temperature=reader.number("temperature"),
            top_p=reader.number("top_p"),
            top_k=reader.integer("top_k"),
            stop=reader.texts("stop"),
            seed=reader.integer("random_seed"),
            n=reader.integer("n"),
            frequency_penalty=reader.number("frequency_penalty"),
            presence_penalty=reader.number("presence_penalty"),
            logprobs=reader.flag("logprobs"),
            top_logprobs=reader.integer("top_logprobs"),
            shape=_shape(reader),
            reasoning=_reasoning(reader),
            service_tier=None if tier is None else _TIERS.get(tier, tier),
            cache_key=reader.text("prompt_cache_key"),
        )
        request.names = reader.names_of(_NAMES)
        return request

    def encode_answer(self, answer: Answer, context: Context) -> Json:
        return {
            "id": context.request_id,
            "object": "chat.completion",
            "created": context.created,
            "model": answer.model or context.model,
            "choices": [_choice_of(each, index) for index, each in enumerate(answer.candidates)],
            "usage": usage_object(usage_or_none(answer.usage)),
        }

    def encoder(self, context: Context) -> MistralStream:
        return MistralStream(context, FINISHES)


# Reading


def _turn(item: Json, place: str, loss: Loss) -> Turn:
    role = item.get("role") if isinstance(item, dict) else None
    if role == "system":
        return Turn("system", list(_content(Reader(item, place, SYSTEM, loss))))
    if role == "user":
        return Turn("user", list(_content(Reader(item, place, USER, loss))))
    if role == "assistant":
        reader = Reader(item, place, ASSISTANT, loss)
        said = [part for part in _content(reader) if part != Text("")]
        calls = reader.items("tool_calls")
        return Turn("assistant", [*said, *(_call(Reader(each, at, TOOL_CALL, loss)) for at, each in calls)])
    if role == "tool":
        reader = Reader(item, place, TOOL_MESSAGE, loss)
        parts = [part for part in _content(reader) if isinstance(part, Text | Media)]
        return Turn("user", [Result(reader.required("tool_call_id"), parts)])
    raise wrong(f"{place}.role", "must be system, user, assistant or tool")


def _content(reader: Reader) -> Iterator[Part]:
    value = reader.any("content")
    if isinstance(value, str):
        yield Text(value)
        return
    for place, item in reader.items("content"):
        part = _part(item, place, reader.loss)
        if part is not None:
            yield part


def _part(item: Json, place: str, loss: Loss) -> Part | None:
    kind = kind_of(item, place)
    if kind == "text":
        return Text(Reader(item, place, TEXT, loss).required("text"))
    if kind == "thinking":
        return _thinking(Reader(item, place, THINKING, loss))
    if kind == "image_url":
        return _image(Reader(item, place, IMAGE, loss))
    if kind == "document_url":
        document = Reader(item, place, DOCUMENT, loss)
        return _by_url(document, "document_url", "file", document.text("document_name"))
    if kind == "input_audio":
        return _audio(Reader(item, place, AUDIO, loss))
    if kind == "reference":
        Reader(item, place, REFERENCE, loss)
        return None
    if kind == "file":
        Reader(item, place, FILE, loss)
    if kind in ("file", "resource", "resource_link"):
        loss.refuse(f"{place}.type", f"is {kind}, which is of the provider's account")
    raise wrong(f"{place}.type", "must be text, thinking, image_url, document_url or input_audio")


def _by_url(reader: Reader, name: str, kind: MediaKind, called: str | None = None) -> Media:
    return media_of_url(reader.required(name), reader.place(name), kind, name=called)


def _image(reader: Reader) -> Media:
    if isinstance(reader.any("image_url"), str):
        return _by_url(reader, "image_url", "image")
    image = reader.child("image_url", IMAGE_URL)
    if image is None:
        raise wrong(reader.place("image_url"), "is missing")
    return media_of_url(image.required("url"), image.place("url"), detail=image.text("detail"))


def _audio(reader: Reader) -> Media:
    value = reader.required("input_audio")
    if value.startswith(("data:", "https://", "http://")):
        return media_of_url(value, reader.place("input_audio"), "audio")
    kind = next((kind for start, kind in _SOUNDS.items() if value.startswith(start)), None)
    if kind is None:
        raise wrong(
            reader.place("input_audio"), "must be a recording in base64, such as MP3 or WAV, or a URL"
        )
    return Media("audio", kind, base64=value)


def _thinking(reader: Reader) -> Thinking:
    value = reader.any("thinking")
    words = [value] if isinstance(value, str) else []
    for place, item in reader.items("thinking") if not words else ():
        if kind_of(item, place) == "text":
            words.append(Reader(item, place, TEXT, reader.loss).required("text"))
    opaque = unwrap(reader.text("signature"), MISTRAL)
    return Thinking("".join(words), opaque, is_redacted=opaque is not None and not "".join(words))


def _call(reader: Reader) -> Call:
    function = reader.child("function", FUNCTION_OF_CALL)
    if function is None:
        raise wrong(reader.place("function"), "is missing")
    arguments = function.any("arguments")
    text = encode_json(arguments).decode() if isinstance(arguments, dict) else function.text("arguments")
    return Call(reader.required("id"), function.required("name"), text or "")


def _tool(item: Json, place: str, loss: Loss) -> Tool:
    kind = kind_of(item, place, "function")
    if kind != "function":
        loss.refuse(place, f"is a tool of the type {kind}, which Mistral itself would run")
    function = Reader(item, place, TOOL, loss).child("function", FUNCTION)
    if function is None:
        raise wrong(f"{place}.function", "is missing")
    schema, is_strict = function.object("parameters"), function.flag("strict")
    return Tool(function.required("name"), function.text("description"), schema, is_strict)


def _choice(reader: Reader) -> str | Named | None:
    value = reader.any("tool_choice")
    if isinstance(value, dict):
        choice = reader.child("tool_choice", CHOICE)
        chosen = None if choice is None else choice.child("function", CHOSEN)
        if chosen is not None:
            return Named([chosen.required("name")])
    elif value in (None, "auto", "none", "any", "required"):
        return "required" if value == "any" else value
    raise wrong("tool_choice", 'must be "auto", "none", "any", "required" or name a function')


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
    name, is_strict = schema.text("name"), schema.flag("strict")
    return Shape(name, schema.object("schema"), is_strict, schema.text("description"))


def _reasoning(reader: Reader) -> Reasoning | None:
    effort, mode = reader.text("reasoning_effort"), reader.text("prompt_mode")
    if effort is not None:
        return Reasoning(effort, is_off=effort == "none")
    return Reasoning(is_adaptive=True) if mode == "reasoning" else None


# Writing


def _choice_of(candidate: Candidate, index: int) -> Json:
    calls = [part for part in candidate.parts if isinstance(part, Call)]
    pieces = [piece for part in candidate.parts for piece in pieces_of(part)]
    is_plain = all(piece["type"] == "text" for piece in pieces)
    content: Json = "".join(piece["text"] for piece in pieces) if is_plain else pieces
    logprobs = [each for part in candidate.parts if isinstance(part, Text) for each in part.logprobs]
    made = {
        "index": index,
        "message": {
            "role": "assistant",
            "content": content,
            "tool_calls": [call_of(part, at, part.arguments) for at, part in enumerate(calls)] or None,
            "prefix": False,
        },
        "finish_reason": FINISHES[candidate.finish or STOP],
    }
    return made | ({"logprobs": {"content": logprobs}} if logprobs else {})
