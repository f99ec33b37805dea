"""What the echo says, in OpenAI's formats. Pure and deterministic: the same request, the same answer.

A token is a word here, with the blanks after it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
Events = Iterator[Document]

CREATED = 1_767_225_600
HINT = (
    "This is an echo and no model: the operator of this JupyterHub can set a real provider "
    "in the AI gateway's configuration (endpoints, model, provider)."
)
MAX_ECHOED_CHARS = 2000
MAX_DIMENSIONS = 4096
_DIMENSIONS = 256
_MOST_CHOICES = 16
_DEPTH = 8


class BadRequestError(Exception):
    """What a host would refuse; `param` names the field."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class _Said:
    """One choice: words or calls of tools, and why it ended."""

    words: list[str]
    calls: list[Document]
    reason: str

    @property
    def text(self) -> str:
        return "".join(self.words)

    @property
    def tokens(self) -> int:
        return len(self.words) + sum(len(_words(call["function"]["arguments"])) + 1 for call in self.calls)


def chat(request: Document) -> Document:
    """Answer a chat at once."""
    said, choices = _chat(request), _choices(request)
    message: Document = {"role": "assistant", "content": said.text or None, "refusal": None}
    if said.calls:
        message["tool_calls"] = said.calls
    return {
        **_envelope(request, "chat.completion", "chatcmpl-echo"),
        "choices": [
            {"index": index, "message": message, "logprobs": None, "finish_reason": said.reason}
            for index in range(choices)
        ],
        "usage": _usage(_prompt_tokens(request), said.tokens * choices),
    }


def chat_events(request: Document) -> Events:
    """Answer a chat word by word."""
    said = _chat(request)
    envelope = _envelope(request, "chat.completion.chunk", "chatcmpl-echo")
    wants_usage = _wants_usage(request)
    if wants_usage:
        envelope["usage"] = None
    indexes = range(_choices(request))

    def chunk(index: int, delta: Document, reason: str | None = None) -> Document:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**envelope, "choices": [choice]}

    for index in indexes:
        yield chunk(index, {"role": "assistant", "content": "" if said.words else None})
    for word in said.words:
        for index in indexes:
            yield chunk(index, {"content": word})
    for delta in _call_deltas(said.calls):
        for index in indexes:
            yield chunk(index, {"tool_calls": [delta]})
    for index in indexes:
        yield chunk(index, {}, said.reason)
    if wants_usage:
        usage = _usage(_prompt_tokens(request), said.tokens * len(indexes))
        yield {**envelope, "choices": [], "usage": usage}


def completion(request: Document) -> Document:
    """Answer a completion at once."""
    said, prompts = _completion(request), _prompts(request)
    choices = len(prompts) * _choices(request)
    return {
        **_envelope(request, "text_completion", "cmpl-echo"),
        "choices": [
            {"index": index, "text": said.text, "logprobs": None, "finish_reason": said.reason}
            for index in range(choices)
        ],
        "usage": _usage(sum(len(_words(prompt)) for prompt in prompts), said.tokens * choices),
    }


