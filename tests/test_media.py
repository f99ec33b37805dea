"""Images, sound, moderations and rankings, asked by the vendors' own SDKs, by every way in."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import cohere
import httpx
import openai
import pytest
from cohere.core import ApiError
from expected import ExpectedLog
from fakes.hub import ACCESS
from fakes.media import MP3, PNG, parts_of
from fakes.upstream import FIN, FakeUpstream, Gate, Raw, Reply
from openai import AsyncOpenAI
from served import FULL, KEY, WAYS, Served, endpoint, served
from test_accounting import rows

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the SDK, of some calls
every_way = pytest.mark.parametrize("way", WAYS)
WAV = b"RIFF" + bytes(range(256)) * 30
COMPATIBLE = ("vllm", "openai-compatible")


def upstream() -> FakeUpstream:
    return FakeUpstream(key=KEY)


def media(up: FakeUpstream, name: str, kind: str, **more: Any) -> dict[str, Any]:
    """Make an endpoint of a type of OpenAI's."""
    config = {"openai_api_key": KEY, "openai_api_base": f"{up.url}/v1"}
    model = {"provider": "openai", "name": f"their-{name}", "config": config}
    return {"name": name, "endpoint_type": f"llm/v1/{kind}", "model": model, **more}


def ranker(up: FakeUpstream, provider: str = "vllm", **more: Any) -> dict[str, Any]:
    config = {"api_key": KEY, "api_base": f"{up.url}/v1"}
    model = {"provider": provider, "name": "their-ranker", "config": config}
    return {"name": "ranker", "endpoint_type": "llm/v1/rerank", "model": model, **more}


def everything(up: FakeUpstream) -> list[dict[str, Any]]:
    return [
        media(up, "painter", "images"),
        media(up, "speaker", "speech"),
        media(up, "listener", "transcriptions"),
        media(up, "judge", "moderations"),
        ranker(up),
    ]


def client(running: Served, token: str = "t-alice", **more: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=running.base_url, api_key=token, max_retries=0, **more)


async def ranked(running: Served, **asked: Any) -> cohere.V2RerankResponse:
    """Ask by Cohere's SDK, on a connection that is closed afterwards."""
    async with httpx.AsyncClient() as http:
        base_url = running.base_url.removesuffix("/v1")
        ai = cohere.AsyncClientV2(api_key="t-alice", base_url=base_url, httpx_client=http)
        return await ai.rerank(**asked)


@every_way
async def test_images(way: str) -> None:
    with upstream() as up:
        async with served(up, everything(up), **WAYS[way]) as running, client(running) as ai:
            made = await ai.images.generate(model="painter", prompt="A cat", n=2, user="me")
            assert made.data is not None
            assert [base64.b64decode(each.b64_json or "") for each in made.data] == [PNG, PNG]
            assert made.usage is not None
            assert made.usage.output_tokens == 272
        sent = up.take().document
    assert sent["model"] == "their-painter"
    assert sent["user"] not in ("me", "alice")


@every_way
async def test_streamed_images(way: str) -> None:
    with upstream() as up:
        async with served(up, everything(up), **WAYS[way]) as running, client(running) as ai:
            stream = await ai.images.generate(
                model="painter", prompt="A cat", stream=True, partial_images=1
            )
            events = [event async for event in stream]
        assert [event.type for event in events] == [
            "image_generation.partial_image",
            "image_generation.completed",
        ]
        assert base64.b64decode(events[1].b64_json) == PNG
        assert "stream_options" not in up.take().document


@every_way
async def test_edits_and_variations(way: str) -> None:
    with upstream() as up:
        async with served(up, everything(up), **WAYS[way]) as running, client(running) as ai:
            edited = await ai.images.edit(
                model="painter", image=[("a.png", PNG), ("b.png", WAV)], prompt="Bluer", user="me"
            )
            assert edited.data is not None
            assert base64.b64decode(edited.data[0].b64_json or "") == PNG
            varied = await ai.images.create_variation(model="painter", image=('ü "c".png', PNG))
            assert varied.data is not None
            assert varied.data[0].url == "https://images.invalid/1.png"
        first, second = up.requests
    parts = parts_of(first.header("content-type"), first.body)
    files = [(part.filename, part.content_type, part.content) for part in parts if part.filename]
    assert files == [("a.png", "image/png", PNG), ("b.png", "image/png", WAV)]
    fields = {part.name: part.content for part in parts if not part.filename}
    assert fields.pop("user") not in (b"me", b"alice")
    assert fields == {"model": b"their-painter", "prompt": b"Bluer"}
    assert parts_of(second.header("content-type"), second.body)[-1].filename == "ü %22c%22.png"


