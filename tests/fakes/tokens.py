"""Who gives tokens: Google, Entra ID, a machine on Azure, Databricks; each as strict about who asks."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .upstream import Reply, Request

LIFETIME_S = 3599
CLIENT, SECRET, TENANT = "client-0123456789", "secret-0123456789abcdef", "tenant-1"
ASSERTION = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJwb2QifQ.c2lnbmF0dXJl"
IDENTITY_HEADER = "identity-header-0123456789"
_FORM = "application/x-www-form-urlencoded"


class Tokens:
    """Gives `token-1`, `token-2` and so on, for `lifetime_s`; `given` are those there were.

    `key` is the service account whose signature Google checks. With `fails` it answers that instead.
    """

    def __init__(self, lifetime_s: float | str = LIFETIME_S) -> None:
        self.lifetime_s = lifetime_s
        self.given: list[str] = []
        self.fails: Reply | None = None
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._lock = threading.Lock()

    def service_account(self, url: str) -> dict[str, str]:
        """Return a key file of Google's for a token endpoint at `url`."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": "campus",
            "private_key_id": "key-1",
            "private_key": pem.decode(),
            "client_email": "gateway@campus.iam.gserviceaccount.com",
            "token_uri": f"{url}/token",
        }

    def serves(self, request: Request) -> bool:
        """Say whether a request asks for a token."""
        path = request.path
        return path in ("/token", "/oidc/v1/token", "/metadata/identity/oauth2/token") or (
            path == f"/{TENANT}/oauth2/v2.0/token"
        )

    def __call__(self, request: Request) -> Reply:
        if self.fails is not None:
            return self.fails
        checks = {
            "/token": self._check_google,
            "/oidc/v1/token": _check_databricks,
            "/metadata/identity/oauth2/token": _check_machine,
            f"/{TENANT}/oauth2/v2.0/token": _check_entra,
        }
        problem = checks[request.path](request)
        if problem is not None:
            return Reply.json({"error": "invalid_client", "error_description": problem}, 401)
        with self._lock:
            self.given.append(f"token-{len(self.given) + 1}")
            return Reply.json(
                {"access_token": self.given[-1], "expires_in": self.lifetime_s, "token_type": "Bearer"}
            )

    def _check_google(self, request: Request) -> str | None:
        form = _form(request)
        if form.get("grant_type") == "refresh_token":
            wanted = {"client_id": CLIENT, "client_secret": SECRET, "refresh_token": "refresh-1"}
            return None if wanted.items() <= form.items() else "bad refresh token"
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return "bad grant_type"
        signed, _, signature = form["assertion"].rpartition(".")
        head, claims = (json.loads(_decoded(text)) for text in signed.split("."))
        try:
            self._key.public_key().verify(
                _decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            return "Invalid JWT Signature."
        is_fine = (
            head == {"alg": "RS256", "typ": "JWT", "kid": "key-1"}
            and claims["iss"] == "gateway@campus.iam.gserviceaccount.com"
            and claims["aud"].endswith("/token")
            and claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
            and 0 < claims["exp"] - claims["iat"] <= 3600
        )
        return None if is_fine else "Invalid JWT."


def _check_entra(request: Request) -> str | None:
    form = _form(request)
    if (
        form.get("scope") != "https://cognitiveservices.azure.com/.default"
        or form.get("client_id") != CLIENT
    ):
        return "AADSTS70011: bad scope or client"
    if form.get("grant_type") != "client_credentials":
        return "bad grant_type"
    has_assertion = (
        form.get("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        and form.get("client_assertion") == ASSERTION
    )
    return None if has_assertion or form.get("client_secret") == SECRET else "AADSTS7000215: Invalid secret"


def _check_machine(request: Request) -> str | None:
    query = {name: values[0] for name, values in parse_qs(urlsplit(request.target).query).items()}
    is_app = (
        query.get("api-version") == "2019-08-01" and request.header("x-identity-header") == IDENTITY_HEADER
    )
    is_machine = query.get("api-version") == "2018-02-01" and request.header("metadata") == "true"
    is_fine = query.get("resource") == "https://cognitiveservices.azure.com" and request.method == "GET"
    return None if is_fine and (is_app or is_machine) else "bad request"


def _check_databricks(request: Request) -> str | None:
    proof = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
    is_fine = _form(request) == {"grant_type": "client_credentials", "scope": "all-apis"}
    return None if is_fine and request.header("authorization") == f"Basic {proof}" else "bad client"


def _form(request: Request) -> dict[str, Any]:
    assert request.method == "POST"
    assert request.header("content-type") == _FORM
    return {name: values[0] for name, values in parse_qs(request.body.decode()).items()}


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
