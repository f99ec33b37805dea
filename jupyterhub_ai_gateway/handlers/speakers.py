"""Which vendor's SDK asks, where several formats share a path."""

from __future__ import annotations

from collections.abc import Mapping

from ..vocabulary import CHAT, EMBEDDINGS, MISTRAL_CHAT, MISTRAL_EMBED, Operation

MISTRALS: Mapping[Operation, Operation] = {CHAT: MISTRAL_CHAT, EMBEDDINGS: MISTRAL_EMBED}
"""What its SDK means by OpenAI's paths."""


def is_mistral(headers: Mapping[str, str]) -> bool:
    """Say whether Mistral's SDK asks.

    Source: `_hooks/custom_user_agent.py` of mistralai 3.7 says `mistral-client-python/VERSION`, that of its
    TypeScript SDK `mistral-client-typescript`; without the hook Speakeasy's own ends with `mistralai`
    (read 2026-11).
    """
    agent = headers.get("User-Agent", "")
    return "mistral-client" in agent or "mistralai" in agent
