"""A token for outside the Hub, from a real Hub; and what the Hub says of the owners of batches."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest
import requests

from jupyterhub_ai_gateway.auth.directory import Directory
from jupyterhub_ai_gateway.auth.hub import HubClient
from jupyterhub_ai_gateway.commands.auth import Auth
from jupyterhub_ai_gateway.commands.token_file import place_of, read_login
from jupyterhub_ai_gateway.vocabulary import Caller

from .hub import GatewayHub, RunningHub

pytestmark = pytest.mark.hub


def who(hub: RunningHub, token: str) -> requests.Response:
    headers = {"Authorization": f"token {token}"}
    return requests.get(f"{hub.api_url}/user", headers=headers, timeout=30)


def test_a_pasted_token_becomes_one_that_can_only_call_the_gateway(
    hub: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    whole = hub.token("alice")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{whole}\n"))
    words = ["login", "--hub", hub.url, "--stdin", "--expires-in", "2h"]
    assert Auth(environ).run(words) == 0, capsys.readouterr().err
    login = read_login(place_of(environ))
    assert login is not None
    assert login.token != whole
    assert login.left_s == pytest.approx(7200, abs=120)
    assert who(hub, whole).status_code == 403, "the token that was pasted still counts"
    model = who(hub, login.token).json()
    assert model["name"] == "alice"
    scopes = set(model["scopes"])
    assert {"access:services!service=ai-gateway", "custom:ai-gateway:full-access"} <= scopes
    assert not {scope for scope in scopes if scope.startswith(("tokens", "servers", "users"))}
    headers = {"Authorization": f"token {login.token}"}
    made = requests.post(f"{hub.api_url}/users/alice/tokens", headers=headers, json={}, timeout=30)
    assert made.status_code == 403


def test_a_person_without_access_is_told_what_the_hub_says(
    hub: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    monkeypatch.setattr("sys.stdin", io.StringIO(hub.token("bob")))
    assert Auth(environ).run(["login", "--hub", hub.url, "--stdin"]) == 1
    assert "The Hub made no token" in capsys.readouterr().err
    assert not place_of(environ).exists()


def test_a_token_that_was_limited_on_the_page_is_kept_as_it_is(
    hub: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    limited = hub.token("alice", ["access:services!service=ai-gateway", "custom:ai-gateway:chat:create"])
    monkeypatch.setattr("sys.stdin", io.StringIO(limited))
    assert Auth(environ).run(["login", "--hub", hub.url, "--stdin"]) == 0
    assert json.loads(place_of(environ).read_text())["token"] == limited
    assert Auth(environ).run(["logout"]) == 0
    assert who(hub, limited).status_code == 200  # it may not revoke itself, and the command says so


async def current(hub: RunningHub, token: str, name: str) -> Caller | None:
    client = HubClient(hub.api_url, timeout_s=30, connections=1, ssl_context=None)
    try:
        return await Directory(client, token).current(Caller("user", name, groups=("old",)))
    finally:
        await client.close()


async def test_owners_of_batches_are_known_gone_or_not_told(gateway_hub: GatewayHub) -> None:
    hub = gateway_hub.hub
    alice = await current(hub, hub.admin_token, "alice")
    assert alice is not None
    assert alice.groups == ("ai",)
    await asyncio.to_thread(hub.api, "POST", "users/carol")
    assert await current(hub, hub.admin_token, "carol") is not None
    await asyncio.to_thread(hub.api, "DELETE", "users/carol")
    assert await current(hub, hub.admin_token, "carol") is None
    unknown = await current(hub, gateway_hub.bot_token, "alice")  # without a scope to ask
    assert unknown is not None
    assert unknown.groups == ("old",)
