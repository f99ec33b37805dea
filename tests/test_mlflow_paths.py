"""Every path that a version of MLflow has had, in the form that its clients read."""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from expected import ExpectedLog
from fakes import anthropic as claude
from fakes import responses
from fakes.hub import ACCESS
from fakes.upstream import BYTE_BY_BYTE, FakeUpstream, Reply
from openai import AsyncOpenAI
from served import FULL, KEY, PREFIX, WAYS, endpoint, served, usual

from jupyterhub_ai_gateway.handlers.mlflow import page

every_way = pytest.mark.parametrize("way", WAYS)
HI: Any = {"messages": [{"role": "user", "content": "Hi"}]}
OLD = [("User-Agent", "mlflow-python-client/2.8.1")]
NEW = [("User-Agent", "mlflow-python-client/3.18.0")]
OLD_METADATA = {"input_tokens", "output_tokens", "total_tokens", "model", "route_type"}


def mistral(up: FakeUpstream, **more: Any) -> dict[str, Any]:
    config = {"mistral_api_key": KEY, "api_base": f"{up.url}/v1"}
    model = {"provider": "mistral", "name": "mistral-small", "config": config}
    return {"name": "mistral", "endpoint_type": "llm/v1/chat", "model": model, **more}


# The form before 2.9


@every_way
@pytest.mark.parametrize("path", ["gateway/{}/invocations", "gateway/routes/{}", "routes/{}", "query/{}"])
async def test_old_client_gets_old_answers(way: str, path: str) -> None:
    with FakeUpstream(key=KEY) as up:
        async with served(up, **WAYS[way]) as running:
            body = {**HI, "temperature": 0.5, "candidate_count": 2}
            chat = (await running.ask("POST", path.format("chat"), body, headers=OLD)).json
            assert up.take().document == {**HI, "model": "gpt-4o-mini", "temperature": 1.0, "n": 2}
            assert [each["message"]["content"] for each in chat["candidates"]] == [up.text, up.text]
            assert chat["candidates"][0]["metadata"] == {"finish_reason": "stop"}
            assert set(chat["metadata"]) == OLD_METADATA
            assert chat["metadata"]["route_type"] == "llm/v1/chat"
            text = (await running.ask("POST", path.format("text"), {"prompt": "Hi"}, headers=OLD)).json
            assert text["candidates"][0]["text"] == up.text
            body = {"text": ["a", "b"]}
            vectors = (await running.ask("POST", path.format("vectors"), body, headers=OLD)).json
            assert len(vectors["embeddings"]) == 2
            assert vectors["metadata"]["output_tokens"] == 0


async def test_form_is_chosen_by_setting_then_client_then_fields() -> None:
    endpoints = [
        endpoint("auto", None),
        endpoint("old", None, mlflow={"answers": "legacy"}),
        endpoint("new", None, mlflow={"answers": "openai"}),
    ]

    async with served(None, endpoints) as running:

        async def form(path: str, body: Any = HI, headers: Any = ()) -> str:
            answer = await running.ask("POST", path, body, headers=headers)
            return "old" if "candidates" in answer.json else "new" if "choices" in answer.json else "none"

        assert await form("gateway/auto/invocations") == "new"
        assert await form("gateway/auto/invocations", headers=NEW) == "new"
        assert await form("gateway/auto/invocations", headers=OLD) == "old"
        assert await form("gateway/auto/invocations", {**HI, "candidate_count": 1}) == "old"
        assert await form("gateway/old/invocations", headers=NEW) == "old"
        assert await form("gateway/new/invocations", headers=OLD) == "new"
        assert await form("query/auto") == "old"
        assert await form("query/new") == "new"
        for name in ("auto", "old"):
            assert await form(f"endpoints/{name}/invocations", headers=OLD) == "new"


async def test_old_client_s_mistakes_are_told_after_it_is_known_who_asks() -> None:
    async with served() as running:
        path = "gateway/chat/invocations"
        assert (await running.ask("POST", path, {**HI, "n": 2}, headers=OLD, token=None)).status == 401
        answer = await running.ask("POST", path, {**HI, "n": 2}, headers=OLD)
        assert (answer.status, answer.json["detail"]) == (
            400,
            "Invalid parameter `n`. Use `candidate_count` instead.",
        )
        assert (await running.ask("POST", path, {**HI, "stream": True}, headers=OLD)).status == 400
        assert (await running.ask("POST", path, {**HI, "model": "x"}, headers=OLD)).status == 422
        assert (await running.ask("POST", path, body=b"{", headers=OLD)).status == 400
        assert (await running.ask("POST", "gateway/nope/invocations", HI, headers=OLD)).status == 404


