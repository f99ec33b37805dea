"""Databricks' model serving, with the settings that MLflow gave it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from urllib.parse import quote

import msgspec
from typing_extensions import override

from ..config import ModelConfig, ProviderSchema, Secret, Setting
from ..upstream.base import Client, Target
from ..vocabulary import CHAT, EMBEDDINGS, GENERATE_CONTENT, MESSAGES, Operation
from .base import Headers, Provider, bearer
from .openai import json_headers
from .tokens import Fetched, TokenCache, ask_token, basic, form_target

_SERVING = "/serving-endpoints"
_CATALOG = "/ai-gateway/mlflow/v1"
"""Where models of the Unity Catalog are served, whose names have three parts."""


def _check(settings: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    has_token, has_id, has_secret = (
        settings[name] is not None for name in ("token", "client_id", "client_secret")
    )
    if has_token and (has_id or has_secret):
        name = "client_id" if has_id else "client_secret"
        yield name, "is another way to a token than token; keep one of them"
    elif not has_token and not (has_id or has_secret):
        yield "token", "is required, or client_id and client_secret are"
    elif has_id != has_secret and not has_token:
        name, other = ("client_secret", "client_id") if has_id else ("client_id", "client_secret")
        yield name, f"is required with {other}"


class Databricks(Provider):
    """A workspace's serving endpoints, by a token or as a service principal.

    Its Claude is asked in Anthropic's format as well, its Gemini in Google's.

    Source: docs.databricks.com/aws/en/dev-tools/auth/oauth-m2m; mlflow 3
    `gateway/providers/databricks.py` for the paths (read 2026-11).
    """

    schema = ProviderSchema(
        name="databricks",
        settings=(
            Setting("host", "url", required=True, help="The workspace: https://NAME.cloud.databricks.com."),
            Setting("token", "secret", help="A personal access token."),
            Setting("client_id", "text", help="The service principal, in the place of a token."),
            Setting("client_secret", "secret", help="Its OAuth secret."),
        ),
        endpoint_types=frozenset({CHAT.endpoint_type, EMBEDDINGS.endpoint_type}),
        check=_check,
    )

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model)
        self._host: str = self.settings["host"].removesuffix(_SERVING)
        self._key: Secret | None = self.settings["token"]
        if self._key is None:
            self.tokens = TokenCache(self._fetch)
            proof = basic(self.settings["client_id"], self.settings["client_secret"].reveal())
            self._token_target = form_target(f"{self._host}/oidc/v1/token", proof)

    @property
    def _is_catalogued(self) -> bool:
        return (self.model_name or "").count(".") > 1

    async def _fetch(self, client: Client) -> Fetched:
        form = {"grant_type": "client_credentials", "scope": "all-apis"}
        return await ask_token(client, self._token_target, form)

    @override
    def speaks(self, endpoint_type: str) -> frozenset[Operation]:
        own = frozenset({CHAT, EMBEDDINGS}) & super().speaks(endpoint_type)
        if CHAT not in own or self._is_catalogued:
            return own
        name = (self.model_name or "").lower()
        native = {"claude": MESSAGES, "gemini": GENERATE_CONTENT}
        return own.union(operation for word, operation in native.items() if word in name)

    translates = (MESSAGES, GENERATE_CONTENT, CHAT)

    @override
    def url(self, operation: Operation) -> str:
        if operation is MESSAGES:
            return f"{self._host}{_SERVING}/anthropic/v1/messages"
        if operation is GENERATE_CONTENT:
            return self._gemini_url("generateContent")
        return f"{self._host}{_CATALOG if self._is_catalogued else _SERVING}{operation.path}"

    def _gemini_url(self, method: str) -> str:
        name = quote(self.model_name or "", safe="")
        return f"{self._host}{_SERVING}/gemini/v1beta/models/{name}:{method}"

    @override
    def stream_target(self, operation: Operation) -> Target:
        if operation is not GENERATE_CONTENT:
            return self.target(operation)
        return self.reach(f"{self._gemini_url('streamGenerateContent')}?alt=sse", self.headers())

    @override
    def headers(self) -> Headers:
        return json_headers() if self._key is None else [*json_headers(), bearer(self._key.reveal())]

    @override
    def amend(self, operation: Operation, fields: MutableMapping[str, msgspec.Raw]) -> None:
        if operation is GENERATE_CONTENT:
            fields.pop("model", None)  # the path says it

    @override
    def secrets(self) -> tuple[str, ...]:
        keys = (self._key, self.settings["client_secret"])
        fetched = () if self.tokens is None else self.tokens.texts
        return (*(key.reveal() for key in keys if key is not None), *fetched)
