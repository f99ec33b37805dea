"""In the place of openai-gateway: its variables, the lines of its guide, and what `deploy/` starts."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from fakes.upstream import FakeUpstream, Reply
from openai import OpenAI
from test_cli import CLEAN, Running, free_port

from jupyterhub_ai_gateway.config import read_openai_gateway
from jupyterhub_ai_gateway.providers.registry import Providers

DEPLOY = Path(__file__).parent.parent / "deploy"
KEY = "sk-provider-key-0123456789"

GUIDE = """
curl localhost:8000/v1/chat/completions -X POST \\
  -d '{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}]}' \\
  -H 'Content-Type: application/json' \\
  -H 'Authorization: Bearer key1'

curl -X POST localhost:8000/v1/chat/completions \\
  -d '{"model":"azure/gpt-4o","messages":[{"role":"user","content":"Hello"}]}' \\
  -H 'Content-Type: application/json' \\
  -H 'Authorization: Bearer key2'

curl -X POST localhost:8000/v1/chat/completions \\
  -d '{"model":"foo/deepseek","messages":[{"role":"user","content":"Hello"}]}' \\
  -H 'Content-Type: application/json' \\
  -H 'Authorization: Bearer key2'

curl localhost:8000/v1/models \\
  -H 'Authorization: Bearer key2'

