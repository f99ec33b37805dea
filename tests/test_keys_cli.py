"""`jupyterhub-ai-gateway keys …`, as an operator types it, beside a gateway that runs."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests
from auth.test_keys import node_file
from fakes.upstream import FakeUpstream
from served import KEY, endpoint
from test_cli import ECHO, Running, free_port, gateway, run

BODY = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}


def configured(folder: Path, **more: Any) -> Path:
    file = folder / "config.yaml"
    document = {
        "endpoints": [ECHO],
        "ledger": {"url": f"sqlite:///{folder}/ledger.sqlite"},
        "keys": {"enabled": True},
        **more,
    }
    file.write_text(json.dumps(document))
    return file


def keys(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "keys", *arguments)


def status(running: Running, key: str, path: str = "/v1/chat/completions") -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return requests.post(f"{running.url}{path}", json=BODY, headers=headers, timeout=10).status_code


def test_a_key_counts_without_a_restart_survives_a_kill_and_ends(tmp_path: Path) -> None:
    configured(tmp_path)
    port = free_port()
    with gateway(tmp_path, "-H", "127.0.0.1", "-p", str(port), port=port) as running:
        made = keys(
            tmp_path, "create", "ci", "--scope", "chat:create", "--expires", "30d", "--owner", "alice"
        )
        assert made.returncode == 0, made.stderr
        key = made.stdout.strip()  # alone, for $(…)
        assert key.startswith("jaig-")
        assert "shown again" in made.stderr
        assert key not in made.stderr
        running.until("key", lambda: status(running, key) == 200)
        running.process.kill()
        running.process.wait()
        running.log = tmp_path / "again.log"
        with running.log.open("w") as output:
            running.process = subprocess.Popen(
                running.process.args,
                cwd=tmp_path,
                env=running.environ,
                stdout=output,
                stderr=output,
                text=True,
            )
        running.until("answer", lambda: running.get("/health").ok)
        assert status(running, key) == 200  # from the first request on
        assert keys(tmp_path, "revoke", "ci").returncode == 0
        running.until("end of the key", lambda: status(running, key) == 401)
    for name in ("gateway.log", "again.log"):
        assert key not in (tmp_path / name).read_text()


def test_list_rotate_and_revoke(tmp_path: Path) -> None:
    configured(tmp_path)
    made = keys(
        tmp_path,
        *("create", "course-builder", "--scope", "all", "--scope", "premium", "--expires", "never"),
        *("--endpoint", "gpt-*", "--endpoint", "o1", "--note", "for the course"),
    )
    assert made.returncode == 0, made.stderr
    listed = keys(tmp_path, "list")
    assert "course-builder" in listed.stdout
    assert "never" in listed.stdout
    (line,) = keys(tmp_path, "list", "--json").stdout.splitlines()
    found = json.loads(line)
    assert (found["scopes"], found["endpoints"], found["note"]) == (
        "all premium",
        "gpt-* o1",
        "for the course",
    )
    rotated = keys(tmp_path, "rotate", "course-builder", "--grace", "24h")
    assert rotated.stdout.startswith("jaig-")
    assert len(keys(tmp_path, "list", "--json").stdout.splitlines()) == 2
    revoked = keys(tmp_path, "revoke", "course-builder")
    assert revoked.returncode == 0
    assert keys(tmp_path, "list", "--json").stdout == ""
    assert len(keys(tmp_path, "list", "--json", "--all").stdout.splitlines()) == 2
    for text in (made.stdout.strip(), rotated.stdout.strip()):
        assert text.encode() not in b"".join(each.read_bytes() for each in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("create", "--scope", "all", "--expires", "1d"), "NAME: is missing"),
        (("create", "ci", "--scope", "all"), "expires: is required"),
        (("create", "ci", "--expires", "1d"), "scopes: a key needs a scope"),
        (("create", "ci", "--scope", "admin", "--expires", "1d"), "scopes: 'admin' is no scope"),
        (("create", "ci", "--scope", "all", "--expires", "soon"), "expires: must be never"),
        (("revoke", "nobody"), "there is no key nobody"),
        (("rotate", "nobody"), "there is no key nobody"),
        (("import", "nowhere.json"), "nowhere.json: cannot be read"),
        ((), "needs a command: create, list, revoke, rotate, import"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, arguments: tuple[str, ...], problem: str) -> None:
    configured(tmp_path)
    found = keys(tmp_path, *arguments)
    assert found.returncode == 1
    assert problem in found.stderr
    assert "Traceback" not in found.stderr
    assert found.stdout == ""


def test_keys_that_are_off_are_not_made(tmp_path: Path) -> None:
    configured(tmp_path, keys=None)
    found = keys(tmp_path, "create", "ci", "--scope", "all", "--expires", "1d")
    assert "keys are off" in found.stderr
    configured(tmp_path, ledger=False)
    found = keys(tmp_path, "list")
    assert "keys.enabled: needs the ledger's database" in found.stderr


@pytest.mark.parametrize("form", ["json", "base64", "variable"])
def test_keys_of_a_node_gateway_go_on(tmp_path: Path, form: str) -> None:
    model = {"provider": "openai", "name": "gpt-4o-mini", "config": {"openai_api_key": "sk-x"}}
    point = {"name": "chat", "endpoint_type": "llm/v1/chat", "model": model}
    configured(tmp_path, endpoints=[point])
    text = json.dumps(node_file("a-key-of-the-node-gateway", user="john.doe")).encode()
    (tmp_path / "hashed-api-keys").write_bytes(text if form == "json" else base64.b64encode(text))
    if form == "variable":
        found = run(
            tmp_path, "keys", "import", environ={"HASHED_API_KEYS": base64.b64encode(text).decode()}
        )
    else:
        found = keys(tmp_path, "import", "hashed-api-keys")
    assert found.stdout == "john.doe: get:/openai/v1/models\n"
    assert "already" in keys(tmp_path, "import", "hashed-api-keys").stderr
    port = free_port()
    with gateway(tmp_path, "-H", "127.0.0.1", "-p", str(port), port=port) as running:
        headers = {"Authorization": "Bearer a-key-of-the-node-gateway"}
        listed = running.get("/openai/v1/models", headers=headers)
        assert [each["id"] for each in listed.json()["data"]] == ["gpt-4o-mini"]
        assert running.get("/v1/models", headers=headers).status_code == 403
        wrong = running.get("/openai/v1/models", headers={"Authorization": "Bearer another"})
        assert wrong.status_code == 401


NODE_GUIDE = """
curl -X GET http://localhost:3000/openai/v1/models -H 'Authorization: Bearer {KEY}'

