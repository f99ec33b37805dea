"""Failures in the words of OpenAI's API, which its SDKs turn into their exceptions.

Source: https://platform.openai.com/docs/guides/error-codes/api-errors (read 2026-11); what makes an SDK
try again: openai-python `_base_client.py`, `_should_retry` (read 2026-11).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from ..errors import NEVER, Fault

_RETRIED = (408, 409, 429)
"""Below 500 these are what SDKs send again by themselves."""

_encode = msgspec.json.Encoder().encode


def error_object(fault: Fault, request_id: str = "") -> bytes:
    """Return the body: OpenAI's `error`, and `detail` for clients of the kind that read FastAPI's."""
    return _encode({"error": _error(fault), "detail": fault.public})


def error_event(fault: Fault, request_id: str = "") -> bytes:
    """Return what an OpenAI stream that fails after its start ends with; no `[DONE]` follows."""
    return b"data: " + _encode({"error": _error(fault)}) + b"\n\n"


def fault_headers(fault: Fault) -> list[tuple[str, str]]:
    """Return what the answer's headers say: when to come back, or that it is no use."""
    headers = list(fault.headers)
    names = {name.lower() for name, _ in headers}
    if fault.retry_after_s is not None and "retry-after" not in names:
        headers.append(("Retry-After", str(max(1, math.ceil(fault.retry_after_s)))))
        headers.append(("retry-after-ms", str(max(1, math.ceil(fault.retry_after_s * 1000)))))
    is_retried = fault.status in _RETRIED or fault.status >= 500
    if fault.retry == NEVER and is_retried and "x-should-retry" not in names:
        headers.append(("x-should-retry", "false"))
    return headers


def _error(fault: Fault) -> dict[str, object]:
    return {
        "message": fault.public,
        "type": fault.kind,
        "param": fault.param,
        "code": fault.code,
        **fault.more,
    }


JSON: Sequence[tuple[str, str]] = (("Content-Type", "application/json"),)
