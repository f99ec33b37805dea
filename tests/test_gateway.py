"""The story of a request, on real sockets, in every combination of our parts and the stock ones."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from typing import Any

import pytest
from expected import ExpectedLog
from fakes.hub import ACCESS
from fakes.upstream import (
    BYTE_BY_BYTE,
    FIN,
    RESET,
    STALL,
    WHOLE,
    FakeUpstream,
    Gate,
    Raw,
    Reply,
    chat_chunk,
    chat_chunks,
    chat_completion,
    happened,
    random_cuts,
    sse,
)
from served import FULL, KEY, PREFIX, WAYS, Served, endpoint, served, usual

CUTS = {"whole": WHOLE, "bytes": BYTE_BY_BYTE, **{f"seed {seed}": random_cuts(seed) for seed in range(3)}}

every_way = pytest.mark.parametrize("way", WAYS)
POSTS = {
    "chat": ("chat/completions", {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}),
    "completions": ("completions", {"model": "text", "prompt": "Hi"}),
    "embeddings": ("embeddings", {"model": "vectors", "input": "Hi"}),
}


def upstream(**more: Any) -> FakeUpstream:
    return FakeUpstream(key=KEY, **more)


def usages(running: Served) -> list[tuple[int, str, Any]]:
    """Return what the metrics counted: status and slug of every request that is over."""
    cells = running.service.metrics._cells.values()
    assert all(cell.in_flight == 0 for cell in cells)
    return sorted(
        (status, slug, sum(histogram.counts))
        for cell in cells
        for (status, slug), histogram in cell.durations.items()
    )


async def settled(running: Served, expected: list[tuple[int, str, Any]]) -> None:
    """Wait until the requests that were cut off are counted."""
    for _ in range(200):
        if not len(running.service._tasks):
            break
        await asyncio.sleep(0.01)
    assert usages(running) == expected


@every_way
@pytest.mark.parametrize("version", ["v1/", ""])
@pytest.mark.parametrize("kind", POSTS)
async def test_each_operation_is_answered_with_and_without_version(
    way: str, version: str, kind: str
) -> None:
    path, document = POSTS[kind]
    with upstream() as up:
        async with served(up, **WAYS[way]) as running:
            answer = await running.ask("POST", f"{version}{path}", document)
            assert answer.status == 200, answer.body
            assert answer.headers["content-type"] == "application/json"
            request = up.take()
            assert request.complaint is None
            assert request.path == f"/v1/{path}"
            assert request.header("authorization") == f"Bearer {KEY}"
            await settled(running, [(200, "", 1)])


@every_way
async def test_paths_work_without_the_prefix(way: str) -> None:
    with upstream() as up:
        async with served(up, **WAYS[way]) as running:
            body = json.dumps(POSTS["chat"][1]).encode()
            answer = await running.raw("POST", "/v1/chat/completions?x=1", body, [("x-api-key", "t-alice")])
            assert answer.startswith(b"HTTP/1.1 200 OK")


@every_way
async def test_body_goes_through_but_for_the_model(way: str) -> None:
    document = {
        "model": "chat",
        "messages": [{"role": "user", "content": "Grüße 🎈", "vendor": {"nested": [1, 2.5, None]}}],
        "temperature": 0.7,
        "new_vendor_field": {"a": [True]},
    }
    with upstream() as up:
        async with served(up, **WAYS[way]) as running:
            await running.ask("POST", "v1/chat/completions", document)
            assert up.take().document == {**document, "model": "gpt-4o-mini"}


@every_way
async def test_nothing_of_the_caller_but_the_body_leaves(way: str) -> None:
    headers = [
        ("Cookie", "secret=1"),
        ("X-Custom", "mine"),
        ("OpenAI-Organization", "theirs"),
        ("User-Agent", "me"),
    ]
    with upstream() as up:
        async with served(up, **WAYS[way]) as running:
            await running.chat(headers=headers)
            request = up.take()
    names = sorted(name.lower() for name, _ in request.headers)
    assert names == [
        "accept",
        "accept-encoding",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "user-agent",
    ]
    assert "t-alice" not in str(request.headers) + str(request.body)
    assert (request.header("user-agent") or "").startswith("jupyterhub-ai-gateway/")


@every_way
async def test_nothing_of_the_provider_but_the_body_comes_back(way: str) -> None:
    with upstream() as up:
        async with served(up, **WAYS[way]) as running:
            plain, stream = await running.chat(), await running.chat(stream=True)
            for answer in (plain, stream):
                assert not {"set-cookie", "openai-organization", "openai-version"} & set(answer.headers)
                assert not answer.headers["x-request-id"].startswith("req_vendor")
                assert answer.headers.get("server") != "fake-vendor"
            assert plain.json["choices"][0]["message"]["content"] == up.text


@every_way
@pytest.mark.parametrize("cuts", CUTS)
async def test_stream_comes_as_it_was_and_usage_is_counted(way: str, cuts: str) -> None:
    with upstream(cuts=CUTS[cuts]) as up:
        async with served(up, **WAYS[way]) as running:
            answer = await running.chat(stream=True)
            assert answer.status == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-accel-buffering"] == "no"
            assert answer.headers["cache-control"] == "no-cache"
            chunks = [{**chunk, "usage": None} for chunk in chat_chunks(up.text)]
            assert answer.body == b"".join(sse(*chunks, "[DONE]"))
            assert up.take().document["stream_options"] == {"include_usage": True}
            await settled(running, [(200, "", 1)])
            cell = next(cell for cell in running.service.metrics._cells.values() if cell.durations)
            assert (cell.input_tokens.total, cell.output_tokens.total) == (4, 5)
            assert cell.unknown_usages == 0
            assert sum(cell.first_token.counts) == 1


@every_way
async def test_usage_is_shown_to_who_asked_for_it(way: str) -> None:
    with upstream() as up:
        async with served(up, **WAYS[way]) as running:
            answer = await running.chat(stream=True, stream_options={"include_usage": True})
            assert b'"prompt_tokens": 4' in answer.body


@every_way
async def test_each_piece_is_flushed_as_it_arrives(way: str) -> None:
    gate = Gate()
    chunks = sse(chat_chunk({"content": "one"}), chat_chunk({"content": "two"}, finish_reason="stop"))
    with upstream() as up:
        up.script(Reply.stream(chunks[0], gate, chunks[1], "[DONE]"))
        async with served(up, **WAYS[way]) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.service.port)
            writer.write(post({**POSTS["chat"][1], "stream": True}))
            got = await reader.readuntil(b'"one"')
            assert b'"two"' not in got
            gate.set()
            await reader.readuntil(b"0\r\n\r\n")
            writer.close()


def post(document: Any, path: str = "v1/chat/completions") -> bytes:
    body = json.dumps(document).encode()
    head = f"POST {PREFIX}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t-alice\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@every_way
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("script", [Raw.of(STALL), Reply.stream(chat_chunk({"content": "one"}), STALL)])
@pytest.mark.parametrize("kind", ["chat", "completions"])
async def test_hangup_closes_the_provider_s_connection_and_is_counted(
    way: str, is_stream: bool, script: Any, kind: str
) -> None:
    path, document = POSTS[kind]
    if not is_stream and isinstance(script, Reply):
        script = Reply(headers=[("Content-Type", "application/json")], body=[b'{"choices":', STALL])
    with upstream() as up:
        up.script(script)
        async with served(up, **WAYS[way]) as running:
            _, writer = await asyncio.open_connection("127.0.0.1", running.service.port)
            writer.write(post({**document, "stream": is_stream}, f"v1/{path}"))
            request = await up.taken()
            writer.close()
            await happened(request.closed)
            await settled(running, [(499, "caller_left", 1)])


@every_way
async def test_embeddings_are_base64_for_the_sdk_though_the_provider_sends_floats(way: str) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": [0.25, -2.0]}]
    with upstream() as up:
        up.script(Reply.json({"object": "list", "data": data, "model": "x", "usage": {"prompt_tokens": 1}}))
        async with served(up, **WAYS[way]) as running:
            document = {**POSTS["embeddings"][1], "encoding_format": "base64"}
            answer = await running.ask("POST", "v1/embeddings", document)
    packed = answer.json["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(packed)) == (0.25, -2.0)


@every_way
@pytest.mark.parametrize(
    ("document", "status", "code", "param"),
    [
        ({"model": "nope", "messages": [1]}, 404, "model_not_found", "model"),
        ({"model": "vectors", "messages": [1]}, 400, "wrong_endpoint_type", "model"),
        ({"messages": [1]}, 400, "invalid_request", "model"),
        ({"model": "chat"}, 400, "invalid_request", "messages"),
        ([], 400, "invalid_json", None),
        ({"model": "chat", "messages": [1], "store": True}, 400, "field_refused", "store"),
    ],
)
async def test_wrong_request_is_told_what_is_wrong(
    way: str, document: Any, status: int, code: str, param: str | None
) -> None:
    with upstream() as up:
        async with served(up, **WAYS[way]) as running:
            answer = await running.ask("POST", "v1/chat/completions", document)
            assert (answer.status, answer.error["code"], answer.error["param"]) == (status, code, param)
        assert not up.requests


@every_way
async def test_unknown_model_is_answered_with_the_nearest_name(way: str) -> None:
    async with served(**WAYS[way]) as running:
        answer = await running.chat(model="chta")
        assert "Did you mean chat?" in answer.error["message"]
        answer = await running.chat(model="gpt-5-turbo")
        assert "GET /v1/models" in answer.error["message"]


@every_way
async def test_body_that_is_too_long_is_413(way: str) -> None:
    async with served(max_body_bytes=2000, **WAYS[way]) as running:
        assert (await running.chat("x" * 1000)).status == 200
        whole = await running.raw(
            "POST", f"{PREFIX}v1/chat/completions", b"x" * 3000, [("Authorization", "Bearer t-alice")]
        )
        assert whole.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))
        if WAYS[way].get("http_server") != "tornado":
            assert whole.startswith(b"HTTP/1.1 413")
            assert b"request_too_large" in whole


@every_way
async def test_compressed_body_is_415(way: str) -> None:
    async with served(**WAYS[way]) as running:
        answer = await running.chat(headers=[("Content-Encoding", "gzip")])
        assert (answer.status, answer.error["code"]) == (415, "unsupported_encoding")


REFUSALS = [
    (400, "bad", {}, 400, "code_of_theirs"),
    (404, "no such model", {}, 502, "upstream_not_found"),
    (401, f"Incorrect API key provided: {KEY}", {}, 502, "upstream_auth_error"),
    (403, "no", {}, 502, "upstream_auth_error"),
    (409, "conflict", {}, 409, "code_of_theirs"),
    (422, "unprocessable", {}, 422, "code_of_theirs"),
    (429, "slow down", {"Retry-After": "7"}, 429, "code_of_theirs"),
    (500, "oops", {}, 500, "code_of_theirs"),
    (503, "loading", {"Retry-After": "3"}, 503, "code_of_theirs"),
    (307, "elsewhere", {"Location": "http://evil.invalid/"}, 502, "code_of_theirs"),
]


@every_way
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("status", "message", "headers", "seen", "code"), REFUSALS)
async def test_refusal_of_the_provider_reaches_the_caller_in_their_words(
    way: str,
    is_stream: bool,
    status: int,
    message: str,
    headers: dict[str, str],
    seen: int,
    code: str,
    expected_log: ExpectedLog,
) -> None:
    with upstream() as up:
        up.script(Reply.error(status, message, list(headers.items()), code="code_of_theirs"))
        async with served(up, **WAYS[way]) as running:
            answer = await running.chat(stream=is_stream)
            assert (answer.status, answer.error["code"]) == (seen, code)
            assert KEY not in answer.body.decode()
            assert answer.headers.get("retry-after") == headers.get("Retry-After")
            assert answer.headers["content-type"] == "application/json"
            assert "location" not in answer.headers
            assert len(up.requests) == 1
    if seen >= 500:
        assert message not in "".join(expected_log.take("provider openai"))


NONSENSE = [
    Reply(200, [("Content-Type", "application/json")], b"oops"),
    Reply(200, [("Content-Type", "application/json")], b""),
    Reply(200, [("Content-Type", "text/html")], b"<html>captive portal</html>"),
    Reply(200, [], b"{}"),
    Reply.stream("[DONE]"),
    Raw.of(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", FIN),
    Reply.json(chat_completion()).cut(-4),
    Reply.json(chat_completion()).cut(-4, RESET),
    Raw.of(FIN),
]


@every_way
@pytest.mark.parametrize("index", range(len(NONSENSE)))
async def test_nonsense_of_the_provider_is_502(way: str, index: int, expected_log: ExpectedLog) -> None:
    with upstream() as up:
        up.script(NONSENSE[index])
        async with served(up, **WAYS[way]) as running:
            answer = await running.chat()
            assert answer.status == 502, answer.body
            assert answer.error["code"] in ("upstream_broken", "upstream_unreachable")
            assert answer.error["type"] == "upstream_error"
    expected_log.take("provider openai: upstream_")


@every_way
async def test_provider_that_is_not_there_is_502_and_its_address_is_not_told(
    way: str, expected_log: ExpectedLog
) -> None:
    with upstream() as up:
        port = str(up.port)
    async with served(up, **WAYS[way]) as running:
        answer = await running.chat()
        assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable")
        assert port not in answer.body.decode()
    assert port in "".join(expected_log.take("upstream_unreachable"))


@every_way
@pytest.mark.parametrize("is_stream", [False, True])
async def test_silence_of_the_provider_is_504(way: str, is_stream: bool, expected_log: ExpectedLog) -> None:
    with upstream() as up:
        up.script(Raw.of(STALL))
        chat = endpoint("chat", up, timeouts={"first_byte_s": 0.3})
        async with served(up, [chat], **WAYS[way]) as running:
            answer = await running.chat(stream=is_stream)
            assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    expected_log.take("upstream_timeout")


@every_way
@pytest.mark.parametrize(
    "script",
    [
        Raw.of(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", FIN
        ),
        Reply.stream(FIN),
        Reply.stream(framing="close"),
        Reply.stream(b": comment", FIN),
    ],
)
async def test_provider_that_dies_before_the_first_byte_is_a_real_status(
    way: str, script: Any, expected_log: ExpectedLog
) -> None:
    with upstream() as up:
        up.script(script)
        async with served(up, **WAYS[way]) as running:
            answer = await running.chat(stream=True)
            assert (answer.status, answer.error["code"]) == (502, "upstream_broken")
            await settled(running, [(502, "upstream_broken", 1)])
    expected_log.take("upstream_broken")


@every_way
@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_provider_that_dies_after_it_ends_in_an_error_event_and_no_done(
    way: str, cuts: str, framing: str, expected_log: ExpectedLog
) -> None:
    chunks = sse(chat_chunk({"content": "one"}), chat_chunk({"content": "two"}))
    with upstream() as up:
        up.script(Reply.stream(chunks[0], chunks[1][:20], FIN, framing=framing, cuts=CUTS[cuts]))
        async with served(up, **WAYS[way]) as running:
            answer = await running.chat(stream=True)
            assert answer.status == 200
            events = answer.body.split(b"\n\n")
            assert events[0] + b"\n\n" == chunks[0]
            assert json.loads(events[1].removeprefix(b"data: "))["error"]["code"] == "upstream_broken"
            assert events[2:] == [b""]
            await settled(running, [(200, "upstream_broken", 1)])
    expected_log.take("upstream_broken")


@every_way
async def test_silence_within_a_stream_is_filled_and_ends_in_an_error_event(
    way: str, expected_log: ExpectedLog
) -> None:
    with upstream() as up:
        up.script(Reply.stream(chat_chunk({"content": "one"}), STALL))
        chat = endpoint("chat", up, timeouts={"idle_s": 1.0})
        async with served(up, [chat], keepalive_s=0.1, **WAYS[way]) as running:
            answer = await running.chat(stream=True)
            assert b": keep-alive\n\n" in answer.body
            assert b"upstream_timeout" in answer.body
            assert b"[DONE]" not in answer.body
    expected_log.take("upstream_timeout")


@every_way
async def test_keep_alive_comes_before_the_first_byte_and_only_between_events(way: str) -> None:
    gates = [Gate(), Gate()]
    chunk = sse(chat_chunk({"content": "one"}, finish_reason="stop"))[0]
    with upstream() as up:
        up.script(Reply.stream(chunk[:25], gates[1], chunk[25:], "[DONE]", before=[gates[0]]))
        async with served(up, keepalive_s=0.1, **WAYS[way]) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.service.port)
            writer.write(post({**POSTS["chat"][1], "stream": True}))
            assert b"200 OK" in await reader.readuntil(b": keep-alive\n\n")
            gates[0].set()
            for _ in range(3):  # more of them while half an event is held back
                await reader.readuntil(b": keep-alive\n\n")
            gates[1].set()
            rest = await reader.readuntil(b"0\r\n\r\n")
            writer.close()
    assert chunk in rest
    assert b"[DONE]" in rest


@every_way
async def test_no_keep_alive_when_it_is_off(way: str) -> None:
    gate = Gate()
    with upstream() as up:
        up.script(Reply.stream(chat_chunk({"content": "x"}, finish_reason="stop"), "[DONE]", before=[gate]))
        async with served(up, keepalive_s=0.0, **WAYS[way]) as running:
            asking = asyncio.ensure_future(running.chat(stream=True))
            await asyncio.to_thread(gate.reached.wait)
            gate.set()
            assert b"keep-alive" not in (await asking).body


@every_way
async def test_error_inside_a_stream_is_passed_on_and_counted_as_one(way: str) -> None:
    error = {"error": {"message": "Overloaded", "type": "server_error"}}
    with upstream() as up:
        up.script(Reply.stream(chat_chunk({"content": "one"}), error, "[DONE]"))
        async with served(up, **WAYS[way]) as running:
            answer = await running.chat(stream=True)
            assert b"Overloaded" in answer.body
            await settled(running, [(200, "upstream_error_in_stream", 1)])


@every_way
@pytest.mark.parametrize("kind", POSTS)
async def test_scope_of_the_operation_is_needed(way: str, kind: str) -> None:
    path, document = POSTS[kind]
    scope = {"chat": "chat:create", "completions": "completions:create", "embeddings": "embeddings:create"}[
        kind
    ]
    async with served(**WAYS[way]) as running:
        running.knows("t-one", ACCESS, f"custom:ai-gateway:{scope}")
        running.knows("t-other", ACCESS, "custom:ai-gateway:models:list")
        running.knows("t-no-access", FULL)
        assert (await running.ask("POST", f"v1/{path}", document, token="t-one")).status == 200
        refused = await running.ask("POST", f"v1/{path}", document, token="t-other")
        assert (refused.status, refused.error["code"]) == (403, "insufficient_scope")
        assert f"custom:ai-gateway:{scope}" in refused.error["message"]
        refused = await running.ask("POST", f"v1/{path}", document, token="t-no-access")
        assert refused.status == 403
        assert "access:services!service=ai-gateway" in refused.error["message"]


@every_way
async def test_scope_of_the_endpoint_is_needed_besides(way: str) -> None:
    endpoints = [
        *usual(None),
        endpoint("dear", None, scope="premium"),
        endpoint("secret", None, scope="vip", hidden=True),
    ]
    async with served(None, endpoints, **WAYS[way]) as running:
        premium = running.knows("t-premium", ACCESS, FULL, "custom:ai-gateway:premium")
        for name, token, status in [
            ("dear", "t-alice", 403),
            ("dear", premium, 200),
            ("secret", "t-alice", 404),
            ("secret", premium, 404),
            ("chat", "t-alice", 200),
        ]:
            answer = await running.chat(model=name, token=token)
            assert answer.status == status, (name, token)
            if status == 403:
                assert "custom:ai-gateway:premium" in answer.error["message"]
            if status == 404:
                assert answer.error["code"] == "model_not_found"
        for token, names in [
            ("t-alice", ["chat", "text", "vectors"]),
            (premium, ["chat", "text", "vectors", "dear"]),
        ]:
            models = await running.ask("GET", "v1/models", token=token)
            assert [model["id"] for model in models.json["data"]] == names


@every_way
async def test_who_nobody_knows_is_401(way: str) -> None:
    async with served(**WAYS[way]) as running:
        for token, code in [(None, "missing_api_key"), ("t-unknown", "invalid_api_key")]:
            answer = await running.chat(token=token)
            assert (answer.status, answer.error["code"]) == (401, code)
            assert answer.headers["www-authenticate"].startswith("Bearer")


@every_way
async def test_revoked_token_stops_working_within_its_time(way: str) -> None:
    async with served(auth_ttl_s=0.0, **WAYS[way]) as running:
        assert (await running.chat()).status == 200
        del running.hub.models["t-alice"]
        assert (await running.chat()).status == 401


@every_way
async def test_hub_that_is_away_is_503_with_retry_after(way: str, expected_log: ExpectedLog) -> None:
    async with served(**WAYS[way]) as running:
        await running.hub.stop()
        answer = await running.chat(token="t-new")
        assert (answer.status, answer.error["code"]) == (503, "hub_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    expected_log.take("Hub")


@every_way
async def test_models_are_what_the_caller_may_use(way: str) -> None:
    endpoints = [
        endpoint("chat", None, description="For everyone", limit={"calls": 5, "renewal_period": "minute"}),
        endpoint("vectors", None, "embeddings"),
    ]
    async with served(None, endpoints, **WAYS[way]) as running:
        answer = await running.ask("GET", "v1/models")
        assert answer.json["object"] == "list"
        chat, vectors = answer.json["data"]
        assert (chat["id"], chat["object"], chat["owned_by"]) == ("chat", "model", "echo")
        assert chat["endpoint_type"] == "llm/v1/chat"
        assert chat["description"] == "For everyone"
        assert chat["limit"] == {"calls": 5, "renewal_period": "minute", "key": "user"}
        assert vectors["endpoint_type"] == "llm/v1/embeddings"
        assert (await running.ask("GET", "models/chat")).json == chat
        assert (await running.ask("GET", "v1/models/nope")).error["code"] == "model_not_found"
        lister = running.knows("t-list", ACCESS, "custom:ai-gateway:models:list")
        assert (await running.ask("GET", "v1/models", token=lister)).json["data"] == []
        assert (await running.ask("GET", "v1/models/chat", token=lister)).status == 403
        nobody = running.knows("t-chat", ACCESS, "custom:ai-gateway:chat:create")
        assert (await running.ask("GET", "v1/models", token=nobody)).status == 403


@every_way
async def test_limit_is_one_whatever_path_is_used(way: str) -> None:
    chat = endpoint("chat", None, limit={"calls": 3, "renewal_period": "day"})
    async with served(None, [chat], **WAYS[way]) as running:
        body = POSTS["chat"][1]
        for path, left in [("v1/chat/completions", 2), ("chat/completions", 1), ("v1/chat/completions", 0)]:
            answer = await running.ask("POST", path, body)
            assert answer.status == 200
            assert answer.headers["x-ratelimit-limit-requests"] == "3"
            assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
            assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
        refused = await running.ask("POST", "chat/completions", body)
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        assert 28_700 <= int(refused.headers["retry-after"]) <= 28_800
        assert 28_700_000 <= int(refused.headers["retry-after-ms"]) <= 28_800_000
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        stream = await running.chat(stream=True)
        assert stream.status == 429
        other = running.knows("t-bob", ACCESS, FULL)
        assert (await running.chat(token=other)).status == 200


@every_way
async def test_limit_headers_are_on_failures_and_streams(way: str, expected_log: ExpectedLog) -> None:
    with upstream() as up:
        up.script(Reply.error(500, "oops"))
        chat = endpoint("chat", up, limit={"calls": 3, "renewal_period": "day"})
        async with served(up, [chat], **WAYS[way]) as running:
            failed = await running.chat()
            streamed = await running.chat(stream=True)
    assert (failed.status, failed.headers["x-ratelimit-remaining-requests"]) == (500, "2")
    assert streamed.headers["x-ratelimit-remaining-requests"] == "1"
    expected_log.take("provider openai")


@every_way
async def test_unknown_path_and_wrong_method_are_in_the_one_error_object(way: str) -> None:
    async with served(**WAYS[way]) as running:
        answer = await running.ask("GET", "v1/nothing")
        assert (answer.status, answer.error["code"]) == (404, "path_not_found")
        answer = await running.ask("GET", "v1/chat/completions")
        assert (answer.status, answer.error["code"], answer.headers["allow"]) == (
            405,
            "method_not_allowed",
            "POST",
        )
        answer = await running.ask("DELETE", "v1/models")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@every_way
@pytest.mark.parametrize("cuts", ["whole", "bytes"])
async def test_long_conversation_passes(way: str, cuts: str) -> None:
    text = "x" * 300_000
    with upstream() as up:
        up.script(Reply.json(chat_completion(text), cuts=CUTS["seed 0"] if cuts == "bytes" else None))
        async with served(up, **WAYS[way]) as running:
            answer = await running.chat(text)
            assert up.take().document["messages"][0]["content"] == text
            assert answer.json["choices"][0]["message"]["content"] == text


@every_way
async def test_caller_that_reads_slowly_slows_the_provider(way: str) -> None:
    chunk = chat_chunk({"content": "x" * 20_000})
    with upstream() as up:
        up.script(Reply.stream(*[chunk] * 1000, chat_chunk({}, finish_reason="stop"), "[DONE]"))
        async with served(up, **WAYS[way]) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.service.port, limit=1024)
            writer.write(post({**POSTS["chat"][1], "stream": True}))
            request = await up.taken()
            for _ in range(10):
                await asyncio.to_thread(request.answered.wait, 0.05)
            assert not request.answered.is_set()
            while piece := await reader.read(1 << 20):
                if piece.endswith(b"0\r\n\r\n"):
                    break
            await happened(request.answered)
            writer.close()


@every_way
async def test_event_that_is_too_long_to_hold_is_never_broken_into(
    way: str, expected_log: ExpectedLog
) -> None:
    """No comment within it while the provider is silent, and an error event of its own after its cut."""
    begun = b'data: {"choices":[{"delta":{"content":"' + b"x" * 200_000
    with upstream() as up:
        up.script(Reply.stream(begun, STALL))
        chat = endpoint("chat", up, timeouts={"idle_s": 1.0})
        async with served(up, [chat], keepalive_s=0.05, **WAYS[way]) as running:
            answer = await running.chat(stream=True)
    sent, _, last = answer.body.rpartition(b"data: ")
    assert sent.removeprefix(b": keep-alive\n\n").rstrip(b"\n") == begun[: len(sent.rstrip(b"\n"))]
    assert b"keep-alive" not in sent[20:]
    assert sent.endswith(b"\n\n")
    assert json.loads(last)["error"]["code"] == "upstream_timeout"
    expected_log.take("upstream_timeout")


@every_way
async def test_upload_that_is_broken_off_leaves_nothing_behind(way: str) -> None:
    async with served(**WAYS[way]) as running:
        before = asyncio.all_tasks()
        _, writer = await asyncio.open_connection("127.0.0.1", running.service.port)
        head = f"POST {PREFIX}v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t-alice\r\n"
        writer.write(f"{head}Content-Length: 1000\r\n\r\nhalf".encode())
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        for _ in range(200):
            if asyncio.all_tasks() <= before:
                break
            await asyncio.sleep(0.01)
        assert asyncio.all_tasks() <= before
        assert len(running.service._tasks) == 0