async def test_answer_that_has_no_old_form_is_a_502() -> None:
    with FakeUpstream(key=KEY) as up:
        up.script(Reply.json({"choices": 7}))
        async with served(up) as running:
            answer = await running.ask("POST", "gateway/chat/invocations", HI, headers=OLD)
            assert (answer.status, answer.error["code"]) == (502, "upstream_broken")


@every_way
async def test_provider_s_failure_is_told_to_old_clients(way: str, expected_log: ExpectedLog) -> None:
    with FakeUpstream(key=KEY) as up:
        up.script(Reply.error(500, "oops"))
        async with served(up, **WAYS[way]) as running:
            answer = await running.ask("POST", "gateway/chat/invocations", HI, headers=OLD)
            assert answer.status >= 500
            assert "detail" in answer.json
    expected_log.take("provider openai")


# What only MLflow's paths do


@every_way
async def test_temperature_is_mlflow_s_on_mlflow_s_paths_alone(way: str) -> None:
    with FakeUpstream(key=KEY) as up:
        ends = [mistral(up), mistral(up, mlflow={"scale_temperature": False}) | {"name": "plain"}]
        async with served(up, ends, **WAYS[way]) as running:

            async def sent(path: str, headers: Any = (), **more: Any) -> Any:
                answer = await running.ask("POST", path, {**HI, "temperature": 1, **more}, headers=headers)
                assert answer.status == 200
                return up.take().document["temperature"]

            assert await sent("endpoints/mistral/invocations") == 0.5
            assert await sent("gateway/mistral/invocations", OLD) == 1.0
            assert await sent("gateway/mistral/mlflow/invocations") == 0.5
            assert await sent("gateway/mlflow/v1/chat/completions", model="mistral") == 0.5
            assert await sent("v1/chat/completions", model="mistral") == 1
            assert await sent("gateway/openai/v1/chat/completions", model="mistral") == 1
            assert await sent("gateway/proxy/mistral/v1/chat/completions") == 1
            assert await sent("endpoints/plain/invocations") == 1


@every_way
async def test_temperature_is_scaled_before_it_is_translated(way: str) -> None:
    with FakeUpstream(is_strict=False) as up:
        up.always(claude.Claude(KEY))
        config = {"anthropic_api_key": KEY, "anthropic_api_base": f"{up.url}/v1"}
        model = {"provider": "anthropic", "name": "claude-3-5-haiku-latest", "config": config}
        ends = [{"name": "claude", "endpoint_type": "llm/v1/chat", "model": model}]
        async with served(None, ends, **WAYS[way]) as running:
            for path, more, expected in (
                ("endpoints/claude/invocations", {"temperature": 1.5}, 0.75),
                ("v1/chat/completions", {"temperature": 1.5, "model": "claude"}, 1),
                ("gateway/anthropic/v1/messages", {"temperature": 0.5, "model": "claude"}, 0.5),
            ):
                answer = await running.ask("POST", path, {**HI, "max_tokens": 9, **more})
                assert answer.status == 200
                assert up.take().document["temperature"] == expected


async def test_token_may_be_the_password_as_mlflow_s_judges_send_it() -> None:
    async with served() as running:
        basic = base64.b64encode(b"alice:t-alice").decode()
        answer = await running.ask(
            "POST",
            "gateway/mlflow/v1/chat/completions",
            {**HI, "model": "chat"},
            token=None,
            headers=[("Authorization", f"Basic {basic}")],
        )
        assert answer.status == 200


async def test_settings_of_mlflow_s_paths() -> None:
    ends = [endpoint("chat", None, mlflow={"model_in_body": "ignore", "default_temperature": 0})]
    async with served(None, ends) as running:
        path = "endpoints/chat/invocations"
        assert (await running.ask("POST", path, {**HI, "model": "chat"})).status == 200
        assert (await running.ask("POST", path, {**HI, "model": "other"})).status == 422
    with FakeUpstream(key=KEY) as up:
        async with served(up, [endpoint("chat", up, mlflow={"default_temperature": 0})]) as running:
            await running.ask("POST", path, HI)
            assert up.take().document["temperature"] == 0.0
            await running.chat()
            assert "temperature" not in up.take().document


