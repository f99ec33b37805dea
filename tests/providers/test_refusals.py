"""What hosts say when a conversation is too long, and what callers are told then."""

from __future__ import annotations

import json

import pytest

from jupyterhub_ai_gateway.dialects import anthropic
from jupyterhub_ai_gateway.providers.refusals import refusal

TOO_LONG = [
    (
        400,
        "This model's maximum context length is 128000 tokens. Yours has 130000.",
    ),
    (400, "Your input exceeds the context window of this model. Please adjust your input and try again."),
    (400, "prompt is too long: 210000 tokens > 200000 maximum"),
    (400, "Input is too long for requested model."),
    (400, "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576)."),
    (400, "the request exceeds the available context size, try increasing it"),
    (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000"),
    (413, "Request is too long: too many tokens"),
]
OTHER = [
    "max_tokens is too large: 200000",
    "Unknown parameter: 'context'.",
    "The image is too long on one side.",
]


@pytest.mark.parametrize("status", [400, 404])
def test_a_model_that_the_host_does_not_know_is_the_operator_s_to_put_right(status: int) -> None:
    error = {
        "message": "The requested model 'x' does not exist.",
        "param": "model",
        "code": "model_not_found",
    }
    fault = refusal("x", status, {}, json.dumps({"error": error}).encode(), ())
    assert (fault.status, fault.slug, fault.param) == (502, "upstream_not_found", None)


@pytest.mark.parametrize(("status", "message"), TOO_LONG)
def test_a_conversation_that_is_too_long_is_named_as_clients_expect(status: int, message: str) -> None:
    fault = refusal("x", status, {}, json.dumps({"error": {"message": message}}).encode(), ())
    assert (fault.status, fault.code) == (400, "context_length_exceeded")
    told = json.loads(anthropic.error_object(fault, "req_1"))["error"]
    assert told["type"] == "invalid_request_error"
    assert told["message"].startswith("prompt is too long")


def test_its_code_is_enough() -> None:
    body = {"error": {"message": "No.", "code": "context_length_exceeded"}}
    assert refusal("x", 400, {}, json.dumps(body).encode(), ()).slug == "upstream_context_too_long"


@pytest.mark.parametrize("message", OTHER)
def test_other_refusals_stay_what_they_are(message: str) -> None:
    fault = refusal("x", 400, {}, json.dumps({"error": {"message": message}}).encode(), ())
    assert fault.code == "upstream_invalid_request"


CONTENT = [
    (400, {"code": "content_filter", "message": "The response was filtered."}),
    (400, {"code": "content_policy_violation", "message": "No."}),
    (400, {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"}),
    (400, {"message": "Your request was rejected as a result of our safety system."}),
    (403, {"message": "Your chosen model requires moderation and your input was flagged for violence."}),
    (400, {"code": "data_inspection_failed", "message": "Input data may contain inappropriate content."}),
]


@pytest.mark.parametrize(("status", "error"), CONTENT)
def test_refused_content_is_no_wrong_request_and_no_dead_key(status: int, error: dict[str, str]) -> None:
    fault = refusal("x", status, {}, json.dumps({"error": error}).encode(), ())
    assert (fault.status, fault.slug, fault.retry) == (400, "upstream_content_refused", "never")
    assert fault.public == error["message"]
    assert fault.code == error.get("code", "upstream_content_refused")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (503, {"message": "Busy."}),
        (529, {"type": "overloaded_error", "message": "Overloaded"}),
        (500, {"type": "overloaded_error", "message": "Overloaded"}),
        (500, {"code": "server_overloaded", "message": "Busy."}),
    ],
)
def test_too_much_to_do_is_told_apart(status: int, error: dict[str, str]) -> None:
    fault = refusal("x", status, {b"retry-after": b"7"}, json.dumps({"error": error}).encode(), ())
    assert (fault.status, fault.slug, fault.retry) == (status, "upstream_overloaded", "elsewhere")
    assert fault.retry_after_s == 7


@pytest.mark.parametrize("status", [401, 403])
def test_a_dead_key_is_the_operators(status: int) -> None:
    body = b'{"error": {"message": "Incorrect API key: sk-abcdefgh12345678"}}'
    fault = refusal("x", status, {}, body, ())
    assert (fault.status, fault.slug, fault.retry) == (502, "upstream_auth_error", "elsewhere")
    assert "sk-" not in fault.public + (fault.detail or "")
