"""The command, as an operator types it: the original's usage page, the Hub's environment, signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from fakes.hub_thread import hub_in_thread
from fakes.upstream import FakeUpstream, Gate, Reply, chat_chunk
from served import KEY, endpoint

from jupyterhub_ai_gateway._version import __version__

ECHO = {"name": "chat", "endpoint_type": "llm/v1/chat", "model": {"provider": "echo"}}
CLEAN = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def run(
    folder: Path, *arguments: str, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "jupyterhub_ai_gateway", *arguments],
        cwd=folder,
        env={**CLEAN, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=60,
    )


def write(folder: Path, *endpoints: dict[str, Any], name: str = "config.yaml") -> Path:
    file = folder / name
    file.write_text(json.dumps({"endpoints": endpoints}))
    return file


class Running:
    """A gateway in a process of its own."""

    environ: Mapping[str, str]

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path) -> None:
        self.process, self.url, self.log = process, url, log

    def get(self, path: str, **more: Any) -> requests.Response:
        return requests.get(f"{self.url}{path}", timeout=10, **more)

    def until(self, what: str, found: Any) -> Any:
        for _ in range(1000):
            with contextlib.suppress(requests.ConnectionError):
                if answer := found():
                    return answer
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(f"no {what}: {self.log.read_text()}")


@contextlib.contextmanager
def gateway(
    folder: Path, *arguments: str, environ: Mapping[str, str] | None = None, port: int = 0
) -> Iterator[Running]:
    """Start the command and wait until it serves; it must end with 0 on SIGTERM."""
    log = folder / "gateway.log"
    with hub_in_thread() as api_url, log.open("w") as output:
        own = {**CLEAN, "JUPYTERHUB_API_URL": api_url, "JUPYTERHUB_API_TOKEN": "t-service"}
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub_ai_gateway", *arguments],
            cwd=folder,
            env={**own, **(environ or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running = Running(process, f"http://127.0.0.1:{port}", log)
        running.environ = {**own, **(environ or {})}
        try:
            running.until("answer", lambda: running.get("/health").ok)
            yield running
        except BaseException:
            running.process.kill()
            raise
        finally:  # a test may have killed the process, and started another in its place
            if running.process.poll() is None:
                running.process.terminate()
            code = running.process.wait(30)
    assert code == 0, log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("style", ["long", "short", "environment", "managed"])
def test_every_way_of_saying_where_to_listen(tmp_path: Path, style: str) -> None:
    file, port = write(tmp_path, ECHO, name="endpoints.yaml"), free_port()
    arguments, environ = {
        "long": (["--config", str(file), "--host", "127.0.0.1", "--port", str(port), "--metrics"], {}),
        "short": (["-c", str(file), "-H", "127.0.0.1", "-p", str(port), "-m"], {}),
        "environment": (["-p", str(port), "-H", "127.0.0.1"], {"JUPYTERHUB_AI_GATEWAY_CONFIG": str(file)}),
        "managed": (
            ["-c", str(file)],
            {
                "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}",
                "JUPYTERHUB_SERVICE_PREFIX": "/services/ai-gateway/",
                "JUPYTERHUB_SERVICE_NAME": "ai-gateway",
            },
        ),
    }[style]
    with gateway(tmp_path, *arguments, environ=environ, port=port) as running:
        headers = {"Authorization": "Bearer t-alice"}
        body = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}
        prefix = environ.get("JUPYTERHUB_SERVICE_PREFIX", "/")
        for path in (f"{prefix}v1/chat/completions", "/v1/chat/completions"):
            answer = requests.post(f"{running.url}{path}", json=body, headers=headers, timeout=10)
            assert answer.json()["choices"][0]["message"]["content"].startswith("You said: Hi")
        assert running.get("/health").json()["version"] == __version__
        assert running.get("/metrics").status_code == 401
        assert (
            running.get("/docs", headers={"Accept": "text/html"}, allow_redirects=False).status_code == 302
        )


def test_sighup_reloads_and_sigterm_drains(tmp_path: Path) -> None:
    port, gate = free_port(), Gate()
    with FakeUpstream(key=KEY) as up:
        file = write(tmp_path, endpoint("chat", up))
        up.script(
            Reply.stream(chat_chunk({"content": "a"}), gate, chat_chunk({}, finish_reason="stop"), "[DONE]")
        )
        settings = ["--AIGateway.reload_poll_s=0", "--AIGateway.drain_delay_s=0.5"]
        with gateway(tmp_path, "-c", str(file), "-p", str(port), *settings, port=port) as running:
            headers = {"Authorization": "Bearer t-alice"}
            write(tmp_path, endpoint("chat", up), ECHO | {"name": "more"})
            running.process.send_signal(signal.SIGHUP)
            running.until(
                "reload", lambda: running.get("/health").json()["configuration"]["endpoints"] == 2
            )
            body = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
            url = f"{running.url}/v1/chat/completions"
            with requests.post(url, json=body, headers=headers, stream=True, timeout=10) as stream:
                assert gate.reached.wait(10)
                running.process.send_signal(signal.SIGTERM)
                running.until("drain", lambda: running.get("/health/ready").status_code == 503)
                gate.set()
                assert stream.content.endswith(b"data: [DONE]\n\n")


def test_endpoints_and_settings_from_a_python_file(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "jupyterhub_ai_gateway_config.py").write_text(
        f"c.AIGateway.endpoints = [{ECHO!r}]\n"
        f"c.AIGateway.port = {port}\n"
        "c.AIGateway.authenticate_prometheus = False\n"
        "c.AIGateway.http_server = 'tornado'\n"
        "c.AIGateway.http_client = 'aiohttp'\n"
    )
    with gateway(tmp_path, port=port) as running:
        assert "jupyterhub_ai_gateway_build_info" in running.get("/metrics").text
        shown = run(tmp_path, "--show-config", environ={"JUPYTERHUB_API_TOKEN": "t"})
        assert "http_server" in shown.stdout
        assert "echo" not in shown.stdout


def test_check_says_what_would_be_served(tmp_path: Path) -> None:
    more = {
        "name": "text",
        "endpoint_type": "llm/v1/completions",
        "model": {"provider": "echo"},
        "scope": "premium",
    }
    limited = ECHO | {"limit": {"calls": 3, "renewal_period": "minute"}, "typo": 1}
    split = {
        "name": "both",
        "task_type": "llm/v1/chat",
        "destinations": [{"name": "chat", "traffic_percentage": 100}],
    }
    file = write(tmp_path, limited, more, split)
    checked = run(tmp_path, "check", "--config", str(file))
    assert checked.returncode == 0, checked.stderr
    assert "chat  llm/v1/chat  echo  at most 3 calls per minute and user" in checked.stdout
    assert "text  llm/v1/completions  echo  scope premium" in checked.stdout
    assert "both  llm/v1/chat  split over chat 100 %" in checked.stdout
    assert "warning: endpoints[0].typo" in checked.stdout
    assert "2 endpoint(s)" in checked.stdout


@pytest.mark.parametrize("command", [["check"], []])
def test_wrong_configuration_is_one_clear_message(tmp_path: Path, command: list[str]) -> None:
    file = write(tmp_path, ECHO, ECHO | {"endpoint_type": "llm/v1/chatt"})
    found = run(tmp_path, *command, "-c", str(file), environ={"JUPYTERHUB_API_TOKEN": "t"})
    assert found.returncode == 1
    assert "endpoints[1].name" in found.stderr
    assert "endpoints[1].endpoint_type" in found.stderr
    assert "did you mean llm/v1/chat?" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("environ", "part"),
    [
        ({}, "JUPYTERHUB_API_TOKEN: is not set"),
        ({"JUPYTERHUB_API_TOKEN": "t", "JUPYTERHUB_OAUTH_ACCESS_SCOPES": "[]"}, "no one would be refused"),
        ({"JUPYTERHUB_API_TOKEN": "t", "JUPYTERHUB_API_URL": "hub:8081"}, "JUPYTERHUB_API_URL"),
    ],
)
def test_unsafe_environment_refuses_to_start(tmp_path: Path, environ: dict[str, str], part: str) -> None:
    write(tmp_path, ECHO)
    found = run(tmp_path, environ=environ)
    assert found.returncode == 1
    assert part in found.stderr
    assert "Traceback" not in found.stderr


def test_missing_file_is_named(tmp_path: Path) -> None:
    found = run(tmp_path, "-c", "nowhere.yaml", environ={"JUPYTERHUB_API_TOKEN": "t"})
    assert found.returncode == 1
    assert "nowhere.yaml" in found.stderr
    assert "cannot be read" in found.stderr


def test_taken_port_says_what_to_do(tmp_path: Path) -> None:
    write(tmp_path, ECHO)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = run(tmp_path, "-H", "127.0.0.1", "-p", port, environ={"JUPYTERHUB_API_TOKEN": "t"})
    assert found.returncode == 1
    assert f"port {port} of 127.0.0.1 is in use" in found.stderr
    assert "Traceback" not in found.stderr


def test_generated_settings_file_is_complete_and_is_never_overwritten(tmp_path: Path) -> None:
    assert run(tmp_path, "--generate-config").returncode == 0
    text = (tmp_path / "jupyterhub_ai_gateway_config.py").read_text()
    for name in ("endpoints", "http_server", "keepalive_s", "drain_timeout_s"):
        assert f"# c.AIGateway.{name} = " in text
    again = run(tmp_path, "--generate-config")
    assert again.returncode == 1
    assert "exists already" in again.stderr


def test_help_names_every_flag_and_sub_command(tmp_path: Path) -> None:
    text = run(tmp_path, "--help").stdout
    for word in (
        "--config",
        "--host",
        "--port",
        "--metrics",
        "--generate-config",
        "--show-config",
        "check",
    ):
        assert word in text


def test_version_is_said(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout.strip() == __version__


def test_managed_service_goes_when_its_hub_is_gone(tmp_path: Path) -> None:
    file, port = write(tmp_path, ECHO), free_port()
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    environ = {
        **CLEAN,
        "JUPYTERHUB_API_TOKEN": "t",
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}",
    }
    command = [sys.executable, "-m", "jupyterhub_ai_gateway", "-c", str(file)]
    log = (tmp_path / "log").open("w")
    with (
        log,
        subprocess.Popen(
            [sys.executable, "-c", program, *command],
            cwd=tmp_path,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as parent,
    ):
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        running = Running(parent, f"http://127.0.0.1:{port}", tmp_path / "log")
        running.until("answer", lambda: running.get("/health").ok)
        parent.kill()
        parent.wait()
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").exists() and " Z " in Path(f"/proc/{pid}/stat").read_text():
            return
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("it outlived its Hub")


@pytest.mark.parametrize("style", ["flags", "environment"])
def test_start_as_mlflow_spells_it(tmp_path: Path, style: str) -> None:
    file, port = write(tmp_path, ECHO, name="endpoints.yaml"), free_port()
    where = ["--host", "127.0.0.1", "--port", str(port)]
    arguments, environ = {
        "flags": (["start", "--config-path", str(file), *where, "--workers", "1"], {}),
        "environment": (["start", *where], {"MLFLOW_DEPLOYMENTS_CONFIG": str(file)}),
    }[style]
    with gateway(tmp_path, *arguments, environ=environ, port=port) as running:
        headers = {"Authorization": "Bearer t-alice"}
        assert running.get("/v1/models", headers=headers).json()["data"][0]["id"] == "chat"


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({}, "store.url: is needed by several workers"),
        ({"store": {"url": "redis://127.0.0.1:1"}}, "ledger.url: must be a PostgreSQL for several workers"),
    ],
)
def test_workers_that_would_share_nothing_are_refused(
    tmp_path: Path, more: dict[str, Any], part: str
) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps({"endpoints": [ECHO], **more}))
    done = run(tmp_path, "start", "--workers", "2", environ={"JUPYTERHUB_API_TOKEN": "t"})
    assert done.returncode != 0
    assert part in done.stderr
