"""Gateway keys: their form, what they open, and a ring that lets in who has one, and nobody else."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import pytest
from fakes.hub import ACCESS, FakeHub

from jupyterhub_ai_gateway.auth import KeyProblem, KeyRing, ScopeRules, TokenResolver
from jupyterhub_ai_gateway.auth.key_book import read_expiry
from jupyterhub_ai_gateway.auth.keys import PREFIX, caller_of, new_key, node_keys, read_scopes
from jupyterhub_ai_gateway.config import Secret
from jupyterhub_ai_gateway.errors import Forbidden, HubUnavailable, Unauthenticated
from jupyterhub_ai_gateway.storage import KeyRow
from jupyterhub_ai_gateway.vocabulary import OPERATIONS

NOON = 1_795_176_000_000  # 2026-11-20 12:00 UTC
DAY = 86_400_000
RULES = ScopeRules("ai-gateway", frozenset({ACCESS}))


def row(**more: Any) -> tuple[KeyRow, str]:
    """Make a key, and return what is kept of it, and itself."""
    key = new_key()
    values: dict[str, Any] = {
        "id": key.id,
        "form": "jaig",
        "name": "ci",
        "salt": key.salt,
        "hash": key.hash,
        "scopes": "all",
        "endpoints": "",
        "created_ms": NOON,
        "created_by": "user:admin",
        **more,
    }
    return KeyRow(**values), key.text.reveal()


def ring(*rows: KeyRow, **more: Any) -> KeyRing:
    made = KeyRing(RULES, **{"now_ms": lambda: NOON, **more})
    made.use(rows)
    return made


def test_a_key_is_recognisable_long_and_never_the_same() -> None:
    texts = {row()[1] for _ in range(50)}
    assert len(texts) == 50
    for text in texts:
        assert text.startswith(PREFIX)
        assert len(text) == len(PREFIX) + 16 + 1 + 43  # a public part, and 256 bits


def test_what_is_kept_is_a_salted_hash() -> None:
    kept, text = row()
    secret = text.split("-", 2)[2]
    assert kept.hash == hmac.new(bytes.fromhex(kept.salt), secret.encode(), hashlib.sha256).hexdigest()
    assert secret not in str(kept)
    assert kept.salt != row()[0].salt


def test_ring_finds_the_owner_and_nobody_else() -> None:
    (first, text), (second, other) = row(), row(name="cron", scopes="chat:create")
    keys = ring(first, second)
    assert [keys.find(each).key for each in (text, other)] == ["key:ci", "key:cron"]  # type: ignore[union-attr]
    swapped = f"{PREFIX}{second.id}-{text.split('-', 2)[2]}"
    changed = text[:-1] + ("A" if text[-1] != "A" else "B")
    for wrong in (swapped, changed, text[:-1], text + "A", PREFIX, "", row()[1], text.upper(), f" {text}"):
        assert keys.find(wrong) is None


def test_ended_key_is_nobodys() -> None:
    ends_soon, text = row(expires_ms=NOON + 1)
    now = [NOON]
    keys = ring(ends_soon, now_ms=lambda: now[0])
    assert keys.find(text) is not None
    now[0] += 1
    assert keys.find(text) is None


def test_revoked_key_is_gone_once_the_ring_knows() -> None:
    kept, text = row()
    keys = ring(kept)
    assert keys.find(text) is not None
    keys.use(())
    assert keys.find(text) is None


def test_keys_of_a_silent_database_count_for_a_time() -> None:
    kept, text = row()
    clock = [0.0]
    keys = ring(kept, clock=lambda: clock[0], max_age_s=300, fixed=[("env", Secret("key1"))])
    clock[0] = 300.0
    assert keys.find(text) is not None
    clock[0] = 300.1
    with pytest.raises(HubUnavailable) as raised:
        keys.find(text)
    assert raised.value.slug == "keys_unavailable"
    assert keys.find("key1") is not None  # it stands in no database
    keys.confirm()
    assert keys.find(text) is not None


def test_fixed_keys_are_replaced_apart_from_the_others() -> None:
    kept, text = row()
    keys = ring(kept, fixed=[("env", Secret("key1"))])
    keys.use_fixed([("env", Secret("key2"))])
    assert keys.find("key1") is None
    assert [keys.find(each) is not None for each in ("key2", text)] == [True, True]
    keys.use(())
    assert [keys.find(each) is not None for each in ("key2", text)] == [True, False]


def test_uses_are_told_once() -> None:
    kept, text = row()
    keys = ring(kept, fixed=[("env", Secret("key1"))])
    for _ in range(3):
        keys.find(text)
    keys.find("key1")
    keys.find(text + "x")
    assert keys.take_uses() == {kept.id: NOON}
    assert keys.take_uses() == {}


@pytest.mark.parametrize(
    ("texts", "scopes"),
    [
        (["all"], "all"),
        (["full-access"], "all"),
        (["chat:create", "models:list"], "chat:create models:list"),
        (["GET:/openai/v1/models,post:/openai/v1/chat/completions"], None),
        (["chat:create, chat:create"], "chat:create"),
        (["premium", "read:metrics"], "premium read:metrics"),
    ],
)
def test_scopes_are_read(texts: list[str], scopes: str | None) -> None:
    expected = scopes or "get:/openai/v1/models post:/openai/v1/chat/completions"
    assert read_scopes(texts) == expected


@pytest.mark.parametrize(
    "word",
    [
        "admin",
        "docs:read",
        "custom:ai-gateway:admin",
        "delete:/openai/v1/models",
        "get:openai/v1/models",
        "get:/openai",
        "Premium!",
        "",
        "get:/openai/v1/models x",
    ],
)
def test_what_is_no_scope_is_refused(word: str) -> None:
    with pytest.raises(KeyProblem) as raised:
        read_scopes([word])
    assert raised.value.param == "scopes"


def test_what_scopes_open() -> None:
    everything = caller_of(row()[0], RULES)
    assert everything.operations == set(OPERATIONS) - {"docs:read"}
    assert everything.kind == "key"
    assert everything.may_reach("anything")
    assert "custom:ai-gateway:admin" not in everything.scopes
    some = caller_of(
        row(scopes="chat:create premium read:metrics get:/openai/v1/models", endpoints="gpt-* o1")[0], RULES
    )
    assert some.operations == {"chat:create"}
    assert some.scopes == {"custom:ai-gateway:chat:create", "custom:ai-gateway:premium", "read:metrics"}
    assert some.paths == {"get:/openai/v1/models"}
    assert [some.may_reach(name) for name in ("gpt-4o", "o1", "o1-mini")] == [True, True, False]
    with pytest.raises(Forbidden, match="embeddings:create, which the gateway key ci lacks"):
        RULES.require(some, "embeddings:create")


@pytest.mark.parametrize(
    ("text", "ends_ms"),
    [
        ("never", None),
        ("30d", NOON + 30 * DAY),
        ("12h", NOON + DAY // 2),
        ("1y", NOON + 365 * DAY),
        ("2026-11-20", NOON + DAY // 2),
        ("2026-11-20T13:00:00Z", NOON + 3_600_000),
    ],
)
def test_expiry_is_read(text: str, ends_ms: int | None) -> None:
    assert read_expiry(text, NOON) == ends_ms


@pytest.mark.parametrize("text", ["", "0d", "soon", "2026-11-19", "2026-11-20T11:59:59Z", "-3d", "30"])
def test_what_is_no_expiry_is_refused(text: str) -> None:
    with pytest.raises(KeyProblem):
        read_expiry(text, NOON)


# The Node gateway's own keys


def node_file(key: str, salt: str = "fake", user: str = "test") -> dict[str, Any]:
    """Make a file as `api-key-generator.py` does."""
    hashed = hmac.new(salt.encode(), key.encode(), hashlib.sha256).hexdigest()
    entry = {
        "username": user,
        "salt": base64.urlsafe_b64encode(salt.encode()).decode(),
        "scopes": [{"method": "get", "path": "/openai/v1/models"}],
    }
    return {hashed: entry}


def node_row(document: dict[str, Any]) -> KeyRow:
    ((hash_, salt, user, words),) = node_keys(document)
    return row(id=hash_[:16], form="node", name=user, salt=salt, hash=hash_, scopes=read_scopes(words))[0]


def test_node_keys_are_found_by_their_hash() -> None:
    keys = ring(
        node_row(node_file("kept-by-john", user="john")),
        node_row(node_file("k2", salt="another", user="x")),
    )
    found = keys.find("kept-by-john")
    assert found is not None
    assert (found.key, found.paths, found.operations) == (
        "key:john",
        {"get:/openai/v1/models"},
        frozenset(),
    )
    assert keys.find("k2") is not None
    assert keys.find("kept-by-jane") is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: [],
        lambda document: {"abc": next(iter(document.values()))},
        lambda document: dict.fromkeys(document, "x"),
        lambda document: {key: {**each, "salt": "%"} for key, each in document.items()},
        lambda document: {key: {**each, "username": None} for key, each in document.items()},
    ],
)
def test_a_broken_node_file_is_refused(spoil: Callable[[Any], Any]) -> None:
    with pytest.raises(KeyProblem):
        node_keys(spoil(node_file("k")))


# Beside the Hub


async def test_no_key_ever_reaches_the_hub() -> None:
    kept, text = row()
    async with FakeHub() as hub:
        resolver = TokenResolver(hub.url, "ai-gateway", access_scopes=[ACCESS])
        try:
            for keys in (None, ring(kept)):
                resolver.keys = keys
                for token in (row()[1], f"{PREFIX}nonsense"):
                    with pytest.raises(Unauthenticated) as raised:
                        await resolver.resolve(token)
                    assert "gateway key" in raised.value.public
            assert (await resolver.resolve(text)).key == "key:ci"
            assert resolver.peek(text) is not None
            assert await resolver.model(text) is None  # pages are for people
            assert hub.asked == []
            assert len(resolver) == 0  # nothing is remembered of guesses
        finally:
            await resolver.close()


async def test_without_a_hub_nobody_is_asked() -> None:
    async with FakeHub() as hub:
        resolver = TokenResolver(hub.url, "ai-gateway", access_scopes=[ACCESS])
        resolver.asks_hub = False
        resolver.keys = ring(fixed=[("api-key-1", Secret("key1"))])
        try:
            assert (await resolver.resolve("key1")).key == "key:api-key-1"
            for token in ("key2", None):
                with pytest.raises(Unauthenticated):
                    await resolver.resolve(token)
            assert hub.asked == []
        finally:
            await resolver.close()
