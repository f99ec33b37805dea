"""Gemini, with the settings that MLflow gave it, and what Google's errors mean wherever they come from."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import quote

import msgspec
from typing_extensions import override

from ..config import TEXT_TYPES, ModelConfig, ProviderSchema, Secret, Setting
from ..dialects.gemini_request import as_count_request
from ..errors import UpstreamRefused
from ..upstream.base import Target
from ..vocabulary import CHAT, COUNT_CONTENT, EMBEDDINGS, GENERATE_CONTENT, Operation
from .base import Headers, Provider, bearer
from .openai import json_headers

_API_BASE = "https://generativelanguage.googleapis.com/v1beta"
_DELAY = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_WRONG_KEY = b"API_KEY_INVALID"

METHODS = {GENERATE_CONTENT: "generateContent", COUNT_CONTENT: "countTokens"}
NATIVE = frozenset(METHODS)


class GoogleHost(Provider):
    """A host that answers errors in Google's words."""

    @override
    def refusal(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> UpstreamRefused:
        # A wrong key is a bad request to Google
        is_key = status == 400 and _WRONG_KEY in body
        fault = super().refusal(401 if is_key else status, headers, body)
        error = _error_of(body)
        word = error.get("status")
        if fault.code == str(error.get("code")) and isinstance(word, str) and word.isascii():
            fault.code = word[:64]
        if fault.retry_after_s is None and status == 429:
            fault.retry_after_s = _delay_s(error)
        return fault


class Gemini(GoogleHost):
    """Gemini by Google AI Studio's API, and by Google's own translation of chat completions and embeddings.

    Source: https://ai.google.dev/api and https://ai.google.dev/gemini-api/docs/openai (read 2026-11).
    """

    schema = ProviderSchema(
        name="gemini",
        settings=(
            Setting("gemini_api_key", "secret", required=True, help="The key."),
            Setting("gemini_api_base", "url", help=f"The address; {_API_BASE} by default."),
            Setting(
                "gemini_format",
                "choice",
                default="native",
                choices=("native", "both"),
                help="both leaves the translation of chat completions to Google.",
            ),
        ),
        endpoint_types=frozenset(TEXT_TYPES),
    )

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model)
        self._key: Secret = self.settings["gemini_api_key"]
        self._base: str = (self.settings["gemini_api_base"] or _API_BASE).removesuffix("/models")

    @override
    def speaks(self, endpoint_type: str) -> frozenset[Operation]:
        if endpoint_type == EMBEDDINGS.endpoint_type:
            return frozenset({EMBEDDINGS})
        return NATIVE | {CHAT} if self.settings["gemini_format"] == "both" else NATIVE

    translates = (GENERATE_CONTENT,)

    @override
    def url(self, operation: Operation) -> str:
        return self._url(operation, METHODS.get(operation, ""))

    def _url(self, operation: Operation, method: str) -> str:
        if operation not in NATIVE:
            return f"{self._base}/openai{operation.path}"
        name = quote((self.model_name or "").removeprefix("models/"), safe="@")
        return f"{self._base}/models/{name}:{method}"

    @override
    def headers(self) -> Headers:
        return [*json_headers(), ("x-goog-api-key", self._key.reveal())]

    @override
    def target(self, operation: Operation) -> Target:
        if operation in NATIVE:
            return super().target(operation)
        # As OpenAI's SDK would send it
        return self.reach(self.url(operation), [*json_headers(), bearer(self._key.reveal())])

    @override
    def stream_target(self, operation: Operation) -> Target:
        if operation is not GENERATE_CONTENT:
            return self.target(operation)
        return self.reach(f"{self._url(operation, 'streamGenerateContent')}?alt=sse", self.headers())

    @override
    def amend(self, operation: Operation, fields: MutableMapping[str, msgspec.Raw]) -> None:
        if operation is COUNT_CONTENT:
            as_count_request(fields)
        elif operation in NATIVE:
            fields.pop("model", None)  # the path says it

    @override
    def secrets(self) -> tuple[str, ...]:
        return (self._key.reveal(),)


def _error_of(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    if isinstance(document, list) and document:
        document = document[0]
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else {}


def _delay_s(error: dict[str, Any]) -> float | None:
    """Read how long Google asks us to wait, which it says in the body; None when it does not."""
    details = error.get("details")
    for each in details if isinstance(details, list) else ():
        delay = each.get("retryDelay") if isinstance(each, dict) else None
        found = _DELAY.fullmatch(delay) if isinstance(delay, str) else None
        if found is not None and math.isfinite(float(found[1])):
            return float(found[1])
    return None
