"""What Anthropic's API says, as a script for `fakes.upstream`: as strict, and in the same words.

Source: https://platform.claude.com/docs/en/api/messages, /streaming and /errors (read 2026-11).
"""

from __future__ import annotations

import json
from typing import Any

from .upstream import Reply, Request

TEXT = ["Hello", " from", " the fake", " Claude."]
USAGE = {
    "input_tokens": 7,
    "cache_creation_input_tokens": 2,
    "cache_read_input_tokens": 11,
    "output_tokens": 1,
    "service_tier": "standard",
}
VENDOR = [("request-id", "req_vendor"), ("anthropic-organization-id", "org"), ("Set-Cookie", "a=b")]
KNOWN = {
    *("model", "messages", "max_tokens", "system", "metadata", "stop_sequences", "stream", "temperature"),
    *("top_k", "top_p", "tools", "tool_choice", "thinking", "service_tier"),
}


def error(status: int, kind: str, message: str, *headers: tuple[str, str]) -> Reply:
    """Refuse as the vendor does."""
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_vendor"}
    return Reply.json(body, status, [*VENDOR, *headers])


def event(name: str, **more: Any) -> bytes:
    """Make one event."""
    return f"event: {name}\ndata: {json.dumps({'type': name, **more})}\n\n".encode()


def events() -> list[bytes]:
    """Make a whole stream."""
    message = {**_message([]), "stop_reason": None, "usage": USAGE}
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        event("message_start", message=message),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event("ping"),
        *(
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
            for text in TEXT
        ),
        event("content_block_stop", index=0),
        event("message_delta", delta=delta, usage={"output_tokens": 9}),
        event("message_stop"),
    ]


class Claude:
    """A script for each request; `key` is the only one that is taken."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: Request) -> Reply:
        if request.header("x-api-key") != self._key or request.header("authorization") is not None:
            return error(401, "authentication_error", "invalid x-api-key")
        if request.header("anthropic-version") != "2023-06-01":
            return error(400, "invalid_request_error", "anthropic-version: header is required")
        if request.header("content-type") != "application/json":
            return error(400, "invalid_request_error", "content-type")
        document = request.document
        if unknown := set(document) - KNOWN:
            return error(400, "invalid_request_error", f"{unknown.pop()}: Extra inputs are not permitted")
        if request.path == "/v1/messages/count_tokens":
            return Reply.json({"input_tokens": 20}, headers=VENDOR)
        if request.path != "/v1/messages":
            return error(404, "not_found_error", "Not found")
        if not isinstance(document.get("max_tokens"), int):
            return error(400, "invalid_request_error", "max_tokens: Field required")
        if document.get("stream"):
            return Reply.stream(*events(), headers=VENDOR)
        return Reply.json(_message([{"type": "text", "text": "".join(TEXT)}]), headers=VENDOR)


def _message(content: list[Any]) -> dict[str, Any]:
    return {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": content,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {**USAGE, "output_tokens": 9},
    }
