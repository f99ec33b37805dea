"""The lines of a batch, in and out. Pure: text in, values and text out.

Source: https://platform.openai.com/docs/api-reference/batch (read 2026-11), and FIRST's guide for the
lines that are bare request bodies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from ..vocabulary import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, Operation

MAX_ID_CHARS = 512

OPERATION_OF_URL: Mapping[str, Operation] = {
    f"/v1{each.path}": each for each in (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES)
}
"""What a line's `url`, or a batch's `endpoint`, can be."""
_PLAIN: Mapping[str, Operation] = {"messages": CHAT, "prompt": COMPLETIONS, "input": EMBEDDINGS}
"""By which field a bare body is known, where nothing else says what it is for."""

Fields = dict[str, msgspec.Raw]

_fields = msgspec.json.Decoder(Fields).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Rules:
    """What all lines of a job share: the path of their requests, and their model; None where each says."""

    url: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One request. `number` counts the file's lines from 1."""

    number: int
    custom_id: str
    operation: Operation
    model: str
    body: bytes = field(repr=False)


class Problem(Exception):  # noqa: N818 - a finding about somebody's file
    """Why a line cannot be sent. It quotes nothing of the line."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


def read_line(text: bytes, number: int, rules: Rules) -> Line | None:
    """Read a line: OpenAI's, or a bare request body; None for a blank one. `Problem` says what is wrong."""
    if not text.strip():
        return None
    outer = _object(text, "This line is not a JSON object.", None)
    is_plain = "body" not in outer
    url = rules.url if is_plain else _url(outer, rules)
    body = outer if is_plain else _object(bytes(outer["body"]), "body must be an object.", "body")
    operation = OPERATION_OF_URL[url] if url else _operation_of(body)
    if bytes(body.get("stream", b"")) == b"true":
        raise Problem("invalid_request", "A batch has no streams: leave stream out.", "stream")
    model = rules.model or _text_of(body.get("model"), "model")
    body["model"] = msgspec.Raw(_encode(model))
    custom_id = f"line-{number}" if is_plain and "custom_id" not in outer else _id(outer)
    body.pop("custom_id", None)
    return Line(number, custom_id, operation, model, _encode(body))


def custom_id_of(text: bytes, number: int) -> str | None:
    """Return what a line is called; None for a blank one."""
    if not text.strip():
        return None
    try:
        outer = _fields(text)
        return _text(outer["custom_id"]) if "custom_id" in outer else f"line-{number}"
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return f"line-{number}"


def _url(outer: Fields, rules: Rules) -> str:
    method = outer.get("method")
    if method is not None and bytes(method) != b'"POST"':
        raise Problem("invalid_method", "method must be POST.", "method")
    if "url" not in outer and rules.url:
        return rules.url
    url = _text_of(outer.get("url"), "url")
    if rules.url is not None and url != rules.url:
        raise Problem("mismatched_endpoint", f"url must be the batch's own endpoint, {rules.url}.", "url")
    if url not in OPERATION_OF_URL:
        raise Problem("invalid_url", f"url must be of {', '.join(OPERATION_OF_URL)}.", "url")
    return url


def _operation_of(body: Fields) -> Operation:
    found = next((operation for name, operation in _PLAIN.items() if name in body), None)
    if found is None:
        raise Problem(
            "invalid_request", "This line has neither messages, nor a prompt, nor an input.", None
        )
    return found


def _id(outer: Fields) -> str:
    return _text_of(outer.get("custom_id"), "custom_id", MAX_ID_CHARS)


def _object(text: bytes, problem: str, param: str | None) -> Fields:
    try:
        return _fields(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Problem("invalid_json_line", problem, param) from None


def _text_of(raw: msgspec.Raw | None, name: str, longest: int = 256) -> str:
    if raw is None:
        raise Problem("missing_required_parameter", f"{name} is missing.", name)
    try:
        text = _text(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Problem("invalid_type", f"{name} must be text.", name) from None
    if not 0 < len(text) <= longest:
        raise Problem("invalid_value", f"{name} must be text of 1 to {longest} characters.", name)
    return text


# Out


def answer_line(custom_id: str, request_id: str, status: int, body: bytes) -> bytes:
    """Write what came back, on one line. A body that is no JSON becomes text."""
    try:
        shown = msgspec.Raw(msgspec.json.format(body, indent=-1))
        msgspec.json.decode(shown)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        shown = msgspec.Raw(_encode(body.decode("utf-8", "replace")))
    response = {"status_code": status, "request_id": request_id, "body": shown}
    return _encode(
        {"id": f"batch_{request_id}", "custom_id": custom_id, "response": response, "error": None}
    )


def unsent_line(job_id: str, number: int, custom_id: str, code: str, message: str) -> bytes:
    """Write that a line was not answered, and why."""
    error = {"code": code, "message": message}
    name = f"batch_req_{job_id[-12:]}_{number}"
    return _encode({"id": name, "custom_id": custom_id, "response": None, "error": error})


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Used(msgspec.Struct):
    usage: _Usage | None = None


_used = msgspec.json.Decoder(_Used).decode


def tokens_of(body: bytes) -> tuple[int | None, int | None]:
    """Return the tokens read and written that an answer tells; None for what it does not."""
    try:
        usage = _used(body).usage
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        usage = None
    if usage is None:
        return None, None
    into = usage.prompt_tokens if usage.input_tokens is None else usage.input_tokens
    return into, usage.completion_tokens if usage.output_tokens is None else usage.output_tokens