@every_way
async def test_edits_as_json(way: str) -> None:
    image = {"image_url": "data:image/png;base64,AAAA"}
    body: dict[str, Any] = {"model": "painter", "prompt": "Bluer", "images": [image]}
    with upstream() as up:
        async with served(up, everything(up), **WAYS[way]) as running:
            answer = await running.ask("POST", "v1/images/edits", body)
            assert answer.status == 200
            sent = up.take()
            assert sent.document == {**body, "model": "their-painter"}
            assert sent.header("content-type") == "application/json"
            answer = await running.ask(
                "POST", "v1/images/edits", {**body, "images": [{"file_id": "file-1"}]}
            )
            assert (answer.status, answer.error["param"]) == (400, "images")


@every_way
async def test_speech_arrives_byte_for_byte(way: str) -> None:
    with upstream() as up:
        async with served(up, everything(up), **WAYS[way]) as running, client(running) as ai:
            spoken = await ai.audio.speech.create(model="speaker", voice="alloy", input="Hello")
            assert spoken.content == MP3
            assert spoken.response.headers["content-type"] == "audio/mpeg"
            assert spoken.response.headers["x-content-type-options"] == "nosniff"
        assert up.take().document["model"] == "their-speaker"


async def test_speech_leaves_as_it_comes() -> None:
    gate = Gate()
    with upstream() as up:
        up.script(Reply(200, [("Content-Type", "audio/pcm;rate=24000")], [b"one", gate, b"two"]))
        async with served(up, everything(up)) as running, client(running) as ai:
            asking = ai.audio.speech.with_streaming_response.create(
                model="speaker", voice="alloy", input="Hello", response_format="pcm"
            )
            async with asking as spoken:
                pieces = spoken.iter_bytes()
                assert await anext(pieces) == b"one"
                gate.set()
                assert [piece async for piece in pieces] == [b"two"]


@every_way
async def test_speech_as_events(way: str) -> None:
    with upstream() as up:
        async with served(up, everything(up), **WAYS[way]) as running:
            body = {"model": "speaker", "voice": "alloy", "input": "Hello", "stream_format": "sse"}
            answer = await running.ask("POST", "v1/audio/speech", body)
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert b'"speech.audio.done"' in answer.body
            assert base64.b64encode(MP3) in answer.body


@every_way
async def test_transcriptions_in_every_format(way: str) -> None:
    with upstream() as up:
        async with served(up, everything(up), **WAYS[way]) as running, client(running) as ai:
            ask = ai.audio.transcriptions.create
            plain = await ask(model="listener", file=("a.wav", WAV), language="en")
            assert plain.text == up.text
            verbose = await ask(model="listener", file=("a.wav", WAV), response_format="verbose_json")
            assert verbose.duration == 6.5
            for kind, start in (("text", ""), ("srt", "1\n"), ("vtt", "WEBVTT")):
                text = await ask(model="listener", file=("a.wav", WAV), response_format=kind)  # type: ignore[call-overload]
                assert text.startswith(start)
                assert up.text in text
            stream = await ask(model="listener", file=("a.wav", WAV), stream=True)
            events = [event async for event in stream]
            assert events[-1].type == "transcript.text.done"
            assert events[-1].text == up.text
            translated = await ai.audio.translations.create(model="listener", file=("a.wav", WAV))
            assert translated.text == up.text
        for request in up.requests:
            first, *_, last = parts_of(request.header("content-type"), request.body)
            assert (first.name, first.content) == ("model", b"their-listener")
            assert (last.name, last.filename, last.content) == ("file", "a.wav", WAV)


@every_way
async def test_moderations_without_a_model(way: str) -> None:
    with upstream() as up:
        async with served(up, everything(up), **WAYS[way]) as running, client(running) as ai:
            found = await ai.moderations.create(input=["a", "b"])
            assert [each.flagged for each in found.results] == [False, False]
        assert up.take().document["model"] == "their-judge"


