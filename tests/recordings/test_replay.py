"""What real servers sent, played on a real socket to the running gateway, and heard by the SDKs."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import openai
import pytest
from fakes.upstream import FakeUpstream, Reply, Request, random_cuts
from google import genai
from google.genai import types
from matrix.bedrock import AT_BEDROCK
from matrix.vendors import VENDORS
from served import PREFIX, Served, served

from jupyterhub_ai_gateway.vocabulary import (
    CHAT,
    COHERE_CHAT,
    CONVERSE,
    GENERATE_CONTENT,
    MESSAGES,
    RESPONSES,
)

from .cassettes import EVENT_STREAM, Recording, found
from .readers import heard_from
from .test_translation import FRONTS, agree, original

VENDOR_OF = {
    "Messages": (MESSAGES, "api.anthropic.com"),
    "Messages at Bedrock": (MESSAGES, "bedrock-runtime.us-east-1.amazonaws.com"),
    "Converse": (CONVERSE, "bedrock-runtime.us-west-2.amazonaws.com"),
    "Responses": (RESPONSES, "api.openai.com"),
    "chat completions": (CHAT, "openrouter.ai"),
    "Mistral": (CHAT, "api.mistral.ai"),
    "Gemini": (GENERATE_CONTENT, "generativelanguage.googleapis.com"),
    "Cohere": (COHERE_CHAT, "api.cohere.com"),
}
"""Which kind of provider of the matrix plays the recordings of which host."""
PLAYED = [
    pytest.param(vendor, each, id=f"{vendor}-{each}".replace(" ", "-"))
    for vendor, (operation, host) in VENDOR_OF.items()
    for is_stream in (False, True)
    for each in [one for one in found(operation, is_stream=is_stream) if one.host == host][:2]
]


def test_every_kind_of_provider_is_played() -> None:
    assert len(PLAYED) > 2 * len(VENDOR_OF)


@pytest.mark.parametrize(("vendor", "recording"), PLAYED)
async def test_played_to_the_gateway_every_sdk_hears_it(vendor: str, recording: Recording) -> None:
    own = original(recording)
    with FakeUpstream(is_strict=False) as up:
        provider = {**VENDORS, **AT_BEDROCK}[vendor](up)
        up.always(Player(recording))
        endpoint = {**provider.endpoint(), "name": "m"}
        async with served(None, [endpoint]) as running:
            for front in FRONTS:
                got = await asyncio.to_thread(_hear, front, running, recording)
                agree(got, own, front)


class Player:
    """Answers with a recording, in pieces that are cut at random, whoever asks."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def __call__(self, request: Request) -> Reply:
        recording = self._recording
        assert self._asks_for(request) == recording.is_stream
        default = "text/event-stream" if recording.is_stream else "application/json"
        kind = recording.headers.get("content-type", "*")  # some packages have blotted it out
        usual = EVENT_STREAM if recording.is_framed else default
        headers = [("Content-Type", usual if "*" in kind else kind)]
        if not recording.is_stream:
            return Reply(recording.status, headers, recording.body)
        return Reply(recording.status, headers, [*random_cuts(1, 200)(recording.body)])

    def _asks_for(self, request: Request) -> bool:
        return "stream" in request.path.lower() or bool(request.document.get("stream"))


def _hear(front: Any, running: Served, recording: Recording) -> Any:
    client = CLIENTS[front](running)
    try:
        return heard_from(client, front, is_stream=recording.is_stream)
    finally:
        client.close()


def _openai(running: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=running.base_url, api_key="t-alice", max_retries=0)


def _anthropic(running: Served) -> anthropic.Anthropic:
    base = f"{running.url}{PREFIX}"
    return anthropic.Anthropic(base_url=base, auth_token="t-alice", api_key=None, max_retries=0)


def _google(running: Served) -> genai.Client:
    once = types.HttpRetryOptions(attempts=1)
    options = types.HttpOptions(base_url=f"{running.url}{PREFIX}", retry_options=once)
    return genai.Client(api_key="t-alice", http_options=options)


CLIENTS: dict[Any, Any] = {
    CHAT: _openai,
    RESPONSES: _openai,
    MESSAGES: _anthropic,
    GENERATE_CONTENT: _google,
}