@every_way
@pytest.mark.parametrize("base", ["endpoints", "gateway"])
async def test_streamed_completions_are_read_by_every_mlflow(way: str, base: str) -> None:
    with FakeUpstream(key=KEY, cuts=BYTE_BY_BYTE) as up:
        async with served(up, **WAYS[way]) as running:
            body = {"prompt": "Hi", "stream": True}
            answer = await running.ask("POST", f"{base}/text/invocations", body)
            events = answer.body.decode().split("\n\n")
            assert events[-2:] == ["data: [DONE]", ""]
            chunks = [json.loads(event[6:]) for event in events[:-2]]
            assert {chunk["object"] for chunk in chunks} == {"text_completion_chunk"}
            choices = [choice for chunk in chunks for choice in chunk["choices"]]
            assert "".join(choice["text"] for choice in choices) == up.text
            assert all(choice["delta"]["content"] == choice["text"] for choice in choices)
            plain = await running.ask("POST", "v1/completions", {**body, "model": "text"})
            assert b"text_completion_chunk" not in plain.body


# Lists


@pytest.mark.parametrize("path", ["gateway/routes", "gateway/routes/", "routes", "routes/"])
async def test_first_paths_list_and_describe_routes(path: str) -> None:
    async with served() as running:
        listed = (await running.ask("GET", path)).json
        assert [each["name"] for each in listed["routes"]] == ["chat", "text", "vectors"]
        one = await running.ask("GET", f"{path.rstrip('/')}/chat")
        assert one.json["type"] == one.json["route_type"] == "llm/v1/chat"
        assert (await running.ask("GET", f"{path.rstrip('/')}/nope")).status == 404
        assert (await running.ask("DELETE", f"{path.rstrip('/')}/chat")).headers[
            "allow"
        ] == "GET, HEAD, POST"


async def test_oldest_client_is_told_a_provider_that_it_knows() -> None:
    async with served() as running:
        for version, expected in (("2.5.0", "openai"), ("2.8.1", "echo"), ("3.18.0", "echo")):
            agent = [("User-Agent", f"mlflow-python-client/{version}")]
            one = await running.ask("GET", "api/2.0/gateway/routes/chat", headers=agent)
            assert one.json["model"]["provider"] == expected
            listed = await running.ask("GET", "api/2.0/gateway/routes/", headers=agent)
            assert {each["model"]["provider"] for each in listed.json["routes"]} == {expected}


def test_pages_follow_each_other() -> None:
    items = list(range(7))
    found: list[int] = []
    token: str | None = None
    sizes = []
    while True:
        part, token = page(items, token, 3)
        found += part
        sizes.append(len(part))
        if token is None:
            break
        assert json.loads(base64.b64decode(token)) == {"index": len(found)}
    assert (found, sizes) == (items, [3, 3, 1])
    assert page(items, "eyJpbmRleCI6IDExfQ==", 3) == ([], None)
    assert page([], None) == ([], None)


@pytest.mark.parametrize("path", ["api/2.0/endpoints", "api/2.0/gateway/routes"])
async def test_pages_by_token(path: str) -> None:
    async with served() as running:
        token = base64.b64encode(b'{"index": 1}').decode().replace("=", "%3D")
        for slash in ("", "/"):
            listed = (await running.ask("GET", f"{path}{slash}?page_token={token}")).json
            assert [each["name"] for each in listed[path.rpartition("/")[2]]] == ["text", "vectors"]
            assert listed["next_page_token"] is None
        for wrong in ("x", base64.b64encode(b'{"index": -1}').decode(), base64.b64encode(b"[]").decode()):
            answer = await running.ask("GET", f"{path}/?page_token={wrong}")
            assert (answer.status, answer.error["param"]) == (400, "page_token")