curl localhost:8000/health
"""
"""The commands of its README, as they are there but for the port."""


def entry(up: FakeUpstream, *models: str, **more: Any) -> dict[str, Any]:
    return {"type": "openai", "models": list(models), "api_key": KEY, "base_url": f"{up.url}/v1", **more}


@contextlib.contextmanager
def gateway(folder: Path, environ: Mapping[str, str], *command: str, code: int = 0) -> Iterator[Running]:
    """Start it as the compose file does, without a Hub."""
    port, log = free_port(), folder / "gateway.log"
    own = {**CLEAN, "HOST": "127.0.0.1", "PORT": str(port), **environ}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub_ai_gateway", *(command or ("openai-gateway",))],
            cwd=folder,
            env=own,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    running = Running(process, f"http://127.0.0.1:{port}", log)
    try:
        running.until("answer", lambda: running.get("/health").ok)
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
        assert process.wait(30) == code, log.read_text()
    text = log.read_text()
    assert "Traceback" not in text
    assert KEY not in text
    assert "key1" not in text


def test_lines_of_the_guide_run_as_they_stand(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    with FakeUpstream(key=KEY) as up, FakeUpstream(is_strict=False) as azure:
        azure.always(Reply.json({"choices": [{"message": {"content": "From Azure"}}]}))
        config = {
            "default": [entry(up, "gpt-4o"), entry(up, "deepseek-chat")],
            "azure": [entry(azure, "gpt-4o", type="azure", base_url=azure.url, api_version="2024-10-21")],
            "foo": [{"type": "alias", "alias": {"azure-4o": "azure/gpt-4o", "deepseek": "deepseek-chat"}}],
        }
        with gateway(tmp_path, {"API_KEYS": "key1,key2", "CONFIG": json.dumps(config)}) as running:
            answers = []
            for line in GUIDE.strip().split("\n\n"):
                command = line.replace("localhost:8000", running.url.removeprefix("http://"))
                found = subprocess.run(
                    ["sh", "-c", command.replace("curl", "curl -sS --fail", 1)],
                    capture_output=True,
                    timeout=30,
                )
                assert found.returncode == 0, (line, found.stderr)
                answers.append(json.loads(found.stdout))
            texts = [answer["choices"][0]["message"]["content"] for answer in answers[:3]]
            assert texts == [up.text, "From Azure", up.text]
            listed = answers[3]
            assert [each["id"] for each in listed["data"]] == ["gpt-4o", "deepseek-chat", "azure/gpt-4o"]
            assert {*listed["data"][0]} >= {"id", "object", "created", "owned_by"}
            assert answers[4]["status"] == "OK"
            assert "uptime" in answers[4]
            assert azure.requests[0].path == "/openai/deployments/gpt-4o/chat/completions"
            assert azure.requests[0].header("api-key") == KEY
            for request in [*up.requests, *azure.requests]:
                assert "key1" not in str(request.headers)


def test_keys_models_and_refusals(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        config = tmp_path / "models.json"
        config.write_text(
            json.dumps({"config": {"default": [entry(up, "gpt-4o")]}, "lab": [entry(up, "a/b")]})
        )
        (tmp_path / "keys").write_text("key1,\nkey2\n")
        environ = {
            "API_KEYS": str(tmp_path / "keys"),
            "CONFIG": str(config),
            "WORKERS": "4",
            "LOG_LEVEL": "WARN",
        }
        with gateway(tmp_path, environ) as running:
            with OpenAI(base_url=f"{running.url}/v1", api_key="key2", max_retries=0) as ai:
                messages: Any = [{"role": "user", "content": "Hi"}]
                for model in ("gpt-4o", "default/gpt-4o", "lab/a/b"):
                    answer = ai.chat.completions.create(model=model, messages=messages)
                    assert answer.choices[0].message.content == up.text
            assert {request.document["model"] for request in up.requests} == {"gpt-4o", "a/b"}
            wrong = running.get("/v1/models", headers={"Authorization": "Bearer key3"})
            assert (wrong.status_code, "detail" in wrong.json()) == (401, True)
            assert running.get("/v1/models").status_code == 401
            page = running.get("/docs", headers={"Accept": "text/html"}, allow_redirects=False)
            assert page.status_code == 401  # there is no Hub to log in at
            body = {"model": "nowhere/gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
            headers = {"Authorization": "Bearer key1"}
            # A line of its guide that OpenAI refuses as well: the model only chats
            only_chats = requests.post(
                f"{running.url}/v1/completions",
                json={"model": "gpt-4o", "prompt": "Hi"},
                headers=headers,
                timeout=10,
            )
            assert only_chats.json()["error"]["code"] == "wrong_endpoint_type"
            missing = requests.post(
                f"{running.url}/v1/chat/completions", json=body, headers=headers, timeout=10
            )
            assert missing.status_code == 404


def test_changed_files_count_without_a_restart(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        config, keys = tmp_path / "models.json", tmp_path / "keys"
        config.write_text(json.dumps({"default": [entry(up, "gpt-4o")]}))
        keys.write_text("key1")
        with gateway(tmp_path, {"API_KEYS": str(keys), "CONFIG": str(config)}) as running:

            def models(key: str) -> list[str] | None:
                answer = running.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
                return [each["id"] for each in answer.json()["data"]] if answer.ok else None

            assert models("key1") == ["gpt-4o"]
            config.write_text(json.dumps({"default": [entry(up, "gpt-4.1")]}))
            running.until("new model", lambda: models("key1") == ["gpt-4.1"])
            keys.write_text("another")
            running.until("new key", lambda: models("another") == ["gpt-4.1"])
            assert models("key1") is None


def test_a_model_of_several_entries_is_failed_over(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up, FakeUpstream(key=KEY) as down:
        down.always(Reply.error(503, "Down"))
        config = {"default": [entry(down, "gpt-4o"), entry(up, "gpt-4o")]}
        environ = {"API_KEYS": "key1", "CONFIG": json.dumps(config), "LOG_LEVEL": "ERROR"}
        with gateway(tmp_path, environ) as running:
            with OpenAI(base_url=f"{running.url}/v1", api_key="key1", max_retries=0) as ai:
                messages: Any = [{"role": "user", "content": "Hi"}]
                for _ in range(8):
                    answer = ai.chat.completions.create(model="gpt-4o", messages=messages)
                    assert answer.choices[0].message.content == up.text
            assert len(up.requests) == 8
            assert (
                len(running.get("/v1/models", headers={"Authorization": "Bearer key1"}).json()["data"]) == 1
            )


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({}, "CONFIG: is not set"),
        ({"CONFIG": "{}"}, "CONFIG: has no model"),
        ({"CONFIG": "{"}, "CONFIG: is not valid JSON"),
        ({"CONFIG": '{"default": [{"models": ["m"], "base_url": "http://h/v1"}]}'}, "API_KEYS: is empty"),
        (
            {"CONFIG": '{"default": [{"models": ["m"]}]}', "API_KEYS": "k"},
            "default[0].api_key: is required",
        ),
        ({"CONFIG": "{}", "PORT": "http"}, "PORT: must be the number of a port"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, environ: Mapping[str, str], problem: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "jupyterhub_ai_gateway", "openai-gateway"],
        cwd=tmp_path,
        env={**CLEAN, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 1
    assert problem in found.stderr
    assert "Traceback" not in found.stderr


# What deploy/ starts


def compose() -> dict[str, Any]:
    service: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"][
        "openai-gateway"
    ]
    return service


def manifests() -> dict[str, dict[str, Any]]:
    text = (DEPLOY / "kubernetes" / "openai-gateway.yaml").read_text()
    return {each["kind"]: each for each in yaml.safe_load_all(text)}


def container() -> dict[str, Any]:
    found: dict[str, Any] = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    return found


def test_configurations_in_deploy_are_taken() -> None:
    environ = {"OPENAI_API_KEY": "sk-example"}
    of_compose = compose()["environment"]["CONFIG"].replace("$$", "$")
    of_kubernetes = manifests()["ConfigMap"]["data"]["config.json"]
    for text in (of_compose, of_kubernetes):
        config = read_openai_gateway(text, "key1", Providers.installed().schemas, environ)
        assert config.warnings == ()
        assert "gpt-4o" in {each.name for each in config.endpoints}


@pytest.mark.parametrize("where", ["compose", "kubernetes", "image"])
def test_commands_in_deploy_start_a_gateway(tmp_path: Path, where: str) -> None:
    environ = {"OPENAI_API_KEY": KEY, "API_KEYS": "key1"}
    if where == "compose":
        command = compose()["command"]
        environ["CONFIG"] = compose()["environment"]["CONFIG"].replace("$$", "$")
    else:
        (tmp_path / "config.json").write_text(manifests()["ConfigMap"]["data"]["config.json"])
        environ["CONFIG"] = str(tmp_path / "config.json")
        program, *command = container()["command"]
        if where == "image":
            program, *command = [
                *json.loads(_instruction("ENTRYPOINT")),
                *json.loads(_instruction("CMD", last=True)),
            ]
        assert program == "jupyterhub-ai-gateway"
    with gateway(tmp_path, environ, *command) as running:
        assert running.get("/v1/models", headers={"Authorization": "Bearer key1"}).ok
        for probe in ("readinessProbe", "livenessProbe"):
            assert running.get(container()[probe]["httpGet"]["path"]).ok
        (healthy,) = re.findall(r"(/health[a-z/]*)", _instruction("HEALTHCHECK"))
        assert running.get(healthy).ok


def _instruction(name: str, *, last: bool = False) -> str:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    found = [line.partition(" ")[2] for line in text.splitlines() if line.startswith(f"{name} ")]
    return found[-1 if last else 0]


def test_nothing_in_deploy_runs_as_root() -> None:
    user = _instruction("USER")
    assert user.isdigit()
    assert int(user) > 0
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert str(pod["securityContext"]["runAsUser"]) == user
    assert container()["securityContext"]["readOnlyRootFilesystem"] is True
    assert compose()["read_only"] is True
    secret = manifests()["Secret"]["metadata"]["name"]
    assert container()["envFrom"] == [{"secretRef": {"name": secret}}]
    names = {each["name"] for each in pod["volumes"]}
    assert {each["name"] for each in container()["volumeMounts"]} == names
    service = manifests()["Service"]["spec"]
    assert service["selector"] == manifests()["Deployment"]["spec"]["selector"]["matchLabels"]
    assert service["ports"][0]["targetPort"] in {each["name"] for each in container()["ports"]}
