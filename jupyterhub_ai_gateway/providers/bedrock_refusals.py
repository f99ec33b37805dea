"""What Bedrock's errors mean: those that come with a status, and those within a stream.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html and
https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html (read 2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ..errors import ELSEWHERE, UpstreamRefused
from .refusals import read_complaint, refusal

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9.]{0,63}")
_STATUSES: Mapping[str, int] = {
    "throttling": 429,
    "modelnotready": 503,  # a model of one's own, still being loaded
    "modeltimeout": 504,
    "modelerror": 502,
    "modelstreamerror": 502,
    "internalserver": 500,
    "internalfailure": 500,
    "serviceunavailable": 503,
    "validation": 400,
    "resourcenotfound": 404,
    "accessdenied": 403,
    "unrecognizedclient": 403,
    "expiredtoken": 403,
    "invalidsignature": 403,
    "incompletesignature": 403,
    "missingauthenticationtoken": 403,
}
"""Statuses as we tell them, where AWS has others, or none because the answer has begun."""
_QUOTA = "servicequotaexceeded"
_EXPIRED = frozenset({"expiredtoken", "unrecognizedclient"})
_KINDS: Mapping[int, str] = {
    400: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_TOO_LONG = re.compile(
    r"(?:input|prompt) is too long|too many (?:input )?tokens|maximum context|context (?:length|window)|"
    r"tokens you requested exceeds",
    re.IGNORECASE,
)
_WRONG_MODEL = re.compile(
    r"model identifier is invalid|on-demand throughput|doesn.t support the model|model is not supported",
    re.IGNORECASE,
)
"""Validation errors that no caller can put right."""

_encode = msgspec.json.Encoder().encode


def bedrock_refusal(
    provider: str, status: int, headers: Mapping[bytes, bytes], body: bytes, secrets: Iterable[str]
) -> tuple[UpstreamRefused, bool]:
    """Return what an error means, and whether it is that credentials have expired.

    `body` is what AWS sent, or what `error_of_exception` made of an exception within a stream.
    """
    name = _name(headers, body)
    kind = _plain(name)
    complaint = read_complaint(body, secrets)
    message = complaint.message or ""
    status = 429 if kind == _QUOTA else _STATUSES.get(kind, status)
    if status == 400 and _WRONG_MODEL.search(message):
        status = 404
    code = "context_length_exceeded" if status == 400 and _TOO_LONG.search(message) else name
    told = {"message": message, "code": "insufficient_quota" if kind == _QUOTA else code or None}
    fault = refusal(provider, status, headers, _encode({"error": told}), secrets)
    if status == 504:
        fault.slug, fault.retry = "upstream_timeout", ELSEWHERE
    if name:
        fault.detail = f"{fault.detail} ({name})"
    return fault, kind in _EXPIRED


def error_of_exception(name: str, payload: bytes) -> bytes:
    """Return the data of an event `error`, as Anthropic's format has it, for an exception of AWS's."""
    complaint = read_complaint(payload, ())
    kind = _KINDS.get(_STATUSES.get(_plain(name), 500), "api_error")
    error = {
        "type": kind,
        "message": complaint.message or "The model's provider failed.",
        "code": name if _WORD.fullmatch(name) else None,
    }
    return _encode({"type": "error", "error": error})


def _name(headers: Mapping[bytes, bytes], body: bytes) -> str:
    """Return what AWS calls an error: `ThrottlingException`; "" where it does not say."""
    told = headers.get(b"x-amzn-errortype", b"").decode("latin-1") or _name_in(body)
    word = told.partition(":")[0].rpartition("#")[2]
    return word if _WORD.fullmatch(word) else ""


def _name_in(body: bytes) -> str:
    try:
        document: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    if not isinstance(document, dict):
        return ""
    error = document.get("error")
    told = document.get("__type") or (error.get("code") if isinstance(error, dict) else None)
    return told if isinstance(told, str) else ""


def _plain(name: str) -> str:
    """Return the name as it is the same with a status and within a stream."""
    return name.lower().removesuffix("exception")
