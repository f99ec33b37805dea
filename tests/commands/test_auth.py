"""`auth`, as a person types it, against a Hub that answers as the test says."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.hub_thread import hub_in_thread

from jupyterhub_ai_gateway.commands.auth import Auth
from jupyterhub_ai_gateway.commands.token_file import Login, place_of, read_login, write_login


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path)}


@pytest.fixture
def hub() -> Iterator[str]:
    with hub_in_thread() as api_url:
        yield api_url.removesuffix("/hub/api")


class Person:
    """Opens pages and pastes a token."""

    def __init__(self, environ: dict[str, str], token: str = "t-alice") -> None:
        self.pages: list[str] = []
        self.token = token
        self.auth = Auth(environ, ask=lambda prompt: f" {self.token}\n", browse=self._browse)

    def _browse(self, page: str) -> bool:
        self.pages.append(page)
        return True


def keep(environ: dict[str, str], **more: Any) -> Path:
    path = place_of(environ)
    write_login(
        path, Login(**{"hub": "https://h.org/hub", "service": "ai", "user": "a", "token": "x", **more})
    )
    return path


def test_a_limited_token_is_kept_for_nobody_else(
    hub: str, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    person = Person(environ)
    assert person.auth.run(["login", "--hub", hub]) == 0
    assert person.pages == [f"{hub}/hub/token"]
    told = capsys.readouterr()
    assert told.out == ""
    assert "access:services!service=ai-gateway custom:ai-gateway:full-access" in told.err
    assert "t-alice" not in told.err
    path = place_of(environ)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == [path.name]
    assert person.auth.run(["token"]) == 0
    assert capsys.readouterr().out == "t-alice\n"
    assert person.auth.run(["url"]) == 0
    assert capsys.readouterr().out == f"{hub}/services/ai-gateway/v1\n"
    # The Hub's page knows when a token that was limited there expires, and nobody else
    assert person.auth.run(["expires"]) == 1
    assert "token page" in capsys.readouterr().err
    assert person.auth.run(["login"]) == 0
    assert "already" in capsys.readouterr().err
    assert person.auth.run(["logout"]) == 0
    assert f"{hub}/hub/token" in capsys.readouterr().err
    assert not path.exists()
    assert person.auth.run(["logout"]) == 0
    assert person.auth.run(["token"]) == 1


@pytest.mark.parametrize("token", ["unknown", "", "two words", "ü", "x\x00y"])
def test_a_token_that_is_none_is_not_kept(
    hub: str, environ: dict[str, str], token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Person(environ, token).auth.run(["login", "--hub", hub]) == 1
    assert not place_of(environ).exists()
    assert "oken" in capsys.readouterr().err


def test_a_token_that_does_not_reach_the_gateway_is_not_kept(
    hub: str, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert Person(environ).auth.run(["login", "--hub", hub, "--service", "other"]) == 1
    assert "access:services!service=other custom:other:full-access" in capsys.readouterr().err
    assert not place_of(environ).exists()


@pytest.mark.parametrize(
    ("hub", "told"),
    [(None, "Which Hub"), ("ftp://x", "not the address"), ("http://127.0.0.1:9", "cannot say right now")],
)
def test_a_hub_that_is_none_is_said(
    environ: dict[str, str], hub: str | None, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["login"] if hub is None else ["login", "--hub", hub]
    assert Person(environ).auth.run(words) == 1
    assert told in capsys.readouterr().err


def test_time_left_in_every_unit_and_in_firsts_words(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    keep(environ, expires=time.time() + 7200)
    auth = Person(environ).auth
    for words, expected in (
        (["expires"], 7200),
        (["expires", "--units", "minutes"], 120),
        (["get_time_until_token_expiration", "--units", "hours"], 2),
    ):
        assert auth.run(words) == 0
        assert float(capsys.readouterr().out) == pytest.approx(expected, rel=0.01)
    assert auth.run(["get_access_token"]) == 0
    assert capsys.readouterr().out == "x\n"


def test_a_token_whose_time_is_over_is_not_printed(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    keep(environ, expires=time.time() - 1)
    assert Person(environ).auth.run(["token"]) == 1
    told = capsys.readouterr()
    assert (told.out, "expired" in told.err) == ("", True)


def test_a_file_that_others_can_read_is_not_used(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = keep(environ)
    path.chmod(0o640)
    auth = Person(environ).auth
    assert auth.run(["token"]) == 1
    told = capsys.readouterr()
    assert (told.out, "read by others" in told.err) == ("", True)
    path.chmod(0o600)
    path.write_text("{}")
    assert auth.run(["token"]) == 1
    assert auth.run(["logout"]) == 0
    assert read_login(path) is None


def test_a_notebook_has_its_own_token(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    environ["JUPYTERHUB_API_TOKEN"] = "t-server"
    environ["OPENAI_BASE_URL"] = "https://hub.org/services/ai-gateway/v1"
    auth = Person(environ).auth
    assert auth.run(["token"]) == 0
    assert auth.run(["url"]) == 0
    assert capsys.readouterr().out == "t-server\nhttps://hub.org/services/ai-gateway/v1\n"


def test_the_command_prints_the_token_and_nothing_else(environ: dict[str, str]) -> None:
    keep(environ)
    command = [sys.executable, "-m", "jupyterhub_ai_gateway", "auth"]
    env = {**environ, "PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    done = subprocess.run([*command, "token"], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")
    wrong = subprocess.run([*command, "tokn"], env=env, capture_output=True, text=True, timeout=60)
    assert (wrong.returncode, wrong.stdout) == (2, "")
