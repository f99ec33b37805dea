"""Gateway keys on a running gateway: callers like others, staff who make them, and no trace of one."""

from __future__ import annotations

import io
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import openai
import pytest
from databases import PostgreSQL, utc_day
from expected import ExpectedLog
from fakes.hub import ACCESS
from fakes.upstream import FakeUpstream
from openai import AsyncOpenAI
from served import KEY, WAYS, Answer, Served, endpoint, served, usual

from jupyterhub_ai_gateway.auth import Wish
from jupyterhub_ai_gateway.storage import Database, StorageUnavailable

ADMIN = "custom:ai-gateway:admin"
MESSAGES: Any = [{"role": "user", "content": "Hi"}]


@asynccontextmanager
async def with_keys(
    up: FakeUpstream, tmp_path: Path, *, url: str | None = None, **more: Any
) -> AsyncIterator[Served]:
    """Run a gateway with keys; the token t-root is an admin's."""
    config = {
        "ledger": {"url": url or f"sqlite:///{tmp_path}/ledger.sqlite", "flush_s": 0.01},
        "keys": {"enabled": True},
        **more.pop("config", {}),
    }
    async with served(up, config=config, **more) as running:
        running.knows("t-root", ACCESS, ADMIN, name="root")
        yield running


async def make(running: Served, name: str = "ci", **more: Any) -> dict[str, Any]:
    document = {"name": name, "scopes": ["all"], "expires": "90d", **more}
    answer = await running.ask("POST", "api/keys", document, token="t-root")
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.json
    return made


def upstream() -> FakeUpstream:
    return FakeUpstream(key=KEY)


@pytest.mark.parametrize("way", WAYS)
async def test_a_key_is_a_caller_from_the_answer_that_makes_it_to_the_one_that_ends_it(
    way: str, tmp_path: Path
) -> None:
    with upstream() as up:
        async with with_keys(up, tmp_path, **WAYS[way]) as running:
            made = await make(running, owner="alice", note="nightly")
            key = made["key"]
            assert (made["name"], made["scopes"], made["owner"]) == ("ci", ["all"], "alice")
            assert (await running.chat(token=key)).status == 200
            named = await running.ask("GET", "v1/models", token=None, headers=[("x-api-key", key)])
            assert len(named.json["data"]) == 3
            usage = await running.ask("GET", "api/requests", token=key)
            assert [each["caller"] for each in usage.json["requests"]] == ["key:ci"]
            everybody = await running.ask("GET", "api/usage?user=key:ci&by=user", token="t-root")
            assert everybody.json["total"]["requests"] == 1
            assert (await running.ask("DELETE", "api/keys/ci", token="t-root")).status == 204
            refused = await running.chat(token=key)
            assert (refused.status, refused.error["code"]) == (401, "invalid_api_key")
            assert "gateway key" in refused.error["message"]
            assert key not in running.hub.asked
            assert set(running.hub.asked) == {"t-root"}


async def test_scopes_and_endpoints_hold(tmp_path: Path) -> None:
    with upstream() as up:
        premium = endpoint("premium", up, scope="premium")
        async with with_keys(up, tmp_path, endpoints=[*usual(up), premium]) as running:
            key = (await make(running, scopes="chat:create,models:list", endpoints=["chat", "x*"]))["key"]
            assert (await running.chat(token=key)).status == 200
            vectors = await running.ask(
                "POST", "v1/embeddings", {"model": "vectors", "input": "a"}, token=key
            )
            assert (vectors.status, vectors.error["code"]) == (403, "insufficient_scope")
            assert "the gateway key ci lacks" in vectors.error["message"]
            other = await running.chat(model="premium", token=key)
            assert (other.status, other.error["code"]) == (403, "model_not_allowed")
            listed = await running.ask("GET", "v1/models", token=key)
            assert [each["id"] for each in listed.json["data"]] == ["chat"]
            everything = (await make(running, "all-of-it"))["key"]
            assert (await running.chat(model="premium", token=everything)).status == 403
            both = (await make(running, "both", scopes=["all", "premium"]))["key"]
            assert (await running.chat(model="premium", token=both)).status == 200


async def test_policies_are_for_keys(tmp_path: Path) -> None:
    rule = {
        "name": "machines",
        "scope": {"key": "ci*"},
        "resource": "requests",
        "limit": 1,
        "window": "day",
    }
    with upstream() as up:
        async with with_keys(up, tmp_path, config={"policies": [rule]}) as running:
            first, other = (await make(running))["key"], (await make(running, "lab"))["key"]
            assert (await running.chat(token=first)).status == 200
            refused = await running.chat(token=first)
            assert (refused.status, refused.error["rule"]) == (429, "machines")
            for token in (other, other, "t-alice", "t-alice"):
                assert (await running.chat(token=token)).status == 200
            # Another key of the same name is the same caller, and has used it up
            again = (await running.ask("POST", "api/keys/ci/rotate", {}, token="t-root")).json["key"]
            assert (await running.chat(token=again)).status == 429
            override = {
                "who": "key:ci",
                "resource": "requests",
                "amount": 5,
                "reason": "x",
                "ends": "2100-01-01",
            }
            more = await running.ask("POST", "api/overrides", {**override, "ends": _soon()}, token="t-root")
            assert more.status == 201
            assert (await running.chat(token=again)).status == 200


