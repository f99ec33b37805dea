"""`start --workers`: several processes on one port, with one set of limits, counts and signals."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import requests
from databases import Redis
from test_cli import ECHO, free_port, gateway, run

from jupyterhub_ai_gateway.metrics.merge import merged

BODY = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}
HEADERS = {"Authorization": "Bearer t-alice"}


def configuration(redis: Redis, *names: str, **more: Any) -> str:
    limit = {"calls": 20, "renewal_period": "day"}
    endpoints = [{**ECHO, "name": name, "limit": limit} for name in names]
    return json.dumps({"endpoints": endpoints, "store": {"url": redis.url}, "ledger": False, **more})


def test_workers_share_limits_counts_and_signals(redis_server: Redis, tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "config.yaml"
    file.write_text(configuration(redis_server, "chat"))
    settings = ["--AIGateway.reload_poll_s=0", "--AIGateway.authenticate_prometheus=False"]
    command = ["start", "--config-path", str(file), "--host", "127.0.0.1", "--port", str(port)]
    with gateway(tmp_path, *command, "--workers", "2", *settings, port=port) as running:
        process = psutil.Process(running.process.pid)
        running.until("workers", lambda: len(process.children()) == 2)

        def ask(_: int) -> int:
            url = f"{running.url}/v1/chat/completions"  # a connection of its own each time
            return requests.post(url, json=BODY, headers=HEADERS, timeout=30).status_code

        with ThreadPoolExecutor(8) as pool:
            statuses = Counter(pool.map(ask, range(40)))
        assert statuses == {200: 20, 429: 20}

        def counted() -> float:
            text = running.get("/metrics").text
            return sum(
                float(line.rpartition(" ")[2])
                for line in text.splitlines()
                if line.startswith("jupyterhub_ai_gateway_requests_total{")
            )

        running.until("counts", lambda: counted() == 40.0)
        # Nobody knows which of the two answers: each tells of both
        assert [counted() for _ in range(6)] == [40.0] * 6
        file.write_text(configuration(redis_server, "chat", "more"))
        running.process.send_signal(signal.SIGHUP)
        endpoints = "jupyterhub_ai_gateway_configuration_endpoints 2.0"  # the smallest of all
        running.until("reload", lambda: endpoints in running.get("/metrics").text)
        first, second = process.children()
        first.send_signal(signal.SIGKILL)
        running.until(
            "replacement", lambda: {each.pid for each in process.children()} - {first.pid, second.pid}
        )
        running.until("answers", lambda: all(running.get("/health").ok for _ in range(10)))
        assert ask(0) == 429


def test_requests_of_all_workers_are_finished(redis_server: Redis, tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "config.yaml"
    slow = {"provider": "echo", "name": "x", "config": {"tokens_per_second": "20"}}
    entry = {"name": "chat", "endpoint_type": "llm/v1/chat", "model": slow}
    file.write_text(json.dumps({"endpoints": [entry], "store": {"url": redis_server.url}, "ledger": False}))
    started = threading.Barrier(5)

    def stream(url: str) -> bytes:
        body = {**BODY, "stream": True}
        with requests.post(url, json=body, headers=HEADERS, stream=True, timeout=30) as answer:
            pieces = answer.iter_content(None)
            first = next(pieces)
            started.wait(20)
            return bytes(first + b"".join(pieces))

    command = ["start", "-c", str(file), "-H", "127.0.0.1", "-p", str(port), "--workers", "2"]
    with gateway(tmp_path, *command, port=port) as running, ThreadPoolExecutor(4) as pool:
        url = f"{running.url}/v1/chat/completions"
        streams = [pool.submit(stream, url) for _ in range(4)]
        started.wait(20)
        running.process.send_signal(signal.SIGTERM)
        assert all(each.result().endswith(b"data: [DONE]\n\n") for each in streams)


def test_worker_that_cannot_start_ends_all(tmp_path: Path) -> None:
    nowhere = {"store": {"url": "redis://127.0.0.1:1"}, "ledger": {"url": "postgresql://127.0.0.1:1/x"}}
    (tmp_path / "config.yaml").write_text(json.dumps({"endpoints": [ECHO], **nowhere}))
    command = ["start", "--workers", "2", "-p", str(free_port())]
    done = run(tmp_path, *command, environ={"JUPYTERHUB_API_TOKEN": "t"})
    assert done.returncode == 1
    assert "worker 1: ledger.url" in done.stderr
    assert "Traceback" not in done.stderr


def test_merged_counts_are_added_and_states_are_the_worst() -> None:
    def text(count: int, resting: int, loaded: int) -> str:
        return (
            "# TYPE x_requests_total counter\n"
            f'x_requests_total{{endpoint="a"}} {count}\n'
            "# TYPE x_s histogram\n"
            f'x_s_bucket{{le="1.0"}} {count}\nx_s_bucket{{le="+Inf"}} {count}\n'
            f"x_s_count {count}\nx_s_sum {count / 2}\n"
            "# TYPE x_deployment_resting gauge\n"
            f"x_deployment_resting {resting}\n"
            "# TYPE x_configuration_last_load_successful gauge\n"
            f"x_configuration_last_load_successful {loaded}\n"
        )

    body, content_type = merged([text(3, 0, 1), text(4, 1, 0)])
    lines = body.decode().splitlines()
    for line in (
        'x_requests_total{endpoint="a"} 7.0',
        'x_s_bucket{le="1.0"} 7.0',
        "x_s_count 7.0",
        "x_s_sum 3.5",
        "x_deployment_resting 1.0",
        "x_configuration_last_load_successful 0.0",
    ):
        assert line in lines
    assert content_type.startswith("text/plain")
    assert merged([text(1, 0, 1)], "application/openmetrics-text")[0].endswith(b"# EOF\n")
