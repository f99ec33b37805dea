"""The real SDKs against the gateway, behind which a Bedrock checks signatures and bodies as AWS does."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic
from expected import ExpectedLog
from fakes import anthropic as vendor
from fakes.bedrock import KEY_ID, REGION, SECRET, Bedrock, chunks, framed, refused, told, vector
from fakes.bedrock import TEXT as BEDROCK_TEXT
from fakes.bedrock import events as converse_events
from fakes.event_stream import event, message
from fakes.upstream import (
    BYTE_BY_BYTE,
    FIN,
    RESET,
    STALL,
    WHOLE,
    FakeUpstream,
    Raw,
    Reply,
    happened,
    random_cuts,
)
from openai import AsyncOpenAI
from served import PREFIX, WAYS, Served, served

from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.providers.bedrock_vectors import AT_ONCE
from jupyterhub_ai_gateway.usage.table import PriceTable
from jupyterhub_ai_gateway.vocabulary import CHAT, EMBEDDINGS
from jupyterhub_ai_gateway.vocabulary import MESSAGES as MESSAGES_OPERATION

CLAUDE = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
HELLO: Any = [{"role": "user", "content": "Hi"}]
CUTS = {"whole": WHOLE, "bytes": BYTE_BY_BYTE, **{f"seed {seed}": random_cuts(seed) for seed in range(3)}}
every_way = pytest.mark.parametrize("way", WAYS)
ID_AND_KEY = {"aws_region": REGION, "aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET}


def upstream(bedrock: Bedrock | None = None, **more: Any) -> FakeUpstream:
    up = FakeUpstream(is_strict=False, **more)
    up.always(bedrock or Bedrock())
    return up


def bedrock_endpoint(
    up: FakeUpstream, model: str = CLAUDE, aws_config: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    config = {"aws_config": aws_config or ID_AND_KEY, "api_base": up.url, **more}
    return {
        "name": "claude",
        "endpoint_type": "llm/v1/chat",
        "model": {"provider": "bedrock", "name": model, "config": config},
    }


def client(running: Served, **more: Any) -> AsyncAnthropic:
    return AsyncAnthropic(
        base_url=f"{running.url}{PREFIX}", auth_token="t-alice", api_key=None, max_retries=0, **more
    )


async def ask(running: Served, **more: Any) -> Any:
    headers = more.pop("headers", ())
    document = {"model": "claude", "max_tokens": 50, "messages": HELLO, **more}
    return await running.ask("POST", "v1/messages", document, headers=headers)


# Claude, natively


@every_way
async def test_claude_speaks_messages_natively(way: str) -> None:
    bedrock = Bedrock()
    with upstream(bedrock) as up:
        async with served(up, [bedrock_endpoint(up)], **WAYS[way]) as running, client(running) as ai:
            whole = await ai.messages.create(model="claude", max_tokens=50, messages=HELLO)
            assert whole.content[0].text == "".join(vendor.TEXT)  # type: ignore[union-attr]
            async with ai.messages.stream(model="claude", max_tokens=50, messages=HELLO) as stream:
                assert [text async for text in stream.text_stream] == vendor.TEXT
                assert (await stream.get_final_message()).usage.output_tokens == 9
            counted = await ai.messages.count_tokens(model="claude", messages=HELLO)
            assert counted.input_tokens == 20
    assert [asked[:2] for asked in bedrock.asked] == [
        ("InvokeModel", CLAUDE),
        ("InvokeModelWithResponseStream", CLAUDE),
        ("CountTokens", CLAUDE.removeprefix("eu.")),
    ]


@every_way
@pytest.mark.parametrize("cuts", CUTS)
async def test_events_come_as_they_were_and_usage_is_counted(way: str, cuts: str) -> None:
    with upstream(cuts=CUTS[cuts]) as up:
        async with served(up, [bedrock_endpoint(up)], **WAYS[way]) as running:
            answer = await ask(running, stream=True)
            assert answer.body == b"".join(vendor.events())
            cell = running.service.gateway.catalogue._endpoints["claude"].cells[MESSAGES_OPERATION]
            assert (cell.input_tokens.total, cell.output_tokens.total) == (20, 9)
            assert cell.cached_input_tokens == 11


@every_way
async def test_body_is_as_it_came_but_for_what_bedrock_has_elsewhere(way: str) -> None:
    bedrock = Bedrock()
    document: Any = {
        "system": [{"type": "text", "text": "é", "cache_control": {"type": "ephemeral"}}],
        "temperature": 0.5,
        "anthropic_beta": ["interleaved-thinking-2025-05-14", "files-api-2025-04-14"],
    }
    betas = ("anthropic-beta", "context-1m-2025-08-07, skills-2025-10-02")
    with upstream(bedrock) as up:
        async with served(up, [bedrock_endpoint(up)], **WAYS[way]) as running:
            answer = await ask(running, headers=[betas], metadata={"user_id": "alice@uni.edu"}, **document)
    assert answer.status == 200
    assert answer.headers["x-ai-gateway-dropped-params"] == "anthropic-beta: skills-2025-10-02"
    sent = bedrock.asked[0][2]
    assert len(sent.pop("metadata")["user_id"]) == 32
    assert sent.pop("anthropic_beta") == ["context-1m-2025-08-07", "interleaved-thinking-2025-05-14"]
    assert sent.pop("anthropic_version") == "bedrock-2023-05-31"
    del document["anthropic_beta"]
    assert sent == {"max_tokens": 50, "messages": HELLO, **document}
    headers = {name.lower() for name, _ in up.requests[0].headers}
    assert headers == {
        *("host", "user-agent", "accept", "accept-encoding", "content-type", "content-length"),
        *("x-amz-date", "authorization"),
    }


@every_way
@pytest.mark.parametrize(
    ("bedrock", "config"),
    [
        (
            Bedrock(token="bedrock-api-key-0123456789"),
            {"aws_region": REGION, "aws_bearer_token": "bedrock-api-key-0123456789"},
        ),
        (
            Bedrock(session_token="session+token/=="),
            {**ID_AND_KEY, "aws_session_token": "session+token/=="},
        ),
        (Bedrock(region="us-gov-west-1"), {**ID_AND_KEY, "aws_region": "us-gov-west-1"}),
    ],
    ids=["bearer", "session", "region"],
)
async def test_every_kind_of_credentials_is_taken(way: str, bedrock: Bedrock, config: Any) -> None:
    with upstream(bedrock) as up:
        async with served(up, [bedrock_endpoint(up, aws_config=config)], **WAYS[way]) as running:
            assert (await ask(running)).status == 200
            assert (await ask(running, stream=True)).body == b"".join(vendor.events())


async def test_effort_is_told_to_each_model_as_it_takes_it() -> None:
    bedrock = Bedrock()
    opus = "eu.anthropic.claude-opus-4-5-20251101-v1:0"
    with upstream(bedrock) as up:
        endpoints = [{**bedrock_endpoint(up, model), "name": model[-9:-5]} for model in (opus, CLAUDE)]
        async with served(up, endpoints) as running:
            for each in endpoints:
                answer = await running.chat(model=each["name"], reasoning_effort="low", max_tokens=4000)
                assert answer.status == 200
    first, second = (document for _, _, document in bedrock.asked)
    assert first["output_config"] == {"effort": "low"}
    assert first["anthropic_beta"] == ["effort-2025-11-24"]
    assert "output_config" not in second
    assert "anthropic_beta" not in second
    assert second["thinking"]["budget_tokens"] == 2048


async def test_arn_is_quoted_once_in_the_path_and_says_the_region() -> None:
    arn = f"arn:aws:bedrock:{REGION}:123456789012:application-inference-profile/a1b2c3"
    bedrock = Bedrock()
    config = {name: value for name, value in ID_AND_KEY.items() if name != "aws_region"}
    with upstream(bedrock) as up:
        async with served(up, [bedrock_endpoint(up, arn, config, api="messages")]) as running:
            assert (await ask(running)).status == 200
        assert up.requests[0].target == f"/model/{arn.replace(':', '%3A').replace('/', '%2F')}/invoke"
    assert bedrock.asked[0][1] == arn


# Failures

FAILURES: list[tuple[Any, int, str, type[anthropic.APIError]]] = [
    (
        refused(400, "ValidationException", "max_tokens: bad"),
        400,
        "ValidationException",
        anthropic.BadRequestError,
    ),
    (
        refused(400, "ValidationException", "Input is too long for requested model."),
        400,
        "context_length_exceeded",
        anthropic.BadRequestError,
    ),
    (
        refused(400, "ValidationException", "The provided model identifier is invalid."),
        502,
        "upstream_not_found",
        anthropic.InternalServerError,
    ),
    (
        refused(400, "ServiceQuotaExceededException", "Too many tokens today"),
        429,
        "insufficient_quota",
        anthropic.RateLimitError,
    ),
    (
        refused(429, "ThrottlingException", "Slow", ("Retry-After", "3")),
        429,
        "ThrottlingException",
        anthropic.RateLimitError,
    ),
    (
        refused(403, "AccessDeniedException", f"{KEY_ID} may not"),
        502,
        "upstream_auth_error",
        anthropic.InternalServerError,
    ),
    (
        refused(403, "ExpiredTokenException", "expired"),
        502,
        "upstream_auth_error",
        anthropic.InternalServerError,
    ),
    (
        refused(404, "ResourceNotFoundException", "no model"),
        502,
        "upstream_not_found",
        anthropic.InternalServerError,
    ),
    (
        refused(408, "ModelTimeoutException", "took too long"),
        504,
        "ModelTimeoutException",
        anthropic.APIStatusError,
    ),
    (
        refused(424, "ModelErrorException", "broke"),
        502,
        "ModelErrorException",
        anthropic.InternalServerError,
    ),
    (
        refused(429, "ModelNotReadyException", "loading"),
        503,
        "ModelNotReadyException",
        anthropic.InternalServerError,
    ),
    (
        refused(503, "ServiceUnavailableException", "busy"),
        503,
        "ServiceUnavailableException",
        anthropic.InternalServerError,
    ),
    (Reply.json({"Message": "?"}, 500), 500, "upstream_error", anthropic.InternalServerError),
    (Raw.of(FIN), 502, "upstream_unreachable", anthropic.InternalServerError),
]


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("script", "status", "code", "kind"), FAILURES)
async def test_failure_of_bedrock_raises_the_right_exception(
    is_stream: bool, script: Any, status: int, code: str, kind: Any, expected_log: ExpectedLog
) -> None:
    with upstream() as up:
        up.script(script)
        async with served(up, [bedrock_endpoint(up)]) as running, client(running) as ai:
            with pytest.raises(kind) as caught:
                await ai.messages.create(model="claude", max_tokens=5, messages=HELLO, stream=is_stream)
            assert caught.value.status_code == status
            body: Any = caught.value.body
            assert body["error"]["code"] == code
            assert KEY_ID not in json.dumps(body)
            if code == "ThrottlingException":
                assert caught.value.response.headers["retry-after"] == "3"
    if status >= 500:
        assert KEY_ID not in "".join(expected_log.take("provider bedrock"))


MID_STREAM = [
    ("throttlingException", "rate_limit_error"),
    ("modelStreamErrorException", "api_error"),
    ("modelTimeoutException", "timeout_error"),
    ("serviceUnavailableException", "overloaded_error"),
    ("validationException", "invalid_request_error"),
    ("newException", "api_error"),
]


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize(("name", "kind"), MID_STREAM)
async def test_exception_in_a_stream_is_an_error_event_and_counted(cuts: str, name: str, kind: str) -> None:
    begun = vendor.events()[:5]
    with upstream() as up:
        up.script(framed(*chunks(begun), told(name, "It broke")))
        up.cuts = CUTS[cuts]
        async with served(up, [bedrock_endpoint(up)]) as running:
            answer = await ask(running, stream=True)
            cell = running.service.gateway.catalogue._endpoints["claude"].cells[MESSAGES_OPERATION]
            assert list(cell.durations) == [(200, "upstream_error_in_stream")]
    whole, _, last = answer.body.partition(b"event: error\ndata: ")
    assert whole == b"".join(begun)
    assert json.loads(last)["error"] == {"type": kind, "message": "It broke", "code": name}


async def test_exception_in_a_stream_raises_in_the_sdk() -> None:
    with upstream() as up:
        up.script(framed(*chunks(vendor.events()[:5]), told("throttlingException", "Slow down")))
        async with served(up, [bedrock_endpoint(up)]) as running, client(running) as ai:
            with pytest.raises(anthropic.APIError, match="Slow down"):
                async with ai.messages.stream(model="claude", max_tokens=5, messages=HELLO) as stream:
                    async for _ in stream.text_stream:
                        pass


GOOD = chunks(vendor.events())
DAMAGED = GOOD[5][:20] + bytes([GOOD[5][20] ^ 1]) + GOOD[5][21:]
BROKEN = {
    "damaged": [*GOOD[:5], DAMAGED],
    "cut": [*GOOD[:5], GOOD[5][:-7]],
    "ended": GOOD[:5],
    "no base64": [*GOOD[:5], event("chunk", {"bytes": "*"})],
    "no event": [*GOOD[:5], event("chunk", {"bytes": "e30="})],
    "odd kind": [*GOOD[:5], message({":message-type": "odd"}, b"{}")],
    "no name": [*GOOD[:5], message({":message-type": "event"}, b"{}")],
    "line ends": [*GOOD[:5], message({":message-type": "event", ":event-type": "a\n\nb"}, b"{}")],
    "gone": [*GOOD[:5], RESET],
}


@every_way
@pytest.mark.parametrize("kind", BROKEN)
async def test_broken_stream_ends_with_an_error_event(
    kind: str, way: str, expected_log: ExpectedLog
) -> None:
    with upstream() as up:
        up.script(framed(*BROKEN[kind]))
        async with served(up, [bedrock_endpoint(up)], **WAYS[way]) as running:
            answer = await ask(running, stream=True)
    whole, _, last = answer.body.partition(b"event: error\ndata: ")
    if kind != "gone":  # a reset may overtake what was sent
        assert whole == b"".join(vendor.events()[:5])
    assert json.loads(last)["error"]["type"] == "api_error"
    expected_log.take("upstream_broken")


async def test_rest_after_a_whole_stream_is_noticed(expected_log: ExpectedLog) -> None:
    with upstream() as up:
        up.script(framed(*GOOD, GOOD[0][:7]))
        async with served(up, [bedrock_endpoint(up)]) as running:
            answer = await ask(running, stream=True)
    assert answer.body.startswith(b"".join(vendor.events()) + b"event: error\n")
    assert "in the middle of a message" in "".join(expected_log.take("upstream_broken"))


async def test_error_message_of_the_stream_itself_is_told() -> None:
    headers = {
        ":message-type": "error",
        ":error-code": "internalServerException",
        ":error-message": "No more",
    }
    with upstream() as up:
        up.script(framed(*GOOD[:5], message(headers, b"")))
        async with served(up, [bedrock_endpoint(up)]) as running:
            answer = await ask(running, stream=True)
    error = json.loads(answer.body.partition(b"event: error\ndata: ")[2])["error"]
    assert error == {"type": "api_error", "message": "No more", "code": "internalServerException"}


@every_way
async def test_hangup_closes_the_connection_to_bedrock(way: str) -> None:
    with upstream() as up:
        up.script(framed(*GOOD[:4], STALL))
        async with served(up, [bedrock_endpoint(up)], **WAYS[way]) as running:
            asking = asyncio.ensure_future(ask(running, stream=True))
            request = await up.taken()
            asking.cancel()
            await happened(request.closed)


async def test_count_that_is_none_is_a_broken_answer(expected_log: ExpectedLog) -> None:
    with upstream() as up:
        up.script(Reply.json({"inputTokens": "many"}))
        async with served(up, [bedrock_endpoint(up)]) as running:
            answer = await running.ask(
                "POST", "v1/messages/count_tokens", {"model": "claude", "messages": HELLO}
            )
    assert answer.status == 502
    expected_log.take("upstream_broken")


async def test_missing_credentials_are_the_operator_s_to_see(
    monkeypatch: pytest.MonkeyPatch, expected_log: ExpectedLog, tmp_path: Any
) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with upstream() as up:
        async with served(up, [bedrock_endpoint(up, aws_config={"aws_region": REGION})]) as running:
            answer = await ask(running)
            assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_auth_error")
        assert not up.requests
    assert "AWS's own chain has none" in "".join(expected_log.take("upstream_auth_error"))


# Every other model, by Converse

NOVA = "us.amazon.nova-pro-v1:0"


def nova(up: FakeUpstream, kind: str = "chat", **more: Any) -> dict[str, Any]:
    return {**bedrock_endpoint(up, NOVA, **more), "name": "nova", "endpoint_type": f"llm/v1/{kind}"}


@every_way
@pytest.mark.parametrize("cuts", CUTS)
async def test_chat_completions_of_a_model_that_speaks_converse(way: str, cuts: str) -> None:
    with upstream(cuts=CUTS[cuts]) as up:
        async with served(up, [nova(up)], **WAYS[way]) as running:
            whole = await running.chat(model="nova", seed=5)
            assert whole.json["choices"][0]["message"]["content"] == "".join(BEDROCK_TEXT)
            assert whole.json["usage"]["prompt_tokens"] == 20
            assert whole.json["model"] == NOVA
            assert whole.headers["x-ai-gateway-dropped-params"] == "seed"
            streamed = await running.chat(model="nova", stream=True)
            told = [json.loads(line[6:]) for line in streamed.body.decode().split("\n\n")[:-2]]
            words = [choice["delta"].get("content") or "" for each in told for choice in each["choices"]]
            assert "".join(words) == "".join(BEDROCK_TEXT)
            assert streamed.body.endswith(b"data: [DONE]\n\n")
            cell = running.service.gateway.catalogue._endpoints["nova"].cells[CHAT]
            assert (cell.input_tokens.total, cell.output_tokens.total) == (40, 18)
    assert [request.target.rpartition("/")[2] for request in up.requests] == ["converse", "converse-stream"]
    assert {request.complaint for request in up.requests} == {None}


async def test_completions_of_a_model_that_speaks_converse_and_of_claude() -> None:
    with upstream() as up:
        claude = {**bedrock_endpoint(up), "endpoint_type": "llm/v1/completions"}
        async with served(up, [nova(up, "completions"), claude]) as running:
            for model, text in (("nova", BEDROCK_TEXT), ("claude", vendor.TEXT)):
                answer = await running.ask("POST", "v1/completions", {"model": model, "prompt": "Hi"})
                assert answer.json["choices"][0]["text"] == "".join(text)


@every_way
@pytest.mark.parametrize("name", ["throttlingException", "newException"])
async def test_exception_in_a_translated_stream_is_told_in_the_caller_s_format(
    way: str, name: str, expected_log: ExpectedLog
) -> None:
    with upstream() as up:
        up.script(framed(*converse_events([{"text": "Good morning"}])[:3], told(name, "It broke")))
        async with served(up, [nova(up)], **WAYS[way]) as running:
            answer = await running.chat(model="nova", stream=True)
            assert b"Good" in answer.body
            last = json.loads(answer.body.split(b"data: ")[-1])
            assert (last["error"]["message"], last["error"]["code"]) == ("It broke", name)
    if name == "newException":  # whose fault it is nobody knows
        expected_log.take("provider bedrock")


@every_way
@pytest.mark.parametrize("kind", ["damaged", "ended"])
async def test_broken_translated_stream_ends_with_an_error(
    kind: str, way: str, expected_log: ExpectedLog
) -> None:
    good = converse_events([{"text": "Good morning"}])
    last = good[3][:-1] + bytes([good[3][-1] ^ 1])
    with upstream() as up:
        up.script(framed(*good[:3], *([last] if kind == "damaged" else [])))
        async with served(up, [nova(up)], **WAYS[way]) as running:
            answer = await running.chat(model="nova", stream=True)
            assert b"Good" in answer.body
            assert b"error" in answer.body.split(b"data: ")[-1]
    expected_log.take("upstream_broken")


async def test_failed_deployment_at_bedrock_is_stood_in_for(expected_log: ExpectedLog) -> None:
    """Another model answers, in its own format, when the first one says in its stream that it cannot."""
    with upstream() as up:
        up.script(framed(*converse_events([{"text": "a"}])[:1], told("serviceUnavailableException", "No")))
        first, second = nova(up)["model"], bedrock_endpoint(up)["model"]
        both = {"name": "any", "endpoint_type": "llm/v1/chat"}
        both["deployments"] = [{"model": first}, {"model": second, "priority": 2}]
        async with served(up, [both]) as running:
            answer = await running.chat(model="any", stream=True)
            assert answer.headers["x-ai-gateway-deployment"] == "2"
            assert b"Claude" in answer.body
            assert b"No" not in answer.body


async def test_guardrail_looks_at_every_request() -> None:
    bedrock = Bedrock()
    guard = {"guardrail_id": "gr1a2b", "guardrail_version": "3"}
    with upstream(bedrock) as up:
        async with served(up, [nova(up, **guard), bedrock_endpoint(up, **guard)]) as running:
            for model in ("nova", "claude"):
                for stream in (False, True):
                    assert (await running.chat(model=model, stream=stream)).status == 200
            bedrock.says.append([{"text": "Sorry."}])
            bedrock.reason = "guardrail_intervened"
            stopped = await running.chat(model="nova")
            assert stopped.json["choices"][0]["finish_reason"] == "content_filter"
    told_ = {"guardrailIdentifier": "gr1a2b", "guardrailVersion": "3"}
    assert [asked[2].get("guardrailConfig") for asked in bedrock.asked] == [told_, told_, None, None, told_]
    for request in up.requests[2:4]:
        assert request.header("x-amzn-bedrock-guardrailidentifier") == "gr1a2b"
        assert request.header("x-amzn-bedrock-guardrailversion") == "3"


@pytest.mark.parametrize(
    ("wrong", "path"), [({"guardrail_id": "My Rail"}, "id"), ({"guardrail_version": "latest"}, "version")]
)
async def test_wrong_guardrail_is_named(wrong: dict[str, str], path: str) -> None:
    with upstream() as up, pytest.raises(ConfigFault, match=rf"config\.guardrail_{path}: must be"):
        async with served(up, [nova(up, **wrong)]):
            pass


async def test_price_of_a_model_in_a_region_is_known() -> None:
    table = PriceTable.shipped()
    for model in (CLAUDE, NOVA, "anthropic.claude-3-haiku-20240307-v1:0"):
        assert table.find("bedrock", model) is not None, model


# Embeddings

TITAN, COHERE = "amazon.titan-embed-text-v2:0", "cohere.embed-v4:0"
TEXTS = ["one", "two words", "three words here"]


def embedder(up: FakeUpstream, model: str) -> dict[str, Any]:
    made = bedrock_endpoint(up, model)
    return {**made, "name": "vectors", "endpoint_type": "llm/v1/embeddings"}


@every_way
@pytest.mark.parametrize(("model", "requests"), [(TITAN, 3), (COHERE, 1)])
async def test_embeddings_in_the_sdk(way: str, model: str, requests: int) -> None:
    bedrock = Bedrock()
    with upstream(bedrock) as up:
        async with (
            served(up, [embedder(up, model)], **WAYS[way]) as running,
            AsyncOpenAI(base_url=running.base_url, api_key="t-alice", max_retries=0) as ai,
        ):
            found = await ai.embeddings.create(model="vectors", input=TEXTS, dimensions=3)
            assert [each.embedding for each in found.data] == [vector(text, 3) for text in TEXTS]
            assert [each.index for each in found.data] == [0, 1, 2]
            assert found.usage.prompt_tokens == 6
            single = await ai.embeddings.create(model="vectors", input="one", encoding_format="float")
            assert single.data[0].embedding == vector("one", 4)
            cell = running.service.gateway.catalogue._endpoints["vectors"].cells[EMBEDDINGS]
            assert cell.input_tokens.total == 7
    assert len(bedrock.asked) == requests + 1


@pytest.mark.parametrize(
    ("model", "asked", "text"),
    [
        (TITAN, {"input": ["x"] * 97}, "more than 96 texts"),
        ("amazon.titan-embed-text-v1", {"input": "x", "dimensions": 5}, "dimensions cannot be chosen"),
        ("cohere.embed-multilingual-v3", {"input": "x", "dimensions": 5}, "dimensions cannot be chosen"),
        (TITAN, {"input": ["x", ""]}, "minLength"),
        (TITAN, {"input": [[1, 2]]}, "is of tokens"),
    ],
)
async def test_embeddings_that_cannot_be_are_refused(model: str, asked: Any, text: str) -> None:
    with upstream() as up:
        async with served(up, [embedder(up, model)]) as running:
            answer = await running.ask("POST", "v1/embeddings", {"model": "vectors", **asked})
    assert answer.status == 400
    assert text in answer.error["message"]


async def test_one_of_many_that_is_refused_is_the_answer() -> None:
    with upstream() as up:
        up.script(refused(429, "ThrottlingException", "Slow down", ("Retry-After", "2")))
        async with served(up, [embedder(up, TITAN)]) as running:
            many = {"model": "vectors", "input": ["x"] * 40}
            answer = await running.ask("POST", "v1/embeddings", many)
            assert (answer.status, answer.error["code"]) == (429, "ThrottlingException")
            assert answer.headers["retry-after"] == "2"
            assert len(up.requests) < 40


@pytest.mark.parametrize(
    "body", [{"embedding": "x"}, {}, [], {"embedding": [1], "inputTextTokenCount": -1}]
)
async def test_embedding_that_is_none_is_a_broken_answer(body: Any, expected_log: ExpectedLog) -> None:
    with upstream() as up:
        up.always(Reply.json(body))
        async with served(up, [embedder(up, TITAN)]) as running:
            answer = await running.ask("POST", "v1/embeddings", {"model": "vectors", "input": ["x", "y"]})
            assert answer.status == 502
    expected_log.take("upstream_broken")


async def test_embeddings_that_are_too_few_are_a_broken_answer(expected_log: ExpectedLog) -> None:
    with upstream() as up:
        up.always(Reply.json({"embeddings": {"float": [[1.0]]}}))
        async with served(up, [embedder(up, COHERE)]) as running:
            answer = await running.ask("POST", "v1/embeddings", {"model": "vectors", "input": ["x", "y"]})
            assert answer.status == 502
    assert "not as many" in "".join(expected_log.take("upstream_broken"))


async def test_hangup_gives_up_all_requests() -> None:
    with upstream() as up:
        up.always(Reply(200, [("Content-Type", "application/json")], [b"{", STALL]))
        async with served(up, [embedder(up, TITAN)]) as running:
            many = {"model": "vectors", "input": ["x"] * 40}
            asking = asyncio.ensure_future(running.ask("POST", "v1/embeddings", many))
            requests = [await up.taken() for _ in range(AT_ONCE)]
            asking.cancel()
            for request in requests:
                await happened(request.closed)
        assert len(up.requests) == AT_ONCE


# Nothing leaves where it belongs

PROMPT, ANSWER, TOKEN = "canary-prompt-77be", "canary-answer-90ce", "canary-session-token-5d1f"


@every_way
async def test_no_canary_sings(
    way: str, caplog: pytest.LogCaptureFixture, expected_log: ExpectedLog
) -> None:
    bedrock = Bedrock(session_token=TOKEN)
    quoted = f"{SECRET} {TOKEN} {KEY_ID} {PROMPT} {ANSWER}"
    scripts: list[Any] = [
        *(
            refused(status, name, quoted)
            for status, name in (
                (400, "ValidationException"),
                (403, "InvalidSignatureException"),
                (404, "ResourceNotFoundException"),
                (429, "ThrottlingException"),
                (500, "InternalServerException"),
            )
        ),
        framed(*chunks(vendor.events()[:5]), told("internalServerException", quoted)),
        framed(*converse_events([{"text": ANSWER}])[:3], told("internalServerException", quoted)),
        framed(event("chunk", {"bytes": quoted})),
        Reply.json({"output": quoted}),
        None,
    ]
    config = {**ID_AND_KEY, "aws_session_token": TOKEN}
    bodies = b""
    with upstream(bedrock) as up, caplog.at_level("DEBUG"):
        endpoints = [nova(up, aws_config=config), bedrock_endpoint(up, aws_config=config)]
        async with served(up, endpoints, log_requests=True, **WAYS[way]) as running:
            for script in scripts:
                for model in ("nova", "claude"):
                    for stream in (False, True):
                        up.script(*([script] if script else []))
                        bodies += (await running.chat(PROMPT, model=model, stream=stream)).body
            assert (await running.chat(PROMPT, model="nova")).status == 200
            bodies += (await running.ask("GET", "metrics")).body
    expected_log.take("provider bedrock")
    log = "".join(record.getMessage() for record in caplog.records)
    assert "nova" in log
    for canary in (SECRET, TOKEN):
        assert canary not in log
        assert canary.encode() not in bodies
    for canary in (PROMPT, ANSWER):
        assert canary not in log
