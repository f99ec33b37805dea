"""Microsoft Entra ID's tokens for Azure OpenAI: of an application with a secret or with a token of another
identity provider, or of the machine itself.

Source: learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow;
/entra/identity/managed-identities-azure-resources/how-to-use-vm-token; /azure/app-service/
overview-managed-identity, "REST endpoint reference" (read 2026-11).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from ..config import Secret, Setting
from ..upstream.base import Client, Target
from .tokens import Fetch, Fetched, ask_token, form_target, refused_token

AUTHORITY = "https://login.microsoftonline.com"
SCOPE = "https://cognitiveservices.azure.com/.default"
MACHINE_URL = "http://169.254.169.254/metadata/identity/oauth2/token"
_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_MAX_ASSERTION = 64 * 1024

WAYS = ("azure_client_secret", "azure_federated_token_file", "azure_managed_identity")
"""The settings of which one says how to get a token."""

SETTINGS = (
    Setting("azure_tenant_id", "text", help="The directory, for a secret or a federated token."),
    Setting("azure_client_id", "text", help="The application, or the identity given to the machine."),
    Setting("azure_client_secret", "secret", help="The application's secret."),
    Setting(
        "azure_federated_token_file",
        "text",
        help="The file of a token that stands in for the secret; read anew each time.",
    ),
    Setting("azure_managed_identity", "flag", default=False, help="true for the machine's own identity."),
    Setting(
        "azure_managed_identity_url",
        "url",
        help=f"Where to ask for it; {MACHINE_URL} on a virtual machine.",
    ),
    Setting(
        "azure_managed_identity_header",
        "secret",
        help="Of App Service and Container Apps: IDENTITY_HEADER.",
    ),
    Setting("azure_authority", "url", help=f"Who gives tokens; {AUTHORITY} by default."),
    Setting("azure_scope", "text", help=f"What the token is for; {SCOPE} by default."),
)


def given(settings: Mapping[str, Any]) -> list[str]:
    """Return which ways to a token the operator named."""
    return [name for name in WAYS if settings[name]]


def problems(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Say what is missing for the way that was chosen, and what is too much."""
    ways = given(settings)
    if len(ways) > 1:
        yield ways[1], f"is another way to a token than {ways[0]}; keep one of them"
    elif ways and ways[0] != "azure_managed_identity":
        for name in ("azure_tenant_id", "azure_client_id"):
            if settings[name] is None:
                yield name, f"is required with {ways[0]}"
    elif not ways:
        for setting in SETTINGS:
            if settings[setting.name]:
                yield setting.name, f"is of no use without {', '.join(WAYS[:-1])} or {WAYS[-1]}"


def fetch_of(settings: Mapping[str, Any]) -> Fetch | None:
    """Return what fetches a token; None where the operator named no way to one."""
    ways = given(settings)
    if not ways:
        return None
    return _Machine(settings) if ways[0] == "azure_managed_identity" else _Application(settings)


class _Application:
    """An application, which shows a secret or the token of another identity provider."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        authority = settings["azure_authority"] or AUTHORITY
        tenant = quote(settings["azure_tenant_id"], safe="")
        self._target = form_target(f"{authority}/{tenant}/oauth2/v2.0/token")
        self._secret: Secret | None = settings["azure_client_secret"]
        self._file: str | None = settings["azure_federated_token_file"]
        self._form = {
            "grant_type": "client_credentials",
            "client_id": settings["azure_client_id"],
            "scope": settings["azure_scope"] or SCOPE,
        }

    async def __call__(self, client: Client) -> Fetched:
        return await ask_token(client, self._target, self._form | await self._proof())

    async def _proof(self) -> dict[str, str]:
        if self._secret is not None:
            return {"client_secret": self._secret.reveal()}
        assertion = await asyncio.to_thread(_read, Path(self._file or ""))
        return {"client_assertion_type": _JWT_BEARER, "client_assertion": assertion}


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(_MAX_ASSERTION).decode("ascii").strip()
    except OSError as error:
        raise refused_token(f"azure_federated_token_file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise refused_token("azure_federated_token_file holds no token") from None


class _Machine:
    """The identity of the virtual machine, or of the app, on which the gateway runs."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        header: Secret | None = settings["azure_managed_identity_header"]
        query = {
            "api-version": "2018-02-01" if header is None else "2019-08-01",
            "resource": (settings["azure_scope"] or SCOPE).removesuffix("/.default"),
        }
        if settings["azure_client_id"] is not None:
            query["client_id"] = settings["azure_client_id"]
        proof = ("Metadata", "true") if header is None else ("X-IDENTITY-HEADER", header.reveal())
        url = f"{settings['azure_managed_identity_url'] or MACHINE_URL}?{urlencode(query)}"
        self._target = Target.from_url(
            url, [proof, ("Accept", "application/json"), ("Accept-Encoding", "identity")], method="GET"
        )

    async def __call__(self, client: Client) -> Fetched:
        return await ask_token(client, self._target)