async def test_model_has_to_be_named_where_there_is_a_choice() -> None:
    with upstream() as up:
        endpoints = [media(up, "judge", "moderations"), media(up, "jury", "moderations", scope="premium")]
        async with served(up, endpoints) as running:
            answer = await running.ask("POST", "v1/moderations", {"input": "a"})
            assert answer.status == 200  # the other one is not for alice
            alice = running.knows("t-premium", ACCESS, FULL, "custom:ai-gateway:premium")
            answer = await running.ask("POST", "v1/moderations", {"input": "a", "model": None}, token=alice)
            assert (answer.status, answer.error["param"]) == (400, "model")
            assert "judge, jury" in answer.error["message"]


@every_way
@pytest.mark.parametrize("provider", COMPATIBLE)
async def test_rankings(way: str, provider: str) -> None:
    with upstream() as up:
        endpoints = [ranker(up, provider)]
        async with served(up, endpoints, **WAYS[way]) as running:
            found = await ranked(
                running, model="ranker", query="red fruit", documents=["blue sky", "red fruit"], top_n=1
            )
            assert [(each.index, each.relevance_score) for each in found.results] == [(1, 1.0)]
            for path in ("v1/rerank", "rerank"):
                body = {"model": "ranker", "query": "red", "documents": ["a", "red"]}
                answer = await running.ask("POST", path, body)
                assert [each["index"] for each in answer.json["results"]] == [1, 0]
        assert {request.path for request in up.requests} == {"/v1/rerank"}


async def test_ranking_of_a_host_with_words_of_its_own() -> None:
    theirs = [{"index": 0, "score": 0.1, "text": "a"}, {"index": 1, "score": 0.9, "text": "b"}]
    with FakeUpstream(is_strict=False) as up:
        up.script(Reply.json(theirs))
        config = {"api_key": KEY, "api_base": f"{up.url}/v1"}
        model = {"provider": "tei", "name": "bge", "config": config}
        endpoints = [{"name": "ranker", "endpoint_type": "llm/v1/rerank", "model": model}]
        async with served(up, endpoints) as running:
            body = {"model": "ranker", "query": "q", "documents": ["a", "b"], "top_n": 1}
            answer = await running.ask("POST", "v2/rerank", {**body, "return_documents": True})
            assert answer.json["results"] == [
                {"index": 1, "relevance_score": 0.9, "document": {"text": "b"}}
            ]
        sent = up.take()
    assert sent.path == "/rerank"
    assert sent.document == {"query": "q", "texts": ["a", "b"], "return_text": True}


async def test_cohere_itself() -> None:
    with FakeUpstream(key=KEY, bases="/v2") as up:
        config = {"cohere_api_key": KEY, "cohere_api_base": f"{up.url}/v2"}
        model = {"provider": "cohere", "name": "rerank-v4.0-pro", "config": config}
        endpoints = [{"name": "ranker", "endpoint_type": "llm/v1/rerank", "model": model}]
        async with served(up, endpoints) as running:
            found = await ranked(running, model="ranker", query="a", documents=["b", "a"])
            assert found.results[0].index == 1
            assert found.meta is not None
            assert found.meta.billed_units is not None
            assert found.meta.billed_units.search_units == 1
        assert up.take().path == "/v2/rerank"


async def test_cohere_sdk_reads_our_failures() -> None:
    with upstream() as up:
        async with served(up, everything(up)) as running:
            with pytest.raises(ApiError) as raised:
                await ranked(running, model="nothing", query="a", documents=["b"])
            assert raised.value.status_code == 404
            assert "nothing" in raised.value.body["message"]


SCOPES = {
    "images:create": ("v1/images/generations", {"model": "painter", "prompt": "A"}),
    "audio:create": ("v1/audio/speech", {"model": "speaker", "input": "A", "voice": "alloy"}),
    "moderations:create": ("v1/moderations", {"model": "judge", "input": "A"}),
    "rerank:create": ("v1/rerank", {"model": "ranker", "query": "A", "documents": ["A"]}),
}


