"""What an OpenAI-compatible vendor says, as plain values: its answers, its events, its complaints.

No input or output: `fakes.upstream` is the server that sends these.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterable, Sequence
from typing import Any

CREATED = 1_760_000_000
USAGE_TEXT = "Hello from the fake upstream."

Headers = Sequence[tuple[str, str]]

# A vendor's habits that must not reach our callers: cookies, organization, server names
VENDOR_HEADERS: Headers = (
    ("x-request-id", "req_vendor_1"),
    ("openai-organization", "fake-organization"),
    ("openai-processing-ms", "7"),
    ("openai-version", "2020-10-01"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("Set-Cookie", "__cf_bm=vendor-cookie; path=/; HttpOnly; Secure"),
    ("Server", "fake-vendor"),
)
BASES = "/v1|/openai/v1|/openai/deployments/[^/]+"
OPERATIONS = re.compile(
    r"(?P<base>.*?)/(?P<what>chat/completions|completions|embeddings|models(?:/.+)?|"
    r"images/(?:generations|edits|variations)|audio/(?:speech|transcriptions|translations)|moderations|rerank)"
)
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
REQUIRED = {
    "chat/completions": ("model", "messages"),
    "completions": ("model", "prompt"),
    "embeddings": ("model", "input"),
    "images/generations": ("model", "prompt"),
    "images/edits": ("model", "prompt", "images"),
    "audio/speech": ("model", "input", "voice"),
    "moderations": ("model", "input"),
    "rerank": ("model", "query", "documents"),
}


class Complaint(Exception):  # noqa: N818 - a vendor's answer
    """The vendor refuses: a status and an OpenAI error object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(message, kind=kind, code=code, param=param)


def error_body(
    message: str, *, kind: str = "invalid_request_error", code: str | None = None, param: str | None = None
) -> bytes:
    """Make the body of an OpenAI error."""
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()


def sse(*events: Any) -> list[bytes]:
    """Make one piece of bytes per event: a dict becomes JSON, text (such as "[DONE]") stays as it is."""
    return [
        b"data: " + (event.encode() if isinstance(event, str) else json.dumps(event).encode()) + b"\n\n"
        for event in events
    ]


def words(text: str) -> list[str]:
    """Cut a text into pieces that give it back when joined."""
    return re.findall(r"\S+\s*|\s+", text)


def usage(input_tokens: int, output_tokens: int | None = None) -> dict[str, int]:
    """Make the usage object; without `output_tokens` that of embeddings."""
    if output_tokens is None:
        return {"prompt_tokens": input_tokens, "total_tokens": input_tokens}
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }


def chat_completion(
    text: str = USAGE_TEXT, *, model: str = "gpt-4o-mini", input_tokens: int = 5, n: int = 1
) -> dict[str, Any]:
    """Make the answer to a chat request without `stream`."""
    message = {"role": "assistant", "content": text, "refusal": None}
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": "stop"}
        for index in range(n)
    ]
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": choices,
        "usage": usage(input_tokens, n * len(words(text))),
        "system_fingerprint": "fp_fake",
    }


def chat_chunk(
    delta: dict[str, Any] | None = None,
    *,
    model: str = "gpt-4o-mini",
    finish_reason: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Make one chunk of a stream; without `delta` it has no choices, as the last one with usage."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
        "choices": choices,
        **more,
    }


def chat_chunks(
    text: str = USAGE_TEXT,
    *,
    model: str = "gpt-4o-mini",
    input_tokens: int = 5,
    include_usage: bool = False,
) -> list[dict[str, Any]]:
    """Make the chunks of a stream, without `[DONE]`."""
    more: dict[str, Any] = {"usage": None} if include_usage else {}
    pieces = words(text)
    chunks = [chat_chunk({"role": "assistant", "content": ""}, model=model, **more)]
    chunks += [chat_chunk({"content": piece}, model=model, **more) for piece in pieces]
    chunks.append(chat_chunk({}, model=model, finish_reason="stop", **more))
    if include_usage:
        chunks.append(chat_chunk(model=model, usage=usage(input_tokens, len(pieces))))
    return chunks


def completion(
    text: str = USAGE_TEXT, *, model: str = "gpt-3.5-turbo-instruct", input_tokens: int = 5
) -> dict[str, Any]:
    """Make the answer to a text completion request without `stream`."""
    return {
        "id": "cmpl-fake",
        "object": "text_completion",
        "created": CREATED,
        "model": model,
        "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": usage(input_tokens, len(words(text))),
    }


def completion_chunks(
    text: str = USAGE_TEXT,
    *,
    model: str = "gpt-3.5-turbo-instruct",
    input_tokens: int = 5,
    include_usage: bool = False,
) -> list[dict[str, Any]]:
    """Make the chunks of a text completion's stream, without `[DONE]`."""
    pieces = words(text)
    chunks: list[dict[str, Any]] = []
    for piece in [*pieces, ""]:
        finish = None if piece else "stop"
        chunk = completion(piece, model=model)
        chunk["choices"][0]["finish_reason"] = finish
        chunk.pop("usage")
        chunks.append(chunk | ({"usage": None} if include_usage else {}))
    if include_usage:
        chunks.append({**chunks[0], "choices": [], "usage": usage(input_tokens, len(pieces))})
    return chunks


