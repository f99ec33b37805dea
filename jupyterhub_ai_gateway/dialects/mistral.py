"""Failures as Mistral's API words them.

Source: the errors of mistralai 3.7, and https://docs.mistral.ai/api/ (read 2026-11).
"""

from __future__ import annotations

import msgspec

from ..errors import Fault

_encode = msgspec.json.Encoder().encode


def error_object(fault: Fault, request_id: str) -> bytes:
    """Return the body of a failed answer."""
    return _encode(
        {
            "object": "error",
            "message": fault.public,
            "type": fault.kind,
            "param": fault.param,
            "code": fault.code,
            "request_id": request_id,
            **fault.more,
        }
    )


def error_event(fault: Fault, request_id: str) -> bytes:
    """Return what a stream that fails after its start ends with: the SDK takes it for no chunk."""
    return b"data: " + error_object(fault, request_id) + b"\n\n"
