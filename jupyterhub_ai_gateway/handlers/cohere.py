"""Models as Cohere lists them, for its SDKs.

Source: https://docs.cohere.com/reference/list-models; the types of cohere 7.3 (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from ..router import Endpoint
from ..vocabulary import COHERE_CHAT, COHERE_EMBED, RERANK, utcnow

_ENDPOINTS = {COHERE_CHAT: "chat", COHERE_EMBED: "embed", RERANK: "rerank"}


def is_cohere(headers: Mapping[str, str]) -> bool:
    """Say whether one of Cohere's SDKs asks: those of all languages name themselves so."""
    return "cohere" in headers.get("X-Fern-SDK-Name", "") or "cohere" in headers.get("User-Agent", "")


def cohere_list(endpoints: Sequence[Endpoint], wanted: str | None, default_only: bool) -> dict[str, object]:
    """List models on one page: those that its paths serve, or only those of one `endpoint`.

    None is the default of an endpoint here.
    """
    cards = [] if default_only else [cohere_card(each) for each in endpoints if _serves(each, wanted)]
    return {"models": cards, "next_page_token": None}


def _serves(endpoint: Endpoint, wanted: str | None) -> bool:
    found = [name for operation, name in _ENDPOINTS.items() if operation in endpoint.cells]
    return bool(found) if wanted is None else wanted in found


def cohere_card(endpoint: Endpoint) -> dict[str, object]:
    """Describe an endpoint as Cohere describes a model."""
    offers = [each.offer for each in endpoint.deployments]
    lengths = [each.context_length for each in offers if each.context_length is not None]
    days = [each.deprecation_date for each in offers]
    return {
        "name": endpoint.name,
        "endpoints": [name for operation, name in _ENDPOINTS.items() if operation in endpoint.cells],
        "default_endpoints": [],
        "finetuned": False,
        "is_deprecated": all(_is_past(day) for day in days),
        **({"context_length": max(lengths)} if lengths else {}),
    }


def _is_past(day: date | None) -> bool:
    return day is not None and day <= utcnow().date()