@every_way
async def test_each_needs_its_own_scope(way: str) -> None:
    with upstream() as up:
        async with served(up, everything(up), **WAYS[way]) as running:
            for scope, (path, body) in SCOPES.items():
                holder = running.knows(f"t-{scope}", ACCESS, f"custom:ai-gateway:{scope}")
                others = [f"custom:ai-gateway:{each}" for each in (*SCOPES, "chat:create") if each != scope]
                other = running.knows(f"t-not-{scope}", ACCESS, *others)
                assert (await running.ask("POST", path, body, token=holder)).status == 200
                refused = await running.ask("POST", path, body, token=other)
                assert refused.status == 403
                assert f"custom:ai-gateway:{scope}" in refused.json["error"]["message"]
            listener = running.knows("t-listener", ACCESS, "custom:ai-gateway:audio:create")
            async with client(running, listener) as ai:
                heard = await ai.audio.transcriptions.create(model="listener", file=("a.wav", WAV))
                assert heard.text == up.text
                with pytest.raises(openai.PermissionDeniedError, match="images:create"):
                    await ai.images.create_variation(model="painter", image=("a.png", PNG))
        assert len(up.requests) == 5


async def test_wrong_type_names_the_paths() -> None:
    with upstream() as up:
        async with served(up, [*everything(up), endpoint("chat", up)]) as running:
            answer = await running.ask("POST", "v1/images/generations", {"model": "chat", "prompt": "A"})
            assert (answer.status, answer.error["code"]) == (400, "wrong_endpoint_type")
            answer = await running.ask("POST", "v1/audio/transcriptions", {"model": "listener"})
            assert (answer.status, answer.error["code"]) == (415, "unsupported_content_type")


async def test_use_is_told_and_priced(tmp_path: Any) -> None:
    with upstream() as up:
        endpoints = [
            media(up, "painter", "images", price={"per_image": "0.04"}),
            media(up, "speaker", "speech", price={"input_per_mtok": 1}),  # a dollar per million
            media(up, "listener", "transcriptions", price={"per_audio_minute": "0.6"}),
            ranker(up, price={"per_search_unit": "0.002"}),
        ]
        config = {"ledger": {"url": f"sqlite:///{tmp_path}/ledger.sqlite", "flush_s": 0.1}}
        async with served(up, endpoints, config=config) as running, client(running) as ai:
            await ai.images.generate(model="painter", prompt="A cat", n=2)
            await ai.images.create_variation(model="painter", image=("a.png", PNG))
            stream = await ai.images.generate(model="painter", prompt="A cat", stream=True)
            assert [event async for event in stream]
            await ai.audio.speech.create(model="speaker", voice="alloy", input="Hello")
            await ai.audio.transcriptions.create(
                model="listener", file=("a.wav", WAV), response_format="verbose_json"
            )
            await ai.audio.transcriptions.create(model="listener", file=("a.wav", WAV))
            await ai.audio.transcriptions.create(
                model="listener", file=("a.wav", WAV), response_format="text"
            )
            await ranked(running, model="ranker", query="a", documents=["b", "a"])
            found = await rows(running)
    names = ("operation", "input_tokens", "output_tokens", "cost_nanousd", "is_estimated")
    told = [tuple(row[name] for name in names) for row in found]
    assert [each for each in told if each[0] != "speech"] == [
        ("images", 50, 272, 80_000_000, False),
        ("image_variations", None, None, 40_000_000, False),
        ("images", 50, 272, 40_000_000, False),
        ("transcriptions", None, None, 70_000_000, False),
        ("transcriptions", 14, 45, None, False),  # counted in tokens, which have no price
        ("transcriptions", None, None, None, False),
        ("rerank", None, None, 2_000_000, False),
    ]
    (speech,) = [each for each in told if each[0] == "speech"]
    assert speech[1] > 5
    assert (speech[2], speech[3], speech[4]) == (None, speech[1] * 1000, True)


CUTS = [
    ("v1/audio/speech", {"model": "speaker", "input": "A", "voice": "alloy"}, "audio/mpeg"),
    ("v1/images/generations", {"model": "painter", "prompt": "A"}, "application/json"),
]


