"""Several gateways on one Redis and one PostgreSQL: one budget, one ledger, whatever process is asked."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from databases import PostgreSQL, Redis, free_port, utc_day
from fakes.hub_thread import hub_in_thread
from fakes.upstream import FakeUpstream, Reply, chat_completion
from served import KEY, endpoint

from jupyterhub_ai_gateway.storage import Database

USAGE = {"prompt_tokens": 60, "completion_tokens": 40}
BODY = {"model": "chat", "messages": [{"role": "user", "content": "x" * 240}], "max_tokens": 40}
HEADERS = {"Authorization": "Bearer t-alice"}


class Process:
    """One gateway."""

    def __init__(self, folder: Path, file: Path, api_url: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"gateway-{self.port}.log"
        environment = {
            **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
            "JUPYTERHUB_API_URL": api_url,
            "JUPYTERHUB_API_TOKEN": "t-service",
        }
        with self.log.open("wb") as output:
            command = [sys.executable, "-m", "jupyterhub_ai_gateway", "-c", str(file), "-p", str(self.port)]
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=output, stderr=output
            )

    def wait(self) -> None:
        """Wait until it answers."""
        for _ in range(1000):
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{self.url}/health", timeout=5).ok:
                    return
            time.sleep(0.02)
        raise AssertionError(self.log.read_text())

    def chat(self) -> requests.Response:
        return requests.post(f"{self.url}/v1/chat/completions", json=BODY, headers=HEADERS, timeout=30)

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(30) == 0, self.log.read_text()
        assert "Traceback" not in self.log.read_text(), self.log.read_text()


@contextlib.contextmanager
def gateways(count: int, folder: Path, api_url: str, config: Mapping[str, Any]) -> Iterator[list[Process]]:
    file = folder / "gateway.json.yaml"
    file.write_text(json.dumps(config))
    started = [Process(folder, file, api_url) for _ in range(count)]
    try:
        for each in started:
            each.wait()
        yield started
    finally:
        for each in started:
            if each.process.poll() is None:
                each.process.terminate()
                each.process.wait(30)


def configuration(up: FakeUpstream, url: str, **more: Any) -> dict[str, Any]:
    return {
        "endpoints": [endpoint("chat", up, price={"input_per_mtok": 10, "output_per_mtok": 10})],
        "ledger": {"url": url, "flush_s": 0.1},
        **more,
    }


@contextlib.contextmanager
def answering() -> Iterator[tuple[FakeUpstream, str]]:
    with FakeUpstream(key=KEY) as up, hub_in_thread() as api_url:
        up.always(Reply.json({**chat_completion("Hi"), "usage": USAGE}))
        yield up, api_url


def test_many_callers_at_several_gateways_share_one_budget(
    postgres: PostgreSQL, redis_server: Redis, tmp_path: Path
) -> None:
    url = postgres.new_database()
    database = Database(url, day_of=utc_day)
    database.upgrade()
    policies = [
        {"name": "count", "resource": "requests", "limit": 100, "window": "day", "count": "all"},
        {"name": "money", "resource": "cost_usd", "limit": 0.06, "window": "month", "count": "user"},
    ]
    with answering() as (up, api_url):
        config = configuration(up, url, policies=policies, store={"url": redis_server.url})
        with gateways(3, tmp_path, api_url, config) as running:
            with ThreadPoolExecutor(24) as pool:
                asked = [pool.submit(running[n % 3].chat) for n in range(180)]
                statuses = Counter(each.result().status_code for each in asked)
            left = requests.get(f"{running[0].url}/api/usage", headers=HEADERS, timeout=30).json()
            for each in running:
                each.stop()
    # A request costs a thousandth of a dollar, its estimate is that or a little more: 60 fit in
    served = statuses[200]
    assert 50 <= served <= 60
    assert statuses == {200: served, 429: 180 - served}
    assert len(up.requests) == served
    rows = database.requests(where={}, limit=1000)
    assert len(rows) == 180
    assert sum(row["cost_nanousd"] or 0 for row in rows) == served * 1_000_000
    (total,) = database.usage(since="2000-01-01", until="2999-01-01", by=(), where={})
    assert (total["requests"], total["cost_nanousd"]) == (180, served * 1_000_000)
    assert {rule["rule"]: rule["used"] for rule in left["limits"]} == {
        "count": served,
        "money": pytest.approx(served / 1000),
    }
    counters = {each.key.partition("/")[0]: each.amount for each in database.counters(0)}
    assert counters == {"requests": served, "cost_usd": served * 1_000_000}
    database.close()


def test_a_budget_is_taken_up_from_the_ledger_when_redis_forgot_it(
    postgres: PostgreSQL, redis_server: Redis, tmp_path: Path
) -> None:
    url = postgres.new_database()
    database = Database(url, day_of=utc_day)
    database.upgrade()
    database.close()
    policies = [{"name": "count", "resource": "requests", "limit": 3, "window": "day"}]
    with answering() as (up, api_url):
        config = configuration(up, url, policies=policies, store={"url": redis_server.url})
        with gateways(1, tmp_path, api_url, config) as (first,):
            assert [first.chat().status_code for _ in range(2)] == [200, 200]
            first.stop()
        import redis

        with redis.Redis.from_url(redis_server.url) as client:
            client.flushall()
        with gateways(1, tmp_path, api_url, config) as (second,):
            assert [second.chat().status_code for _ in range(2)] == [200, 429]
            second.stop()


def test_a_server_without_our_tables_is_refused_until_the_operator_makes_them(
    postgres: PostgreSQL, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps(configuration(None, postgres.new_database())))  # type: ignore[arg-type]
    environment = {"PATH": os.environ["PATH"], "JUPYTERHUB_API_TOKEN": "t-service"}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jupyterhub_ai_gateway", *command, "-c", str(file)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    refused = run("-p", str(free_port()))
    assert refused.returncode == 1
    assert (
        "ledger.url: the database has no tables yet: run `jupyterhub-ai-gateway db upgrade`"
        in refused.stderr
    )
    assert "Traceback" not in refused.stderr
    made = run("db", "upgrade")
    assert made.stdout == "The ledger's tables were of version none, and are 0004 now.\n"
    assert run("db", "upgrade").stdout == "The ledger's tables were of version 0004, and are 0004 now.\n"
    assert "needs a command: upgrade" in run("db").stderr


def test_a_gateway_that_is_killed_loses_what_it_had_not_flushed_and_nothing_else(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    policies = [{"name": "count", "resource": "requests", "limit": 1000, "window": "day"}]
    with answering() as (up, api_url):
        config = configuration(up, url, policies=policies)
        with gateways(1, tmp_path, api_url, config) as (first,):
            answered: list[tuple[float, str]] = []
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                name = first.chat().headers["x-request-id"]
                answered.append((time.monotonic(), name))
            killed_at = time.monotonic()
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
        with gateways(1, tmp_path, api_url, config) as (second,):
            second.chat()
            usage = requests.get(f"{second.url}/api/usage", headers=HEADERS, timeout=30).json()
            second.stop()
    database = Database(url, day_of=utc_day)
    rows = database.requests(where={}, limit=100_000)
    written = {row["request_id"] for row in rows}
    assert len(written) == len(rows)
    # Whatever ended two windows before the kill is there; a busy machine's thread may be late for one
    assert {name for at, name in answered if at < killed_at - 0.6} <= written
    assert usage["limits"][0]["used"] == len(rows) == usage["total"]["requests"]
    database.close()
