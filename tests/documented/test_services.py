"""What the pages start that does not end by itself: in a container, under systemd, for keys alone."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import yaml
from fakes.hub_thread import hub_in_thread
from integration.hub import free_ports, start_hub, wait_until
from served import KEY

from .blocks import ROOT, page
from .stories import PROGRAMS, environ
from .world import World, configuration

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
ECHO = {"endpoints": [{"name": "chat", "endpoint_type": "llm/v1/chat", "model": {"provider": "echo"}}]}


@contextmanager
def started(command: Sequence[str], folder: Path, given: Mapping[str, str], url: str) -> Iterator[Any]:
    """Run a command that serves `url`; it has to end well when it is told to."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ(folder, given),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until("service", lambda: is_up(process, url, log), 30)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        status = process.wait(30)
    assert status in (0, -signal.SIGTERM), log.read_text()  # bash ends by the signal, the gateway with 0
    assert "Traceback" not in log.read_text()


def is_up(process: subprocess.Popen[bytes], url: str, log: Path) -> bool | None:
    assert process.poll() is None, log.read_text()
    try:
        return True if requests.get(url, timeout=5).ok else None
    except requests.ConnectionError:
        return None


def asked(url: str, token: str) -> requests.Response:
    return requests.post(
        f"{url}v1/chat/completions", json=CHAT, headers={"Authorization": f"Bearer {token}"}, timeout=30
    )


def hub_environment(hub_url: str) -> dict[str, str]:
    return {
        "JUPYTERHUB_API_TOKEN": "service-token",
        "JUPYTERHUB_API_URL": hub_url,
        "JUPYTERHUB_SERVICE_NAME": "ai-gateway",
        "JUPYTERHUB_SERVICE_PREFIX": "/services/ai-gateway/",
    }


def test_the_command_of_a_container_serves(tmp_path: Path) -> None:
    """The variables are those that the page lists."""
    (port,) = free_ports(1)
    docker = page("howto/docker.md")
    text = docker.block("bash", "jupyterhub-ai-gateway --config")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(ECHO))
    text = text.replace("/etc/ai-gateway", str(tmp_path)).replace("0.0.0.0", "127.0.0.1")
    text = text.replace("5000", str(port))
    with hub_in_thread() as hub_url:
        given = hub_environment(hub_url)
        prose = (ROOT / "docs/howto/docker.md").read_text()
        assert all(f"`{name}`" in prose for name in given)
        url = f"http://127.0.0.1:{port}/services/ai-gateway/"
        with started(["bash", "-c", text], tmp_path, given, f"{url}health"):
            assert asked(url, "t-alice").status_code == 200


def test_the_command_alone_serves(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    text = page("reference/command-line.md").block("shell", "jupyterhub-ai-gateway --config").strip()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(ECHO))
    with hub_in_thread() as hub_url:
        url = f"http://127.0.0.1:{port}/services/ai-gateway/"
        command = ["bash", "-c", f"{text} --port {port}"]
        with started(command, tmp_path, hub_environment(hub_url), f"{url}health"):
            assert asked(url, "t-alice").status_code == 200


def test_the_command_for_callers_with_keys(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    text = page("reference/compatibility-openai-gateway.md").block("shell", "API_KEYS=")
    with World() as world:
        document = {"default": [{"models": ["chat"], "api_key": KEY, "base_url": f"{world.url}/v1"}]}
        (tmp_path / "config.json").write_text(json.dumps(document))
        url = f"http://127.0.0.1:{port}/"
        given = {"PORT": str(port), "HOST": "127.0.0.1"}
        with started(["bash", "-c", text], tmp_path, given, f"{url}health"):
            assert asked(url, "key2").status_code == 200
            assert asked(url, "key3").status_code == 401


@pytest.mark.hub
def test_the_external_service_serves_a_hub(tmp_path: Path) -> None:
    """The unit's own command and the page's variables, behind a Hub that the page's block configures."""
    guide = page("howto/external-service.md")
    gateway, port = tmp_path / "gateway", free_ports(1)[0]
    gateway.mkdir()
    (gateway / "token").write_text("f00d" * 16)

    def here(text: str) -> str:
        text = text.replace("/etc/jupyterhub-ai-gateway", str(gateway))
        text = text.replace("/var/lib/jupyterhub-ai-gateway", str(gateway))
        return text.replace("127.0.0.1:5000", f"127.0.0.1:{port}")

    hub = start_hub(
        tmp_path / "hub",
        config_text=here(guide.block("python", "from pathlib import Path")),
        external_ports=[port],
        environment={"PYTHONPATH": str(ROOT)},
    )
    try:
        with World() as world:
            document = configuration(here(guide.block("yaml", "endpoints:")), world, gateway)
            (gateway / "config.yaml").write_text(yaml.safe_dump(document))
            lines = guide.block("ini", "JUPYTERHUB_API_URL").replace(
                "http://127.0.0.1:8081/hub/api", hub.api_url
            )
            given = dict(line.split("=", 1) for line in lines.split())
            given["JUPYTERHUB_API_TOKEN"] = (gateway / "token").read_text()
            command = unit_command(here, port)
            url = f"{hub.url}services/ai-gateway/"
            with started(command, gateway, given, f"{url}health") as process:
                check = here(guide.block("bash", "curl -fsS"))
                assert (
                    b"OK" in subprocess.run(["bash", "-c", check], capture_output=True, check=True).stdout
                )
                assert asked(url, hub.token("alice")).status_code == 200
                assert "ai-gateway" in hub.login("alice").get(url, timeout=30).text
                document["endpoints"][0]["aliases"] = ["another"]
                (gateway / "config.yaml").write_text(yaml.safe_dump(document))
                process.send_signal(signal.SIGHUP)  # as ExecReload does
                wait_until("reload", lambda: knows(url, hub.token("alice"), "another"))
    finally:
        hub.stop()


@pytest.mark.hub
def test_the_login_comes_back_to_an_address_of_its_own(tmp_path: Path) -> None:
    """For the browser the Hub is 127.0.0.1 and the gateway localhost: two hosts, with their own cookies."""
    guide = page("howto/behind-an-ingress.md")
    (port,) = free_ports(1)
    own = f"http://localhost:{port}"
    text = guide.block("python", "import os").replace("http://ai-gateway:5000", f"http://127.0.0.1:{port}")
    hub = start_hub(
        tmp_path / "hub",
        config_text=text.replace("https://ai.example.org", own),
        external_ports=[port],
        environment={"PYTHONPATH": str(ROOT), "AI_GATEWAY_TOKEN": "service-token"},
    )
    try:
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(ECHO))
        lines = guide.block("ini", "JUPYTERHUB_OAUTH_CALLBACK_URL").replace("https://ai.example.org", own)
        lines = lines.replace("https://hub.example.org/", hub.url)
        given = dict(line.split("=", 1) for line in lines.split())
        given |= {**hub_environment(hub.api_url), "JUPYTERHUB_SERVICE_PREFIX": "/"}
        command = [str(PROGRAMS / "jupyterhub-ai-gateway"), "--host", "localhost", "--port", str(port)]
        with started(command, tmp_path, given, f"{own}/health"):
            shown = hub.login("alice").get(f"{own}/", timeout=30)
        assert (shown.status_code, shown.url) == (200, f"{own}/"), shown.text[:2000]
        assert "alice" in shown.text
        passed = [urlsplit(each.url) for each in shown.history]
        assert f"127.0.0.1:{hub.port}" in {each.netloc for each in passed}
        assert passed[-1].path == "/oauth_callback"
    finally:
        hub.stop()


