"""The real google-genai SDK against the gateway, and what it cannot see, in every combination of parts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from expected import ExpectedLog
from fakes.anthropic import TEXT as CLAUDE_TEXT
from fakes.anthropic import Claude
from fakes.gemini import (
    DUMMY,
    SIGNATURE,
    TEXT,
    THOUGHT,
    Google,
    error,
    event,
    exhausted,
    piece,
    text_events,
    wrong_key,
)
from fakes.hub import ACCESS
from fakes.upstream import (
    BYTE_BY_BYTE,
    FIN,
    STALL,
    WHOLE,
    FakeUpstream,
    Gate,
    Raw,
    Reply,
    happened,
    random_cuts,
)
from google import genai
from google.genai import errors, types
from served import KEY, PREFIX, WAYS, Served, endpoint, served

from jupyterhub_ai_gateway.vocabulary import GENERATE_CONTENT

CONTENTS: Any = [{"role": "user", "parts": [{"text": "Hi"}]}]
CUTS = {"whole": WHOLE, "bytes": BYTE_BY_BYTE, **{f"seed {seed}": random_cuts(seed) for seed in range(3)}}
every_way = pytest.mark.parametrize("way", WAYS)
WEATHER = {
    "name": "weather",
    "description": "What the weather is.",
    "parameters_json_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def upstream(**more: Any) -> FakeUpstream:
    up = FakeUpstream(is_strict=False, **more)
    up.always(Google(KEY))
    return up


def gemini(up: FakeUpstream, **more: Any) -> dict[str, Any]:
    config = {"gemini_api_key": KEY, "gemini_api_base": f"{up.url}/v1beta"}
    model = {"provider": "gemini", "name": "gemini-3-pro", "config": config}
    return {"name": "flash", "endpoint_type": "llm/v1/chat", "model": model, **more}


@contextlib.asynccontextmanager
async def client(running: Served, token: str = "t-alice", **more: Any) -> AsyncIterator[Any]:
    options = types.HttpOptions(
        base_url=f"{running.url}{PREFIX}", retry_options=types.HttpRetryOptions(attempts=1)
    )
    made = genai.Client(api_key=token, http_options=options, **more)
    try:
        yield made.aio
    finally:
        await made.aio.aclose()
        made.close()


async def ask(
    running: Served, method: str = "generateContent", path: str = "v1beta/models/flash", **more: Any
) -> Any:
    kept = {name: more.pop(name) for name in ("token", "headers") if name in more}
    document = {"contents": CONTENTS, **more}
    return await running.ask("POST", f"{path}:{method}", document, **kept)


def cell_of(running: Served) -> Any:
    return running.service.gateway.catalogue._endpoints["flash"].cells[GENERATE_CONTENT]


@every_way
async def test_answer_whole_and_streamed_and_counted(way: str) -> None:
    with upstream() as up:
        async with served(up, [gemini(up)], **WAYS[way]) as running, client(running) as ai:
            answer = await ai.models.generate_content(
                model="flash",
                contents="Hi",
                config={
                    "system_instruction": "Be brief.",
                    "temperature": 0.5,
                    "max_output_tokens": 100,
                    "thinking_config": {"include_thoughts": True},
                },
            )
            assert answer.text == "".join(TEXT)
            assert answer.usage_metadata.thoughts_token_count == 5
            pieces = [
                each async for each in await ai.models.generate_content_stream(model="flash", contents="Hi")
            ]
            assert [each.text for each in pieces if each.text] == TEXT
            assert pieces[0].candidates[0].content.parts[0].thought
            assert pieces[-1].candidates[0].finish_reason == types.FinishReason.STOP
            counted = await ai.models.count_tokens(model="flash", contents="Hi")
            assert counted.total_tokens == 20
    assert [request.complaint for request in up.requests] == [None] * 3
    assert not any("model" in request.document for request in up.requests)


@every_way
@pytest.mark.parametrize("cuts", CUTS)
async def test_stream_comes_as_it_was_and_usage_is_counted(way: str, cuts: str) -> None:
    with upstream(cuts=CUTS[cuts]) as up:
        async with served(up, [gemini(up)], **WAYS[way]) as running:
            answer = await ask(running, "streamGenerateContent?alt=sse")
            assert answer.body == b"".join(text_events())
            assert answer.headers["content-type"].startswith("text/event-stream")
            cell = cell_of(running)
            assert (cell.input_tokens.total, cell.output_tokens.total) == (20, 14)
            assert cell.cached_input_tokens == 11
            assert cell.durations[200, ""].counts


@every_way
@pytest.mark.parametrize("cuts", CUTS)
async def test_stream_without_alt_is_one_array(way: str, cuts: str) -> None:
    with upstream(cuts=CUTS[cuts]) as up:
        async with served(up, [gemini(up)], **WAYS[way]) as running:
            answer = await ask(running, "streamGenerateContent")
            assert answer.headers["content-type"].startswith("application/json")
            assert answer.json == [json.loads(each.removeprefix(b"data: ")) for each in text_events()]
            assert cell_of(running).output_tokens.total == 14


@pytest.mark.parametrize("is_array", [False, True])
async def test_silence_is_broken_in_a_way_that_no_client_stumbles_over(is_array: bool) -> None:
    gate = Gate()
    with upstream() as up:
        first, *rest = text_events()
        up.script(Reply.stream(first, gate, *rest))
        async with served(up, [gemini(up)], keepalive_s=0.01) as running:
            method = "streamGenerateContent" + ("" if is_array else "?alt=sse")
            asking = asyncio.ensure_future(ask(running, method))
            await happened(gate.reached)
            async with client(running) as ai:  # other requests take longer than the silence may
                assert (await ai.models.generate_content(model="flash", contents="Hi")).text
                await ai.models.count_tokens(model="flash", contents="Hi")
            gate.set()
            body = (await asking).body
    if is_array:
        assert len(json.loads(body)) == len(rest) + 1
    else:
        assert b"\n:" not in body
        assert body.replace(b"\r\n\r\n", b"").replace(b"\n\n", b"") == b"".join(text_events()).replace(
            b"\r\n\r\n", b""
        )


@every_way
async def test_tools_over_two_turns_keep_their_signatures(way: str) -> None:
    tools = [{"function_declarations": [WEATHER, {**WEATHER, "name": "time"}]}]
    with upstream() as up:
        async with served(up, [gemini(up)], **WAYS[way]) as running, client(running) as ai:
            config = {"tools": tools, "automatic_function_calling": {"disable": True}}
            chat = ai.chats.create(model="flash", config=config)
            first = await chat.send_message("Weather and time?")
            calls = first.function_calls
            assert [call.name for call in calls] == ["weather", "time"]
            results = [
                types.Part(
                    function_response=types.FunctionResponse(
                        id=call.id, name=call.name, response={"output": "fine"}
                    )
                )
                for call in calls
            ]
            pieces = [each async for each in await chat.send_message_stream(results)]
            assert "".join(each.text or "" for each in pieces) == "".join(TEXT)
            assert THOUGHT in str(pieces[0])
    sent = up.requests[-1].document["contents"]
    assert sent[1]["parts"][0]["thoughtSignature"] == SIGNATURE
    assert DUMMY not in json.dumps(sent)


@every_way
async def test_key_may_be_in_the_query_and_is_never_logged(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with upstream() as up:
        async with served(up, [gemini(up)], log_requests=True, **WAYS[way]) as running:
            assert (await ask(running, "generateContent?key=t-alice", token=None)).status == 200
            assert (await ask(running, "generateContent?key=t-nobody", token=None)).status == 401
            assert (await running.ask("GET", "v1beta/models?key=t-alice", token=None)).status == 200
            assert (
                await ask(running, "generateContent?key=t-nobody")
            ).status == 200  # a header counts first
            refused = await running.ask("GET", "v1beta/models?key=t-nobody", token=None)
            assert refused.json["error"]["status"] == "UNAUTHENTICATED"
        assert not any("t-alice" in str(request.headers) + request.target for request in up.requests)
    assert "t-alice" not in caplog.text
    assert "t-nobody" not in caplog.text


@every_way
@pytest.mark.parametrize(
    "path",
    [
        "v1/models/flash",
        "models/flash",
        "v1beta/models/models%2Fflash",
        "gateway/gemini/v1beta/models/flash",
        "v1beta1/publishers/google/models/flash",
        "v1beta1/projects/p/locations/l/publishers/google/models/flash",
    ],
)
async def test_every_spelling_of_the_path_is_served(way: str, path: str) -> None:
    with upstream() as up:
        async with served(up, [gemini(up)], **WAYS[way]) as running:
            answer = await ask(running, path=path)
            assert answer.status == 200, answer.body
            assert (await ask(running, path=path.replace(":", "%3A"))).status == 200


@every_way
async def test_rest_of_the_request_is_as_it_came(way: str) -> None:
    document = {
        "systemInstruction": {"parts": [{"text": "é"}]},
        "generationConfig": {"topK": 3, "thinkingConfig": {"thinkingLevel": "LOW"}},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
        "store": False,
    }
    with upstream() as up:
        async with served(up, [gemini(up)], **WAYS[way]) as running:
            answer = await ask(
                running, headers=[("x-goog-api-client", "me"), ("x-evil", "1")], model="other", **document
            )
            assert answer.status == 200, answer.body
            request = up.take()
    assert request.document == {"contents": CONTENTS, **document}
    assert request.header("x-evil") is None
    assert "set-cookie" not in answer.headers
    assert "scaffolding" not in str(answer.headers)


REACHES_TOO_FAR: list[tuple[dict[str, Any], str]] = [
    ({"cachedContent": "cachedContents/x"}, "cachedContent"),
    ({"cached_content": "cachedContents/x"}, "cached_content"),
    ({"labels": {"a": "b"}}, "labels"),
    ({"store": True}, "store"),
    ({"modelArmorConfig": {"promptTemplateName": "x"}}, "modelArmorConfig"),
    ({"outputConfig": {"outputUriPrefix": "gs://x"}}, "outputConfig"),
    ({"tools": [{"fileSearch": {"fileSearchStoreNames": ["x"]}}]}, "tools.fileSearch"),
    ({"tools": {"file_search": {}}}, "tools.file_search"),
    ({"tools": [{"functionDeclarations": []}, {"retrieval": {}}]}, "tools.retrieval"),
    ({"tools": [{"mcpServers": [{"name": "x"}]}]}, "tools.mcpServers"),
    ({"generationConfig": {"routingConfig": {"manualMode": {}}}}, "generationConfig.routingConfig"),
    (
        {"generation_config": {"model_selection_config": {"x": 1}}},
        "generation_config.model_selection_config",
    ),
    ({"contents": [{"parts": [{"fileData": {"fileUri": "gs://bucket/x"}}]}]}, "contents: fileData"),
    ({"contents": {"parts": {"file_data": {"file_uri": "files/x"}}}}, "contents: file_data"),
    (
        {"contents": [{"parts": [{"fileData": {"fileUri": "https://youtu.be/x", "file_uri": "gs://x"}}]}]},
        "contents: fileData",
    ),
    (
        {
            "systemInstruction": {
                "parts": [
                    {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x"}}
                ]
            }
        },
        "systemInstruction: fileData",
    ),
    (
        {
            "contents": [
                {
                    "parts": [
                        {
                            "functionResponse": {
                                "name": "f",
                                "response": {},
                                "parts": [{"fileData": {"fileUri": "gs://x"}}],
                            }
                        }
                    ]
                }
            ]
        },
        "contents: fileData",
    ),
]


@pytest.mark.parametrize(("fields", "param"), REACHES_TOO_FAR)
async def test_field_that_reaches_beyond_the_request_is_refused(fields: dict[str, Any], param: str) -> None:
    with upstream() as up:
        async with served(up, [gemini(up)]) as running:
            answer = await ask(running, **fields)
            assert answer.status == 400
            found = answer.json["error"]
            assert (found["code"], found["status"]) == (400, "INVALID_ARGUMENT")
            assert found["details"][0]["reason"] == "field_refused"
            assert found["details"][0]["metadata"]["param"] == param
            inner = {"contents": CONTENTS, **fields}
            within = await running.ask(
                "POST", "v1beta/models/flash:countTokens", {"generateContentRequest": inner}
            )
            assert within.status == 400
            assert within.json["error"]["details"][0]["reason"] == "field_refused"
        assert not up.requests


async def test_escaped_key_is_the_same_key() -> None:
    body = b'{"contents":[{"parts":[{"file\\u0044ata":{"fileUri":"gs://x"}}]}]}'
    with upstream() as up:
        async with served(up, [gemini(up)]) as running:
            answer = await running.ask("POST", "v1beta/models/flash:generateContent", body=body)
            assert answer.status == 400
        assert not up.requests


@pytest.mark.parametrize(
    "part",
    [
        {"fileData": {"fileUri": "https://www.youtube.com/watch?v=x"}},
        {"fileData": {"fileUri": "https://storage.googleapis.com/public/x.png", "mimeType": "image/png"}},
        {"functionCall": {"name": "f", "args": {"fileData": {"fileUri": "gs://x"}}}},
        {"text": '"fileData": {"fileUri": "gs://x"}'},
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
    ],
)
async def test_public_file_and_the_caller_s_own_data_pass(part: dict[str, Any]) -> None:
    with upstream() as up:
        up.always(Reply.json(piece([{"text": "ok"}], "STOP")))
        async with served(up, [gemini(up)]) as running:
            answer = await ask(running, contents=[{"role": "user", "parts": [part]}])
            assert answer.status == 200, answer.body
        assert up.take().document["contents"][0]["parts"] == [part]


async def test_counting_passes_on_what_counts() -> None:
    inner = {"model": "models/other", "contents": CONTENTS, "systemInstruction": {"parts": [{"text": "x"}]}}
    with upstream() as up:
        async with served(up, [gemini(up)]) as running:
            path = "v1beta/models/flash:countTokens"
            for document in (
                {"contents": CONTENTS},
                {"generateContentRequest": inner},
                {"contents": CONTENTS, "systemInstruction": {"parts": [{"text": "x"}]}},
            ):
                answer = await running.ask("POST", path, document)
                assert answer.json == {"totalTokens": 20}, answer.body
            assert (await running.ask("POST", path, {})).status == 400
        for request in up.requests[1:]:
            assert request.document == {
                "generateContentRequest": {**inner, "model": "models/gemini-3-pro"},
            }


FAILURES: list[tuple[Any, type[errors.APIError], int, str]] = [
    (error(400, "INVALID_ARGUMENT", "Bad contents."), errors.ClientError, 400, "INVALID_ARGUMENT"),
    (error(400, "FAILED_PRECONDITION", "Not from here."), errors.ClientError, 400, "FAILED_PRECONDITION"),
    (exhausted(), errors.ClientError, 429, "RESOURCE_EXHAUSTED"),
    (wrong_key(), errors.ServerError, 502, "INTERNAL"),
    (error(403, "PERMISSION_DENIED", f"{KEY} lacks it"), errors.ServerError, 502, "INTERNAL"),
    (error(404, "NOT_FOUND", "models/x is not found"), errors.ServerError, 502, "INTERNAL"),
    (error(500, "INTERNAL", "An internal error has occurred."), errors.ServerError, 500, "INTERNAL"),
    (error(503, "UNAVAILABLE", "The model is overloaded."), errors.ServerError, 503, "UNAVAILABLE"),
    (Raw.of(b"nonsense\r\n\r\n", FIN), errors.ServerError, 502, "INTERNAL"),
]


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("script", "kind", "status", "word"), FAILURES)
async def test_failure_of_the_provider_raises_the_right_exception(
    is_stream: bool,
    script: Any,
    kind: type[errors.APIError],
    status: int,
    word: str,
    expected_log: ExpectedLog,
) -> None:
    with upstream() as up:
        up.script(script)
        async with served(up, [gemini(up)]) as running, client(running) as ai:
            with pytest.raises(kind) as caught:
                if is_stream:
                    async for _ in await ai.models.generate_content_stream(model="flash", contents="Hi"):
                        pass
                else:
                    await ai.models.generate_content(model="flash", contents="Hi")
    assert (caught.value.code, caught.value.status) == (status, word)
    assert KEY not in str(caught.value.details)
    if status == 429:
        kinds = {
            each["@type"].rpartition(".")[2]: each for each in caught.value.details["error"]["details"]
        }
        assert kinds["RetryInfo"]["retryDelay"] == "34s"
    if status >= 500:
        assert KEY not in "".join(expected_log.take("provider gemini"))


async def test_failure_of_the_caller_raises_the_right_exception() -> None:
    with upstream() as up:
        limited = gemini(up, limit={"calls": 1, "renewal_period": "day"})
        async with served(up, [limited, endpoint("vectors", up, "embeddings")]) as running:

            async def failing(
                token: str = "t-alice", model: str = "flash", **config: Any
            ) -> errors.APIError:
                async with client(running, token) as ai:
                    with pytest.raises(errors.ClientError) as caught:
                        await ai.models.generate_content(model=model, contents="Hi", config=config)
                return caught.value

            unknown = await failing("t-unknown")
            assert (unknown.code, unknown.status) == (401, "UNAUTHENTICATED")
            lister = running.knows("t-list", ACCESS, "custom:ai-gateway:models:list")
            denied = await failing(lister)
            assert (denied.code, denied.status) == (403, "PERMISSION_DENIED")
            assert "chat:create" in str(denied.message)
            async with client(running) as ai:
                await ai.models.generate_content(model="flash", contents="Hi")
            late = await failing()
            assert (late.code, late.status) == (429, "RESOURCE_EXHAUSTED")
            delays = [each.get("retryDelay") for each in late.details["error"]["details"]]
            assert int(str(delays[1]).rstrip("s")) > 80_000
            absent = await failing(model="nope")
            assert (absent.code, absent.status) == (404, "NOT_FOUND")
            other = await failing(model="vectors")
            assert "is of the type llm/v1/embeddings" in str(other.message)


@every_way
@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("is_array", [False, True])
async def test_provider_that_dies_in_a_stream_is_an_error_at_its_end(
    way: str, cuts: str, is_array: bool, expected_log: ExpectedLog
) -> None:
    with upstream() as up:
        up.script(Reply.stream(*text_events()[:3], text_events()[3][:20], FIN, cuts=CUTS[cuts]))
        async with served(up, [gemini(up)], **WAYS[way]) as running:
            answer = await ask(running, "streamGenerateContent" + ("" if is_array else "?alt=sse"))
    if is_array:
        *whole, last = answer.json
        assert len(whole) == 3
    else:
        passed, _, rest = answer.body.rpartition(b"data: ")
        assert passed == b"".join(text_events()[:3])
        last = json.loads(rest)
    assert (last["error"]["code"], last["error"]["status"]) == (502, "INTERNAL")
    expected_log.take("upstream_broken")


@pytest.mark.parametrize("events", [[], text_events()[:3]])
async def test_cut_stream_raises_in_the_sdk(events: list[bytes], expected_log: ExpectedLog) -> None:
    with upstream() as up:
        up.script(Reply.stream(*events))
        async with served(up, [gemini(up)]) as running, client(running) as ai:
            with pytest.raises(errors.ServerError, match="ended its answer"):
                async for _ in await ai.models.generate_content_stream(model="flash", contents="Hi"):
                    pass
    expected_log.take("upstream_broken")


async def test_error_event_of_the_provider_is_passed_on_and_counted() -> None:
    failure = event({"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}})
    with upstream() as up:
        up.always(Reply.stream(*text_events()[:3], failure))
        async with served(up, [gemini(up)]) as running:
            answer = await ask(running, "streamGenerateContent?alt=sse")
            assert answer.body.endswith(failure)
            assert list(cell_of(running).durations) == [(200, "upstream_error_in_stream")]
            async with client(running) as ai:
                with pytest.raises(errors.ServerError, match="Overloaded"):
                    async for _ in await ai.models.generate_content_stream(model="flash", contents="Hi"):
                        pass


async def test_refused_prompt_is_an_answer_without_candidates() -> None:
    refusal = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}
    with upstream() as up:
        up.always(Reply.stream(event(refusal)))
        async with served(up, [gemini(up)]) as running:
            answer = await ask(running, "streamGenerateContent?alt=sse")
            assert answer.body == event(refusal)
            assert list(cell_of(running).durations) == [(200, "")]


@pytest.mark.parametrize("is_array", [False, True])
async def test_claude_answers_google_s_callers_as_a_stand_in(
    is_array: bool, expected_log: ExpectedLog
) -> None:
    overloaded = event({"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}})
    with upstream() as up, FakeUpstream(is_strict=False) as other:
        up.script(Reply.stream(overloaded))
        other.always(Claude(KEY))
        config = {"anthropic_api_key": KEY, "anthropic_api_base": f"{other.url}/v1"}
        claude = {"provider": "anthropic", "name": "claude-sonnet-4-5", "config": config}
        first = gemini(up)
        places = [{"model": first.pop("model"), "priority": 1}, {"model": claude, "priority": 2}]
        async with served(up, [{**first, "deployments": places}]) as running:
            answer = await ask(running, "streamGenerateContent" + ("" if is_array else "?alt=sse"))
            assert answer.status == 200
            assert answer.headers["x-ai-gateway-attempts"] == "2"
            if is_array:
                pieces = answer.json
            else:
                pieces = [json.loads(each[6:]) for each in answer.body.split(b"\r\n\r\n") if each.strip()]
            parts = [part for each in pieces for part in each["candidates"][0]["content"]["parts"]]
            assert "".join(part["text"] for part in parts) == "".join(CLAUDE_TEXT)
            assert pieces[-1]["usageMetadata"]["promptTokenCount"] == 20
            counted = await running.ask("POST", "v1beta/models/flash:countTokens", {"contents": CONTENTS})
            assert counted.headers["x-ai-gateway-estimated"] == "true"  # Google rests
            assert counted.json["totalTokens"] > 0


@every_way
@pytest.mark.parametrize("alt", ["", "?alt=sse"])
async def test_hangup_closes_the_provider_s_connection(way: str, alt: str) -> None:
    with upstream() as up:
        up.script(Reply.stream(*text_events()[:3], STALL))
        async with served(up, [gemini(up)], **WAYS[way]) as running:
            asking = asyncio.ensure_future(ask(running, f"streamGenerateContent{alt}"))
            request = await up.taken()
            asking.cancel()
            await happened(request.closed)


async def test_sdk_finds_the_gateway_by_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    with upstream() as up:
        async with served(up, [gemini(up)]) as running:
            monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", f"{running.url}{PREFIX}".rstrip("/"))
            monkeypatch.setenv("GEMINI_API_KEY", "t-alice")
            made = genai.Client()
            try:
                answer = await made.aio.models.generate_content(model="flash", contents="Hi")
                assert answer.text == "".join(TEXT)
            finally:
                await made.aio.aclose()
                made.close()


@every_way
async def test_models_are_listed_in_the_sdk_s_shape(way: str) -> None:
    with upstream() as up:
        described = gemini(up, description="Google's best")
        async with (
            served(up, [described, endpoint("vectors", up, "embeddings")], **WAYS[way]) as running,
            client(running) as ai,
        ):
            models = [model async for model in await ai.models.list()]
            assert [model.name for model in models] == ["models/flash"]
            one = await ai.models.get(model="flash")
            assert (one.display_name, one.description) == ("flash", "Google's best")
            assert one.supported_actions == ["generateContent", "countTokens"]
            with pytest.raises(errors.ClientError, match="NOT_FOUND"):
                await ai.models.get(model="nope")
            shared = await running.ask("GET", "v1/models", headers=[("x-goog-api-client", "genai")])
            assert [each["name"] for each in shared.json["models"]] == ["models/flash"]
            card = await running.ask("GET", "v1/models/flash", headers=[("x-goog-api-client", "genai")])
            assert card.json["name"] == "models/flash"
            assert (await running.ask("GET", "v1/models")).json["object"] == "list"


async def test_openai_client_reaches_gemini_by_google_s_own_translation() -> None:
    with FakeUpstream(key=KEY, bases="/v1beta/openai") as up:
        vectors = gemini(up, name="vectors", endpoint_type="llm/v1/embeddings")
        both = gemini(up)
        both["model"]["config"]["gemini_format"] = "both"
        async with served(up, [both, vectors]) as running:
            answer = await running.chat(model="flash")
            assert answer.json["choices"][0]["message"]["content"] == up.text
            found = await running.ask("POST", "v1/embeddings", {"model": "vectors", "input": "x"})
            assert len(found.json["data"]) == 1
        assert [request.complaint for request in up.requests] == [None, None]


async def test_completions_and_mlflow_s_callers_reach_gemini() -> None:
    with upstream() as up:
        text = gemini(up, name="text", endpoint_type="llm/v1/completions")
        async with served(up, [gemini(up), text]) as running:
            answer = await running.ask("POST", "v1/completions", {"model": "text", "prompt": "Hi"})
            assert answer.json["choices"][0]["text"] == "".join(TEXT)
            messages = [{"role": "user", "content": "Hi"}]
            answer = await running.ask("POST", "gateway/flash/invocations", {"messages": messages})
            assert answer.json["choices"][0]["message"]["content"] == "".join(TEXT)
            assert answer.json["usage"]["completion_tokens_details"]["reasoning_tokens"] == 5


@every_way
async def test_operator_s_parameters_count_for_google_s_callers(way: str) -> None:
    policy = {
        "drop": ["seed", "safetySettings"],
        "error": ["candidate_count"],
        "default": {"temperature": 0.2, "chat_template_kwargs": {"enable_thinking": False}},
        "clamp": {"max_output_tokens": 100, "topK": 5},
    }
    with upstream() as up:
        async with served(up, [gemini(up, parameters=policy)], **WAYS[way]) as running:
            config = {"maxOutputTokens": 5000, "top_k": 9, "seed": 7, "responseMimeType": "text/plain"}
            answer = await ask(running, generation_config=config, safety_settings=[])
            assert answer.status == 200, answer.body
            assert answer.headers["x-ai-gateway-dropped-params"] == "seed, safetySettings"
            assert answer.headers["x-ai-gateway-clamped-params"] == "max_output_tokens, topK"
            assert up.take().document == {
                "contents": CONTENTS,
                "generationConfig": {
                    "maxOutputTokens": 100,
                    "topK": 5,
                    "responseMimeType": "text/plain",
                    "temperature": 0.2,
                },
            }
            answer = await ask(running, generationConfig={"candidateCount": 2})
            assert answer.json["error"]["details"][0]["reason"] == "parameter_refused"
            assert (await ask(running)).status == 200
            assert up.take().document["generationConfig"] == {"temperature": 0.2}


async def test_betas_of_anthropic_s_callers_stay_here() -> None:
    with upstream() as up:
        async with served(up, [gemini(up)]) as running:
            document = {"model": "flash", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
            answer = await running.ask(
                "POST", "v1/messages", document, headers=[("anthropic-beta", "context-1m")]
            )
            assert answer.json["content"][0]["text"] == "".join(TEXT)
            assert answer.headers["x-ai-gateway-dropped-params"] == "anthropic-beta"
        assert up.take().header("anthropic-beta") is None


async def test_compressed_body_is_refused_in_google_s_words() -> None:
    with upstream() as up:
        for way in WAYS.values():
            async with served(up, [gemini(up)], **way) as running:
                answer = await ask(running, headers=[("Content-Encoding", "gzip")])
                assert answer.status == 415
                assert answer.json["error"]["status"] == "INVALID_ARGUMENT"
