"""States through a whole gateway: probes on real sockets, calendars, hooks; what is asked and told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from expected import ExpectedLog
from fakes.hub import ACCESS
from fakes.upstream import FakeUpstream, Reply, Request, chat_completion
from served import KEY, WAYS, Served, endpoint, served
from test_routing import chat, deployment

from jupyterhub_ai_gateway.config import parse
from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.providers.registry import Providers

every_way = pytest.mark.parametrize("way", WAYS)
ADMIN = "custom:ai-gateway:admin"
QUICK = {"interval_s": 1, "timeout_s": 0.5}


def answering(probe: Callable[[], Reply]) -> Callable[[Request], Reply]:
    """Answer probes as this says, and requests as usual."""

    def answer(request: Request) -> Reply:
        return probe() if request.method == "GET" else Reply.json(chat_completion("Hi"))

    return answer


async def until(running: Served, state: str, name: str = "chat", index: int = 0) -> Any:
    """Wait until a deployment is in a state."""
    while True:
        each = running.service.gateway.catalogue._endpoints[name].deployments[index]
        found = each.state(running.service.gateway._rooms.clock())
        if found.state == state:
            return found
        await asyncio.sleep(0)


def posts(up: FakeUpstream) -> int:
    return sum(request.method == "POST" for request in up.requests)


@every_way
async def test_who_does_not_answer_its_probe_is_asked_last_and_found_again(way: str) -> None:
    status = [500]
    with FakeUpstream(key=KEY, is_strict=False) as a, FakeUpstream(key=KEY) as b:
        a.always(answering(lambda: Reply(status[0])))
        places = [deployment("a", a, probe={"kind": "health", **QUICK}), deployment("b", b, priority=2)]
        async with served(None, [chat(*places)], **WAYS[way]) as running:
            await until(running, "down")
            assert (await running.chat()).headers["x-ai-gateway-deployment"] == "b"
            status[0] = 503
            await until(running, "loading")
            assert (await running.chat()).headers["x-ai-gateway-deployment"] == "b"
            card = (await running.ask("GET", "v1/models")).json["data"][0]
            assert card["state"] == "ready"
            status[0] = 200
            await until(running, "ready")
            assert (await running.chat()).headers["x-ai-gateway-deployment"] == "a"
            probes = [request for request in a.requests if request.method == "GET"]
            assert {request.target for request in probes} == {"/health"}
            assert {request.header("authorization") for request in probes} == {None}


async def test_a_single_one_that_is_down_is_asked_all_the_same() -> None:
    with FakeUpstream(key=KEY, is_strict=False) as up:
        up.always(answering(lambda: Reply(500)))
        own = endpoint("chat", up, probe={"kind": "health", **QUICK})
        async with served(None, [own]) as running:
            await until(running, "down")
            assert (await running.chat()).status == 200
            card = (await running.ask("GET", "v1/models")).json["data"][0]
            assert (card["state"], card["state_text"]) == ("down", "Its server answered 500.")


async def test_the_list_of_models_is_asked_for_with_the_key() -> None:
    with FakeUpstream(key=KEY, models=["gpt-4o-mini"]) as up:
        others = [endpoint("other", up, probe="models")]
        others[0]["model"]["name"] = "unknown"
        async with served(None, [endpoint("chat", up, probe="models"), *others]) as running:
            await until(running, "down", "other")
            await until(running, "ready")
            assert {request.path for request in up.requests} == {"/v1/models"}
            assert all(request.complaint is None for request in up.requests)


async def test_an_unreachable_server_is_down_and_its_address_stays_here() -> None:
    with FakeUpstream(key=KEY) as up:
        up.stop_listening()
        async with served(None, [endpoint("chat", up, probe="health")]) as running:
            found = await until(running, "down")
            assert found.text == "There is no connection to its server."


async def test_another_address_may_tell_and_gets_no_credentials_of_the_provider() -> None:
    with FakeUpstream(key=KEY) as up, FakeUpstream(key="status-key", is_strict=False) as status:
        status.always(Reply.json({"running": [], "queued": [{"Models": "gpt-4o-mini"}]}))
        probe = {"kind": "first", "url": f"{status.url}/jobs?x=1", "key": "status-key"}
        async with served(None, [endpoint("chat", up, probe=probe)]) as running:
            await until(running, "queued")
            (request,) = status.requests
            assert (request.target, request.header("authorization")) == ("/jobs?x=1", "Bearer status-key")
            assert up.requests == []
            assert (await running.chat()).status == 200


async def test_slots_follow_what_vllm_says() -> None:
    counts = [0]
    with FakeUpstream(key=KEY, is_strict=False) as up:
        text = 'vllm:num_requests_waiting{model_name="m"} %d.0\n'
        up.always(answering(lambda: Reply(body=(text % counts[0]).encode())))
        pools = [{"name": "gpus", "slots": 2, "most_slots": 8}]
        own = endpoint("chat", up, pool="gpus", probe={"kind": "vllm", **QUICK})
        async with served(None, [own], config={"pools": pools}) as running:
            await until(running, "ready")
            pool = running.service.pools.get("gpus")
            assert pool is not None
            pool.fair.slots, counts[0] = 8, 5
            while pool.fair.slots == 8:
                await asyncio.sleep(0)
            assert 2 <= pool.fair.slots < 8


def around_now(**more: Any) -> dict[str, Any]:
    now = datetime.now(timezone.utc)
    starts, ends = now - timedelta(hours=1), now + timedelta(hours=1)
    return {"starts": starts.isoformat(), "ends": ends.isoformat(), "text": "New GPUs.", **more}


@every_way
@pytest.mark.parametrize("has_choice", [False, True])
async def test_under_maintenance_nobody_is_asked_and_it_is_said_in_words(
    way: str, has_choice: bool
) -> None:
    with FakeUpstream(key=KEY) as up:
        places = [deployment(name, up) for name in ("a", "b")[: 1 + has_choice]]
        config = {"maintenance": [around_now()]}
        async with served(None, [chat(*places)], config=config, **WAYS[way]) as running:
            for is_stream in (False, True):
                answer = await running.chat(stream=is_stream)
                assert (answer.status, answer.error["code"]) == (503, "maintenance")
                assert "New GPUs. It should be back at" in answer.error["message"]
                assert 3500 < int(answer.headers["retry-after"]) <= 3600
                assert answer.headers["x-should-retry"] == "false"
            assert up.requests == []
            card = (await running.ask("GET", "v1/models")).json["data"][0]
            assert (card["state"], card["state_text"]) == ("maintenance", "New GPUs.")


async def test_a_deployment_s_maintenance_leaves_the_others() -> None:
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        places = [deployment("a", a), deployment("b", b, priority=2)]
        config = {"maintenance": [around_now(deployments="a")]}
        async with served(None, [chat(*places)], config=config) as running:
            assert (await running.chat()).headers["x-ai-gateway-deployment"] == "b"
            assert a.requests == []


async def test_staff_see_states_in_health_in_deployments_and_in_metrics() -> None:
    with FakeUpstream(key=KEY) as up:
        places = [deployment("a", up), deployment("b", up)]
        config = {"maintenance": [around_now(deployments="a")]}
        async with served(None, [chat(*places)], config=config) as running:
            root = running.knows("t-root", ACCESS, ADMIN, name="root")
            health = (await running.ask("GET", "health", token=root)).json
            unknown = {"error_rate": None, "slow": False}
            assert health["deployments"] == [
                {"endpoint": "chat", "deployment": "a", "state": "maintenance", **unknown},
                {"endpoint": "chat", "deployment": "b", "state": "ready", **unknown},
            ]
            for token in (None, "t-alice", "t-unknown"):
                assert "deployments" not in (await running.ask("GET", "health", token=token)).json
            first = (await running.ask("GET", "api/deployments", token=root)).json["deployments"][0]
            assert (first["state"], first["state_text"]) == ("maintenance", "New GPUs.")
            text = running.service.metrics.render()[0].decode()
    name = "jupyterhub_ai_gateway_deployment_state"
    assert f'{name}{{deployment="a",endpoint="chat",state="maintenance"}} 1.0' in text
    assert f'{name}{{deployment="b",endpoint="chat",state="ready"}} 1.0' in text


SAYS: dict[tuple[str, str], Any] = {}


def hook(endpoint: str, deployment: str) -> Any:
    """The operator's, for these tests."""
    said = SAYS.get((endpoint, deployment))
    if isinstance(said, Exception):
        raise said
    return said