@every_way
async def test_sound_that_is_cut_short_is_cut_short(way: str, expected_log: ExpectedLog) -> None:
    with upstream() as up:
        up.script(Reply(200, [("Content-Type", "audio/mpeg")], [b"sound", FIN]))
        async with served(up, everything(up), **WAYS[way]) as running:
            body = json.dumps({"model": "speaker", "input": "A", "voice": "alloy"}).encode()
            path = "/services/ai-gateway/v1/audio/speech"
            try:
                whole = await running.raw("POST", path, body, [("Authorization", "Bearer t-alice")])
            except ConnectionError:
                whole = b""
            assert not whole.endswith(b"0\r\n\r\n")
    expected_log.take("upstream_broken")


@every_way
async def test_short_json_that_is_cut_short_is_an_error(way: str, expected_log: ExpectedLog) -> None:
    with upstream() as up:
        reply = Reply.json({"created": 1, "data": [{"b64_json": "AAAA"}]})
        up.script(reply.cut(len(reply.wire) - 5))
        async with served(up, everything(up), **WAYS[way]) as running:
            answer = await running.ask("POST", *CUTS[1][:2])
            assert (answer.status, answer.error["code"]) == (502, "upstream_broken")
    expected_log.take("upstream_broken")


async def test_long_json_passes_without_being_held() -> None:
    image = "A" * 1_400_000
    usage = '"usage": {"input_tokens": 3, "output_tokens": 4}'
    gate = Gate()
    steps = [f'{{"data": [{{"b64_json": "{image}"}}], '.encode(), gate, f"{usage}}}".encode()]
    with upstream() as up:
        up.script(Reply(200, [("Content-Type", "application/json")], steps))
        async with served(up, everything(up)) as running:
            asking = running.ask("POST", *CUTS[1][:2])
            task = asyncio.ensure_future(asking)
            await asyncio.to_thread(gate.reached.wait)
            gate.set()
            answer = await task
            assert answer.json["usage"] == {"input_tokens": 3, "output_tokens": 4}
            assert answer.headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize("kind", ["text/html", "audio/mpeg\x0bx", "image/png", ""])
async def test_answer_of_the_wrong_kind_is_no_answer(kind: str, expected_log: ExpectedLog) -> None:
    with FakeUpstream(is_strict=False) as up:
        up.script(Reply(200, [("Content-Type", kind)] if kind else [], b"<html>"))
        async with served(up, everything(up)) as running:
            answer = await running.ask("POST", *CUTS[0][:2])
            assert (answer.status, answer.error["code"]) == (502, "upstream_broken")
    expected_log.take("upstream_broken")


async def test_host_that_does_not_stream_answers_whole() -> None:
    with upstream() as up:
        up.script(Reply.json({"created": 1, "data": [{"b64_json": "AAAA"}]}))
        async with served(up, everything(up)) as running:
            body = {"model": "painter", "prompt": "A", "stream": True}
            answer = await running.ask("POST", "v1/images/generations", body)
            assert answer.json["data"] == [{"b64_json": "AAAA"}]


async def test_stream_that_stops_is_an_error(expected_log: ExpectedLog) -> None:
    with upstream() as up:
        up.script(Reply.stream({"type": "image_generation.partial_image", "b64_json": "AAAA"}))
        async with served(up, everything(up)) as running, client(running) as ai:
            stream = await ai.images.generate(model="painter", prompt="A cat", stream=True)
            with pytest.raises(openai.APIError, match="in the middle"):
                _ = [event async for event in stream]
    expected_log.take("upstream_broken")


async def test_second_deployment_answers_where_the_first_fails() -> None:
    with upstream() as up:
        model = media(up, "painter", "images")["model"]
        endpoints = [
            {
                "name": "painter",
                "endpoint_type": "llm/v1/images",
                "deployments": [{"model": model}, {"model": model, "priority": 2}],
            }
        ]
        up.script(Reply.error(500, "down"), Raw.of(FIN))
        async with served(up, endpoints) as running, client(running) as ai:
            made = await ai.images.edit(model="painter", image=("a.png", PNG), prompt="Bluer")
            assert made.data is not None
            made = await ai.images.generate(model="painter", prompt="A cat")
            assert made.data is not None
    forms = [parts_of(each.header("content-type"), each.body) for each in up.requests[:2]]
    assert forms[0] == forms[1]
