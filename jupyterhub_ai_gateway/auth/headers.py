"""Where a request carries its caller's token. Pure: nothing is asked here."""

from __future__ import annotations

import base64
import binascii
from typing import Protocol

TOKEN_HEADERS = ("x-api-key", "api-key", "x-goog-api-key")
"""Where the SDKs of Anthropic, Azure and Gemini put a key."""

PROJECT_HEADERS = ("OpenAI-Project", "x-goog-user-project", "x-ai-gateway-project")
"""Where a caller names the group that is to pay: the OpenAI SDK's `project`, what Google's clients send,
and a name of our own for all others."""

_SCHEMES = ("bearer", "token", "basic")


class Headers(Protocol):
    """Anything that finds a request header whatever the case of its name."""

    def get(self, name: str, /) -> str | None:
        """Return the header's value, None when the request has none."""


def token_from_headers(headers: Headers) -> str | None:
    """Find the caller's token where the SDKs put it: Authorization first, then `TOKEN_HEADERS`.

    Authorization may be `Bearer`, `token` (the Hub's own word) or `Basic`, whose password counts. Another
    scheme is not ours and is passed over. The value is as it came; the resolver refuses what cannot be
    a token.
    """
    value = headers.get("Authorization")
    if value:
        if value.startswith("Bearer "):
            return value[7:].strip() or _token_from_named(headers)
        token = _token_from_scheme(value)
        if token:
            return token
    return _token_from_named(headers)


def _token_from_scheme(value: str) -> str | None:
    scheme, _, rest = value.strip().partition(" ")
    kind = scheme.lower()
    if kind in ("bearer", "token"):
        return rest.strip() or None
    return _basic_password(rest) if kind == "basic" else None


def _basic_password(encoded: str) -> str | None:
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return text.partition(":")[2] or None


def _token_from_named(headers: Headers) -> str | None:
    for name in TOKEN_HEADERS:
        value = headers.get(name)
        if value and value.strip():
            return value.strip()
    return None


def project_from_headers(headers: Headers) -> str | None:
    """Find the group that is to pay for a request; None where the caller names none."""
    mentions = getattr(headers, "mentions", None)
    if mentions is not None and not mentions("-project:"):
        return None  # one search instead of three
    for name in PROJECT_HEADERS:
        value = headers.get(name)
        if value is not None and value.strip():
            return value.strip()
    return None


def has_credentials(headers: Headers) -> bool:
    """Tell whether the request tries to name its caller by a header, rightly or not."""
    scheme = (headers.get("Authorization") or "").strip().partition(" ")[0].lower()
    return scheme in _SCHEMES or any(headers.get(name) is not None for name in TOKEN_HEADERS)
