"""Azure with Entra ID, and Databricks: a gateway before fakes that check who asks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from clouds import Cloud, asked, chat_answer, deployment, made
from expected import ExpectedLog
from fakes.tokens import ASSERTION, CLIENT, IDENTITY_HEADER, SECRET, TENANT, Tokens
from fakes.upstream import FakeUpstream
from served import served

from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.vocabulary import (
    CHAT,
    EMBEDDINGS,
    GENERATE_CONTENT,
    MESSAGES,
    RESPONSES,
)


def azure(up: FakeUpstream, provider: str = "openai", **more: Any) -> dict[str, Any]:
    own = (
        {"openai_api_type": "azuread", "openai_api_base": up.url}
        if provider == "openai"
        else {"api_base": up.url}
    )
    return deployment("chat", provider, "gpt-5", {**own, "azure_authority": up.url, **more})


def ways_of(up: FakeUpstream, tmp_path: Path) -> dict[str, dict[str, Any]]:
    file = tmp_path / "token"
    file.write_text(f"{ASSERTION}\n")
    machine = {
        "azure_managed_identity": True,
        "azure_managed_identity_url": f"{up.url}/metadata/identity/oauth2/token",
    }
    application = {"azure_tenant_id": TENANT, "azure_client_id": CLIENT}
    return {
        "secret": {**application, "azure_client_secret": SECRET},
        "federated": {**application, "azure_federated_token_file": str(file)},
        "machine": {**machine, "azure_client_id": CLIENT},
        "app": {**machine, "azure_managed_identity_header": IDENTITY_HEADER},
    }


@pytest.mark.parametrize("provider", ["openai", "azure"])
@pytest.mark.parametrize("kind", ["secret", "federated", "machine", "app"])
async def test_azure_by_a_token_of_entra_id(provider: str, kind: str, tmp_path: Path) -> None:
    tokens = Tokens("3599")
    with FakeUpstream(is_strict=False) as up:
        up.always(Cloud(tokens, chat_answer))
        endpoint = azure(up, provider, **ways_of(up, tmp_path)[kind])
        async with served(up, [endpoint]) as running:
            answers = await asyncio.gather(*(running.chat() for _ in range(5)))
            assert {answer.status for answer in answers} == {200}
        (request, *_) = asked(up, tokens)
        assert request.path == "/openai/v1/chat/completions"
        assert request.header("api-key") is None
        assert request.document["model"] == "gpt-5"
    assert tokens.given == ["token-1"]


async def test_federated_token_is_read_anew_each_time(tmp_path: Path, expected_log: ExpectedLog) -> None:
    tokens = Tokens()
    with FakeUpstream(is_strict=False) as up:
        up.always(Cloud(tokens, chat_answer))
        endpoint = azure(up, **ways_of(up, tmp_path)["federated"])
        async with served(up, [endpoint]) as running:
            (tmp_path / "token").unlink()
            assert (await running.chat()).error["code"] == "upstream_auth_error"
            (tmp_path / "token").write_text(ASSERTION)
            assert (await running.chat()).status == 200
    assert "No such file" in "".join(expected_log.take("provider openai"))


async def test_static_token_and_key_stay_possible() -> None:
    with FakeUpstream(is_strict=False) as up:
        up.always(chat_answer)
        token = azure(up, azure_authority=None, openai_api_key="token-of-entra")
        own = {"azure_authority": None, "api_key": "key-0123456789", "api_version": "2024-10-21"}
        key = {**azure(up, "azure", **own), "name": "key"}
        async with served(up, [token, key]) as running:
            assert (await running.chat()).status == 200
            assert up.take().header("authorization") == "Bearer token-of-entra"
            assert (await running.chat(model="key")).status == 200
            request = up.take()
            assert request.header("api-key") == "key-0123456789"
            assert request.target == "/openai/deployments/gpt-5/chat/completions?api-version=2024-10-21"
            assert "model" not in request.document


APPLICATION = {"azure_tenant_id": "t", "azure_client_id": "c"}
BASE = {"openai_api_base": "https://me.openai.azure.com", "openai_api_type": "azuread"}


@pytest.mark.parametrize(
    ("provider", "config", "problem"),
    [
        ("openai", {}, "openai_api_key: is required by the provider openai"),
        ("openai", BASE, "openai_api_key: is required"),
        ("openai", {"azure_managed_identity": True}, "azure_managed_identity: is for the openai_api_type"),
        ("openai", {**BASE, "azure_client_secret": "s3cret"}, "azure_tenant_id: is required with azure_cl"),
        (
            "openai",
            {**BASE, **APPLICATION, "azure_client_secret": "s3cret", "azure_managed_identity": True},
            "azure_managed_identity: is another way",
        ),
        (
            "openai",
            {**BASE, "azure_managed_identity": True, "openai_api_key": "s3cret"},
            "openai_api_key: is another way",
        ),
        ("openai", {"openai_api_key": "s3cret", **APPLICATION}, "azure_tenant_id: is of no use"),
        ("azure", {}, "api_base: is required by the provider azure"),
        ("azure", {"api_base": "https://x"}, "api_key: is required by the provider azure"),
        (
            "azure",
            {"api_base": "https://x", "openai_api_base": "https://x", "api_key": "s3cret"},
            "api_base: means the same as openai_api_base",
        ),
        (
            "azure",
            {"api_base": "https://x", "api_key": "s3cret", "deployment_name": "d"},
            "api_version: is required",
        ),
    ],
)
def test_wrong_settings_of_azure_name_the_path(provider: str, config: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigFault) as caught:
        made(provider, config)
    assert f"endpoints[0].model.config.{problem}" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_azure_by_name_takes_mlflow_s_settings() -> None:
    config = {
        "openai_api_key": "0123456789",
        "openai_api_base": "https://me.openai.azure.com",
        "openai_api_version": "2024-06-01",
        "openai_deployment_name": "mine",
    }
    provider = made("azure", config)
    where = "https://me.openai.azure.com/openai/deployments/mine/embeddings?api-version=2024-06-01"
    assert provider.url(EMBEDDINGS) == where
    assert not provider.takes_stream_usage
    assert RESPONSES not in provider.speaks("llm/v1/chat")
    assert RESPONSES in made("azure", {"api_key": "k", "api_base": "https://x"}).speaks("llm/v1/chat")
    assert provider.name == "azure"


# Databricks


async def test_databricks_by_a_service_principal_and_by_a_token() -> None:
    tokens = Tokens()
    with FakeUpstream(is_strict=False) as up:
        up.always(Cloud(tokens, chat_answer))
        principal = {"host": up.url, "client_id": CLIENT, "client_secret": SECRET}
        token = {"host": f"{up.url}/serving-endpoints", "token": "token-1"}
        endpoints = [
            deployment("chat", "databricks", "llama", principal),
            deployment("other", "databricks-model-serving", "system.ai.llama", token),
        ]
        async with served(up, endpoints) as running:
            assert (await running.chat()).status == 200
            assert (await running.chat(model="other")).status == 200
        assert [request.path for request in asked(up, tokens)] == [
            "/serving-endpoints/chat/completions",
            "/ai-gateway/mlflow/v1/chat/completions",
        ]


def test_databricks_speaks_the_formats_of_its_models() -> None:
    config = {"host": "https://x.cloud.databricks.com", "token": "t"}
    claude = made("databricks", config, name="databricks-claude-sonnet-4-5")
    assert claude.speaks("llm/v1/chat") == {CHAT, MESSAGES}
    assert claude.url(MESSAGES) == "https://x.cloud.databricks.com/serving-endpoints/anthropic/v1/messages"
    gemini = made("databricks", config, name="databricks-gemini-3-pro")
    assert gemini.speaks("llm/v1/chat") == {CHAT, GENERATE_CONTENT}
    stream = gemini.stream_target(GENERATE_CONTENT)
    assert stream is not None
    assert stream.path == (
        "/serving-endpoints/gemini/v1beta/models/databricks-gemini-3-pro:streamGenerateContent?alt=sse"
    )
    assert made("databricks", config, "llm/v1/embeddings").speaks("llm/v1/embeddings") == {EMBEDDINGS}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({}, "token: is required, or client_id and client_secret are"),
        ({"client_id": "c"}, "client_secret: is required with client_id"),
        ({"client_secret": "s3cret"}, "client_id: is required with client_secret"),
        ({"token": "t", "client_id": "c"}, "client_id: is another way"),
    ],
)
def test_wrong_settings_of_databricks_name_the_path(config: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigFault) as caught:
        made("databricks", {"host": "https://x", **config})
    assert f"endpoints[0].model.config.{problem}" in str(caught.value)
