"""Where each host is asked, with what, and what its errors mean."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from expected import ExpectedLog

from jupyterhub_ai_gateway.config import ModelConfig, parse
from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.providers.base import Provider
from jupyterhub_ai_gateway.providers.openai_compatible import TYPES, rows
from jupyterhub_ai_gateway.providers.refusals import MAX_MESSAGE_CHARS, clean, refusal, retry_after_s
from jupyterhub_ai_gateway.providers.registry import Providers
from jupyterhub_ai_gateway.vocabulary import (
    CHAT,
    COUNT_TOKENS,
    EMBEDDINGS,
    IMAGE_EDITS,
    IMAGES,
    MESSAGES,
    OPENAI_OPERATIONS,
    RERANK,
    RESPONSES,
    SPEECH,
    TRANSCRIPTIONS,
)

PROVIDERS = Providers.installed()
KEY = "sk-0123456789abcdef"
OF_TYPE = {each.endpoint_type: each for each in reversed(OPENAI_OPERATIONS)}


def made(
    provider: str, config: dict[str, Any], kind: str = "llm/v1/chat", name: str | None = "m"
) -> Provider:
    model = {"provider": provider, "config": config} | ({"name": name} if name else {})
    document = {"endpoints": [{"name": "x", "endpoint_type": kind, "model": model}]}
    return PROVIDERS.make(parse(document, PROVIDERS.schemas, {}).endpoints[0].model)


AZURE = {"openai_api_key": KEY, "openai_api_base": "https://me.openai.azure.com"}
DEPLOYED = AZURE | {"openai_deployment_name": "my deploy", "openai_api_version": "2024-10-21"}


@pytest.mark.parametrize(
    ("config", "url", "header"),
    [
        (
            {"openai_api_key": KEY},
            "https://api.openai.com/v1/chat/completions",
            ("Authorization", f"Bearer {KEY}"),
        ),
        (
            {"openai_api_key": KEY, "openai_api_base": "http://127.0.0.1:1/x/"},
            "http://127.0.0.1:1/x/chat/completions",
            ("Authorization", f"Bearer {KEY}"),
        ),
        (
            {"openai_api_key": KEY, "openai_organization": "org"},
            "https://api.openai.com/v1/chat/completions",
            ("OpenAI-Organization", "org"),
        ),
        (
            DEPLOYED | {"openai_api_type": "azure"},
            "https://me.openai.azure.com/openai/deployments/my%20deploy/chat/completions?api-version=2024-10-21",
            ("api-key", KEY),
        ),
        (
            DEPLOYED | {"openai_api_type": "AzureAD"},
            "https://me.openai.azure.com/openai/deployments/my%20deploy/chat/completions?api-version=2024-10-21",
            ("Authorization", f"Bearer {KEY}"),
        ),
        (
            AZURE | {"openai_api_type": "azure"},
            "https://me.openai.azure.com/openai/v1/chat/completions",
            ("api-key", KEY),
        ),
    ],
)
def test_openai_and_azure_are_asked_where_they_are(
    config: dict[str, Any], url: str, header: tuple[str, str]
) -> None:
    provider = made("openai", config)
    assert provider.url(CHAT) == url
    assert header in provider.headers()
    names = [name.lower() for name, _ in provider.headers()]
    assert len(names) == len(set(names))
    assert ("authorization" in names) != ("api-key" in names)
    assert provider.target(CHAT).head.startswith(b"POST /")


def test_anthropic_is_asked_in_its_own_format() -> None:
    provider = made("anthropic", {"anthropic_api_key": KEY, "anthropic_version": "2024-01-01"})
    assert provider.speaks("llm/v1/chat") == {MESSAGES, COUNT_TOKENS}
    own = provider.target(MESSAGES)
    assert provider.url(MESSAGES) == "https://api.anthropic.com/v1/messages"
    assert {("x-api-key", KEY), ("anthropic-version", "2024-01-01")} <= set(own.headers)
    with pytest.raises(ConfigFault, match="anthropic cannot serve llm/v1/embeddings"):
        made("anthropic", {"anthropic_api_key": KEY}, "llm/v1/embeddings")


@pytest.mark.parametrize("name", ["vllm", "ollama", "llama-cpp"])
def test_local_servers_speak_both_formats_for_chat_alone(name: str) -> None:
    provider = made(name, {})
    assert provider.speaks("llm/v1/chat") >= {CHAT, MESSAGES}
    assert (RESPONSES in provider.speaks("llm/v1/chat")) is (name != "llama-cpp")
    assert provider.speaks("llm/v1/embeddings") == {EMBEDDINGS}


def test_azure_deployment_s_body_names_no_model() -> None:
    fields: Any = {"model": b'"m"', "messages": b"[]"}
    made("openai", DEPLOYED | {"openai_api_type": "azure"}).amend(CHAT, fields)
    assert list(fields) == ["messages"]


@pytest.mark.parametrize(
    ("version", "asks"),
    [
        ("2023-05-15", False),
        ("2024-07-01-preview", False),
        ("2024-08-01-preview", True),
        ("2024-10-21", True),
    ],
)
def test_old_azure_is_not_asked_for_the_usage_of_streams(version: str, asks: bool) -> None:
    provider = made("openai", DEPLOYED | {"openai_api_type": "azure", "openai_api_version": version})
    assert provider.takes_stream_usage is asks


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_every_row_is_asked_where_it_is(row: Any) -> None:
    config: dict[str, Any] = {"headers": {"X-Team": "ai"}}
    if row.key == "required":
        config[row.key_names[0]] = KEY
    for kind in row.types:
        provider = made(
            row.name, config | ({row.base_name: "http://h:1"} if row.base is None else {}), TYPES[kind]
        )
        base = row.base or f"http://h:1{row.suffix}"
        operation = OF_TYPE[TYPES[kind]]
        if operation is not RERANK or not row.tei_rerank:
            assert provider.url(operation) == f"{base}{operation.path}"
        headers = dict(provider.headers())
        assert headers["X-Team"] == "ai"
        name, value = (row.key_header, KEY) if row.key_header else ("Authorization", f"Bearer {KEY}")
        assert headers.get(name) == (value if row.key == "required" else None)
        assert provider.takes_stream_usage is row.usage
        provider.target(operation)
    assert row.source or row.name == "openai-compatible"
    for alias in (row.name, *row.aliases):
        assert PROVIDERS.schemas[alias].name == row.name


def test_what_a_form_is_is_for_its_request_to_say() -> None:
    provider = made("vllm", {"api_key": KEY}, "llm/v1/transcriptions")
    headers = dict(provider.target(TRANSCRIPTIONS).headers)
    assert "Content-Type" not in headers
    assert (headers["Accept"], headers["Authorization"]) == ("*/*", f"Bearer {KEY}")
    assert dict(provider.target(SPEECH).headers)["Content-Type"] == "application/json"


def test_azure_is_asked_for_images_where_its_deployment_is() -> None:
    provider = made("openai", DEPLOYED | {"openai_api_type": "azure"}, "llm/v1/images")
    assert {IMAGES, IMAGE_EDITS} <= provider.speaks("llm/v1/images")
    start = "https://me.openai.azure.com/openai/deployments/my%20deploy"
    assert provider.url(IMAGE_EDITS) == f"{start}/images/edits?api-version=2024-10-21"


def test_who_cannot_rank_says_so() -> None:
    with pytest.raises(ConfigFault, match="openai cannot serve llm/v1/rerank"):
        made("openai", {"openai_api_key": KEY}, "llm/v1/rerank")


def test_tei_ranks_beside_v1() -> None:
    for base in ("http://tei:80/v1", "http://tei:80"):
        assert made("tei", {"api_base": base}, "llm/v1/rerank").url(RERANK) == "http://tei:80/rerank"


def test_key_of_mlflow_s_name_and_ours_are_one_key() -> None:
    assert dict(made("mistral", {"mistral_api_key": KEY}).headers())["Authorization"] == f"Bearer {KEY}"
    assert dict(made("together", {"api_key": KEY}).headers())["Authorization"] == f"Bearer {KEY}"
    with pytest.raises(ConfigFault, match="keep one of them"):
        made("mistral", {"mistral_api_key": KEY, "api_key": KEY})
    with pytest.raises(ConfigFault, match="is required by the provider mistral"):
        made("mistral", {})


def test_portkey_is_asked_in_mlflow_s_words() -> None:
    """Its own key is in a header of its own; what the host behind it wants is in Authorization."""
    config = {"api_key": KEY, "portkey_provider": "anthropic", "portkey_config": "pc-1"}
    provider = made("portkey", {**config, "provider_api_key": "sk-of-another-host"})
    headers = dict(provider.headers())
    assert provider.url(CHAT) == "https://api.portkey.ai/v1/chat/completions"
    assert headers["x-portkey-api-key"] == KEY
    assert headers["x-portkey-provider"] == "anthropic"
    assert headers["x-portkey-config"] == "pc-1"
    assert headers["Authorization"] == "Bearer sk-of-another-host"
    assert set(provider.secrets()) == {KEY, "sk-of-another-host"}
    alone = dict(made("portkey", {"api_key": KEY}).headers())
    assert alone["x-portkey-api-key"] == KEY
    assert "Authorization" not in alone


def test_own_header_takes_the_place_of_the_key_s() -> None:
    provider = made(
        "openai-compatible",
        {"api_base": "http://h/v1", "api_key": KEY, "headers": {"authorization": "Basic x"}},
    )
    found = [value for name, value in provider.headers() if name.lower() == "authorization"]
    assert found == ["Basic x"]
    assert set(provider.secrets()) == {KEY, "Basic x"}
    assert KEY not in repr(provider.target(CHAT)) + repr(provider.settings)


def test_tls_is_verified_unless_the_operator_says_otherwise() -> None:
    config = {"api_base": "https://h/v1"}
    assert made("vllm", config).target(CHAT).origin.verify_tls
    assert not made("vllm", config | {"verify_tls": False}).target(CHAT).origin.verify_tls


# Refusals

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({b"retry-after": b"7"}, 7.0),
        ({b"retry-after": b"0.5"}, 0.5),
        ({b"retry-after": b"-3"}, 0.0),
        ({b"retry-after-ms": b"250", b"retry-after": b"7"}, 0.25),
        ({b"retry-after": b"Sat, 21 Nov 2026 12:00:30 GMT"}, 30.0),
        ({b"retry-after": b"Sat, 21 Nov 2026 11:00:00 GMT"}, 0.0),
        ({b"retry-after": b"soon"}, None),
        ({b"retry-after": b"nan"}, None),
        ({b"retry-after": b"9" * 400}, None),
    ],
)
def test_waiting_time_is_read(headers: dict[bytes, bytes], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "Hello", "type": "t", "code": "c", "param": "p"}}, "Hello"),
        ({"error": "Hello"}, "Hello"),
        ({"object": "error", "message": "Hello", "code": 40001}, "Hello"),
        ({"detail": "Hello"}, "Hello"),
        ({"detail": [{"loc": ["body"], "msg": "Hello"}, {"msg": "you"}]}, "Hello; you"),
        ([{"error": {"message": "Hello"}}], "Hello"),
        ({"error": {"message": ""}}, None),
        ({"error": {}}, None),
        ([], None),
        (7, None),
    ],
)
def test_message_is_read_in_every_usual_shape(body: Any, message: str | None) -> None:
    fault = refusal("x", 400, {}, json.dumps(body).encode(), ())
    assert fault.public == (message or "The model's provider refused the request without saying why.")
    assert message is None or message not in str(fault.detail)


@pytest.mark.parametrize("body", [b"", b"<html>502</html>", b"\xff", b"[" * 100_000])
def test_body_that_is_no_json_is_not_shown(body: bytes) -> None:
    fault = refusal("x", 500, {}, body, ())
    assert (fault.status, fault.public, fault.slug) == (
        500,
        "The model's provider failed.",
        "upstream_error",
    )


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {KEY}.",
        f"Key {KEY[:8]}******{KEY[-8:]} is wrong",
        "Your key sk-abc***********wxyz is wrong",
        "Authorization: Bearer abcdefg was refused",
    ],
)
def test_no_message_shows_a_key(text: str) -> None:
    shown = clean(text, [KEY])
    assert "…" in shown
    for part in (KEY, KEY[:8], KEY[-8:], "wxyz", "abcdefg"):
        assert part not in shown


def test_message_is_short_and_printable() -> None:
    shown = clean("a\x1b[31m\x00\r\nb" + "x" * 10_000, ())
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert len(shown) == MAX_MESSAGE_CHARS + 1


@pytest.mark.parametrize("code", ["a b", "<script>", "x" * 100, {"a": 1}, True])
def test_code_that_is_no_word_is_not_passed_on(code: Any) -> None:
    body = json.dumps({"error": {"message": "m", "code": code}}).encode()
    assert refusal("x", 400, {}, body, ()).code == "upstream_invalid_request"


# Providers of other packages

PLUGIN = """
from jupyterhub_ai_gateway.config import ENDPOINT_TYPES, ProviderSchema, Setting
from jupyterhub_ai_gateway.providers.base import Provider

