"""Cohere, with the settings that MLflow gave it."""

from __future__ import annotations

from typing_extensions import override

from ..config import TEXT_TYPES, ModelConfig, ProviderSchema, Secret, Setting
from ..dialects.codec import Manners
from ..vocabulary import COHERE_CHAT, COHERE_EMBED, EMBEDDINGS, RERANK, Operation
from .base import Headers, Provider
from .openai import json_headers

_API_BASE = "https://api.cohere.com/v2"


class Cohere(Provider):
    """Cohere's own API of version 2, for callers who speak it too, and for others by translation.

    Source: https://docs.cohere.com/reference/chat (read 2026-11).
    """

    schema = ProviderSchema(
        name="cohere",
        settings=(
            Setting("cohere_api_key", "secret", required=True, help="The key."),
            Setting("cohere_api_base", "url", help=f"The address; {_API_BASE} by default."),
        ),
        endpoint_types=frozenset(TEXT_TYPES) | {RERANK.endpoint_type},
    )
    translates = (COHERE_CHAT, COHERE_EMBED)

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model)
        self._key: Secret = self.settings["cohere_api_key"]

    @override
    def speaks(self, endpoint_type: str) -> frozenset[Operation]:
        if endpoint_type == RERANK.endpoint_type:
            return frozenset({RERANK})
        return frozenset({COHERE_EMBED if endpoint_type == EMBEDDINGS.endpoint_type else COHERE_CHAT})

    @override
    def url(self, operation: Operation) -> str:
        return f"{self.settings['cohere_api_base'] or _API_BASE}{operation.path}"

    @override
    def manners(self) -> Manners:
        return Manners(model=self.model_name or "", takes_top_k=True)

    @override
    def headers(self) -> Headers:
        return [*json_headers(), ("Authorization", f"Bearer {self._key.reveal()}")]

    @override
    def secrets(self) -> tuple[str, ...]:
        return (self._key.reveal(),)