async def test_newest_paths_describe_an_endpoint() -> None:
    async with served() as running:
        one = (await running.ask("GET", "api/3.0/gateway/endpoint/chat")).json
        assert one == (await running.ask("GET", "api/2.0/endpoints/chat")).json
        missing = await running.ask("GET", "api/3.0/gateway/endpoint/nope")
        assert missing.json["detail"].startswith("The endpoint 'nope' is not present or active")


# Traffic splits


def split(*shares: tuple[str, int]) -> dict[str, Any]:
    destinations = [{"name": name, "traffic_percentage": share} for name, share in shares]
    return {
        "name": "split",
        "task_type": "llm/v1/chat",
        "destinations": destinations,
        "routing_strategy": "TRAFFIC_SPLIT",
    }


async def test_split_is_called_like_an_endpoint_and_shares_the_traffic() -> None:
    with FakeUpstream(key=KEY, text="A") as a, FakeUpstream(key=KEY, text="B") as b:
        ends = [endpoint("a", a), endpoint("b", b), endpoint("c", None)]
        config = {"routes": [split(("a", 75), ("b", 25), ("c", 0))]}
        async with served(None, ends, config=config) as running:
            counts: Counter[str] = Counter()
            for index in range(200):
                base = ("endpoints", "gateway")[index % 2]
                answer = await running.ask("POST", f"{base}/split/invocations", HI)
                counts[answer.json["choices"][0]["message"]["content"]] += 1
            assert set(counts) == {"A", "B"}
            assert 115 <= counts["A"] <= 185  # six standard deviations
            assert (await running.chat(model="split")).status == 200
            shown = (await running.ask("GET", "api/3.0/gateway/route/split")).json
            assert shown == split(("a", 75), ("b", 25))
            listed = (await running.ask("GET", "api/2.0/endpoints/")).json["endpoints"]
            assert [each["name"] for each in listed] == ["a", "b", "c"]
            models = (await running.ask("GET", "v1/models")).json["data"]
            assert models[-1]["id"] == "split"
            assert (await running.ask("GET", "v1/models/split")).json == models[-1]
            old = await running.ask("POST", "gateway/split/invocations", HI, headers=OLD)
            assert old.json["candidates"][0]["message"]["content"] in ("A", "B")


async def test_split_goes_on_when_a_destination_fails(expected_log: ExpectedLog) -> None:
    with FakeUpstream(key=KEY, text="B") as b, FakeUpstream(key=KEY) as a:
        a.always(lambda request: Reply.error(500, "oops"))
        config = {"routes": [split(("a", 99), ("b", 1))]}
        async with served(None, [endpoint("a", a), endpoint("b", b)], config=config) as running:
            for _ in range(5):
                assert (await running.chat(model="split")).json["choices"][0]["message"]["content"] == "B"


async def test_split_opens_no_other_door() -> None:
    limited = endpoint("a", None, limit={"calls": 1, "renewal_period": "day"})
    dear = endpoint("dear", None, scope="premium", hidden=True)
    config = {
        "routes": [
            split(("a", 100)),
            {**split(("a", 50), ("dear", 50)), "name": "mixed"},
        ]
    }
    async with served(None, [limited, dear], config=config) as running:
        assert (await running.chat(model="split")).status == 200
        assert (await running.chat(model="split")).status == 429
        assert (await running.chat(model="a")).status == 429
        assert (await running.chat(model="mixed")).status == 404
        assert (await running.ask("GET", "api/3.0/gateway/route/mixed")).status == 404
        assert "mixed" not in [each["id"] for each in (await running.ask("GET", "v1/models")).json["data"]]
        rich = running.knows("t-rich", ACCESS, FULL, "custom:ai-gateway:premium")
        assert (await running.ask("GET", "api/3.0/gateway/route/mixed", token=rich)).status == 200
        wrong = await running.ask("POST", "v1/embeddings", {"model": "split", "input": "a"})
        assert (wrong.status, wrong.error["code"]) == (400, "wrong_endpoint_type")


async def test_split_of_what_needs_a_scope_says_so_each_time() -> None:
    config = {"routes": [split(("chat", 99), ("dear", 1))]}
    ends = [endpoint("chat", None), endpoint("dear", None, scope="premium")]
    async with served(None, ends, config=config) as running:
        answer = await running.chat(model="split")
        assert (answer.status, "custom:ai-gateway:premium" in answer.error["message"]) == (403, True)


