"""The real Cohere SDK against the gateway, and what it cannot see."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cohere
import pytest
from cohere.core import ApiError
from expected import ExpectedLog
from fakes.hub import ACCESS
from fakes.strictly import as_arguments
from fakes.upstream import BYTE_BY_BYTE, FIN, WHOLE, FakeUpstream, Reply, random_cuts
from matrix.vendors import ChatVendor, CohereVendor, MessagesVendor, Say
from served import KEY, PREFIX, WAYS, Served, endpoint, served
from test_accounting import rows
from test_translation import places

from jupyterhub_ai_gateway.dialects.dialect import COHERE, DIALECT_OF
from jupyterhub_ai_gateway.vocabulary import COHERE_CHAT, COHERE_EMBED

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the SDK, of some calls
every_way = pytest.mark.parametrize("way", WAYS)
CUTS = {"whole": WHOLE, "bytes": BYTE_BY_BYTE, **{f"seed {seed}": random_cuts(seed) for seed in range(3)}}
HI: list[Any] = [{"role": "user", "content": "Hi"}]
CHAT: dict[str, Any] = {"model": "model", "messages": HI}
EMBED: dict[str, Any] = {"model": "vectors", "texts": ["a", "b"], "input_type": "search_query"}
VECTORS = [[0.5, -1.0], [0.25, 2.0]]


@contextlib.asynccontextmanager
async def client(running: Served, token: str = "t-alice") -> AsyncIterator[cohere.AsyncClientV2]:
    made = cohere.AsyncClientV2(base_url=f"{running.url}{PREFIX}".rstrip("/"), api_key=token, max_retries=0)
    try:
        yield made
    finally:
        await made._client_wrapper.httpx_client.httpx_client.aclose()


def embedder(up: FakeUpstream) -> dict[str, Any]:
    config = {"cohere_api_base": f"{up.url}/v2", "cohere_api_key": KEY}
    model = {"provider": "cohere", "name": "embed-v4.0", "config": config}
    return {"name": "vectors", "endpoint_type": "llm/v1/embeddings", "model": model}


@every_way
async def test_what_a_caller_writes_goes_to_cohere_as_it_came(way: str) -> None:
    more = {
        "documents": [{"id": "1", "data": {"text": "Tall penguins."}}],
        "citation_options": {"mode": "FAST"},
        "safety_mode": "STRICT",
        "priority": 3,
        "something_new": [1],
        "k": 5,
    }
    with FakeUpstream(is_strict=False) as up:
        vendor = CohereVendor(up)
        up.always(Reply.json(vendor.whole(Say("Hello."))))
        async with served(None, [vendor.endpoint()], **WAYS[way]) as running:
            answer = await running.ask("POST", "v2/chat", {**CHAT, **more})
            assert answer.json == vendor.whole(Say("Hello."))
            assert "x-ai-gateway-dropped-params" not in answer.headers
            cell = running.service.gateway.catalogue._endpoints["model"].cells[COHERE_CHAT]
            assert (cell.input_tokens.total, cell.output_tokens.total) == (20, 9)
        sent = up.take()
    assert sent.path == "/v2/chat"
    assert list(sent.document.items()) == list({**CHAT, **more, "model": "command-a"}.items())
    for name in ("messages", *more):  # its blanks are where the caller put them
        assert json.dumps({**CHAT, **more}[name]).encode() in sent.body


@every_way
@pytest.mark.parametrize("cuts", CUTS)
async def test_a_stream_of_coheres_comes_as_it_was_and_is_counted(way: str, cuts: str) -> None:
    with FakeUpstream(is_strict=False, cuts=CUTS[cuts]) as up:
        vendor = CohereVendor(up)
        events = list(vendor.stream(Say("Good morning.", thinking="Hm.")))
        up.always(vendor.streamed(*events))
        async with served(None, [vendor.endpoint()], **WAYS[way]) as running:
            answer = await running.ask("POST", "v2/chat", {**CHAT, "stream": True})
            assert answer.body == b"".join(events)
            assert answer.headers["content-type"].startswith("text/event-stream")
            cell = running.service.gateway.catalogue._endpoints["model"].cells[COHERE_CHAT]
            assert (cell.input_tokens.total, cell.output_tokens.total) == (20, 9)
            assert cell.cached_input_tokens == 5
        assert up.take().document == {**CHAT, "model": "command-a", "stream": True}


async def test_the_ledger_has_it(tmp_path: Path) -> None:
    ledger = {"url": f"sqlite:///{tmp_path}/l.sqlite", "flush_s": 0.01}
    with FakeUpstream(is_strict=False) as up:
        async with served(None, [CohereVendor(up).endpoint()], config={"ledger": ledger}) as running:
            await running.ask("POST", "v2/chat", CHAT)
            (row,) = await rows(running)
    told = ("operation", "provider", "input_tokens", "output_tokens")
    assert [row[name] for name in told] == ["cohere_chat", "cohere", 20, 9]


@every_way
async def test_failures_are_coheres(way: str) -> None:
    with FakeUpstream(is_strict=False) as up:
        vendor = ChatVendor(up)
        async with served(None, [vendor.endpoint()], **WAYS[way]) as running:
            missing = await running.ask("POST", "v2/chat", {"model": "model"})
            assert missing.status == 400
            assert missing.json == {
                "id": missing.headers["x-request-id"],
                "message": "messages is missing: it must be a list of messages.",
                "code": "invalid_request",
            }
            for token, status, code in (
                (None, 401, "missing_api_key"),
                ("t-nobody", 401, "invalid_api_key"),
            ):
                refused = await running.ask("POST", "v2/chat", CHAT, token=token)
                assert (refused.status, refused.json["code"]) == (status, code)
                assert set(refused.json) == {"id", "message", "code"}
            zipped = await running.ask("POST", "v2/embed", EMBED, headers=[("Content-Encoding", "gzip")])
            assert (zipped.status, zipped.json["code"]) == (415, "unsupported_encoding")
            async with client(running) as ai:
                with pytest.raises(cohere.NotFoundError) as caught:
                    await ai.chat(model="nothing", messages=HI)
                assert "nothing" in caught.value.body["message"]


async def test_a_limit_is_told_in_coheres_words() -> None:
    with FakeUpstream(is_strict=False) as up:
        limited = ChatVendor(up).endpoint(limit={"calls": 1, "renewal_period": "hour"})
        async with served(None, [limited]) as running, client(running) as ai:
            await ai.chat(**CHAT)
            with pytest.raises(cohere.TooManyRequestsError) as caught:
                await ai.chat(**CHAT)
            assert caught.value.body["code"] == "rate_limit_exceeded"
            assert int((caught.value.headers or {})["retry-after"]) > 0


@pytest.mark.parametrize("kind", [ChatVendor, CohereVendor], ids=["translated", "as it came"])
async def test_a_stream_that_breaks_ends_with_an_error(kind: Any, expected_log: ExpectedLog) -> None:
    with FakeUpstream(is_strict=False) as up:
        vendor = kind(up)
        events = list(vendor.stream(Say("Good morning.")))
        up.always(vendor.streamed(*events[:4], FIN))
        async with served(None, [vendor.endpoint()]) as running:
            answer = await running.ask("POST", "v2/chat", {**CHAT, "stream": True})
        last = answer.body.split(b"\n\n")[-2]
        name, _, data = last.partition(b"\n")
        document = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: message-end"
        assert document["type"] == "message-end"
        assert document["delta"]["finish_reason"] == "ERROR"
        assert "provider" in document["delta"]["error"]
        assert document["id"] == answer.headers["x-request-id"]
    expected_log.take("provider")


async def test_a_failure_before_content_is_anothers_turn(expected_log: ExpectedLog) -> None:
    with FakeUpstream(is_strict=False) as up, FakeUpstream(is_strict=False) as other:
        first, second = CohereVendor(up), ChatVendor(other)
        failed = [
            *list(first.stream(Say()))[:1],
            b'event: message-end\ndata: {"type":"message-end","delta":{"finish_reason":"ERROR"}}\n\n',
        ]
        up.always(first.streamed(*failed))
        async with served(None, [places(first, second)]) as running, client(running) as ai:
            kinds = [(event.type, event) async for event in ai.chat_stream(**CHAT)]
            text = "".join(e.delta.message.content.text for kind, e in kinds if kind == "content-delta")  # type: ignore[union-attr]
            assert text == "Hello from the vendor."


async def test_what_cannot_be_said_is_named_or_refused() -> None:
    with FakeUpstream(is_strict=False) as up:
        vendor = MessagesVendor(up)
        async with served(None, [vendor.endpoint()]) as running:
            tuned = {"safety_mode": "NONE", "priority": 2, "seed": 4, "citation_options": {"mode": "FAST"}}
            answer = await running.ask("POST", "v2/chat", {**CHAT, **tuned})
            assert answer.status == 200
            dropped = set(answer.headers["x-ai-gateway-dropped-params"].split(", "))
            assert dropped == set(tuned)
            cited = {"documents": ["Penguins are tall."]}
            refused = await running.ask("POST", "v2/chat", {**CHAT, **cited})
            assert (refused.status, refused.json["code"]) == (400, "cannot_translate")
            assert "documents" in refused.json["message"]
            assert "the deployment model" in refused.json["message"]
            uncited = {**cited, "citation_options": {"mode": "OFF"}}
            assert (await running.ask("POST", "v2/chat", {**CHAT, **uncited})).status == 200
            (document, question) = vendor.documents[-1]["messages"][0]["content"]
            assert document["source"]["data"] == "Penguins are tall."
            assert question == {"type": "text", "text": "Hi"}


async def test_pictures_of_the_web_and_documents_of_tools() -> None:
    calls = [("callid001", "look", {"at": "it"})]
    with FakeUpstream(is_strict=False) as up:
        vendor = ChatVendor(up)
        vendor.says += [Say(calls=calls), Say("A cat.")]
        tools: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
        async with served(None, [vendor.endpoint()]) as running, client(running) as ai:
            image = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
            asked: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "What?"}, image]}]
            answer = await ai.chat(
                model="model", messages=asked, tools=tools, tool_choice="REQUIRED", strict_tools=True
            )
            assert answer.finish_reason == "TOOL_CALL"
            given = {"type": "document", "document": {"id": "d", "data": {"animal": "cat"}}}
            result: Any = {"role": "tool", "tool_call_id": "callid001", "content": [given]}
            last = await ai.chat(model="model", messages=[*asked, answer.message, result], tools=tools)
            assert last.message.content is not None
            assert last.message.content[0].text == "A cat."  # type: ignore[union-attr]
        first, second = vendor.documents
        assert first["tool_choice"] == "required"
        assert first["tools"][0]["function"]["strict"] is True
        assert first["messages"][0]["content"][1]["image_url"]["url"] == "https://example.org/cat.png"
        assert vendor.seen[1].results == [("callid001", '{"animal":"cat"}')]
        assert second["messages"][1]["tool_calls"][0]["id"] == "callid001"


async def test_citations_and_probabilities() -> None:
    """What a compatible host tells of the web, and of its tokens, in Cohere's words."""
    cite = {"url": "https://a.org", "title": "A", "start_index": 0, "end_index": 5}
    token = {"token": "Hello", "logprob": -0.5, "bytes": None, "top_logprobs": []}
    with FakeUpstream(is_strict=False) as up:
        vendor = ChatVendor(up)
        whole = vendor.whole(Say("Hello there."))
        whole["choices"][0]["message"]["annotations"] = [{"type": "url_citation", "url_citation": cite}]
        whole["choices"][0]["logprobs"] = {"content": [token]}
        up.script(Reply.json(whole))
        chunks = [
            vendor._chunk({"content": "Hello"}),
            vendor._chunk({"content": " there."}),
            vendor._chunk({"annotations": [{"type": "url_citation", "url_citation": cite}]}),
            vendor._chunk({}, "stop"),
        ]
        chunks[0]["choices"][0]["logprobs"] = {"content": [token]}
        up.script(Reply.stream(*chunks, b"data: [DONE]\n\n"))
        async with served(None, [vendor.endpoint()]) as running, client(running) as ai:
            answer = await ai.chat(**CHAT, logprobs=True)
            events = [event async for event in ai.chat_stream(**CHAT, logprobs=True)]
    assert answer.message.citations is not None
    (found,) = answer.message.citations
    assert (found.start, found.end, found.text, found.content_index) == (0, 5, "Hello", 0)
    assert found.sources is not None
    assert (found.sources[0].type, found.sources[0].id) == ("document", "https://a.org")
    assert answer.logprobs is not None
    assert (answer.logprobs[0].text, answer.logprobs[0].logprobs) == ("Hello", [-0.5])
    kinds = [event.type for event in events]
    assert kinds[-4:] == ["citation-start", "citation-end", "content-end", "message-end"]
    started: Any = events[-4]
    assert started.delta.message.citations.text == "Hello"
    told: Any = events[2]
    assert (told.type, told.logprobs.logprobs) == ("content-delta", [-0.5])


