"""Signature Version 4, with which AWS knows who sends a request, and that nobody has changed it.

Pure: what is signed, when and with which keys is given. Where keys come from lives in `aws`.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
(read 2026-11).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import quote

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNRESERVED: Final = "-._~"

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Keys:
    """What signs requests. `session_token` comes with keys that expire."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a signature is good for, beside the one request: a service in a region, on one day."""

    region: str
    service: str


def sign(
    method: str, path: str, headers: Headers, body: bytes, *, keys: Keys, scope: Scope, now: datetime
) -> list[tuple[str, str]]:
    """Return the headers to add to a request.

    `path` is the request target as it is sent, query included. `headers` are those to sign, `Host` among
    them; further ones may be sent. `now` is aware, in UTC; AWS takes it for five minutes.
    """
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    own = [("X-Amz-Date", stamp)]
    if keys.session_token is not None:
        own.append(("X-Amz-Security-Token", keys.session_token))
    lines, names = _canonical_headers([*headers, *own])
    target, _, query = path.partition("?")
    canonical = "\n".join(
        [method, _canonical_path(target), _canonical_query(query), lines, names, _sha256(body)]
    )
    credential = f"{stamp[:8]}/{scope.region}/{scope.service}/aws4_request"
    told = "\n".join([_ALGORITHM, stamp, credential, _sha256(canonical.encode())])
    signature = hmac.digest(_signing_key(keys, scope, stamp[:8]), told.encode(), "sha256").hex()
    own.append(
        (
            "Authorization",
            f"{_ALGORITHM} Credential={keys.access_key_id}/{credential}, "
            f"SignedHeaders={names}, Signature={signature}",
        )
    )
    return own


def _signing_key(keys: Keys, scope: Scope, day: str) -> bytes:
    key = f"AWS4{keys.secret_access_key}".encode()
    for word in (day, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    return key


def _canonical_headers(headers: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Return a line for each header, sorted by name, and the names; values of one name are joined."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(" ".join(value.split()))
    names = sorted(found)
    return "".join(f"{name}:{','.join(found[name])}\n" for name in names), ";".join(names)


def _canonical_path(path: str) -> str:
    """Return a path that is encoded already, encoded once more: all services but S3 want it so."""
    return quote(_without_dots(path), safe=f"/{_UNRESERVED}")


def _without_dots(path: str) -> str:
    """Resolve `.`, `..` and empty segments, as RFC 3986 has it."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if kept:
                kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    ending = "/" if path.endswith("/") and kept else ""
    return f"/{'/'.join(kept)}{ending}"


def _canonical_query(query: str) -> str:
    """Return a query that is encoded already, sorted by name and value."""
    pairs = [part.partition("=") for part in query.split("&") if part]
    return "&".join(f"{name}={value}" for name, value in sorted((name, value) for name, _, value in pairs))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
