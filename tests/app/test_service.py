"""Reload and drain: what runs goes on, what is wrong changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from expected import ExpectedLog
from fakes.upstream import FakeUpstream, Gate, Reply, chat_chunk, happened
from served import KEY, PREFIX, Served, endpoint, served

from jupyterhub_ai_gateway.errors import ConfigFault


def upstream() -> FakeUpstream:
    return FakeUpstream(key=KEY)


def write(path: Path, *endpoints: dict[str, Any]) -> None:
    path.write_text(json.dumps({"endpoints": endpoints}))


async def health(running: Served) -> Any:
    return (await running.ask("GET", "health", token=None)).json["configuration"]


async def names(running: Served) -> list[str]:
    return [model["id"] for model in (await running.ask("GET", "v1/models")).json["data"]]


async def test_reload_takes_a_new_file_and_running_streams_go_on(tmp_path: Path) -> None:
    file, gate = tmp_path / "config.yaml", Gate()
    with upstream() as old, upstream() as new:
        write(file, endpoint("chat", old), endpoint("gone", old))
        old.script(
            Reply.stream(chat_chunk({"content": "a"}), gate, chat_chunk({}, finish_reason="stop"), "[DONE]")
        )
        async with served(file=file) as running:
            asking = asyncio.ensure_future(running.chat(stream=True))
            await asyncio.to_thread(gate.reached.wait)
            write(file, endpoint("chat", new), endpoint("fresh", new))
            assert await running.service.reload()
            assert await names(running) == ["chat", "fresh"]
            assert (await running.chat()).status == 200
            assert len(new.requests) == 1
            gate.set()
            assert b"[DONE]" in (await asking).body
            assert (await running.chat(model="gone")).status == 404
            assert (await health(running))["endpoints"] == 2


async def test_limits_keep_their_state_over_a_reload(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    limit = {"calls": 2, "renewal_period": "day"}
    write(file, endpoint("chat", None, limit=limit))
    async with served(file=file) as running:
        assert (await running.chat()).headers["x-ratelimit-remaining-requests"] == "1"
        assert await running.service.reload()
        assert (await running.chat()).headers["x-ratelimit-remaining-requests"] == "0"
        write(file, endpoint("chat", None, limit={"calls": 4, "renewal_period": "day"}))
        assert await running.service.reload()
        assert (await running.chat()).status == 429


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("endpoints: [", "not valid YAML"),
        ("endpoints: []", "at least one endpoint"),
        (json.dumps({"endpoints": [endpoint("a b", None)]}), "endpoints[0].name"),
        (json.dumps({"endpoints": [endpoint("chat", None), endpoint("chat", None)]}), "endpoints[1].name"),
    ],
)
async def test_broken_file_keeps_the_old_configuration_and_says_why(
    tmp_path: Path, text: str, part: str, expected_log: ExpectedLog
) -> None:
    file = tmp_path / "config.yaml"
    write(file, endpoint("chat", None))
    async with served(file=file) as running:
        file.write_text(text)
        assert not await running.service.reload()
        assert part in "".join(expected_log.take("the old one stays"))
        assert part in (await health(running))["last_error"]
        assert (await running.chat()).status == 200
        write(file, endpoint("chat", None), endpoint("more", None))
        assert await running.service.reload()
        assert (await health(running))["last_error"] is None
        assert await names(running) == ["chat", "more"]


async def test_broken_file_at_the_start_refuses_to_start(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("endpoints: 7")
    with pytest.raises(ConfigFault, match="endpoints: must be a list"):
        async with served(file=file):
            pass


def replaced(file: Path, text: str) -> None:
    """Write as editors do: a new file that takes the old one's name."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(file)


def in_place(file: Path, text: str) -> None:
    file.write_text(text)


