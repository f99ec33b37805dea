"""Batches through kill -9, and one queue of several gateways on one PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from databases import PostgreSQL, utc_day
from fakes.hub_thread import hub_in_thread
from fakes.upstream import FakeUpstream, Gate, Reply, Request, chat_completion
from served import KEY, endpoint
from test_shared import Process, gateways

from jupyterhub_ai_gateway.storage import Database

CONCURRENCY = 3


def configuration(up: FakeUpstream, url: str, folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "endpoints": [endpoint("chat", up)],
        "ledger": {"url": url, "flush_s": 0.05},
        "batches": {"folder": str(folder), "concurrency": CONCURRENCY, "jobs_per_user": 50, **more},
    }


def begin(client: openai.OpenAI, name: str, count: int) -> str:
    lines = [
        {
            "custom_id": f"{name}-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "chat", "messages": [{"role": "user", "content": f"{name}-{number}"}]},
        }
        for number in range(count)
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    ).id


_OPEN = contextlib.ExitStack()


@pytest.fixture(autouse=True)
def close_clients() -> Iterator[None]:
    with _OPEN:
        yield


def sdk(process: Process) -> openai.OpenAI:
    return _OPEN.enter_context(
        openai.OpenAI(api_key="t-alice", base_url=f"{process.url}/v1", max_retries=0)
    )


def new_ledger(url: str) -> str:
    database = Database(url, day_of=utc_day)
    database.upgrade()
    database.close()
    return url


def until(found: Callable[[], Any]) -> Any:
    """Return what is found, once it is."""
    for _ in range(2000):
        value = found()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("it never happened")


def ended(client: openai.OpenAI, batch_id: str) -> openai.types.Batch:
    def look() -> openai.types.Batch | None:
        batch = client.batches.retrieve(batch_id)
        return batch if batch.status in ("completed", "failed", "cancelled", "expired") else None

    found: openai.types.Batch = until(look)
    return found


def answers(client: openai.OpenAI, batch: openai.types.Batch) -> list[str]:
    text = client.files.content(batch.output_file_id or "").text
    found = [json.loads(line) for line in text.splitlines()]
    for each in found:
        content = each["response"]["body"]["choices"][0]["message"]["content"]
        assert content == f"Answer to {each['custom_id']}"
    return [each["custom_id"] for each in found]


def said(request: Request) -> str:
    text: str = request.document["messages"][-1]["content"]
    return text


def answer(request: Request) -> Reply:
    return Reply.json(chat_completion(f"Answer to {said(request)}"))


def test_kill_9_loses_no_line_and_sends_only_those_again_that_were_under_way(tmp_path: Path) -> None:
    count, before = 40, 17
    gate = Gate()
    with FakeUpstream(key=KEY) as up, hub_in_thread() as api_url:
        up.script(*[answer] * before)
        up.always(lambda request: Reply.json(chat_completion("never arrives"), before=[gate]))
        config = configuration(up, f"sqlite:///{tmp_path}/ledger.sqlite", tmp_path / "batches")
        with gateways(1, tmp_path, api_url, config) as (running,):
            client = sdk(running)
            batch_id = begin(client, "a", count)
            until(lambda: len(up.requests) == before + CONCURRENCY)
            until(lambda: client.batches.retrieve(batch_id).request_counts.completed == before)
            os.kill(running.process.pid, signal.SIGKILL)
            running.process.wait(30)
        sent_before = [said(each) for each in up.requests]
        under_way = sent_before[before:]
        up.always(answer)
        gate.set()
        with gateways(1, tmp_path, api_url, config) as (running,):
            client = sdk(running)
            batch = ended(client, batch_id)
            assert batch.status == "completed"
            assert batch.request_counts is not None
            assert batch.request_counts.to_dict() == {"total": count, "completed": count, "failed": 0}
            assert answers(client, batch) == [f"a-{number}" for number in range(count)]
            running.stop()
        sent = Counter(map(said, up.requests))
        assert set(sent) == {f"a-{number}" for number in range(count)}
        assert sorted(name for name, times in sent.items() if times > 1) == sorted(under_way)
        assert max(sent.values()) == 2


def test_several_gateways_share_a_queue_and_no_line_is_sent_twice(
    postgres: PostgreSQL, tmp_path: Path
) -> None:
    url = new_ledger(postgres.new_database())
    jobs, count = 8, 12
    gate = Gate()
    with FakeUpstream(key=KEY) as up, hub_in_thread() as api_url:
        # Nothing is answered before both work, so that neither can do all of it
        up.always(lambda request: Reply.json(chat_completion(f"Answer to {said(request)}"), before=[gate]))
        config = configuration(up, url, tmp_path / "batches", jobs=2)
        with gateways(2, tmp_path, api_url, config) as running:
            clients = [sdk(each) for each in running]
            ids = [begin(clients[number % 2], f"job{number}", count) for number in range(jobs)]
            until(lambda: len(up.requests) == 2 * CONCURRENCY)
            gate.set()
            for number, batch_id in enumerate(ids):
                batch = ended(clients[(number + 1) % 2], batch_id)
                assert batch.status == "completed"
                assert answers(clients[number % 2], batch) == [f"job{number}-{n}" for n in range(count)]
            for each in running:
                each.stop()
        sent = Counter(map(said, up.requests))
        assert len(sent) == jobs * count
        assert set(sent.values()) == {1}


def test_with_sqlite_one_process_works_and_another_takes_its_place(tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up, hub_in_thread() as api_url:
        up.script(*[answer] * 4)
        up.always(lambda request: Reply.json(chat_completion("never arrives"), before=[gate]))
        url = new_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
        # With such a lease only the lock can tell the other process that the first one is gone
        config = configuration(up, url, tmp_path / "batches", lease_s=3600, jobs=1)
        with gateways(2, tmp_path, api_url, config) as running:
            ids = [begin(sdk(running[0]), name, 9) for name in ("a", "b")]
            until(lambda: len(up.requests) == 4 + CONCURRENCY)
            holder = next(each for each in running if _sends(each, up))
            other = next(each for each in running if each is not holder)
            assert not _sends(other, up), "two processes work on one SQLite file"
            os.kill(holder.process.pid, signal.SIGKILL)
            holder.process.wait(30)
            up.always(answer)
            gate.set()
            for batch_id in ids:
                assert ended(sdk(other), batch_id).status == "completed"
            other.stop()
        sent = Counter(map(said, up.requests))
        assert len(sent) == 18
        assert sum(times - 1 for times in sent.values()) <= CONCURRENCY


def test_a_killed_gateway_is_replaced_by_another(postgres: PostgreSQL, tmp_path: Path) -> None:
    url = new_ledger(postgres.new_database())
    gate = Gate()
    with FakeUpstream(key=KEY) as up, hub_in_thread() as api_url:
        up.script(*[answer] * 5)
        up.always(lambda request: Reply.json(chat_completion("never arrives"), before=[gate]))
        config = configuration(up, url, tmp_path / "batches", lease_s=2)
        with gateways(2, tmp_path, api_url, config) as running:
            clients = {each.port: sdk(each) for each in running}
            batch_id = begin(clients[running[0].port], "b", 20)
            until(lambda: len(up.requests) == 5 + CONCURRENCY)
            # Who has it is in the log of the one only, so both are looked at: the other one has no lines
            holder = next(each for each in running if _sends(each, up))
            other = next(each for each in running if each is not holder)
            until(lambda: clients[other.port].batches.retrieve(batch_id).request_counts.completed == 5)
            os.kill(holder.process.pid, signal.SIGKILL)
            holder.process.wait(30)
            under_way = {said(each) for each in up.requests[5:]}
            up.always(answer)
            gate.set()
            batch = ended(clients[other.port], batch_id)
            assert batch.status == "completed"
            assert answers(clients[other.port], batch) == [f"b-{number}" for number in range(20)]
            other.stop()
        sent = Counter(map(said, up.requests))
        assert {name for name, times in sent.items() if times > 1} <= under_way
        assert max(sent.values()) == 2


def _sends(process: Process, up: FakeUpstream) -> bool:
    """Say whether a process has a connection to the provider."""
    psutil = pytest.importorskip("psutil")
    found = psutil.Process(process.process.pid).net_connections(kind="tcp")
    return any(each.raddr and each.raddr.port == up.port for each in found)
