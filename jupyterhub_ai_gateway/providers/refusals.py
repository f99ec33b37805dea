"""What a provider's error answer means for the caller.

A message goes to the caller with the provider's credentials cut out; it never enters the log, because
providers quote prompts. What concerns the operator's key is told in our own words alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from ..errors import ELSEWHERE, LATER, NEVER, TOO_LONG, UpstreamRefused
from ..vocabulary import utcnow

MAX_MESSAGE_CHARS = 2000
_SHORTEST_SECRET = 8
_KEY_LIKE = re.compile(
    r"\b(?:sk|pk|gsk|xai|hf|r8|nvapi|csk|fw|pplx)[-_][A-Za-z0-9_\-*.]{6,}|Bearer\s+\S+|"
    r"\b(?:ya29\.|AIza|eyJ)[A-Za-z0-9_\-.]{20,}"
)
_CODE = re.compile(r"[A-Za-z0-9_.:\-]{1,64}")
_TOO_LONG_CODES = ("context_length_exceeded", "context_too_long", "exceed_context_size_error")
_TOO_LONG_WORDS = re.compile(
    r"maximum context length|maximum model length|context window|exceeds? (?:the )?context|"
    r"(?:prompt|input|request) is too long|too many (?:input )?tokens|"
    r"input token count .{0,40}exceeds|available context size|inputs?`? tokens? \+ .{0,40}must be <=",
    re.IGNORECASE,
)
"""What hosts say of it: OpenAI, vLLM, Anthropic, Bedrock, Gemini, llama.cpp, TGI (read 2026-11)."""
_CONTENT_CODES = frozenset(
    {
        *(
            "content_filter",
            "content_policy_violation",
            "responsibleaipolicyviolation",
            "moderation_blocked",
        ),
        *("data_inspection_failed", "image_content_policy_violation", "content_moderation_failed"),
    }
)
_CONTENT_WORDS = re.compile(
    r"content (?:management|filtering|moderation|safety|usage) policy|content policy|safety system|"
    r"blocked by (?:our |the )?(?:content|safety|guardrail)|(?:input|prompt|request) was flagged|"
    r"rejected as a result of our safety|violat(?:es|ed|ing) .{0,30}(?:usage|content) polic",
    re.IGNORECASE,
)
"""What hosts say when they will not have the words: OpenAI, Azure, Anthropic, OpenRouter, Alibaba (read
2026-11)."""
_OVERLOADED = (503, 529)
_OVERLOADED_WORDS = frozenset(
    {
        *("overloaded_error", "overloaded", "server_overloaded", "engine_overloaded_error"),
        *("service_unavailable", "service_unavailable_error", "unavailable", "serviceunavailableexception"),
    }
)
_PASSED = {400, 409, 413, 415, 422}
_KEY_STATUSES = (401, 403, 407)
_PATH_STATUSES = (404, 405, 410)
_UNKNOWN_MODEL = "model_not_found"
"""What OpenAI says with 404 in chat completions, and with 400 in Responses."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error as the provider words it; None for what it does not say."""

    message: str | None = None
    kind: str | None = None
    code: str | None = None
    param: str | None = None

    @property
    def is_too_long(self) -> bool:
        """Say whether it is about a conversation that is longer than the model's context."""
        return self.code in _TOO_LONG_CODES or _TOO_LONG_WORDS.search(self.message or "") is not None

    @property
    def is_about_content(self) -> bool:
        """Say whether the provider will not have what was said."""
        return bool(self._words & _CONTENT_CODES) or _CONTENT_WORDS.search(self.message or "") is not None

    @property
    def is_overload(self) -> bool:
        """Say whether the provider has too much to do."""
        return bool(self._words & _OVERLOADED_WORDS)

    @property
    def _words(self) -> set[str]:
        return {word.lower() for word in (self.code, self.kind) if word is not None}


def refusal(
    provider: str, status: int, headers: Mapping[bytes, bytes], body: bytes, secrets: Iterable[str]
) -> UpstreamRefused:
    """Return what an answer with an error status means.

    Bad requests and exhausted limits are the caller's to know: status, message, code and Retry-After go
    through. What is wrong with the key or the address is the operator's, and says so.
    """
    complaint = read_complaint(body, secrets)
    if status in (*_PASSED, 403) and complaint.is_about_content:
        return _content_refused(provider, status, complaint)
    if status in _KEY_STATUSES:
        return UpstreamRefused(
            "The model's provider refused the gateway's own credentials. The operator has to look at them.",
            slug="upstream_auth_error",
            detail=f"{provider} answered {status}: its key is wrong, or lacks a permission",
            retry=ELSEWHERE,
            headers=[("x-should-retry", "false")],
        )
    if status in _PATH_STATUSES or (status == 400 and complaint.code == _UNKNOWN_MODEL):
        return UpstreamRefused(
            "The model's provider does not know this model, or not at this address. The operator has to "
            "look at the endpoint's configuration.",
            slug="upstream_not_found",
            detail=f"{provider} answered {status}: is the model's name, and the base URL, right?",
            retry=ELSEWHERE,
            headers=[("x-should-retry", "false")],
        )
    if status == 429:
        return _too_many(provider, headers, complaint)
    if status in _PASSED and complaint.is_too_long:
        return _too_long(provider, status, complaint)
    if status in _PASSED:
        return UpstreamRefused(
            complaint.message or "The model's provider refused the request without saying why.",
            status=status,
            slug="upstream_invalid_request",
            kind="invalid_request_error",
            code=complaint.code or "upstream_invalid_request",
            param=complaint.param,
            detail=f"{provider} answered {status}",
            retry=NEVER,
        )
    return _failed(provider, status, headers, complaint)


