"""Vertex AI: a gateway between real clients and fakes that check who asks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from clouds import GOOGLE_MODELS, HI, Cloud, asked, chat_answer, deployment, every_way, made
from expected import ExpectedLog
from fakes import anthropic as claude_fake
from fakes.gemini import TEXT, Google, text_events
from fakes.tokens import CLIENT, SECRET, Tokens
from fakes.upstream import FakeUpstream, Reply, Request
from google.genai import types
from served import WAYS, Served, served
from test_gemini import client

from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.providers import google_credentials
from jupyterhub_ai_gateway.vocabulary import (
    CHAT,
    COUNT_CONTENT,
    COUNT_TOKENS,
    GENERATE_CONTENT,
    MESSAGES,
)


def vertex(up: FakeUpstream, tokens: Tokens, model: str, **more: Any) -> dict[str, Any]:
    config = {
        "vertex_project": "campus",
        "vertex_location": "europe-west4",
        "vertex_credentials": json.dumps(tokens.service_account(up.url)),
        "vertex_api_base": up.url,
        **more,
    }
    return deployment("flash", "vertex_ai", model, config)


@every_way
async def test_gemini_on_vertex_by_a_service_account(way: str) -> None:
    tokens = Tokens()
    google = Google(tokens=["token-1"])
    with FakeUpstream(is_strict=False) as up:
        up.always(Cloud(tokens, google))
        async with served(up, [vertex(up, tokens, "gemini-3-pro")], **WAYS[way]) as running:
            async with client(running) as ai:
                answers = await asyncio.gather(
                    *(ai.models.generate_content(model="flash", contents="Hi") for _ in range(5))
                )
                assert {answer.text for answer in answers} == {"".join(TEXT)}
                stream = await ai.models.generate_content_stream(model="flash", contents="Hi")
                assert "".join([each.text or "" async for each in stream]) == "".join(TEXT)
                assert (await ai.models.count_tokens(model="flash", contents="Hi")).total_tokens == 20
            inner = {"contents": [{"parts": [{"text": "Hi"}]}], "toolConfig": {}}
            path = "v1beta/models/flash:countTokens"
            answer = await running.ask("POST", path, {"generateContentRequest": inner})
            assert answer.json == {"totalTokens": 20}
    assert tokens.given == ["token-1"]
    assert all(request.header("x-goog-api-key") is None for request in up.requests)


async def test_stream_of_gemini_on_vertex_is_passed_on_as_it_came() -> None:
    tokens = Tokens()
    with FakeUpstream(is_strict=False) as up:
        up.always(Cloud(tokens, Google(tokens=["token-1"])))
        async with served(up, [vertex(up, tokens, "gemini-3-pro")]) as running:
            document = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
            path = "v1beta1/publishers/google/models/flash:streamGenerateContent?alt=sse"
            answer = await running.ask("POST", path, document)
            assert answer.body == b"".join(text_events())


class _Claude:
    """Claude as Vertex AI serves it: the model in the path, the version in the body."""

    def __call__(self, request: Request) -> Reply:
        document = request.document
        if document.pop("anthropic_version", None) != "vertex-2023-10-16":
            return Reply.json({"error": {"code": 400, "message": "anthropic_version"}}, 400)
        if request.path == f"{GOOGLE_MODELS}/count-tokens:rawPredict":
            assert document["model"] == "claude-sonnet-4-5@20250929"
            return Reply.json({"input_tokens": 20})
        verb = "streamRawPredict" if document.get("stream") else "rawPredict"
        if request.path != f"{GOOGLE_MODELS}/claude-sonnet-4-5@20250929:{verb}" or "model" in document:
            return Reply.json({"error": {"code": 404, "message": request.path}}, 404)
        if document.get("stream"):
            return Reply.stream(*claude_fake.events())
        return Reply.json(claude_fake._message([{"type": "text", "text": "".join(claude_fake.TEXT)}]))


async def ask_claude(running: Served, path: str = "v1/messages", **more: Any) -> Any:
    headers = more.pop("headers", ())
    document = {"model": "flash", "max_tokens": 5, "messages": HI, **more}
    return await running.ask("POST", path, document, headers=headers)


@every_way
async def test_claude_on_vertex(way: str) -> None:
    tokens = Tokens()
    with FakeUpstream(is_strict=False) as up:
        up.always(Cloud(tokens, _Claude()))
        endpoint = vertex(
            up, tokens, "claude-sonnet-4-5@20250929", vertex_anthropic_betas="context-1m, x-2"
        )
        async with served(up, [endpoint], **WAYS[way]) as running:
            asked_for = ("anthropic-beta", "context-1m,other-1,files-api-2025")
            answer = await ask_claude(running, headers=[asked_for])
            assert answer.json["content"][0]["text"] == "".join(claude_fake.TEXT)
            assert (
                answer.headers["x-ai-gateway-dropped-params"] == "anthropic-beta: files-api-2025, other-1"
            )
            assert up.requests[-1].header("anthropic-beta") == "context-1m"
            stream = await ask_claude(running, stream=True)
            assert stream.body == b"".join(claude_fake.events())
            counted = await ask_claude(running, "v1/messages/count_tokens")
            assert counted.json == {"input_tokens": 20}
            smuggled = await ask_claude(running, anthropic_beta=["other-1"])
            assert smuggled.status == 400
            assert smuggled.json["error"]["type"] == "invalid_request_error"
    assert tokens.given == ["token-1"]


async def test_openai_callers_reach_vertex_by_its_own_translation() -> None:
    tokens = Tokens()
    with FakeUpstream(is_strict=False) as up:
        up.always(Cloud(tokens, chat_answer))
        endpoints = [
            vertex(up, tokens, "gemini-3-pro", vertex_format="both"),
            {**vertex(up, tokens, "meta/llama-4-maas"), "name": "llama"},
        ]
        async with served(up, endpoints) as running:
            for name, sent in (("flash", "google/gemini-3-pro"), ("llama", "meta/llama-4-maas")):
                answer = await running.chat(model=name)
                assert answer.json["model"] == sent
        paths = {request.path for request in asked(up, tokens)}
        assert paths == {"/v1/projects/campus/locations/europe-west4/endpoints/openapi/chat/completions"}


async def test_token_that_was_taken_back_is_replaced_by_a_new_one() -> None:
    tokens = Tokens()
    with FakeUpstream(is_strict=False) as up:
        cloud = Cloud(tokens, chat_answer)
        up.always(cloud)
        async with served(up, [vertex(up, tokens, "meta/llama")]) as running:
            assert (await running.chat(model="flash")).status == 200
            tokens.given[:] = ["gone"]
            assert (await running.chat(model="flash")).status == 200
            assert tokens.given == ["gone", "token-2"]


async def test_credentials_that_are_refused_are_the_operator_s(expected_log: ExpectedLog) -> None:
    tokens, others = Tokens(), Tokens()
    with FakeUpstream(is_strict=False) as up:
        up.always(Cloud(tokens, chat_answer))
        async with served(up, [vertex(up, others, "meta/llama")]) as running:
            answer = await running.chat(model="flash")
            assert answer.status == 502
            assert answer.error["code"] == "upstream_auth_error"
            tokens.fails = Reply(503, body=b"away")
            assert (await running.chat(model="flash")).status == 502
    lines = "".join(expected_log.take("provider vertex_ai"))
    assert "gave no token: 401, invalid_client" in lines
    assert "PRIVATE" not in lines


async def test_user_s_own_credentials_are_a_refresh_token() -> None:
    tokens = Tokens()
    user = {
        "type": "authorized_user",
        "client_id": CLIENT,
        "client_secret": SECRET,
        "refresh_token": "refresh-1",
    }
    with FakeUpstream(is_strict=False) as up:
        up.always(Cloud(tokens, chat_answer))
        user["token_uri"] = f"{up.url}/token"
        async with served(up, [vertex(up, tokens, "meta/llama", vertex_credentials=user)]) as running:
            assert (await running.chat(model="flash")).status == 200


async def test_machine_s_credentials_come_from_google_auth(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tokens = Tokens()
    with FakeUpstream(is_strict=False) as up:
        up.always(Cloud(tokens, chat_answer))
        file = tmp_path / "key.json"
        file.write_text(json.dumps(tokens.service_account(up.url)))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        async with served(up, [vertex(up, tokens, "meta/llama", vertex_credentials=None)]) as running:
            assert (await running.chat(model="flash")).status == 200
            assert (await running.chat(model="flash")).status == 200
    assert tokens.given == ["token-1"]


async def test_machine_without_credentials_is_told_in_the_log_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, expected_log: ExpectedLog
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    tokens = Tokens()
    with FakeUpstream(is_strict=False) as up:
        async with served(up, [vertex(up, tokens, "meta/llama", vertex_credentials=None)]) as running:
            answer = await running.chat(model="flash")
            assert answer.error["code"] == "upstream_auth_error"
    assert "google-auth: DefaultCredentialsError" in "".join(expected_log.take("provider vertex_ai"))


@pytest.mark.parametrize(
    ("credentials", "problem"),
    [
        ({"type": "service_account"}, "lacks client_email"),
        ({"type": "service_account", "client_email": "x"}, "lacks private_key"),
        ({"type": "service_account", "client_email": "x", "private_key": "s3cret"}, "cannot be read"),
        ({"type": "authorized_user", "client_id": "s3cret"}, "lacks client_id, client_secret or refresh"),
        ({"s3cret": 1}, "has no type"),
        ("s3cret", "must be a JSON object"),
        (["s3cret"], "must be text"),
    ],
)
def test_wrong_credentials_are_told_without_their_content(credentials: Any, problem: str) -> None:
    with pytest.raises(ConfigFault) as caught:
        made("vertex_ai", {"vertex_project": "p", "vertex_credentials": credentials})
    assert "model.config.vertex_credentials" in str(caught.value)
    assert problem in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_missing_library_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google_credentials.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigFault, match=r"jupyterhub-ai-gateway\[vertex\]"):
        made("vertex_ai", {"vertex_project": "p"})
    key = {"type": "service_account", "client_email": "x", "private_key": "y"}
    with pytest.raises(ConfigFault, match=r"cryptography.*\[vertex\]"):
        made("vertex_ai", {"vertex_project": "p", "vertex_credentials": key})


@pytest.mark.parametrize(
    ("location", "host"),
    [
        (None, "aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("us-central1", "us-central1-aiplatform.googleapis.com"),
    ],
)
def test_vertex_is_asked_at_its_location(location: str | None, host: str) -> None:
    config = {"vertex_project": "p", "vertex_location": location}
    gemini = made("vertex-ai", config, name="gemini-3-pro")
    where = f"https://{host}/v1beta1/projects/p/locations/{location or 'global'}/publishers/google/models"
    assert gemini.speaks("llm/v1/chat") == {GENERATE_CONTENT, COUNT_CONTENT}
    assert gemini.url(GENERATE_CONTENT) == f"{where}/gemini-3-pro:generateContent"
    stream = gemini.stream_target(GENERATE_CONTENT)
    assert stream is not None
    assert stream.path.endswith(":streamGenerateContent?alt=sse")
    claude = made("vertex", config, name="claude-opus-4-5@20251101")
    assert claude.speaks("llm/v1/chat") == {MESSAGES, COUNT_TOKENS}
    assert claude.url(MESSAGES).endswith("/publishers/anthropic/models/claude-opus-4-5@20251101:rawPredict")
    other = made("vertex", config, name="mistral-large")
    assert other.speaks("llm/v1/chat") == {CHAT}
    usual = "us-central1-aiplatform.googleapis.com" if location is None else host
    assert other.url(CHAT).startswith(f"https://{usual}/v1/projects/p/locations/")


def test_types_of_the_sdk_are_strict() -> None:
    """The fakes lean on it: a field that google-genai does not know is refused."""
    with pytest.raises(ValueError, match="Extra inputs"):
        types.Part.model_validate({"nonsense": 1})
