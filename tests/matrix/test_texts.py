"""Older completions and embeddings, by the official SDKs, at the hosts that each can be asked of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import cohere
import openai
import pytest
from expected import ExpectedLog
from fakes.upstream import BYTE_BY_BYTE, STALL, FakeUpstream, Reply, Request, happened
from mistralai.client import Mistral
from mistralai.client.utils import BackoffStrategy, RetryConfig
from openai import AsyncOpenAI
from served import KEY, PREFIX, Served, served

from matrix.bedrock import AT_BEDROCK
from matrix.vendors import USAGE, VENDORS, Say

ALL = {**VENDORS, **AT_BEDROCK}
APART = {
    "chat completions": "as it came, where the host has completions",
    "Responses": "by chat completions",
}
"""What is not tried here, and why: other tests do, with hosts of OpenAI's format."""
CHATS = [name for name in ALL if name not in APART]


@asynccontextmanager
async def completing(back: str, **more: Any) -> AsyncIterator[tuple[AsyncOpenAI, Any]]:
    with FakeUpstream(is_strict=False, **more) as up:
        vendor = ALL[back](up)
        async with (
            served(None, [vendor.endpoint("completions")]) as running,
            AsyncOpenAI(base_url=running.base_url, api_key="t-alice", max_retries=0) as ai,
        ):
            yield ai, vendor


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("back", CHATS)
async def test_completions(back: str, stream: bool) -> None:
    more = {"cuts": BYTE_BY_BYTE} if stream else {}
    async with completing(back, **more) as (ai, vendor):
        vendor.says.append(Say("upon a time."))
        asked: dict[str, Any] = {"model": "model", "prompt": "Once", "max_tokens": 4000}
        if stream:
            options = {"include_usage": True}
            chunks = [
                each
                async for each in await ai.completions.create(**asked, stream=True, stream_options=options)
            ]
            text = "".join(choice.text for each in chunks for choice in each.choices)
            usage, last = chunks[-1].usage, [each for each in chunks if each.choices][-1]
            assert last.choices[0].finish_reason == "stop"
        else:
            answer = await ai.completions.create(**asked)
            text, usage = answer.choices[0].text, answer.usage
            assert answer.choices[0].finish_reason == "stop"
        assert text == "upon a time."
        assert (usage.prompt_tokens, usage.completion_tokens) == (USAGE["input"], USAGE["output"])
        (seen,) = vendor.seen
        assert (seen.said, seen.max_tokens) == (["Once"], 4000)


@pytest.mark.parametrize("back", CHATS)
async def test_completions_that_fail(back: str, expected_log: ExpectedLog) -> None:
    async with completing(back) as (ai, vendor):
        asked: dict[str, Any] = {"model": "model", "prompt": "Once"}
        vendor.up.script(vendor.refuse(429, "Slow down.", ("Retry-After", "7")))
        with pytest.raises(openai.RateLimitError, match="Slow down") as caught:
            await ai.completions.create(**asked)
        assert caught.value.response.headers["retry-after"] == "7"
        vendor.says.append(Say("upon", breaks=True))
        with pytest.raises(openai.APIError):
            async for _ in await ai.completions.create(**asked, stream=True):
                pass
        expected_log.take("provider")
        events = list(vendor.stream(Say("upon a time.")))
        vendor.up.script(vendor.streamed(*events[:-2], STALL))
        count = len(vendor.up.requests)
        stream = await ai.completions.create(**asked, stream=True)
        await stream.__anext__()
        await stream.close()
        await happened(vendor.up.requests[count].closed)
        assert vendor.up.requests[count].was_cut_short


# Embeddings

TEXTS = ["red", "blue"]
VECTORS = [[0.5, -1.0], [0.25, 2.0]]


def openais(up: FakeUpstream, provider: str = "openai-compatible", base: str = "api_base") -> Any:
    def answer(request: Request) -> Reply:
        document = request.document
        assert set(document) <= {"model", "input", "dimensions", "encoding_format", "user"}, document
        data = [{"object": "embedding", "index": at, "embedding": each} for at, each in enumerate(VECTORS)]
        usage = {"prompt_tokens": 4, "total_tokens": 4}
        return Reply.json({"object": "list", "data": data, "model": "m", "usage": usage})

    up.always(answer)
    return {"provider": provider, "name": "m", "config": {base: f"{up.url}/v1"}}