# The tracking server's paths (3.x)


@every_way
async def test_body_says_what_is_asked_for(way: str) -> None:
    async with served(None, usual(None), **WAYS[way]) as running:
        for name, body, key in (
            ("chat", HI, "choices"),
            ("text", {"prompt": "Hi"}, "choices"),
            ("vectors", {"input": "a"}, "data"),
        ):
            answer = await running.ask("POST", f"gateway/{name}/mlflow/invocations", body)
            assert key in answer.json
            whole, own = (
                float(answer.headers[f"x-mlflow-gateway-{kind}-ms"])
                for kind in ("duration", "overhead-duration")
            )
            assert 0.0 <= own <= whole
        neither = await running.ask("POST", "gateway/chat/mlflow/invocations", {"a": 1})
        assert (neither.status, neither.error["param"]) == (400, "messages")
        stream = await running.ask("POST", "gateway/chat/mlflow/invocations", {**HI, "stream": True})
        assert "x-mlflow-gateway-duration-ms" in stream.headers
        assert "x-mlflow-gateway-overhead-duration-ms" not in stream.headers


@every_way
async def test_openai_s_sdk_at_the_tracking_server_s_addresses(way: str) -> None:
    async with served(None, usual(None), **WAYS[way]) as running:
        for base in ("gateway/mlflow/v1", "gateway/openai/v1"):
            url = f"{running.url}{PREFIX}{base}"
            async with AsyncOpenAI(base_url=url, api_key=running.token, max_retries=0) as ai:
                chat = await ai.chat.completions.create(model="chat", messages=HI["messages"])
                assert (chat.choices[0].message.content or "").startswith("You said")
                assert len((await ai.embeddings.create(model="vectors", input=["a", "b"])).data) == 2
                stream = await ai.chat.completions.create(
                    model="chat", messages=HI["messages"], stream=True
                )
                assert [chunk async for chunk in stream]
        models = (await running.ask("GET", "gateway/mlflow/v1/models")).json["data"]
        assert [(each["id"], each["owned_by"]) for each in models] == [
            ("chat", "mlflow"),
            ("text", "mlflow"),
            ("vectors", "mlflow"),
        ]
        missing = await running.ask("POST", "gateway/mlflow/v1/chat/completions", HI)
        assert (missing.status, missing.error["param"]) == (400, "model")


async def test_responses_at_the_tracking_server_s_address() -> None:
    with FakeUpstream(is_strict=False) as up:
        up.always(responses.Responses(KEY))
        async with served(up) as running:
            url = f"{running.url}{PREFIX}gateway/openai/v1"
            async with AsyncOpenAI(base_url=url, api_key=running.token, max_retries=0) as ai:
                answer = await ai.responses.create(model="chat", input="Hi")
                assert answer.output_text == "".join(responses.TEXT)


@every_way
async def test_anthropic_s_sdk_at_the_tracking_server_s_address(way: str) -> None:
    with FakeUpstream(is_strict=False) as up:
        up.always(claude.Claude(KEY))
        raw = {**HI, "model": "claude-sonnet-4-5", "max_tokens": 9}
        config = {"anthropic_api_key": KEY, "anthropic_api_base": f"{up.url}/v1"}
        model = {"provider": "anthropic", "name": "claude-sonnet-4-5", "config": config}
        ends = [{"name": "claude", "endpoint_type": "llm/v1/chat", "model": model}]
        async with served(None, ends, **WAYS[way]) as running:
            url = f"{running.url}{PREFIX}gateway/anthropic"
            async with AsyncAnthropic(base_url=url, api_key=running.token, max_retries=0) as ai:
                message = await ai.messages.create(model="claude", max_tokens=9, messages=HI["messages"])
                assert message.usage.output_tokens == 9
                async with ai.messages.stream(
                    model="claude", max_tokens=9, messages=HI["messages"]
                ) as stream:
                    assert [text async for text in stream.text_stream] == claude.TEXT
            raw = await running.ask(
                "POST",
                "gateway/proxy/claude/v1/messages",
                {**HI, "model": "claude-sonnet-4-5", "max_tokens": 9},
            )
            assert raw.json["content"][0]["text"] == "".join(claude.TEXT)