def _soon() -> str:
    return (datetime.now(timezone.utc) + timedelta(days=3)).date().isoformat()


async def test_rotation_ends_the_old_key_at_once_or_later(tmp_path: Path) -> None:
    with upstream() as up:
        async with with_keys(up, tmp_path) as running:
            first = (await make(running))["key"]
            second = (await running.ask("POST", "api/keys/ci/rotate", {"grace": "1h"}, token="t-root")).json
            for key in (first, second["key"]):
                assert (await running.chat(token=key)).status == 200
            third = (await running.ask("POST", "api/keys/ci/rotate", token="t-root")).json["key"]
            statuses = [(await running.chat(token=key)).status for key in (first, second["key"], third)]
            assert statuses == [401, 401, 200]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_what_another_process_did_counts_after_a_look(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = None
    if database == "postgresql":
        server: PostgreSQL = request.getfixturevalue("postgres")
        url = server.new_database()
        fresh = Database(url, day_of=utc_day)
        fresh.upgrade()
        fresh.close()
    with upstream() as up:
        async with with_keys(up, tmp_path, url=url) as first, with_keys(up, tmp_path, url=url) as second:
            key = (await make(first))["key"]
            assert (await second.chat(token=key)).status == 401
            await second.service.keys.refresh()  # what happens by itself every five seconds
            assert (await second.chat(token=key)).status == 200
            await second.ask("DELETE", "api/keys/ci", token="t-root")
            await first.service.keys.refresh()
            assert (await first.chat(token=key)).status == 401


async def test_last_use_is_written_lazily(tmp_path: Path) -> None:
    with upstream() as up:
        async with with_keys(up, tmp_path) as running:
            key = (await make(running))["key"]
            for _ in range(3):
                await running.chat(token=key)
            listed = await running.ask("GET", "api/keys", token="t-root")
            assert listed.json["keys"][0]["last_used_at"] is None
            await running.service.keys.note_uses()
            listed = await running.ask("GET", "api/keys", token="t-root")
            assert listed.json["keys"][0]["last_used_at"] is not None


async def test_a_database_that_is_away_ends_no_key_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected_log: ExpectedLog
) -> None:
    with upstream() as up:
        async with with_keys(up, tmp_path) as running:
            key = (await make(running))["key"]
            ring = running.service.keys.ring
            assert ring is not None

            def away(*arguments: Any) -> None:
                raise StorageUnavailable("away")

            monkeypatch.setattr("jupyterhub_ai_gateway.storage.KeyTable.version", away)
            for _ in range(3):
                await running.service.keys.refresh()
            assert len(expected_log.take("stay as they are")) == 1  # said once
            assert (await running.chat(token=key)).status == 200
            ring._max_age_s = -1.0
            ring.confirm()
            late = await running.chat(token=key)
            assert (late.status, late.error["code"]) == (503, "keys_unavailable")
            assert (await running.chat()).status == 200  # people have tokens