def vector_of(text: Any, dimensions: int) -> list[float]:
    """Make a vector that depends on the input; each number is exact in 32 bits."""
    seed = sum(json.dumps(text).encode())
    return [((seed * (i + 3)) % 257 - 128) / 256 for i in range(dimensions)]


def embeddings(
    inputs: Sequence[Any],
    *,
    model: str = "text-embedding-3-small",
    dimensions: int = 8,
    is_base64: bool = False,
) -> dict[str, Any]:
    """Make the answer to an embeddings request: numbers, or little-endian 32-bit floats in base64."""
    rows = []
    for index, text in enumerate(inputs):
        vector: Any = vector_of(text, dimensions)
        if is_base64:
            vector = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
        rows.append({"object": "embedding", "index": index, "embedding": vector})
    return {"object": "list", "data": rows, "model": model, "usage": usage(len(inputs))}


def model_card(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "fake-vendor"}


# What a strict vendor looks at


def parse_strictly(body: bytes) -> dict[str, Any]:
    """Parse a JSON object; Complaint when it is none, or holds a key twice at the top."""
    try:
        pairs = json.loads(body, object_pairs_hook=_Pairs)
    except ValueError as error:
        raise Complaint(400, "We could not parse the JSON body of your request.") from error
    if not isinstance(pairs, _Pairs):
        raise Complaint(400, "The JSON body of your request is not an object.")
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise Complaint(400, f"Duplicate key: {name}", param=name)
    document: dict[str, Any] = json.loads(body)
    return document


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written."""


def check_head(method: str, target: str, version: str, headers: Headers) -> None:
    """Complain about what a careful server would not accept of any client."""
    problems = [
        (not TOKEN.fullmatch(method), "bad method"),
        (not target.startswith("/") or not target.isprintable() or " " in target, "bad request target"),
        (version != "HTTP/1.1", "not HTTP/1.1"),
        (any(not TOKEN.fullmatch(name) for name, _ in headers), "bad header name"),
        (any(_is_bad_value(value) for _, value in headers), "bad header value"),
    ]
    names = [name.lower() for name, _ in headers]
    once = ("host", "content-length", "content-type", "authorization", "transfer-encoding", "accept")
    problems += [(names.count(name) > 1, f"{name} more than once") for name in once]
    problems.append(("host" not in names, "no Host"))
    for is_wrong, problem in problems:
        if is_wrong:
            raise Complaint(400, f"Malformed HTTP request: {problem}.")


def _is_bad_value(value: str) -> bool:
    return value != value.strip() or any(char < " " and char != "\t" for char in value)


def check_key(path: str, headers: Headers, key: str) -> None:
    """Complain unless the key is there as this path wants it: Azure's own header on Azure's paths."""
    given = {name.lower(): value for name, value in headers}
    if path.startswith("/openai/") and given.get("api-key") == key:
        return
    if given.get("authorization") != f"Bearer {key}":
        message = "Incorrect API key provided. You can find your API key at https://platform.openai.com."
        raise Complaint(401, message, code="invalid_api_key")


def check_document(path: str, what: str, document: dict[str, Any], models: Iterable[str] | None) -> None:
    """Complain about missing or mistyped fields, and about a model that is not offered."""
    for name in REQUIRED[what]:
        if name == "model" and "/deployments/" in path:
            continue
        if name not in document:
            raise Complaint(400, f"Missing required parameter: '{name}'.", param=name)
    model = document.get("model", "")
    if not isinstance(model, str):
        raise Complaint(400, "Invalid type for 'model': expected a string.", param="model")
    messages = document.get("messages", [{}])
    if not isinstance(messages, list) or not messages:
        raise Complaint(400, "Invalid 'messages': expected a non-empty array.", param="messages")
    if models is not None and model and model not in models:
        raise Complaint(404, f"The model `{model}` does not exist.", code="model_not_found")


def answer_of(what: str, document: dict[str, Any], text: str) -> dict[str, Any]:
    """Make the usual answer to a request that does not stream."""
    model = document.get("model", "gpt-4o-mini")
    if what == "chat/completions":
        tokens = len(json.dumps(document["messages"]).split())
        return chat_completion(text, model=model, input_tokens=tokens, n=document.get("n", 1))
    if what == "completions":
        return completion(text, model=model, input_tokens=len(str(document["prompt"]).split()))
    given = document["input"]
    is_one = isinstance(given, str) or (bool(given) and isinstance(given[0], int))
    return embeddings(
        [given] if is_one else given,
        model=model,
        dimensions=document.get("dimensions", 8),
        is_base64=document.get("encoding_format") == "base64",
    )


def events_of(what: str, document: dict[str, Any], text: str) -> list[bytes]:
    """Make the usual events of a request that streams, `[DONE]` included."""
    model = document.get("model", "gpt-4o-mini")
    wants_usage = bool((document.get("stream_options") or {}).get("include_usage"))
    if what == "chat/completions":
        tokens = len(json.dumps(document["messages"]).split())
        chunks = chat_chunks(text, model=model, input_tokens=tokens, include_usage=wants_usage)
    else:
        tokens = len(str(document["prompt"]).split())
        chunks = completion_chunks(text, model=model, input_tokens=tokens, include_usage=wants_usage)
    return sse(*chunks, "[DONE]")
