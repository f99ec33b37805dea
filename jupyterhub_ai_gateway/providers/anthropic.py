"""Anthropic, with the settings that MLflow gave it."""

from __future__ import annotations

from typing_extensions import override

from ..config import ModelConfig, ProviderSchema, Secret, Setting
from ..vocabulary import CHAT, COMPLETIONS, COUNT_TOKENS, MESSAGES, Operation
from .base import Headers, Provider
from .openai import json_headers

_API_BASE = "https://api.anthropic.com/v1"
_VERSION = "2023-06-01"


class Anthropic(Provider):
    """Claude, by the Messages API.

    Anthropic's own translation of OpenAI's chat completions is not used: it knows no prompt caching, no
    reasoning and no strict tools.

    Source: https://platform.claude.com/docs/en/api/openai-sdk (read 2026-11).
    """

    schema = ProviderSchema(
        name="anthropic",
        settings=(
            Setting("anthropic_api_key", "secret", required=True, help="The key."),
            Setting("anthropic_version", "text", default=_VERSION, help="The version of the API."),
            Setting("anthropic_api_base", "url", help=f"The address; {_API_BASE} by default."),
        ),
        endpoint_types=frozenset({CHAT.endpoint_type, COMPLETIONS.endpoint_type}),
    )

    temperature_scale = 0.5  # Anthropic's range is 0 to 1

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model)
        self._key: Secret = self.settings["anthropic_api_key"]

    @override
    def speaks(self, endpoint_type: str) -> frozenset[Operation]:
        return frozenset({MESSAGES, COUNT_TOKENS})

    @override
    def url(self, operation: Operation) -> str:
        return f"{self.settings['anthropic_api_base'] or _API_BASE}{operation.path}"

    @override
    def headers(self) -> Headers:
        version = ("anthropic-version", self.settings["anthropic_version"])
        return [*json_headers(), version, ("x-api-key", self._key.reveal())]

    @override
    def secrets(self) -> tuple[str, ...]:
        return (self._key.reveal(),)