async def slow_hook(endpoint: str, deployment: str) -> Any:
    return hook(endpoint, deployment)


@pytest.mark.parametrize("name", ["hook", "slow_hook"])
async def test_the_operator_s_hook_counts_before_a_probe(name: str) -> None:
    SAYS.clear()
    SAYS["chat", "a"] = {"state": "maintenance", "text": "Moved."}
    with FakeUpstream(key=KEY) as a, FakeUpstream(key=KEY) as b:
        places = [deployment("a", a, probe="models"), deployment("b", b, priority=2)]
        config = {"state_hook": f"{__name__}:{name}"}
        async with served(None, [chat(*places)], config=config) as running:
            assert (await until(running, "maintenance")).text == "Moved."
            assert (await running.chat()).headers["x-ai-gateway-deployment"] == "b"
            assert posts(a) == 0


async def test_a_hook_that_fails_is_told_once_and_changes_nothing(expected_log: ExpectedLog) -> None:
    SAYS.clear()
    SAYS["chat", "1"] = RuntimeError("no")
    with FakeUpstream(key=KEY) as up:
        async with served(up, config={"state_hook": f"{__name__}:hook"}) as running:
            assert (await running.chat()).status == 200
            while not running.service._prober._failing:
                await asyncio.sleep(0)
    assert len(expected_log.take("The state_hook failed for chat/1")) == 1


async def test_a_reload_ends_probes_that_are_gone_and_leaves_the_others() -> None:
    with FakeUpstream(key=KEY, is_strict=False) as up:
        config: dict[str, Any] = {}
        own = endpoint("chat", up, probe="health")
        other = endpoint("other", up, probe="health")
        endpoints = [own, other]
        async with served(None, endpoints, config=config) as running:
            await until(running, "ready")
            probing = dict(running.service._prober._probing)
            assert len(probing) == 2
            del other["probe"]
            await running.service.reload()
            left = running.service._prober._probing
            assert len(left) == 1
            assert next(iter(left.values())) in probing.values()


def test_what_is_wrong_is_named() -> None:
    probes: list[Any] = [
        "healthy",
        {"kind": "first"},
        {"kind": "health", "interval_s": 0, "url": "ftp://x"},
        {"url": "http://h", "extra": 1},
    ]
    endpoints = [{**endpoint(f"e{index}", None), "probe": probe} for index, probe in enumerate(probes)]
    with pytest.raises(ConfigFault) as caught:
        parse({"endpoints": endpoints, "state_hook": "a b"}, Providers.installed().schemas, {})
    text = str(caught.value)
    for path in (
        "endpoints[0].probe.kind",
        "endpoints[2].probe.interval_s",
        "endpoints[2].probe.url",
        "endpoints[3].probe.kind",
        "endpoints[3].probe.extra",
        "state_hook",
    ):
        assert path in text
    with pytest.raises(ConfigFault, match=r"endpoints\[0\]\.probe\.url: is required"):
        parse({"endpoints": [endpoints[1]]}, Providers.installed().schemas, {})