def completion_events(request: Document) -> Events:
    """Answer a completion word by word."""
    said, prompts = _completion(request), _prompts(request)
    envelope = _envelope(request, "text_completion", "cmpl-echo")
    wants_usage = _wants_usage(request)
    if wants_usage:
        envelope["usage"] = None
    indexes = range(len(prompts) * _choices(request))
    pieces: list[tuple[str, str | None]] = [*((word, None) for word in said.words), ("", said.reason)]
    for text, reason in pieces:
        for index in indexes:
            choice = {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
            yield {**envelope, "choices": [choice]}
    if wants_usage:
        usage = _usage(sum(len(_words(prompt)) for prompt in prompts), said.tokens * len(indexes))
        yield {**envelope, "choices": [], "usage": usage}


def embeddings(request: Document) -> Document:
    """Answer with unit vectors that depend on the texts alone."""
    texts = _prompts(request, "input")
    size = request.get("dimensions") or _DIMENSIONS
    if not isinstance(size, int) or not 1 <= size <= MAX_DIMENSIONS:
        raise BadRequestError(f"dimensions must be from 1 to {MAX_DIMENSIONS}.", "dimensions")
    is_packed = request.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if is_packed else vector}
        for index, vector in enumerate(_vector(text, size) for text in texts)
    ]
    tokens = sum(len(_words(text)) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": request["model"], "usage": usage}


def _chat(request: Document) -> _Said:
    messages = request.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise BadRequestError("messages must be a list of objects.", "messages")
    tool = _tool(request, messages)
    if tool is not None:
        return _Said([], [_call(tool)], "tool_calls")
    sample = _sample_format(request)
    if sample is not None:
        return _limited(_words(json.dumps(sample)), request)
    spoken = [message for message in messages if message.get("role") in ("user", "tool", "function")]
    asked = _text_of(spoken[-1].get("content")) if spoken else ""
    return _limited(_words(_echo(asked)), request)


def _completion(request: Document) -> _Said:
    return _limited(_words(_echo(_prompts(request)[0])), request)


def _echo(asked: str) -> str:
    quoted = asked if len(asked) <= MAX_ECHOED_CHARS else asked[:MAX_ECHOED_CHARS] + "…"
    return f"You said: {quoted}\n\n{HINT}"


def _limited(words: list[str], request: Document) -> _Said:
    """Stop where the request says so."""
    stops = request.get("stop") or []
    stops = [stops] if isinstance(stops, str) else stops
    text = "".join(words)
    ends = [text.find(stop) for stop in stops if isinstance(stop, str) and stop and stop in text]
    if ends:
        words = _words(text[: min(ends)])
    most = request.get("max_completion_tokens") or request.get("max_tokens")
    if isinstance(most, int) and 0 < most < len(words):
        return _Said(words[:most], [], "length")
    return _Said(words, [], "stop")


def _tool(request: Document, messages: list[Document]) -> Document | None:
    """Choose the function to call: the one asked for, or the first while nobody has called any."""
    functions = [
        tool["function"] for tool in request.get("tools") or [] if isinstance(tool.get("function"), dict)
    ]
    choice = request.get("tool_choice", "auto")
    if not functions or choice == "none":
        return None
    if isinstance(choice, dict):
        name = choice.get("function", {}).get("name")
        return next((function for function in functions if function.get("name") == name), None)
    answered = any(message.get("role") == "tool" for message in messages)
    return None if answered and choice != "required" else functions[0]


def _call(function: Document) -> Document:
    name = str(function.get("name", ""))
    arguments = json.dumps(sample_of(function.get("parameters") or {"type": "object"}))
    digest = hashlib.sha256(f"{name}{arguments}".encode()).hexdigest()[:16]
    return {"id": f"call_{digest}", "type": "function", "function": {"name": name, "arguments": arguments}}


def _call_deltas(calls: list[Document]) -> Iterator[Document]:
    for index, call in enumerate(calls):
        function = {"name": call["function"]["name"], "arguments": ""}
        yield {"index": index, "id": call["id"], "type": "function", "function": function}
        for word in _words(call["function"]["arguments"]):
            yield {"index": index, "function": {"arguments": word}}


def _sample_format(request: Document) -> Any:
    wanted = request.get("response_format")
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_object":
        return {"echo": True, "hint": HINT}
    if wanted.get("type") == "json_schema":
        return sample_of((wanted.get("json_schema") or {}).get("schema") or {})
    return None


def sample_of(schema: Any) -> Any:
    """Return a value that fits a JSON Schema, as far as types, required keys, enums and references go."""
    return _sample(schema, schema, _DEPTH)


def _sample(schema: Any, root: Any, depth: int) -> Any:
    if not isinstance(schema, dict) or depth == 0:
        return None
    if "$ref" in schema:
        return _sample(_resolved(str(schema["$ref"]), root), root, depth - 1)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return _sample(schema[key][0], root, depth - 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return _sample_of_type(kind[0] if isinstance(kind, list) else kind, schema, root, depth)


def _sample_of_type(kind: str, schema: Document, root: Any, depth: int) -> Any:
    if kind == "object":
        properties = schema.get("properties") or {}
        return {
            name: _sample(properties.get(name, {}), root, depth - 1)
            for name in schema.get("required") or []
        }
    if kind == "array":
        least = max(1, int(schema.get("minItems") or 0))
        return [_sample(schema.get("items") or {}, root, depth - 1) for _ in range(min(least, 8))]
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    return "echo".ljust(int(schema.get("minLength") or 0), "o")


def _resolved(reference: str, root: Any) -> Any:
    found = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(part) if isinstance(found, dict) and part else found
    return found


def _prompts(request: Document, name: str = "prompt") -> list[str]:
    """Return texts; token numbers count as words."""
    value = request.get(name)
    items = value if isinstance(value, list) else [value]
    if items and all(isinstance(item, int) for item in items):
        items = [items]
    texts = [" ".join(map(str, item)) if isinstance(item, list) else item for item in items]
    known = [text for text in texts if isinstance(text, str)]
    if not known or len(known) < len(texts):
        raise BadRequestError(f"{name} must be text, or a list of texts.", name)
    return known


def _choices(request: Document) -> int:
    count = request.get("n") or 1
    if not isinstance(count, int) or not 1 <= count <= _MOST_CHOICES:
        raise BadRequestError(f"n must be from 1 to {_MOST_CHOICES}.", "n")
    return count


def _wants_usage(request: Document) -> bool:
    options = request.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part for part in content if isinstance(part, dict)]
    return " ".join(str(part.get("text", f"[{part.get('type', 'part')}]")) for part in parts)


def _prompt_tokens(request: Document) -> int:
    return sum(len(_words(_text_of(message.get("content")))) + 3 for message in request["messages"])


def _usage(into: int, out: int) -> Document:
    return {
        "prompt_tokens": into,
        "completion_tokens": out,
        "total_tokens": into + out,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _envelope(request: Document, kind: str, prefix: str) -> Document:
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:24]
    return {"id": f"{prefix}-{digest}", "object": kind, "created": CREATED, "model": request["model"]}


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+\s*", text)


def _vector(text: str, size: int) -> list[float]:
    numbers = array("f")
    block = 0
    while len(numbers) < size:
        digest = hashlib.sha256(f"{block}:{text}".encode()).digest()
        numbers.extend(byte / 127.5 - 1 for byte in digest)
        block += 1
    numbers = numbers[:size]
    length = math.sqrt(sum(number * number for number in numbers))
    return [number / length for number in numbers]


def _packed(vector: list[float]) -> str:
    numbers = array("f", vector)
    return base64.b64encode(numbers.tobytes()).decode()
