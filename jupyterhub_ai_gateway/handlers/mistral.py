"""Models as Mistral lists them, for its SDK.

Source: https://docs.mistral.ai/api/, the types of mistralai 3.7 (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Mapping

from ..router import Endpoint
from ..vocabulary import FIM, MISTRAL_CHAT, MODERATIONS, SPEECH, TRANSCRIPTIONS, Operation

_CAN: Mapping[Operation, str] = {
    MISTRAL_CHAT: "completion_chat",
    FIM: "completion_fim",
    MODERATIONS: "moderation",
    SPEECH: "audio_speech",
    TRANSCRIPTIONS: "audio_transcription",
}
_WORDS = {"tools": "function_calling", "reasoning": "reasoning", "vision": "vision", "audio": "audio"}
"""The configuration's words for what a model can, and Mistral's."""


def mistral_card(endpoint: Endpoint, card: Mapping[str, object]) -> dict[str, object]:
    """Describe an endpoint as Mistral describes a model; `card` is how OpenAI does.

    What is not known of a model is not said to be there.
    """
    words = card.get("capabilities")
    known = words if isinstance(words, list) else []
    capabilities = {name: operation in endpoint.cells for operation, name in _CAN.items()}
    capabilities |= {name: word in known for word, name in _WORDS.items()}
    length = card.get("context_length")
    return {
        "id": endpoint.name,
        "object": "model",
        "created": card["created"],
        "owned_by": card["owned_by"],
        "type": "base",
        "name": endpoint.name,
        "description": endpoint.description,
        "capabilities": capabilities,
        "aliases": list(endpoint.aliases),
        **({} if length is None else {"max_context_length": length}),
    }
