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

from .echo_requests import MAX_INPUTS, MAX_PROMPTS, BadRequestError, Document, texts
from .echo_samples import sample_of

Events = Iterator[Document]

CREATED = 1_767_225_600
HINT = (
    "This is an echo and no model: the operator of this JupyterHub can set a real provider "
    "in the AI gateway's configuration (endpoints, model, provider)."
)
MAX_ECHOED_CHARS = 2000
MAX_NUMBERS = 2048 * 256
_DIMENSIONS = 256


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
    """Answer a chat word by word. What is wrong with it is raised here, before the first event."""
    said, count = _chat(request), _choices(request)
    usage = _usage(_prompt_tokens(request), said.tokens * count)
    envelope = _envelope(request, "chat.completion.chunk", "chatcmpl-echo")
    return _chunks(request, envelope, _chat_choices(said, count), usage)


def _chat_choices(said: _Said, count: int) -> Iterator[Document]:
    deltas: list[tuple[Document, str | None]] = [
        ({"role": "assistant", "content": "" if said.words else None}, None),
        *(({"content": word}, None) for word in said.words),
        *(({"tool_calls": [delta]}, None) for delta in _call_deltas(said.calls)),
        ({}, said.reason),
    ]
    for delta, reason in deltas:
        for index in range(count):
            yield {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}


def _chunks(request: Document, envelope: Document, choices: Iterator[Document], usage: Document) -> Events:
    """Put each choice into an event, and the usage into a last one where the request asks for it."""
    wants_usage = (request.get("stream_options") or {}).get("include_usage") is True
    if wants_usage:
        envelope["usage"] = None
    for choice in choices:
        yield {**envelope, "choices": [choice]}
    if wants_usage:
        yield {**envelope, "choices": [], "usage": usage}


def completion(request: Document) -> Document:
    """Answer a completion at once."""
    said = _completions(request)
    return {
        **_envelope(request, "text_completion", "cmpl-echo"),
        "choices": [
            {"index": index, "text": each.text, "logprobs": None, "finish_reason": each.reason}
            for index, each in enumerate(said)
        ],
        "usage": _completions_usage(request, said),
    }


def completion_events(request: Document) -> Events:
    """Answer a completion word by word. What is wrong with it is raised here, before the first event."""
    said = _completions(request)
    envelope = _envelope(request, "text_completion", "cmpl-echo")
    return _chunks(request, envelope, _completion_choices(said), _completions_usage(request, said))


def _completion_choices(said: list[_Said]) -> Iterator[Document]:
    for index, each in enumerate(said):
        pieces: list[tuple[str, str | None]] = [*((word, None) for word in each.words), ("", each.reason)]
        for text, reason in pieces:
            yield {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def embeddings(request: Document) -> Document:
    """Answer with unit vectors that depend on the texts alone."""
    asked = texts(request, "input", MAX_INPUTS)
    size = request.get("dimensions") or _DIMENSIONS
    if size * len(asked) > MAX_NUMBERS:
        raise BadRequestError(f"An echo makes {MAX_NUMBERS} numbers at once, and no more.", "dimensions")
    is_packed = request.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if is_packed else vector}
        for index, vector in enumerate(_vector(text, size) for text in asked)
    ]
    tokens = sum(len(_words(text)) for text in asked)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": request["model"], "usage": usage}


def _chat(request: Document) -> _Said:
    messages = request["messages"]
    tool = _tool(request, messages)
    if tool is not None:
        return _Said([], [_call(tool)], "tool_calls")
    sample = _sample_format(request)
    if sample is not None:
        return _limited(_words(json.dumps(sample)), request)
    spoken = [message for message in messages if message.get("role") in ("user", "tool", "function")]
    asked = _text_of(spoken[-1].get("content")) if spoken else ""
    return _limited(_words(_echo(asked)), request)


def _completions(request: Document) -> list[_Said]:
    """Return every choice for every prompt, in this order."""
    said = [_limited(_words(_echo(prompt)), request) for prompt in texts(request, "prompt", MAX_PROMPTS)]
    return [each for each in said for _ in range(_choices(request))]


def _completions_usage(request: Document, said: list[_Said]) -> Document:
    into = sum(len(_words(prompt)) for prompt in texts(request, "prompt", MAX_PROMPTS))
    return _usage(into, sum(each.tokens for each in said))


def _echo(asked: str) -> str:
    quoted = asked if len(asked) <= MAX_ECHOED_CHARS else asked[:MAX_ECHOED_CHARS] + "…"
    return f"You said: {quoted}\n\n{HINT}"


def _limited(words: list[str], request: Document) -> _Said:
    """Stop where the request says so."""
    stops = request.get("stop") or []
    stops = [stops] if isinstance(stops, str) else stops
    text = "".join(words)
    ends = [text.find(stop) for stop in stops if stop and stop in text]
    if ends:
        words = _words(text[: min(ends)])
    most = request.get("max_completion_tokens") or request.get("max_tokens")
    if most is not None and 0 < most < len(words):
        return _Said(words[:most], [], "length")
    return _Said(words, [], "stop")


def _tool(request: Document, messages: list[Document]) -> Document | None:
    """Choose the function to call: the one asked for, or the first while nobody has called any."""
    functions = [tool["function"] for tool in request.get("tools") or [] if tool.get("function")]
    choice = request.get("tool_choice")
    if not functions or choice == "none":
        return None
    if isinstance(choice, dict):
        name = (choice.get("function") or {}).get("name")
        return next((function for function in functions if function.get("name") == name), None)
    answered = any(message.get("role") == "tool" for message in messages)
    return None if answered and choice != "required" else functions[0]


def _call(function: Document) -> Document:
    name = function["name"]
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
    if wanted is None:
        return None
    if wanted["type"] == "json_object":
        return {"echo": True, "hint": HINT}
    if wanted["type"] == "json_schema":
        return sample_of((wanted.get("json_schema") or {}).get("schema") or {})
    return None


def _choices(request: Document) -> int:
    return request.get("n") or 1


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
    return re.findall(r"\S+\s*|\s+", text)  # linear, whatever the text


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