@pytest.mark.parametrize("change", [replaced, in_place])
async def test_changed_file_is_noticed(tmp_path: Path, change: Any) -> None:
    file = tmp_path / "config.yaml"
    write(file, endpoint("chat", None))
    async with served(file=file, reload_poll_s=0.02) as running:
        change(file, json.dumps({"endpoints": [endpoint("chat", None), endpoint("later", None)]}))
        await until_names(running, ["chat", "later"])


async def until_names(running: Served, expected: list[str]) -> None:
    for _ in range(500):
        if await names(running) == expected:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the change was not noticed")


async def test_swapped_config_map_is_noticed(tmp_path: Path) -> None:
    for version, more in (("1", []), ("2", [endpoint("later", None)])):
        (tmp_path / f"..{version}").mkdir()
        write(tmp_path / f"..{version}" / "config.yaml", endpoint("chat", None), *more)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
    async with served(file=tmp_path / "config.yaml", reload_poll_s=0.02) as running:
        (tmp_path / "..tmp").symlink_to("..2")
        os.replace(tmp_path / "..tmp", tmp_path / "..data")
        await until_names(running, ["chat", "later"])


async def test_changed_file_of_a_key_is_noticed(tmp_path: Path) -> None:
    file, key = tmp_path / "config.yaml", tmp_path / "key"
    key.write_text("sk-old-old-old")
    with FakeUpstream(key="sk-new-new-new") as up:
        chat = endpoint("chat", up)
        chat["model"]["config"]["openai_api_key"] = {"file": "key"}
        write(file, chat)
        async with served(file=file, reload_poll_s=0.02) as running:
            replaced(key, "sk-new-new-new")
            for _ in range(500):
                if running.service.configuration().successes > 1:
                    break
                await asyncio.sleep(0.01)
            assert (await running.chat()).status == 200


async def test_drain_says_not_ready_and_lets_streams_finish() -> None:
    gate = Gate()
    with upstream() as up:
        up.script(
            Reply.stream(chat_chunk({"content": "a"}), gate, chat_chunk({}, finish_reason="stop"), "[DONE]")
        )
        async with served(up, drain_delay_s=0.3) as running:
            asking = asyncio.ensure_future(running.chat(stream=True))
            await asyncio.to_thread(gate.reached.wait)
            assert (await running.ask("GET", "health/ready", token=None)).status == 200
            stopping = asyncio.ensure_future(running.service.stop())
            await asyncio.sleep(0)
            assert (await running.ask("GET", "health/ready", token=None)).status == 503
            assert (await running.ask("GET", "health/live", token=None)).status == 200
            gate.set()
            answer = await asking
            assert (answer.status, answer.body.endswith(b"data: [DONE]\n\n")) == (200, True)
            await stopping
            with pytest.raises(OSError):
                await running.ask("GET", "health", token=None)


async def test_drain_has_an_end(expected_log: ExpectedLog) -> None:
    gate = Gate()
    with upstream() as up:
        up.script(Reply.stream(chat_chunk({"content": "a"}), gate), Reply.json({}, before=[gate]))
        async with served(up, drain_timeout_s=0.2) as running:
            streaming = asyncio.ensure_future(running.chat(stream=True))
            plain = asyncio.ensure_future(running.chat())
            requests = [await up.taken(), await up.taken()]
            await asyncio.to_thread(gate.reached.wait)
            await running.service.stop()
            for request in requests:
                await happened(request.closed)
            stream, answer = await streaming, await plain
    assert b'"code":"draining"' in stream.body
    assert b"[DONE]" not in stream.body
    assert (answer.status, answer.error["code"]) == (503, "draining")
    expected_log.take("Cut off 2 requests")


async def test_prefix_is_where_everything_is_and_without_it_too() -> None:
    async with served() as running:
        for path in ("health", "ping", "openapi.json"):
            for start in (PREFIX, "/"):
                whole = await running.raw("GET", f"{start}{path}")
                assert whole.startswith(b"HTTP/1.1 200")
                assert b"x-request-id: req_" in whole.lower()