@every_way
async def test_embeddings_of_cohere_pass_with_everything(way: str) -> None:
    meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 4}}
    found = {"id": "e", "embeddings": {"int8": [[1, 2]], "ubinary": [[3]]}, "texts": ["a"], "meta": meta}
    inputs = [{"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]}]
    asked: dict[str, Any] = {"model": "vectors", "inputs": inputs, "input_type": "image"}
    asked |= {"embedding_types": ["int8", "ubinary"], "truncate": "END", "max_tokens": 9}
    with FakeUpstream(is_strict=False) as up:
        up.always(Reply.json(found))
        async with served(None, [embedder(up)], **WAYS[way]) as running, client(running) as ai:
            answer = await ai.embed(**asked)
            assert (answer.embeddings.int8, answer.embeddings.ubinary) == ([[1, 2]], [[3]])
            cell = running.service.gateway.catalogue._endpoints["vectors"].cells[COHERE_EMBED]
            assert (cell.input_tokens.total, cell.output_tokens.total) == (4, 0)
        sent = up.take()
    assert (sent.path, sent.document) == ("/v2/embed", {**asked, "model": "embed-v4.0"})
    assert as_arguments(sent.document, cohere.ClientV2.embed, set()) is None


@every_way
async def test_embeddings_of_openai_in_coheres_words(way: str) -> None:
    data = [{"object": "embedding", "index": at, "embedding": each} for at, each in enumerate(VECTORS)]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    vectors = {"object": "list", "data": data[::-1], "model": "text-3", "usage": usage}
    with FakeUpstream(is_strict=False) as up:
        up.always(Reply.json(vectors))
        async with (
            served(None, [endpoint("vectors", up, "embeddings")], **WAYS[way]) as running,
            client(running) as ai,
        ):
            answer = await ai.embed(**EMBED, embedding_types=["float", "base64"], output_dimension=2)
            assert answer.embeddings.float_ == VECTORS
            assert answer.embeddings.base64 is not None
            assert struct.unpack("<2f", base64.b64decode(answer.embeddings.base64[0])) == (0.5, -1.0)
            assert answer.texts == ["a", "b"]
            assert answer.meta is not None
            assert answer.meta.billed_units is not None
            assert answer.meta.billed_units.input_tokens == 4
            typed: Any = [{"content": [{"type": "text", "text": "a"}]}]
            again = await ai.embed(model="vectors", inputs=typed, input_type="search_document")
            assert again.embeddings.float_ == VECTORS
            whole = await running.ask("POST", "v2/embed", EMBED)
            assert whole.headers["x-ai-gateway-dropped-params"] == "input_type"
            picture: Any = [{"content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
            for more in ({"embedding_types": ["int8"]}, {"images": ["data:,"]}, {"inputs": picture}):
                with pytest.raises(cohere.BadRequestError) as caught:
                    await ai.embed(**{**EMBED, **more})
                assert caught.value.body["code"] == "cannot_translate"
                assert next(iter(more)) in caught.value.body["message"]
            cell = running.service.gateway.catalogue._endpoints["vectors"].cells[COHERE_EMBED]
            assert cell.input_tokens.total == 12
    sent = up.take().document
    assert sent == {
        "model": "text-embedding-3-small",
        "input": ["a", "b"],
        "encoding_format": "float",
        "dimensions": 2,
    }


async def test_rankings_at_both_versions() -> None:
    results = {"id": "r", "results": [{"index": 1, "relevance_score": 0.9}], "meta": {}}
    with FakeUpstream(is_strict=False) as up:
        up.always(Reply.json(results))
        config = {"cohere_api_base": f"{up.url}/v2", "cohere_api_key": KEY}
        model = {"provider": "cohere", "name": "rerank-v4.0-pro", "config": config}
        ranker = {"name": "ranker", "endpoint_type": "llm/v1/rerank", "model": model}
        asked: dict[str, Any] = {"model": "ranker", "query": "a", "documents": ["b", "a"]}
        async with served(None, [ranker]) as running, client(running) as ai:
            assert (await ai.rerank(**asked, top_n=1)).results[0].index == 1
            older = cohere.AsyncClient(base_url=f"{running.url}{PREFIX}".rstrip("/"), api_key="t-alice")
            assert (await older.rerank(**asked)).results[0].index == 1
            await older._client_wrapper.httpx_client.httpx_client.aclose()
            with pytest.raises(ApiError) as caught:
                await ai.rerank(**{**asked, "model": "nothing"})
            assert "nothing" in caught.value.body["message"]
            assert caught.value.body["id"].startswith("req_")
    assert [request.path for request in up.requests] == ["/v2/rerank"] * 2


async def test_models_in_coheres_shape() -> None:
    with FakeUpstream(is_strict=False) as up:
        ranker = {
            "name": "ranker",
            "endpoint_type": "llm/v1/rerank",
            "model": {"provider": "vllm", "name": "r", "config": {"api_base": f"{up.url}/v1"}},
        }
        chat = ChatVendor(up).endpoint(context_length=32000)
        text = endpoint("text", up, "completions")
        async with served(None, [chat, embedder(up), ranker, text]) as running, client(running) as ai:
            found = (await ai.models.list()).models
            assert {each.name: each.endpoints for each in found} == {
                "model": ["chat"],
                "vectors": ["embed"],
                "ranker": ["rerank"],
            }
            assert (found[0].context_length, found[0].is_deprecated) == (32000, False)
            assert [each.name for each in (await ai.models.list(endpoint="embed")).models] == ["vectors"]
            assert (await ai.models.list(endpoint="chat", default_only=True)).models == []
            assert (await ai.models.get("model")).endpoints == ["chat"]
            with pytest.raises(cohere.NotFoundError):
                await ai.models.get("nothing")
            others = (await running.ask("GET", "v1/models")).json
            assert {each["id"] for each in others["data"]} == {"model", "vectors", "ranker", "text"}


async def test_the_scopes_are_those_of_chats_and_embeddings() -> None:
    with FakeUpstream(is_strict=False) as up:
        async with served(None, [ChatVendor(up).endpoint(), embedder(up)]) as running:
            chats = running.knows("t-chat", ACCESS, "custom:ai-gateway:chat:create")
            embeds = running.knows("t-embed", ACCESS, "custom:ai-gateway:embeddings:create")
            assert (await running.ask("POST", "v2/chat", CHAT, token=chats)).status == 200
            assert (await running.ask("POST", "v2/chat", CHAT, token=embeds)).status == 403
            assert (await running.ask("POST", "v2/embed", EMBED, token=chats)).status == 403
            up.always(Reply.json({"id": "e", "embeddings": {"float": VECTORS}}))
            assert (await running.ask("POST", "v2/embed", EMBED, token=embeds)).status == 200


async def test_a_model_of_another_kind_says_where_it_is() -> None:
    with FakeUpstream(is_strict=False) as up:
        async with served(None, [embedder(up)]) as running:
            answer = await running.ask("POST", "v2/chat", {**CHAT, "model": "vectors"})
            assert answer.json["code"] == "wrong_endpoint_type"
            assert "POST /v1/embeddings or POST /v2/embed" in answer.json["message"]


async def test_parameters_of_the_operator_count_here() -> None:
    with FakeUpstream(is_strict=False) as up:
        vendor = CohereVendor(up)
        policy = {"drop": ["seed"], "default": {"temperature": 0.1}, "clamp": {"max_tokens": {"max": 50}}}
        async with served(None, [vendor.endpoint(parameters=policy)]) as running:
            answer = await running.ask("POST", "v2/chat", {**CHAT, "seed": 3, "max_tokens": 900})
            assert answer.headers["x-ai-gateway-dropped-params"] == "seed"
            assert answer.headers["x-ai-gateway-clamped-params"] == "max_tokens"
        sent = up.take().document
        assert (sent["temperature"], sent["max_tokens"], "seed" in sent) == (0.1, 50, False)


async def test_who_comes_back_after_a_translation_meets_cohere_itself() -> None:
    """Thoughts that another model signed go to Cohere without the signature."""
    kept = {"type": "thinking", "thinking": "Hm.", "signature": "aig1.anthropic.c2ln"}
    hidden = {"type": "thinking", "thinking": "", "signature": "aig1.openai.c2ln"}
    call = {"id": "callid001", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = {
        "role": "assistant",
        "content": [kept, hidden, {"type": "text", "text": "Hello."}],
        "tool_calls": [{**call, "signature": "aig1.gemini.c2ln"}],
    }
    result = {"role": "tool", "tool_call_id": "callid001", "content": "1"}
    with FakeUpstream(is_strict=False) as up:
        vendor = CohereVendor(up)
        async with served(None, [vendor.endpoint()]) as running:
            answer = await running.ask("POST", "v2/chat", {**CHAT, "messages": [*HI, said, result]})
            assert answer.status == 200
        sent = up.take().document["messages"][1]
    assert sent["content"] == [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hello."}]
    assert sent["tool_calls"] == [call]


def test_there_is_one_dialect_of_coheres() -> None:
    assert DIALECT_OF[COHERE_CHAT] is DIALECT_OF[COHERE_EMBED] is COHERE
