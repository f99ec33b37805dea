"""What OpenAI's Responses API says, as a script for `fakes.upstream`: as strict, and in the same words.

Source: https://platform.openai.com/docs/api-reference/responses and /responses-streaming (read 2026-11).
"""

from __future__ import annotations

import json
from typing import Any

from .upstream import Reply, Request

TEXT = ["Hello", " from", " the fake."]
USAGE = {
    "input_tokens": 36,
    "input_tokens_details": {"cached_tokens": 30},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 12},
    "total_tokens": 56,
}
KNOWN = {
    *(
        "background",
        "conversation",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
    ),
    *("metadata", "model", "parallel_tool_calls", "previous_response_id", "prompt", "prompt_cache_key"),
    *("reasoning", "safety_identifier", "service_tier", "store", "stream", "stream_options", "temperature"),
    *("text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user"),
}


def response(status: str = "completed", **more: Any) -> dict[str, Any]:
    """Make a response object."""
    part = {"type": "output_text", "text": "".join(TEXT), "annotations": [], "logprobs": []}
    message = {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
    is_done = status == "completed"
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_760_000_000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": "gpt-5-2026-01-01",
        "output": [message] if is_done else [],
        "parallel_tool_calls": True,
        "store": False,
        "tool_choice": "auto",
        "tools": [],
        "usage": USAGE if is_done else None,
        **more,
    }


def events() -> list[bytes]:
    """Make a whole stream."""
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    made: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": response("in_progress")}),
        ("response.in_progress", {"response": response("in_progress")}),
        *(("response.output_text.delta", {**where, "delta": text, "logprobs": []}) for text in TEXT),
        ("response.output_text.done", {**where, "text": "".join(TEXT), "logprobs": []}),
        ("response.completed", {"response": response()}),
    ]
    return [event(name, number, **more) for number, (name, more) in enumerate(made)]


def event(name: str, number: int, **more: Any) -> bytes:
    """Make one event."""
    document = {"type": name, "sequence_number": number, **more}
    return f"event: {name}\ndata: {json.dumps(document)}\n\n".encode()


class Responses:
    """A script for each request; `key` is the only one that is taken."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: Request) -> Reply:
        if request.header("authorization") != f"Bearer {self._key}":
            return Reply.error(401, "Incorrect API key provided")
        document = request.document
        if unknown := set(document) - KNOWN:
            return Reply.error(400, f"Unknown parameter: '{unknown.pop()}'.")
        if request.path == "/v1/responses/input_tokens":
            if "store" in document:
                return Reply.error(400, "Unknown parameter: 'store'.")
            return Reply.json({"object": "response.input_tokens", "input_tokens": 11})
        if request.path != "/v1/responses":
            return Reply.error(404, "Not found")
        if document.get("store") is not False:
            return Reply.error(400, "This account is shared: nothing is to be stored.")
        return Reply.stream(*events()) if document.get("stream") else Reply.json(response())