def _too_long(provider: str, status: int, complaint: Complaint) -> UpstreamRefused:
    """Say the one thing that coding agents look for: then they make the conversation shorter."""
    return UpstreamRefused(
        complaint.message or "The conversation is longer than the model's context.",
        status=400,
        slug=TOO_LONG,
        kind="invalid_request_error",
        code="context_length_exceeded",
        param=complaint.param,
        detail=f"{provider} answered {status}: the request is too long for the model",
        retry=NEVER,
    )


def _content_refused(provider: str, status: int, complaint: Complaint) -> UpstreamRefused:
    """Say that it is about the words, not about the request's form, and not about the gateway's key."""
    return UpstreamRefused(
        complaint.message or "The model's provider refuses to answer this.",
        status=400 if status == 403 else status,
        slug="upstream_content_refused",
        kind="invalid_request_error",
        code=complaint.code or "upstream_content_refused",
        param=complaint.param,
        detail=f"{provider} answered {status}: it refuses the content",
        retry=NEVER,
    )


def _too_many(provider: str, headers: Mapping[bytes, bytes], complaint: Complaint) -> UpstreamRefused:
    is_quota = "insufficient_quota" in (complaint.kind, complaint.code)
    return UpstreamRefused(
        complaint.message or "The model's provider takes no more requests for now.",
        status=429,
        slug="upstream_rate_limited",
        kind=complaint.kind or "requests",
        code=complaint.code or "upstream_rate_limited",
        detail=f"{provider} answered 429",
        retry=ELSEWHERE if is_quota else LATER,
        retry_after_s=retry_after_s(headers, utcnow()),
        headers=[("x-should-retry", "false")] if is_quota else (),
    )


def _failed(
    provider: str, status: int, headers: Mapping[bytes, bytes], complaint: Complaint
) -> UpstreamRefused:
    passed = status if 500 <= status <= 599 else 502
    slug, text = "upstream_error", "The model's provider failed."
    if status in _OVERLOADED or complaint.is_overload:
        slug, text = "upstream_overloaded", "The model's provider has too much to do; try again soon."
    return UpstreamRefused(
        complaint.message or text,
        status=passed,
        slug=slug,
        code=complaint.code or slug,
        detail=f"{provider} answered {status}",
        retry_after_s=retry_after_s(headers, utcnow()),
    )


def retry_after_s(headers: Mapping[bytes, bytes], now: datetime) -> float | None:
    """Read how long the provider asks us to wait, in seconds, never negative; None when it does not say.

    `retry-after-ms` counts before `Retry-After`, which is a number of seconds or an HTTP date.

    Source: RFC 9110 section 10.2.3; openai-python `_base_client.py` for the milliseconds (read 2026-11).
    """
    ms = _number(headers.get(b"retry-after-ms"))
    if ms is not None:
        return max(0.0, ms / 1000)
    value = headers.get(b"retry-after")
    seconds = _number(value)
    if seconds is not None:
        return max(0.0, seconds)
    if value is None:
        return None
    try:
        when = parsedate_to_datetime(value.decode("latin-1"))
    except (ValueError, TypeError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - now).total_seconds())


def _number(value: bytes | None) -> float | None:
    if value is None or not re.fullmatch(rb"\s*-?[0-9]{1,9}(?:\.[0-9]{1,9})?\s*", value):
        return None
    return float(value)


def read_complaint(body: bytes, secrets: Iterable[str]) -> Complaint:
    """Read an error body, in whichever of the usual shapes it is."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return Complaint()
    if isinstance(document, list) and document:
        document = document[0]
    if not isinstance(document, dict):
        return Complaint()
    error = document.get("error", document)
    if isinstance(error, str):
        return Complaint(clean(error, secrets))
    if not isinstance(error, dict):
        error = document
    message = _first_text(error.get("message"), error.get("detail"), document.get("message"))
    return Complaint(
        None if message is None else clean(message, secrets),
        _word(error.get("type")),
        _word(error.get("code")),
        _word(error.get("param")),
    )


def _first_text(*values: Any) -> str | None:
    for value in values:
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, list) and value:  # FastAPI: what is wrong, item by item
            items = [
                item["msg"] for item in value if isinstance(item, dict) and isinstance(item.get("msg"), str)
            ]
            if items:
                return "; ".join(items)
    return None


def _word(value: Any) -> str | None:
    """Pass what looks like a word of an API; a number as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and _CODE.fullmatch(value) else None


def clean(text: str, secrets: Iterable[str]) -> str:
    """Return a message without credentials and control characters, of bounded length."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "…")
            for part in (secret[:_SHORTEST_SECRET], secret[-_SHORTEST_SECRET:]):
                text = text.replace(part, "…")
    text = _KEY_LIKE.sub("…", text)
    text = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)
    return text if len(text) <= MAX_MESSAGE_CHARS else text[:MAX_MESSAGE_CHARS] + "…"
