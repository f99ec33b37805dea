"""The one error object, and what makes an SDK wait, try again, or give up."""

from __future__ import annotations

import json

import pytest

from jupyterhub_ai_gateway.dialects.faults import error_event, error_object, fault_headers
from jupyterhub_ai_gateway.errors import (
    Draining,
    Fault,
    Forbidden,
    LimitFault,
    NotFound,
    RequestFault,
    UpstreamRefused,
    UpstreamUnreachable,
)


def test_object_has_what_each_kind_of_client_reads() -> None:
    fault = NotFound("No such model.", slug="model_not_found", param="model")
    assert json.loads(error_object(fault)) == {
        "error": {
            "message": "No such model.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        },
        "detail": "No such model.",
    }


def test_provider_s_own_code_is_shown() -> None:
    fault = UpstreamRefused("Too long.", slug="upstream_invalid_request", code="context_length_exceeded")
    assert json.loads(error_object(fault))["error"]["code"] == "context_length_exceeded"
    assert fault.slug == "upstream_invalid_request"


def test_event_is_one_event() -> None:
    event = error_event(UpstreamUnreachable("Line\nbreak."))
    assert event.startswith(b'data: {"error":')
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2


@pytest.mark.parametrize(
    ("fault", "headers"),
    [
        (LimitFault("x", retry_after_s=0.2), {"Retry-After": "1", "retry-after-ms": "200"}),
        (LimitFault("x", retry_after_s=2.001), {"Retry-After": "3", "retry-after-ms": "2001"}),
        (Draining("x"), {}),
        (RequestFault("x"), {}),
        (Forbidden("x"), {}),
        (Fault("a bug"), {"x-should-retry": "false"}),
        (RequestFault("x", status=409), {"x-should-retry": "false"}),
        (UpstreamUnreachable("x"), {}),
        (Draining("x", headers=[("Retry-After", "7")], retry_after_s=1.0), {"Retry-After": "7"}),
    ],
)
def test_headers_say_whether_and_when_to_come_back(fault: Fault, headers: dict[str, str]) -> None:
    assert dict(fault_headers(fault)) == headers