def cohere_s(up: FakeUpstream) -> Any:
    def answer(request: Request) -> Reply:
        assert (request.path, request.document["texts"]) == ("/v2/embed", TEXTS)
        meta = {"billed_units": {"input_tokens": 4}}
        found = {"id": "e", "embeddings": {"float": VECTORS}, "texts": TEXTS, "meta": meta}
        return Reply.json({**found, "response_type": "embeddings_by_type"})

    up.always(answer)
    config = {"cohere_api_base": f"{up.url}/v2", "cohere_api_key": KEY}
    return {"provider": "cohere", "name": "embed-v4.0", "config": config}


def mistral_s(up: FakeUpstream) -> Any:
    def answer(request: Request) -> Reply:
        assert set(request.document) <= {"model", "input", "output_dimension", "encoding_format"}
        return Reply.json(
            {
                "id": "e",
                "object": "list",
                "model": "mistral-embed",
                "data": [
                    {"object": "embedding", "index": at, "embedding": each}
                    for at, each in enumerate(VECTORS)
                ],
                "usage": {"prompt_tokens": 4, "completion_tokens": 0, "total_tokens": 4},
            }
        )

    up.always(answer)
    config = {"api_base": f"{up.url}/v1", "mistral_api_key": KEY}
    return {"provider": "mistral", "name": "mistral-embed", "config": config}


def served_s(up: FakeUpstream) -> Any:
    def answer(request: Request) -> Reply:
        assert request.document == {"inputs": TEXTS, "params": {}}
        return Reply.json({"predictions": VECTORS})

    up.always(answer)
    return {"provider": "mlflow-model-serving", "config": {"model_server_url": up.url}}


HOSTS = {
    "OpenAI and its kin": openais,
    "Cohere": cohere_s,
    "Mistral": mistral_s,
    "served MLflow models": served_s,
}
"""Who embeds. Bedrock's models, each with a format of its own, are in `tests/test_bedrock.py`."""


async def by_openai(running: Served) -> tuple[Any, int | None]:
    async with AsyncOpenAI(base_url=running.base_url, api_key="t-alice", max_retries=0) as ai:
        found = await ai.embeddings.create(model="vectors", input=TEXTS)
        return [each.embedding for each in found.data], found.usage.prompt_tokens


async def by_cohere(running: Served) -> tuple[Any, int | None]:
    ai = cohere.AsyncClientV2(base_url=f"{running.url}{PREFIX}".rstrip("/"), api_key="t-alice")
    try:
        found = await ai.embed(
            model="vectors", texts=TEXTS, input_type="clustering", embedding_types=["float"]
        )
    finally:
        await ai._client_wrapper.httpx_client.httpx_client.aclose()
    billed = found.meta and found.meta.billed_units
    tokens = billed.input_tokens if billed else None
    return found.embeddings.float_, None if tokens is None else int(tokens)


async def by_mistral(running: Served) -> tuple[Any, int | None]:
    retry = RetryConfig("none", BackoffStrategy(1, 1, 1, 1), False)
    async with Mistral(
        server_url=f"{running.url}{PREFIX}".rstrip("/"), api_key="t-alice", retry_config=retry
    ) as ai:
        found = await ai.embeddings.create_async(model="vectors", inputs=TEXTS)
        ai.__exit__(None, None, None)
        return [each.embedding for each in found.data], found.usage.prompt_tokens


EMBEDDERS = {"OpenAI's": by_openai, "Cohere's": by_cohere, "Mistral's": by_mistral}
KIN_OF_VECTORS = {
    "OpenAI's": ("OpenAI and its kin", "Mistral"),
    "Cohere's": ("Cohere",),
    "Mistral's": ("Mistral",),
}


@pytest.mark.parametrize("back", HOSTS)
@pytest.mark.parametrize("front", EMBEDDERS)
async def test_embeddings(front: str, back: str) -> None:
    with FakeUpstream(is_strict=False) as up:
        vectors = {"name": "vectors", "endpoint_type": "llm/v1/embeddings", "model": HOSTS[back](up)}
        async with served(None, [vectors]) as running:
            found, tokens = await EMBEDDERS[front](running)
    assert found == VECTORS
    assert tokens == (None if back == "served MLflow models" else 4)
