"""MLflow's own deployments client against the gateway, and the paths that it and the original one know."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from fakes.hub import ACCESS
from fakes.upstream import FakeUpstream, chat_chunks, sse
from served import KEY, WAYS, Served, endpoint, served, usual

every_way = pytest.mark.parametrize("way", WAYS)
CHAT: Any = {"messages": [{"role": "user", "content": "Hi"}]}

CLIENT = """
import json, sys
from mlflow.deployments import get_deploy_client
client = get_deploy_client(sys.argv[1])
listed = client.list_endpoints()
print(json.dumps({
    "names": [each.name for each in listed],
    "types": [each.endpoint_type for each in listed],
    "limit": dict(client.get_endpoint("chat").limit),
    "model": client.get_endpoint("chat").model.name,
    "chat": client.predict(endpoint="chat", inputs={"messages": [{"role": "user", "content": "Hi"}]}),
    "text": client.predict(endpoint="text", inputs={"prompt": "Hi"}),
    "vectors": client.predict(endpoint="vectors", inputs={"input": ["a", "b"]}),
}))
"""


async def run_client(running: Served, token: str) -> Any:
    """Run MLflow's client in a process of its own, as people do."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", CLIENT, f"{running.url}/services/ai-gateway"],
        env={**kept, "MLFLOW_TRACKING_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


async def test_mlflow_s_client_works_unmodified() -> None:
    limited = endpoint("chat", None, limit={"calls": 50, "renewal_period": "minute"})
    async with served(None, [limited, *usual(None)[1:]]) as running:
        found = await run_client(running, "t-alice")
    assert found["names"] == ["chat", "text", "vectors"]
    assert found["types"] == ["llm/v1/chat", "llm/v1/completions", "llm/v1/embeddings"]
    assert found["limit"] == {"calls": 50, "key": "user", "renewal_period": "minute"}
    assert found["model"] == "gpt-4o-mini"
    assert found["chat"]["choices"][0]["message"]["content"].startswith("You said: Hi")
    assert found["text"]["choices"][0]["text"].startswith("You said: Hi")
    assert len(found["vectors"]["data"]) == 2


@every_way
@pytest.mark.parametrize("base", ["endpoints", "gateway"])
async def test_path_names_the_model(way: str, base: str) -> None:
    with FakeUpstream(key=KEY) as up:
        async with served(up, **WAYS[way]) as running:
            answer = await running.ask("POST", f"{base}/chat/invocations", CHAT)
            assert answer.json["choices"][0]["message"]["content"] == up.text
            assert up.take().document == {**CHAT, "model": "gpt-4o-mini"}
            stream = await running.ask("POST", f"{base}/chat/invocations", {**CHAT, "stream": True})
            chunks = [{**chunk, "usage": None} for chunk in chat_chunks(up.text)]
            assert stream.body == b"".join(sse(*chunks, "[DONE]"))
            vectors = await running.ask("POST", f"{base}/vectors/invocations", {"input": "a"})
            assert vectors.json["object"] == "list"


@every_way
@pytest.mark.parametrize(
    ("name", "document", "status", "part"),
    [
        ("chat", {**CHAT, "model": "other"}, 422, "'model' is not permitted"),
        ("chat", {**CHAT, "candidate_count": 2}, 400, "send n instead"),
        ("vectors", {"text": "a"}, 400, "send input instead"),
        ("chat", {}, 400, "messages is missing"),
        ("nope", CHAT, 404, "There is no model nope"),
        ("dear", CHAT, 403, "custom:ai-gateway:premium"),
    ],
)
async def test_wrong_request_is_told_what_is_wrong(
    way: str, name: str, document: Any, status: int, part: str
) -> None:
    async with served(
        None, [*usual(None), endpoint("dear", None, scope="premium")], **WAYS[way]
    ) as running:
        answer = await running.ask("POST", f"endpoints/{name}/invocations", document)
        assert (answer.status, part in answer.error["message"]) == (status, True), answer.error


async def test_nobody_learns_of_endpoints_without_a_token() -> None:
    async with served() as running:
        for name in ("chat", "nope"):
            answer = await running.ask("POST", f"endpoints/{name}/invocations", CHAT, token=None)
            assert (answer.status, answer.error["code"]) == (401, "missing_api_key")
        assert (await running.ask("GET", "api/2.0/endpoints/", token=None)).status == 401


async def test_limit_is_the_same_bucket_as_by_openai_s_path() -> None:
    chat = endpoint("chat", None, limit={"calls": 2, "renewal_period": "day"})
    async with served(None, [chat]) as running:
        assert (await running.chat()).status == 200
        assert (await running.ask("POST", "gateway/chat/invocations", CHAT)).status == 200
        assert (await running.ask("POST", "endpoints/chat/invocations", CHAT)).status == 429


@pytest.mark.parametrize(
    ("path", "key", "noun"),
    [("api/2.0/endpoints", "endpoints", "endpoint"), ("api/2.0/gateway/routes", "routes", "route")],
)
async def test_lists_have_what_clients_of_every_age_read(path: str, key: str, noun: str) -> None:
    endpoints = [endpoint("chat", None), endpoint("dear", None, scope="premium")]
    async with served(None, endpoints) as running:
        for slash in ("", "/"):
            listed = (await running.ask("GET", f"{path}{slash}")).json
            assert listed["next_page_token"] is None
            assert [each["name"] for each in listed[key]] == ["chat"]
        one = (await running.ask("GET", f"{path}/chat")).json
        assert one == listed[key][0]
        assert one["endpoint_url"] == one["route_url"] == "/gateway/chat/invocations"
        assert one["endpoint_type"] == one["route_type"] == "llm/v1/chat"
        assert (one["limit"], one["model"]["provider"]) == (None, "echo")
        missing = await running.ask("GET", f"{path}/nope")
        assert missing.status == 404
        assert missing.json["detail"].startswith(f"The {noun} 'nope' is not present or active")
        lister = running.knows("t-chat", ACCESS, "custom:ai-gateway:chat:create")
        assert (await running.ask("GET", path, token=lister)).status == 403
