"""Where a budget is used up and another endpoint answers: who may, what is told, what is written down."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import openai
import pytest
from databases import Redis
from expected import ExpectedLog
from fakes.hub import ACCESS
from fakes.upstream import STALL, FakeUpstream, Raw, Reply, Request, chat_chunk, chat_completion
from served import FULL, KEY, WAYS, Answer, Served, endpoint, served

from jupyterhub_ai_gateway.config import parse
from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.providers.registry import Providers

USAGE = {"prompt_tokens": 100, "completion_tokens": 50}
CALL_USD = 0.25
BUDGET = {"name": "budget", "resource": "cost_usd", "limit": 0.5, "window": "month", "endpoints": "chat"}
PREMIUM = "custom:ai-gateway:premium"
SUBSTITUTED, WARNING = "x-ai-gateway-model-substituted", "x-ai-gateway-budget-warning"


@pytest.fixture
def up() -> Iterator[FakeUpstream]:
    with FakeUpstream(key=KEY) as upstream:
        upstream.always(Reply.json({**chat_completion("Dear"), "usage": USAGE}))
        yield upstream


@pytest.fixture
def local() -> Iterator[FakeUpstream]:
    with FakeUpstream(key=KEY) as upstream:
        upstream.always(Reply.json({**chat_completion("Local"), "usage": USAGE}))
        yield upstream


def endpoints(
    up: FakeUpstream, local: FakeUpstream, *, chat: dict[str, Any] | None = None, **own: Any
) -> list[dict[str, Any]]:
    """Make a dear model for which one of our own stands in; `own` is what else stands there of that one."""
    at_limit = {"use": "local"}
    dear = endpoint("chat", up, price={"per_request": CALL_USD}, at_limit=at_limit, **(chat or {}))
    return [dear, endpoint("local", local, **{"price": 0, **own})]


@asynccontextmanager
async def running(
    folder: Path, given: list[dict[str, Any]], *, policies: list[dict[str, Any]] | None = None, **more: Any
) -> AsyncIterator[Served]:
    ledger = {"url": f"sqlite:///{folder}/ledger.sqlite", "flush_s": 0.01}
    config = {"policies": policies or [BUDGET], "ledger": ledger, "time_zone": "Europe/Berlin"}
    async with served(None, given, config={**config, **more.pop("config", {})}, **more) as gateway:
        yield gateway


async def rows(gateway: Served, token: str = "t-alice") -> list[dict[str, Any]]:
    """Return what the ledger has, the oldest first."""
    found = (await gateway.ask("GET", "api/requests?limit=500", token=token)).json["requests"]
    return list(reversed(found))


async def use_up(gateway: Served) -> None:
    for _ in range(2):
        answer = await gateway.chat()
        assert (answer.status, SUBSTITUTED in answer.headers) == (200, False)


def text_of(answer: Answer) -> str:
    text: str = answer.json["choices"][0]["message"]["content"]
    return text


@pytest.mark.parametrize(("asked_s", "own_s"), [(2, None), (None, 0.3)])
async def test_the_time_of_both_endpoints_counts(
    asked_s: float | None,
    own_s: float | None,
    tmp_path: Path,
    up: FakeUpstream,
    local: FakeUpstream,
    expected_log: ExpectedLog,
) -> None:
    given = endpoints(up, local, chat={"deadline_s": asked_s}, deadline_s=own_s)
    given = [{name: value for name, value in each.items() if value is not None} for each in given]
    async with running(tmp_path, given) as gateway:
        await use_up(gateway)
        local.script(Raw.of(STALL))
        answer = await gateway.chat()
        assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")
        assert f"within {asked_s or own_s:g} seconds" in answer.error["message"]
    expected_log.take("deadline_exceeded")


@pytest.mark.parametrize("way", WAYS)
async def test_another_endpoint_answers_once_the_budget_is_used_up(
    way: str, tmp_path: Path, up: FakeUpstream, local: FakeUpstream
) -> None:
    async with running(tmp_path, endpoints(up, local), **WAYS[way]) as gateway:
        await use_up(gateway)
        answer = await gateway.chat()
        assert (answer.status, text_of(answer)) == (200, "Local")
        assert answer.headers[SUBSTITUTED] == "local"
        assert answer.headers[WARNING] == "budget: used up"
        stream = [chat_chunk({"content": "Loc"}), {"choices": [], "usage": USAGE}, "[DONE]"]
        local.script(Reply.stream(*stream))
        streamed = await gateway.chat(stream=True)
        assert streamed.headers[SUBSTITUTED] == "local"
        assert b'"Loc"' in streamed.body
        written = await rows(gateway)
        assert [(row["asked_endpoint"], row["endpoint"], row["outcome"]) for row in written] == [
            (None, "chat", "ok"),
            (None, "chat", "ok"),
            ("chat", "local", "ok"),
            ("chat", "local", "ok"),
        ]
        assert [row["cost_usd"] for row in written] == [CALL_USD, CALL_USD, 0, 0]
        explained = await gateway.ask("GET", f"api/requests/{written[2]['request_id']}")
        assert (explained.json["asked_endpoint"], explained.json["endpoint"]) == ("chat", "local")
        (limit,) = (await gateway.ask("GET", "api/summary")).json["limits"]
        assert (limit["used"], limit["remaining"], limit["is_budget"]) == (0.5, 0, True)
    assert (len(up.requests), len(local.requests)) == (2, 2)


async def test_the_callers_own_models_say_who_answers_instead(
    tmp_path: Path, up: FakeUpstream, local: FakeUpstream
) -> None:
    async with running(tmp_path, endpoints(up, local, scope="premium")) as gateway:
        gateway.knows("t-rich", ACCESS, FULL, PREMIUM, name="rich")

        async def instead(token: str) -> list[Any]:
            models = (await gateway.ask("GET", "api/models", token=token)).json["models"]
            return [(model["id"], model["instead"]) for model in models]

        assert await instead("t-rich") == [("chat", ["local"]), ("local", [])]
        assert await instead("t-alice") == [("chat", [])]  # it may not learn more


REFUSED = {
    "no scope for it": {"own": {"scope": "premium"}},
    "data of a higher class": {
        "own": {"data_class": "public"},
        "asked": {"headers": [("x-ai-gateway-data-class", "internal")]},
        "chat": {"data_class": "public", "deployments": None},
    },
    "the caller wants no other": {"asked": {"headers": [("x-ai-gateway-substitute", "never")]}},
    "the same budget is over both": {"budget": {"endpoints": "*"}, "own": {"price": {"per_request": 0.01}}},
    "no price, where cost is limited": {"budget": {"endpoints": "*"}, "own": {"price": None}},
    "it cannot what is asked": {
        "own": {"capabilities": []},
        "asked": {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    },
}


@pytest.mark.parametrize("why", REFUSED)
async def test_nobody_answers_instead_who_may_not(
    why: str, tmp_path: Path, up: FakeUpstream, local: FakeUpstream
) -> None:
    case: dict[str, Any] = REFUSED[why]
    given = endpoints(up, local, **case.get("own", {}))
    if "chat" in case:  # it takes the data itself: at its second place
        place = {"model": given[0].pop("model"), "data_class": "internal"}
        given[0] |= {"deployments": [place], "data_class": "public"}
    if case.get("own", {}).get("price", 0) is None:
        given[1]["model"]["name"] = "nobody-knows"
    policies = [{**BUDGET, **case.get("budget", {})}]
    async with running(tmp_path, given, policies=policies) as gateway:
        await use_up(gateway)
        answer = await gateway.chat(**case.get("asked", {}))
        assert (answer.status, answer.error["code"]) == (429, "insufficient_quota")
        assert answer.headers["x-should-retry"] == "false"
        assert SUBSTITUTED not in answer.headers
        (*_, row) = await rows(gateway)
        assert (row["endpoint"], row["asked_endpoint"], row["refused_by"]) == ("chat", None, "budget")
    assert local.requests == []


async def test_what_data_rules_ask_of_the_model_that_was_asked_stays(
    tmp_path: Path, up: FakeUpstream, local: FakeUpstream
) -> None:
    """A rule about `chat` alone keeps its requests in a region, whoever answers."""
    given = endpoints(up, local, chat={"region": "eu-west"}, region="us-east")
    rule = {"endpoints": "chat", "region": "eu"}
    async with running(tmp_path, given, config={"data_rules": [rule]}) as gateway:
        await use_up(gateway)
        assert (await gateway.chat()).status == 429
    assert local.requests == []


async def test_data_goes_to_no_lower_class(tmp_path: Path, up: FakeUpstream, local: FakeUpstream) -> None:
    """One of two places is for public data: nothing is sent there, though it would be asked first."""
    given = endpoints(up, local, chat={"data_class": "internal"})
    with FakeUpstream(key=KEY) as public:
        places = [
            {**endpoint("local", public), "data_class": "public", "name": "open"},
            {**endpoint("local", local), "data_class": "internal", "name": "closed", "priority": 2},
        ]
        for place in places:
            del place["endpoint_type"]
        given[1] = {"name": "local", "endpoint_type": "llm/v1/chat", "price": 0, "deployments": places}
        async with running(tmp_path, given) as gateway:
            assert (await gateway.chat(model="local")).headers["x-ai-gateway-deployment"] == "open"
            await use_up(gateway)
            for _ in range(3):
                answer = await gateway.chat()
                assert answer.headers[SUBSTITUTED] == "local"
                assert answer.headers["x-ai-gateway-deployment"] == "closed"
        assert len(public.requests) == 1


async def test_a_batch_is_of_one_model(tmp_path: Path, up: FakeUpstream, local: FakeUpstream) -> None:
    call = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": call}
    config = {"batches": {"folder": str(tmp_path / "batches")}}
    async with running(tmp_path, endpoints(up, local), config=config) as gateway:
        await use_up(gateway)
        async with openai.AsyncOpenAI(api_key=gateway.token, base_url=gateway.base_url) as client:
            content = json.dumps(line).encode()
            file = await client.files.create(file=("input.jsonl", content), purpose="batch")
            batch = await client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            while not (refused := [row for row in await rows(gateway) if row["status"] == 429]):
                await asyncio.sleep(0.02)
            await client.batches.cancel(batch.id)
        assert (refused[0]["endpoint"], refused[0]["asked_endpoint"]) == ("chat", None)
    assert local.requests == []


async def test_a_limit_for_a_short_time_is_waited_for(
    tmp_path: Path, up: FakeUpstream, local: FakeUpstream
) -> None:
    pace = {"name": "pace", "resource": "requests", "limit": 2, "window": "minute", "endpoints": "chat"}
    async with running(tmp_path, endpoints(up, local), policies=[pace]) as gateway:
        await use_up(gateway)
        answer = await gateway.chat()
        assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
        assert "retry-after" in answer.headers
    assert local.requests == []


async def test_the_limits_of_the_one_that_answers_count(
    tmp_path: Path, up: FakeUpstream, local: FakeUpstream
) -> None:
    daily = {"name": "local-day", "resource": "requests", "limit": 2, "window": "day", "endpoints": "local"}
    own = {"limit": {"renewal_period": "minute", "calls": 1}}
    given = endpoints(up, local, **own)
    async with running(tmp_path, given, policies=[BUDGET, daily]) as gateway:
        await use_up(gateway)
        assert (await gateway.chat()).headers[SUBSTITUTED] == "local"
        answer = await gateway.chat()  # for this one it helps to wait
        assert (answer.status, answer.error["code"], answer.error["rule"]) == (
            429,
            "rate_limit_exceeded",
            "local",
        )
        (*_, row) = await rows(gateway)
        assert (row["endpoint"], row["asked_endpoint"]) == ("chat", None)
        used = {
            each["rule"]: each["used"] for each in (await gateway.ask("GET", "api/summary")).json["limits"]
        }
        assert used == {"budget": 0.5, "local-day": 1}  # what the bucket refused was given back


async def test_the_first_of_several_that_can_answers(
    tmp_path: Path, up: FakeUpstream, local: FakeUpstream
) -> None:
    given = endpoints(up, local)
    given[0]["at_limit"] = {"use": ["secret", "middle", "local"]}
    middle = {"name": "middle", "resource": "requests", "limit": 1, "window": "day", "endpoints": "middle"}
    given += [endpoint("secret", local, scope="premium"), endpoint("middle", local)]
    async with running(tmp_path, given, policies=[BUDGET, middle]) as gateway:
        await use_up(gateway)
        names = [(await gateway.chat()).headers[SUBSTITUTED] for _ in range(3)]
        assert names == ["middle", "local", "local"]


async def test_parameters_of_both_count(tmp_path: Path, up: FakeUpstream, local: FakeUpstream) -> None:
    given = endpoints(
        up,
        local,
        chat={"parameters": {"clamp": {"temperature": {"min": 0, "max": 1}}, "drop": ["seed"]}},
        parameters={"clamp": {"max_tokens": 64}, "drop": ["top_p"]},
    )
    async with running(tmp_path, given) as gateway:
        await use_up(gateway)
        answer = await gateway.chat(temperature=1.9, max_tokens=900, seed=7, top_p=0.5)
        assert answer.headers[SUBSTITUTED] == "local"
        assert answer.headers["x-ai-gateway-clamped-params"] == "temperature, max_tokens"
        assert answer.headers["x-ai-gateway-dropped-params"] == "seed, top_p"
    sent = local.requests[-1].document
    assert (sent["temperature"], sent["max_tokens"]) == (1, 64)
    assert not {"seed", "top_p"} & set(sent)


async def test_a_refusal_says_when_it_resets_and_where_to_look(
    tmp_path: Path, up: FakeUpstream, local: FakeUpstream
) -> None:
    given = endpoints(up, local)
    del given[0]["at_limit"]
    async with running(tmp_path, given) as gateway:
        await use_up(gateway)
        answer = await gateway.chat()
        error = answer.error
        assert (answer.status, answer.headers["x-should-retry"]) == (429, "false")
        assert "allows $0.50 per month for each user; $0.50 are used or reserved" in error["message"]
        resets = datetime.fromisoformat(error["resets_at"])
        assert (resets.day, resets.hour, resets.minute) == (1, 0, 0)
        assert f"on {resets:%Y-%m-%d} at 00:00 CE" in error["message"]
        assert error["message"].endswith("Your limits: /services/ai-gateway/")
        assert error["page"] == "/services/ai-gateway/"


async def test_an_unknown_wish_is_refused_before_it_counts(
    tmp_path: Path, up: FakeUpstream, local: FakeUpstream
) -> None:
    async with running(tmp_path, endpoints(up, local)) as gateway:
        answer = await gateway.chat(headers=[("x-ai-gateway-substitute", "maybe")])
        assert (answer.status, answer.error["param"]) == (400, "x-ai-gateway-substitute")


def talking(request: Request) -> Reply:
    """Answer as is asked for, by a stream or at once."""
    if request.document.get("stream"):
        return Reply.stream(chat_chunk({"content": "Hi"}), {"choices": [], "usage": USAGE}, "[DONE]")
    return Reply.json({**chat_completion("Hi"), "usage": USAGE})


@pytest.mark.parametrize("store", ["memory", "redis"])
@pytest.mark.parametrize("seed", range(3))
async def test_many_at_once_never_overspend_and_each_has_one_row(
    seed: int,
    store: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    up: FakeUpstream,
    local: FakeUpstream,
) -> None:
    """Whatever comes at once: the budget is spent to the cent, and each request written once."""
    chance = random.Random(seed)
    up.always(talking)
    local.always(talking)
    local.script(*(Reply.error(400, "no") for _ in range(5)))
    redis: Redis | None = request.getfixturevalue("redis_server") if store == "redis" else None
    config = {} if redis is None else {"store": {"url": redis.url}}
    budget = {**BUDGET, "limit": 2, "name": f"budget-{seed}"}
    async with running(tmp_path, endpoints(up, local), policies=[budget], config=config) as gateway:

        async def ask() -> Answer:
            asking = asyncio.create_task(gateway.chat(stream=chance.random() < 0.4))
            if chance.random() < 0.2:
                await asyncio.sleep(0)
            return await asking

        answers = await asyncio.gather(*(ask() for _ in range(60)))
        written = await rows(gateway)
    assert len(written) == len({row["request_id"] for row in written}) == len(answers)
    where = Counter((row["endpoint"], row["asked_endpoint"]) for row in written)
    assert where == {("chat", None): 8, ("local", "chat"): 52}
    assert sum(row["cost_usd"] or 0 for row in written) == pytest.approx(2)
    assert Counter(row["outcome"] for row in written)["ok"] == 55
    told = Counter(answer.headers.get(SUBSTITUTED) for answer in answers)
    assert told == {None: 8, "local": 52}


WRONG = {
    "local": "at_limit: must be a mapping",
    "{}": "at_limit.use: is required",
    "{use: [nobody]}": "at_limit.use[0]: 'nobody' is no other endpoint",
    "{use: chat}": "at_limit.use[0]: 'chat' is no other endpoint",
    "{use: vectors}": "at_limit.use[0]: 'vectors' is of another type",
    "{use: open}": "at_limit.use[0]: 'open' is for data of a lower class than 'chat'",
    "{use: local, when: never}": "at_limit.when",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_stand_in_is_refused_at_the_start(text: str) -> None:
    import yaml

    document = {
        "endpoints": [
            endpoint("chat", None, at_limit=yaml.safe_load(text), data_class="internal"),
            endpoint("local", None, data_class="restricted"),
            endpoint("open", None, data_class="public"),
            endpoint("vectors", None, "embeddings"),
        ]
    }
    with pytest.raises(ConfigFault) as raised:
        parse(document, Providers.installed().schemas, {})
    assert f"endpoints[0].{WRONG[text]}" in str(raised.value).replace('"', "'")