def unit_command(here: Any, port: int) -> list[str]:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(ROOT / "deploy/systemd/jupyterhub-ai-gateway.service")
    service = unit["Service"]
    assert service["EnvironmentFile"] == "/etc/jupyterhub-ai-gateway/environment"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    program, *words = shlex.split(here(service["ExecStart"]).replace("--port 5000", f"--port {port}"))
    assert program == "/opt/jupyterhub-ai-gateway/bin/jupyterhub-ai-gateway"
    return [str(PROGRAMS / "jupyterhub-ai-gateway"), *words]


def knows(url: str, token: str, alias: str) -> bool | None:
    body = {**CHAT, "model": alias}
    answer = requests.post(
        f"{url}v1/chat/completions", json=body, headers={"Authorization": f"Bearer {token}"}, timeout=30
    )
    return True if answer.ok else None


CAMPUS = """
import json
from http.server import BaseHTTPRequestHandler, HTTPServer

class Host(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        ok = self.path == "/llama-3.3-70b/chat/completions" and self.headers["X-Campus-Key"] == "the-key"
        message = {"role": "assistant", "content": "Hello from the campus."}
        body = json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
        self.send_response(200 if ok else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = HTTPServer(("127.0.0.1", 0), Host)
print(server.server_port, flush=True)
server.serve_forever()
"""


def test_the_provider_of_the_guide_answers(tmp_path: Path) -> None:
    """The class is a package of its own, with the entry point that the page shows."""
    guide = page("howto/add-a-provider.md")
    packages = tmp_path / "packages"
    (packages / "campus-1.0.dist-info").mkdir(parents=True)
    (packages / "campus_provider.py").write_text(guide.block("python", "from jupyterhub_ai_gateway"))
    group, line = guide.block("toml", "[project").split("\n", 1)
    name = group.partition('entry-points."')[2].removesuffix('"]')
    (packages / "campus-1.0.dist-info" / "METADATA").write_text("Name: campus\nVersion: 1.0\n")
    entry = f"[{name}]\n{line.replace(chr(34), '')}"
    (packages / "campus-1.0.dist-info" / "entry_points.txt").write_text(entry)
    (port,) = free_ports(1)
    campus = subprocess.Popen([sys.executable, "-c", CAMPUS], stdout=subprocess.PIPE, text=True)
    assert campus.stdout is not None
    try:
        config = {"url": f"http://127.0.0.1:{campus.stdout.readline().strip()}", "key": "the-key"}
        model = {"provider": "campus", "name": "llama-3.3-70b", "config": config}
        point = {"name": "chat", "endpoint_type": "llm/v1/chat", "model": model}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"endpoints": [point]}))
        with hub_in_thread() as hub_url:
            given = {**hub_environment(hub_url), "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}"}
            url = f"http://127.0.0.1:{port}/services/ai-gateway/"
            command = [str(PROGRAMS / "jupyterhub-ai-gateway"), "--port", str(port)]
            with started(command, tmp_path, given, f"{url}health"):
                answer = asked(url, "t-alice")
        assert answer.json()["choices"][0]["message"]["content"] == "Hello from the campus.", answer.text
    finally:
        campus.kill()
        campus.wait()
        campus.stdout.close()
