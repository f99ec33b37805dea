"""What staff see and do: requests in flight, who is near a limit, the configuration; and who may not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.hub import ACCESS
from fakes.upstream import FakeUpstream, Gate, Reply, chat_chunk, chat_completion
from served import FULL, KEY, WAYS, Served, endpoint, served

from jupyterhub_ai_gateway.errors import UpstreamFault

ADMIN = "custom:ai-gateway:admin"
WATCH = "custom:ai-gateway:group-usage!group=physics"
USAGE = {"prompt_tokens": 100, "completion_tokens": 50}
POLICIES = [
    {"name": "daily", "resource": "requests", "limit": 2, "window": "day"},
    {
        "name": "course",
        "resource": "cost_usd",
        "limit": 0.001,
        "window": "month",
        "count": "group",
        "scope": {"group": "phys*"},
    },
]


@asynccontextmanager
async def running(folder: Path, up: FakeUpstream, **more: Any) -> AsyncIterator[Served]:
    """Run a gateway with alice, bob (of physics), root who looks after it, and ira who teaches physics."""
    config = {
        "policies": more.pop("policies", POLICIES),
        "ledger": {"url": f"sqlite:///{folder}/ledger.sqlite", "flush_s": 0.01},
    }
    price = {"input_per_mtok": 2, "output_per_mtok": 10}
    endpoints = [
        endpoint("chat", up, price=price, description="<b>The usual one</b>"),
        endpoint("other", up),
    ]
    async with served(up, endpoints, config=config, **more) as gateway:
        gateway.knows("t-bob", ACCESS, FULL, name="bob", groups=("physics",))
        gateway.knows("t-root", ACCESS, ADMIN, name="root")
        gateway.knows("t-ira", ACCESS, WATCH, name="ira", groups=("chemistry",))
        yield gateway


@pytest.fixture
def up() -> Iterator[FakeUpstream]:
    with FakeUpstream(key=KEY) as upstream:
        upstream.always(Reply.json({**chat_completion("Hi"), "usage": USAGE}))
        yield upstream


async def first_of(gateway: Served, path: str, key: str) -> dict[str, Any]:
    """Ask until there is one."""
    while True:
        found = (await gateway.ask("GET", path, token="t-root")).json[key]
        if found:
            assert isinstance(found[0], dict)
            return found[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_running_request_is_seen_and_stopped(
    stream: bool, way: str, tmp_path: Path, up: FakeUpstream
) -> None:
    gate = Gate()
    slow = Reply.json(chat_completion("Hi"), before=[gate])
    up.script(Reply.stream(chat_chunk({"content": "Well"}), gate) if stream else slow)
    async with running(tmp_path, up, **WAYS[way]) as gateway:
        asking = asyncio.create_task(gateway.chat("a canary", stream=stream))
        seen = await first_of(gateway, "api/inflight", "requests")
        while seen["provider"] is None:
            seen = await first_of(gateway, "api/inflight", "requests")
        assert (seen["user"], seen["endpoint"], seen["is_stream"]) == ("user:alice", "chat", stream)
        assert "canary" not in json.dumps(seen)
        path = f"api/inflight/{seen['request_id']}"
        for token, status in (("t-ira", 403), ("t-alice", 403), (None, 401)):
            assert (await gateway.ask("DELETE", path, token=token)).status == status
        assert (await gateway.ask("DELETE", f"{path}?reason=a%0Abreak", token="t-root")).status == 400
        assert (await gateway.ask("DELETE", f"{path}?reason=too+long", token="t-root")).status == 204
        answer = await asking
        assert "stopped_by_staff" in answer.body.decode()
        if not stream:
            assert (answer.status, answer.headers["x-should-retry"]) == (403, "false")
        assert (await gateway.ask("DELETE", path, token="t-root")).status == 404
        assert (await gateway.ask("GET", "api/inflight", token="t-root")).json == {
            "requests": [],
            "count": 0,
        }
        (row,) = (await gateway.ask("GET", "api/requests")).json["requests"]
        assert (row["outcome"], row["is_estimated"]) == ("stopped_by_staff", True)
        (noted,) = (await gateway.ask("GET", "api/audit", token="t-root")).json["audit"]
        assert (noted["actor"], noted["action"], noted["object"]) == (
            "user:root",
            "request.stop",
            seen["request_id"],
        )
        assert noted["detail"] == {"caller": "user:alice", "endpoint": "chat", "reason": "too long"}
        gate.set()


async def test_who_is_near_a_limit(tmp_path: Path, up: FakeUpstream) -> None:
    async with running(tmp_path, up) as gateway:
        await gateway.chat()
        await gateway.chat()
        await gateway.chat(token="t-bob")
        found = (await gateway.ask("GET", "api/standing", token="t-root")).json
        near = [(each["who"], each["rule"], each["used"], each["limit"]) for each in found["limits"]]
        assert near == [
            ("user:alice", "daily", 2, 2),
            ("group:physics", "course", 0.0007, 0.001),
            ("user:bob", "daily", 1, 2),
        ]
        found = (await gateway.ask("GET", "api/standing?percent=70&limit=1", token="t-root")).json
        assert (found["count"], len(found["limits"])) == (2, 1)
        taught = (await gateway.ask("GET", "api/standing", token="t-ira")).json["limits"]
        assert [each["who"] for each in taught] == ["group:physics"]
        assert (await gateway.ask("GET", "api/standing")).status == 403


async def test_an_instructor_sees_the_own_groups_alone(tmp_path: Path, up: FakeUpstream) -> None:
    async with running(tmp_path, up) as gateway:
        mine = (await gateway.chat(token="t-bob")).headers["x-request-id"]
        other = (await gateway.chat()).headers["x-request-id"]

        async def ask(path: str) -> Any:
            return await gateway.ask("GET", path, token="t-ira")

        rows = (await ask("api/usage?group=physics&by=user")).json["usage"]
        assert [(row["user"], row["requests"]) for row in rows] == [("user:bob", 1)]
        listed = (await ask("api/requests?group=physics&user=bob")).json["requests"]
        assert [row["request_id"] for row in listed] == [mine]
        assert (await ask(f"api/requests/{mine}")).status == 200
        assert (await ask(f"api/requests/{other}")).status == 404
        for path in (
            "api/usage?user=*",
            "api/usage?group=*",
            "api/usage?user=bob",
            "api/usage?group=chemistry",  # is a member of it, and teaches another
            "api/requests?group=",
            "api/export?group=chemistry",
            "api/inflight",
            "api/configuration",
            "api/audit",
            "api/overrides",
            "api/deployments",
        ):
            assert (await ask(path)).status == 403, path
        assert (await ask("api/export?group=physics")).status == 200
        assert (await ask("api/usage?user=ira&group=chemistry")).status == 200


async def test_usage_is_filtered_and_the_largest_come_first(tmp_path: Path, up: FakeUpstream) -> None:
    async with running(tmp_path, up, policies=[]) as gateway:
        await gateway.chat(model="other", token="t-bob")
        await gateway.chat()
        await gateway.chat(token="t-bob")

        async def users(query: str) -> list[str]:
            answer = await gateway.ask("GET", f"api/usage?user=*&by=user&{query}", token="t-root")
            return [row["user"] for row in answer.json["usage"]]

        assert await users("order=requests") == ["user:bob", "user:alice"]
        assert await users("order=tokens&limit=1") == ["user:bob"]
        assert await users("endpoint=other&order=cost_usd") == ["user:bob"]
        assert await users("provider=nobody") == []
        answer = await gateway.ask("GET", "api/usage?user=*&order=colour", token="t-root")
        assert (answer.status, answer.error["param"]) == (400, "order")
        rows = (await gateway.ask("GET", "api/requests?user=*&endpoint=other", token="t-root")).json
        assert [row["caller"] for row in rows["requests"]] == ["user:bob"]


async def test_who_looks_at_the_use_of_others_is_written_down(tmp_path: Path, up: FakeUpstream) -> None:
    async with running(tmp_path, up, policies=[]) as gateway:
        name = (await gateway.chat(token="t-bob")).headers["x-request-id"]
        for _ in range(2):
            for path in ("usage?user=*", "requests?user=bob", f"requests/{name}", "usage", "requests"):
                await gateway.ask("GET", f"api/{path}", token="t-root")
            await gateway.ask("GET", "api/usage?group=physics&user=bob", token="t-ira")
            await gateway.ask("GET", "api/export?group=physics", token="t-ira")
            await gateway.ask("GET", "api/usage?user=bob", token="t-ira")  # is refused
            await gateway.ask("GET", "api/usage", token="t-bob")
        audit = (await gateway.ask("GET", "api/audit", token="t-root")).json["audit"]
        assert [(each["actor"], each["action"], each["object"]) for each in reversed(audit)] == [
            ("user:root", "usage.view", "*"),
            ("user:root", "usage.view", "user:bob"),
            ("user:ira", "usage.view", "user:bob group:physics"),
            ("user:ira", "usage.export", "group:physics"),
        ]


async def test_the_configuration_is_shown_without_secrets(tmp_path: Path, up: FakeUpstream) -> None:
    async with running(tmp_path, up) as gateway:
        answer = await gateway.ask("GET", "api/configuration", token="t-root")
        found = answer.json
        assert [each["name"] for each in found["endpoints"]] == ["chat", "other"]
        assert "openai_api_key" in found["endpoints"][0]["deployments"][0]["settings"]
        limits = [(each["name"], each["limit"]) for each in found["policies"]]
        assert limits == [("daily", 2), ("course", 0.001)]
        assert found["ledger"]["kind"] == "sqlite"
        assert (found["successes"], found["failures"], found["last_error"]) == (1, 0, None)
        text = answer.body.decode()
        assert KEY not in text
        assert up.url not in text
        assert str(tmp_path) not in text
        assert (await gateway.ask("GET", "api/configuration")).status == 403


async def test_a_summary_of_ones_own(tmp_path: Path, up: FakeUpstream) -> None:
    async with running(tmp_path, up) as gateway:
        await gateway.chat(token="t-bob")
        await gateway.chat()
        found = (await gateway.ask("GET", "api/summary", token="t-bob")).json
        assert found["caller"] == {"name": "bob", "kind": "user", "groups": ["physics"]}
        for name in ("today", "week", "month"):
            period = found["usage"]["periods"][name]
            assert (period["total"]["requests"], period["total"]["cost_usd"]) == (1, 0.0007)
            assert [each["group"] for each in period["by_group"]] == ["physics"]
            assert [each["endpoint"] for each in period["by_model"]] == ["chat"]
        assert {each["day"] for each in found["usage"]["days"]} == {found["usage"]["today"]}
        assert {each["rule"] for each in found["limits"]} == {"daily", "course"}


async def test_a_summary_without_a_ledger() -> None:
    async with served(None, [endpoint("chat", None)]) as gateway:
        found = (await gateway.ask("GET", "api/summary")).json
        assert (found["usage"], found["limits"]) == (None, [])


async def test_models_with_state_price_and_rules(tmp_path: Path, up: FakeUpstream) -> None:
    async with running(tmp_path, up) as gateway:
        models = (await gateway.ask("GET", "api/models", token="t-bob")).json["models"]
        chat, other = models
        assert (chat["id"], chat["state"], chat["rules"]) == ("chat", "ready", ["daily", "course"])
        assert (chat["price"]["input_per_mtok"], chat["price"]["output_per_mtok"]) == (2, 10)
        assert chat["price"]["source"] == "configuration"
        assert "/v1/chat/completions" in chat["paths"]
        assert other["price"]["source"] != "configuration"
        assert chat["operation"] == "chat:create"
        health = gateway.service.gateway.catalogue.all[0].deployments[0].health
        health.failed(UpstreamFault("no"), time.monotonic())
        (chat, _) = (await gateway.ask("GET", "api/models", token="t-bob")).json["models"]
        assert chat["state"] == "resting"
        assert (await gateway.ask("GET", "api/models", token="t-root")).json == {"models": []}