class Campus(Provider):
    schema = ProviderSchema("{name}", (Setting("url", "url", required=True),), frozenset(ENDPOINT_TYPES))

    def url(self, operation):
        return self.settings["url"] + operation.path
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, target: str) -> None:
    """Lay a package out as pip does."""
    (folder / "campus_provider.py").write_text(text)
    info = folder / "campus_provider-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: campus-provider\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[jupyterhub_ai_gateway.providers]\ncampus = {target}\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "campus_provider", raising=False)


def test_another_package_brings_a_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, PLUGIN.format(name="campus"), "campus_provider:Campus")
    found = Providers.installed()
    model = ModelConfig("campus", "m", {"url": "http://h"})
    assert found.make(model).url(CHAT) == "http://h/chat/completions"
    assert found.schemas["campus"].name == "campus"


@pytest.mark.parametrize(
    ("text", "target", "part"),
    [
        ("raise RuntimeError('broken')", "campus_provider:Campus", "cannot be loaded"),
        ("Campus = 7", "campus_provider:Campus", "no subclass of Provider"),
        (PLUGIN.format(name="OpenAI"), "campus_provider:Campus", "a name that is taken"),
    ],
)
def test_broken_package_does_not_stop_the_others(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    target: str,
    part: str,
    expected_log: ExpectedLog,
) -> None:
    install(tmp_path, monkeypatch, text, target)
    assert set(Providers.installed().schemas) == set(PROVIDERS.schemas)
    assert part in expected_log.take("campus-provider")[0]