@every_way
async def test_proxy_reaches_the_endpoint_s_model_alone(way: str) -> None:
    with FakeUpstream(key=KEY) as up:
        chat = endpoint("chat", up, limit={"calls": 4, "renewal_period": "day"})
        async with served(up, [chat], **WAYS[way]) as running:

            async def ask(path: str, **more: Any) -> Any:
                return await running.ask("POST", f"gateway/proxy/chat/{path}", {**HI, **more})

            for model in ({}, {"model": "chat"}, {"model": "gpt-4o-mini"}):
                answer = await ask("v1/chat/completions", **model)
                assert answer.json["choices"][0]["message"]["content"] == up.text
                assert up.take().document == {**HI, "model": "gpt-4o-mini"}
            assert (await ask("v1/chat/completions", model="gpt-5-pro")).status == 422
            unknown = await ask("v1/files")
            assert (unknown.status, unknown.error["code"]) == (404, "path_not_found")
            assert (await ask("chat/completions")).status == 200
            assert (await ask("v1/chat/completions")).status == 429
            assert (await running.ask("POST", "gateway/proxy/nope/v1/chat/completions", HI)).status == 404
            assert (await running.ask("GET", "gateway/proxy/chat/v1/chat/completions")).status == 405
        assert len(up.requests) == 4


async def test_paths_work_without_the_prefix_and_under_the_same_rules() -> None:
    async with served() as running:
        body = json.dumps(HI).encode()
        token = [("Authorization", f"Bearer {running.token}")]
        for path in ("/gateway/chat/invocations", "/query/chat", "/gateway/chat/mlflow/invocations"):
            assert (await running.raw("POST", path, body, token)).startswith(b"HTTP/1.1 200")
            assert (await running.raw("POST", path, body)).startswith(b"HTTP/1.1 401")
        for path in (
            "gateway/routes",
            "routes/chat",
            "gateway/mlflow/v1/models",
            "api/3.0/gateway/route/x",
        ):
            assert (await running.ask("GET", path, token=None)).status == 401


async def test_limit_is_one_bucket_whatever_the_path() -> None:
    paths = (
        "endpoints/chat/invocations",
        "gateway/chat/invocations",
        "query/chat",
        "gateway/chat/mlflow/invocations",
        "gateway/proxy/chat/v1/chat/completions",
    )
    limited = endpoint("chat", None, limit={"calls": len(paths), "renewal_period": "day"})
    async with served(None, [limited]) as running:
        for path in paths:
            assert (await running.ask("POST", path, HI)).status == 200
        for path in paths:
            answer = await running.ask("POST", path, HI)
            assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")


# Completions of models that only chat, as MLflow's own samples have them


@every_way
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("gpt-3.5-turbo", "/v1/chat/completions"),
        ("gpt-4o-mini", "/v1/chat/completions"),
        ("o3-mini", "/v1/chat/completions"),
        ("gpt-3.5-turbo-instruct", "/v1/completions"),
        ("davinci-002", "/v1/completions"),
        ("gpt-oss-20b", "/v1/completions"),
    ],
)
async def test_completions_of_chat_models_are_chats_of_one_message(way: str, name: str, path: str) -> None:
    with FakeUpstream(key=KEY) as up:
        text = endpoint("text", up, "completions")
        text["model"]["name"] = name
        async with served(up, [text], **WAYS[way]) as running:
            new = await running.ask("POST", "endpoints/text/invocations", {"prompt": "Hi", "stop": ["x"]})
            assert (new.json["object"], new.json["choices"][0]["text"]) == ("text_completion", up.text)
            request = up.take()
            assert request.path == path
            if path.startswith("/v1/chat"):
                assert request.document["messages"] == [{"role": "user", "content": "Hi"}]
            old = await running.ask("POST", "gateway/text/invocations", {"prompt": "Hi"}, headers=OLD)
            assert old.json["candidates"][0]["text"] == up.text
            stream = await running.ask(
                "POST", "endpoints/text/invocations", {"prompt": "Hi", "stream": True}
            )
            chunks = [json.loads(event[6:]) for event in stream.body.decode().split("\n\n")[:-2]]
            texts = [choice["text"] for chunk in chunks for choice in chunk["choices"]]
            assert "".join(texts) == up.text
            assert (await running.chat(model="text")).status == 400