curl -X POST http://localhost:3000/openai/v1/chat/completions -H 'Authorization: Bearer {KEY}' -d '{...}'

curl -X POST http://localhost:3000/openai/v1/embeddings -H 'Authorization: Bearer {KEY}' -d '{...}'
"""
"""The commands of its README, with what is to be filled in, and a quote that is missing there."""


def test_lines_of_the_node_guide_run_as_they_stand(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    bodies = {
        "chat": {"model": "gpt-4o-mini", "messages": BODY["messages"]},
        "embeddings": {"model": "text-embedding-3-small", "input": "Hi"},
    }
    with FakeUpstream(key=KEY) as up:
        configured(tmp_path, endpoints=[endpoint("chat", up), endpoint("vectors", up, "embeddings")])
        document = node_file("kept-by-john")
        (entry,) = document.values()
        paths = ("/openai/v1/chat/completions", "/openai/v1/embeddings")
        entry["scopes"] += [{"method": "post", "path": path} for path in paths]
        (tmp_path / "hashed-api-keys.json").write_text(json.dumps(document))
        assert keys(tmp_path, "import", "hashed-api-keys.json").returncode == 0
        port = free_port()
        with gateway(tmp_path, "-H", "127.0.0.1", "-p", str(port), port=port) as running:
            answers = [curl(line, running, bodies) for line in NODE_GUIDE.strip().split("\n\n")]
        models, chat, vectors = answers
        assert [each["id"] for each in models["data"]] == ["gpt-4o-mini", "text-embedding-3-small"]
        assert chat["choices"][0]["message"]["content"] == up.text
        assert vectors["data"][0]["object"] == "embedding"
        assert {request.header("Authorization") for request in up.requests} == {f"Bearer {KEY}"}


def curl(line: str, running: Running, bodies: dict[str, Any]) -> Any:
    """Run a line of a guide, filled in."""
    body = next((each for word, each in bodies.items() if word in line), None)
    line = line.replace("http://localhost:3000", running.url).replace("{...}", json.dumps(body))
    line = line.replace("{KEY}", "kept-by-john").replace("curl", "curl -sS --fail", 1)
    found = subprocess.run(["sh", "-c", line], capture_output=True, timeout=30)
    assert found.returncode == 0, (line, found.stderr)
    return json.loads(found.stdout)


def test_admin_port_is_this_machines_and_needs_no_token(tmp_path: Path) -> None:
    configured(tmp_path)
    port, admin = free_port(), free_port()
    arguments = ("-H", "127.0.0.1", "-p", str(port), "--admin-port", str(admin))
    with gateway(tmp_path, *arguments, port=port) as running:
        at = f"http://127.0.0.1:{admin}"
        assert requests.get(f"{at}/ping", timeout=10).text == "pong"
        assert "jupyterhub_ai_gateway_" in requests.get(f"{at}/metrics", timeout=10).text
        for path in ("/v1/models", "/api/keys", "/health", "/openai/v1/models"):
            assert requests.get(f"{at}{path}", timeout=10).status_code == 404
        assert running.get("/metrics").status_code == 401
        assert f"http://127.0.0.1:{admin}" in running.log.read_text()


@pytest.mark.parametrize("address", ["nowhere", "99999", "8081x", "host:"])
def test_wrong_admin_port_stops_the_start(tmp_path: Path, address: str) -> None:
    configured(tmp_path)
    environ = {"JUPYTERHUB_API_TOKEN": "t"}
    found = run(tmp_path, "-H", "127.0.0.1", "-p", "0", f"--admin-port={address}", environ=environ)
    assert found.returncode == 1
    assert "admin_port: must be a port" in found.stderr
