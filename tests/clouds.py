"""What tests of clouds share: a script that lets in whoever shows a token that it gave."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.tokens import Tokens
from fakes.upstream import FakeUpstream, Reply, Request, chat_completion
from served import WAYS

from jupyterhub_ai_gateway.config import parse
from jupyterhub_ai_gateway.providers.base import Provider
from jupyterhub_ai_gateway.providers.registry import Providers

PROVIDERS = Providers.installed()
HI: Any = [{"role": "user", "content": "Hi"}]
GOOGLE_MODELS = "/v1/projects/campus/locations/europe-west4/publishers/anthropic/models"
every_way = pytest.mark.parametrize("way", WAYS)


def made(
    provider: str, config: dict[str, Any], kind: str = "llm/v1/chat", name: str | None = "m"
) -> Provider:
    model = {"provider": provider, "config": config, "name": name}
    document = {"endpoints": [{"name": "x", "endpoint_type": kind, "model": model}]}
    return PROVIDERS.make(parse(document, PROVIDERS.schemas, {}).endpoints[0].model)


class Cloud:
    """A script: gives tokens, and lets only those in that it gave."""

    def __init__(self, tokens: Tokens, inside: Any) -> None:
        self.tokens = tokens
        self._inside = inside

    def __call__(self, request: Request) -> Reply:
        if self.tokens.serves(request):
            return self.tokens(request)
        if request.header("authorization") not in [f"Bearer {each}" for each in self.tokens.given]:
            return Reply.error(401, "Unauthorized. Access token is missing, invalid, or expired.")
        found: Reply = self._inside(request)
        return found


def asked(up: FakeUpstream, tokens: Tokens) -> list[Request]:
    """Return the requests that were not for a token."""
    return [request for request in up.requests if not tokens.serves(request)]


def chat_answer(request: Request) -> Reply:
    return Reply.json(chat_completion("Hello", model=request.document.get("model", "none")))


def deployment(name: str, provider: str, model: str, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "endpoint_type": "llm/v1/chat",
        "model": {"provider": provider, "name": model, "config": config},
    }