async def test_only_staff_make_keys_and_no_key_does(tmp_path: Path) -> None:
    with upstream() as up:
        async with with_keys(up, tmp_path) as running:
            key = (await make(running, scopes=["all"]))["key"]
            for token in (key, "t-alice"):
                for method, path in (
                    ("GET", "api/keys"),
                    ("POST", "api/keys"),
                    ("DELETE", "api/keys/ci"),
                    ("POST", "api/keys/ci/rotate"),
                ):
                    assert (await running.ask(method, path, token=token)).status == 403, (method, path)
            assert (await running.ask("GET", "docs", token=key)).status == 401
            scraper = (await make(running, "prometheus", scopes=["read:metrics"]))["key"]
            assert (await running.ask("GET", "metrics", token=scraper)).status == 200
            assert (await running.ask("GET", "metrics", token=key)).status == 403


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ({}, "name"),
        ({"name": "a"}, "expires"),
        ({"name": "a", "expires": "1d"}, "scopes"),
        ({"name": "a", "expires": "1d", "scopes": ["admin"]}, "scopes"),
        ({"name": "a", "expires": "1d", "scopes": 3}, "scopes"),
        ({"name": "a b", "expires": "1d", "scopes": "all"}, "name"),
        ({"name": "a", "expires": "soon", "scopes": "all"}, "expires"),
        ({"name": 3, "expires": "1d", "scopes": "all"}, "name"),
        ({"name": "a", "expires": "1d", "scopes": "all", "colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_wish_names_its_field(tmp_path: Path, document: Any, param: str) -> None:
    with upstream() as up:
        async with with_keys(up, tmp_path) as running:
            answer = await running.ask("POST", "api/keys", document, token="t-root")
            assert (answer.status, answer.error["param"]) == (400, param)


async def test_without_keys_there_are_none() -> None:
    with upstream() as up:
        async with served(up, config={"ledger": False}) as running:
            running.knows("t-root", ACCESS, ADMIN, name="root")
            answer = await running.ask("GET", "api/keys", token="t-root")
            assert (answer.status, answer.error["code"]) == (404, "keys_off")
            made = running.service.keys
            assert (made.ring, made.book) == (None, None)
            refused = await running.chat(token="jaig-0123456789abcdef-" + "x" * 43)
            assert refused.status == 401
            assert running.hub.asked == ["t-root"]


async def test_real_sdk_with_a_key(tmp_path: Path) -> None:
    with upstream() as up:
        async with with_keys(up, tmp_path) as running:
            key = (await make(running))["key"]
            async with AsyncOpenAI(base_url=running.base_url, api_key=key, max_retries=0) as ai:
                answer = await ai.chat.completions.create(model="chat", messages=MESSAGES)
                assert answer.choices[0].message.content == up.text
                await running.ask("DELETE", "api/keys/ci", token="t-root")
                with pytest.raises(openai.AuthenticationError):
                    await ai.models.list()


# No trace of a key


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield text
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


@pytest.mark.parametrize("way", WAYS)
async def test_no_trace_of_a_key(way: str, tmp_path: Path, log: io.StringIO) -> None:
    answers: list[Answer] = []
    with upstream() as up:
        async with with_keys(
            up, tmp_path, authenticate_prometheus=False, log_requests=True, **WAYS[way]
        ) as running:
            made = await make(running, owner="alice")
            rotated = (
                await running.ask("POST", "api/keys/ci/rotate", {"grace": "1h"}, token="t-root")
            ).json
            key = made["key"]
            for is_stream in (False, True):
                answers.append(await running.chat(token=key, stream=is_stream))
            for path in (f"v1/models/{key}", f"{key}?key={key}", f"openai/{key}", f"api/keys/{key}"):
                await running.ask("GET", path, token=key)  # an answer may tell callers their own words
            for path in (
                "v1/models",
                "openai/v1/models",
                "health",
                "metrics",
                "openapi.json",
                "api/requests",
                "api/usage",
            ):
                answers.append(await running.ask("GET", path, token=key))
            for path in ("api/keys", "api/keys?all=true", "api/audit", "api/usage?user=*"):
                answers.append(await running.ask("GET", path, token="t-root"))
            for path in ("usage", "docs"):
                answers.append(await running.ask("GET", path))
                assert answers[-1].status == 200
            answers.append(await running.ask("DELETE", "api/keys/ci", token="t-root"))
            answers.append(await running.chat(token=key))
            answers.append(await running.chat(token=key[:-2] + "xx"))
            requests = list(up.requests)
            hub = "".join(map(str, [*running.hub.asked, *running.hub.heads, *running.hub.bodies]))
        with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
            rows = "\n".join(connection.iterdump())
        connection.close()
    files = b"".join(each.read_bytes() for each in tmp_path.iterdir() if each.is_file())
    assert "The key" in log.getvalue()
    assert "key:ci" in rows
    for text in (made["key"], rotated["key"]):
        for part in (text, text.split("-", 2)[2], text.split("-", 2)[2][:20]):
            assert part not in log.getvalue()
            assert part not in rows
            assert part.encode() not in files
            assert part not in hub
            for answer in answers:
                assert part not in answer.body.decode() + str(answer.headers)
            for request in requests:
                assert part not in str(request.headers) + request.body.decode()


async def test_many_guesses_leave_nothing_behind(tmp_path: Path) -> None:
    with upstream() as up:
        async with with_keys(up, tmp_path) as running:
            key = (await make(running))["key"]
            before = len(running.hub.asked)
            for number in range(50):
                wrong = f"{key[:-4]}{number:04d}"
                assert (await running.ask("GET", "v1/models", token=wrong)).status == 401
            assert len(running.hub.asked) == before
            assert len(running.service.resolver) == 1  # t-root
            assert (await running.chat(token=key)).status == 200


async def test_book_of_the_process_is_the_one_of_the_command_line(tmp_path: Path) -> None:
    with upstream() as up:
        async with with_keys(up, tmp_path) as running:
            book = running.service.keys.book
            assert book is not None
            _, text = book.create(Wish("cron", ["all"], "never"), "shell:root")
            await running.service.keys.refresh()
            assert (await running.chat(token=text.reveal())).status == 200
            audit = await running.ask("GET", "api/audit", token="t-root")
            assert audit.json["audit"][0]["actor"] == "shell:root"
            assert audit.json["audit"][0]["object"] == "cron"


async def test_switching_keys_on_or_off_waits_for_a_restart(
    tmp_path: Path, expected_log: ExpectedLog
) -> None:
    file = tmp_path / "config.json"
    with upstream() as up:
        document: dict[str, Any] = {
            "endpoints": usual(up),
            "ledger": {"url": f"sqlite:///{tmp_path}/ledger.sqlite"},
            "keys": {"enabled": True},
        }
        file.write_text(json.dumps(document))
        async with served(file=file) as running:
            running.knows("t-root", ACCESS, ADMIN, name="root")
            key = (await make(running))["key"]
            file.write_text(json.dumps({**document, "keys": {"enabled": False}}))
            assert await running.service.reload()
            expected_log.take("keys is new")
            assert (await running.chat(token=key)).status == 200
