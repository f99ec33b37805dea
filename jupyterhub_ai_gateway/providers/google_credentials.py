"""Google Cloud's tokens: of a key in JSON by one request of our own, of anything else by google-auth.

google-auth is an extra of its own (`vertex`), imported where it is needed and run in a thread.

Source: https://developers.google.com/identity/protocols/oauth2/service-account (read 2026-11).
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import importlib.util
import json
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from ..config import Secret
from ..upstream.base import Client
from ..vocabulary import utcnow
from .tokens import USUAL_LIFETIME_S, Fetch, Fetched, ask_token, form_target, refused_token

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
INSTALL = "pip install 'jupyterhub-ai-gateway[vertex]'"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFETIME_S = 3600


def problems(credentials: Secret | None) -> Iterator[str]:
    """Say what is wrong with credentials before they are used, never what is in them."""
    document = _opened(credentials)
    kind = document.get("type")
    if kind == "service_account":
        yield from _key_problems(document)
    elif kind == "authorized_user":
        if not all(isinstance(document.get(name), str) for name in _USER_FIELDS):
            yield "lacks client_id, client_secret or refresh_token"
    elif not _has_google_auth():
        what = "needs google-auth" if credentials is not None else "is required without google-auth"
        yield f"{what}: {INSTALL}"
    elif credentials is not None and not isinstance(kind, str):
        yield "has no type: it is no file of credentials that Google Cloud has made"


def fetch_of(credentials: Secret | None) -> Fetch:
    """Return what fetches a token for these credentials; None for those of the surroundings."""
    document = _opened(credentials)
    if document.get("type") == "service_account":
        return _ServiceAccount(document)
    if document.get("type") == "authorized_user":
        return _User(document)
    return _GoogleAuth(document or None)


_USER_FIELDS = ("client_id", "client_secret", "refresh_token")


def _opened(credentials: Secret | None) -> dict[str, Any]:
    if credentials is None:
        return {}
    document: dict[str, Any] = json.loads(credentials.reveal())
    return document


def _has_google_auth() -> bool:
    try:
        return all(importlib.util.find_spec(name) is not None for name in ("google.auth", "requests"))
    except ModuleNotFoundError:
        return False


def _key_problems(document: dict[str, Any]) -> Iterator[str]:
    for name in ("client_email", "private_key"):
        if not isinstance(document.get(name), str):
            yield f"lacks {name}"
            return
    if importlib.util.find_spec("cryptography") is None:
        yield f"needs the package cryptography: {INSTALL}"
        return
    try:
        _private_key(document["private_key"])
    except (ValueError, TypeError):
        yield "has a private_key that cannot be read"


def _private_key(pem: str) -> Any:
    serialization = importlib.import_module("cryptography.hazmat.primitives.serialization")
    return serialization.load_pem_private_key(pem.encode(), password=None)


class _ServiceAccount:
    """A service account's key, which signs who it is; Google gives a token for that."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._email: str = document["client_email"]
        self._key_id: str | None = document.get("private_key_id")
        self._url: str = document.get("token_uri") or TOKEN_URL
        self._key = _private_key(document["private_key"])
        self._target = form_target(self._url)

    async def __call__(self, client: Client) -> Fetched:
        form = {"grant_type": _GRANT, "assertion": self._assertion(int(time.time()))}
        return await ask_token(client, self._target, form)

    def _assertion(self, now_s: int) -> str:
        head = {"alg": "RS256", "typ": "JWT", "kid": self._key_id}
        claims = {
            "iss": self._email,
            "scope": SCOPE,
            "aud": self._url,
            "iat": now_s,
            "exp": now_s + _LIFETIME_S,
        }
        signed = f"{_encoded(head)}.{_encoded(claims)}"
        padding = importlib.import_module("cryptography.hazmat.primitives.asymmetric.padding")
        hashes = importlib.import_module("cryptography.hazmat.primitives.hashes")
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64(signature)}"


class _User:
    """What `gcloud auth application-default login` leaves behind: a token for tokens."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._form = {
            "grant_type": "refresh_token",
            **{name: document[name] for name in _USER_FIELDS},
        }
        self._target = form_target(document.get("token_uri") or TOKEN_URL)

    async def __call__(self, client: Client) -> Fetched:
        return await ask_token(client, self._target, self._form)


class _GoogleAuth:
    """All other credentials, such as a machine's own or those of another cloud, by Google's library."""

    def __init__(self, document: dict[str, Any] | None) -> None:
        self._document = document
        self._credentials: Any = None

    async def __call__(self, client: Client) -> Fetched:
        return await asyncio.to_thread(self._refresh)

    def _refresh(self) -> Fetched:
        auth = importlib.import_module("google.auth")
        exceptions = importlib.import_module("google.auth.exceptions")
        requests = importlib.import_module("google.auth.transport.requests")
        try:
            if self._credentials is None:
                self._credentials = self._load(auth)
            self._credentials.refresh(requests.Request())
        except exceptions.GoogleAuthError as error:
            # Its texts quote what the token's server answered
            raise refused_token(f"google-auth: {type(error).__name__}") from None
        return Fetched(self._credentials.token or "", _lifetime_s(self._credentials.expiry))

    def _load(self, auth: Any) -> Any:
        if self._document is None:
            return auth.default(scopes=[SCOPE])[0]
        return auth.load_credentials_from_dict(self._document, scopes=[SCOPE])[0]


def _lifetime_s(expiry: datetime | None) -> float:
    """Return how long a token lasts; google-auth tells the end in UTC, without saying so."""
    if expiry is None:
        return USUAL_LIFETIME_S
    return max(1.0, (expiry.replace(tzinfo=timezone.utc) - utcnow()).total_seconds())


def _encoded(document: dict[str, Any]) -> str:
    return _base64(
        json.dumps({name: value for name, value in document.items() if value is not None}).encode()
    )


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
