"""The files of openai-gateway, of both generations, as they stand in its own README and compose file."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jupyterhub_ai_gateway.config import GatewayConfig, read_openai_gateway
from jupyterhub_ai_gateway.config.openai_gateway import guessed_type, read_api_keys
from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.providers.registry import Providers

OPENAI = {"models": ["gpt-4o", "gpt-4o-mini"], "api_key": "sk-one", "base_url": "https://api.openai.com/v1"}
DEEPSEEK = {"models": ["deepseek-chat"], "api_key": "sk-two", "base_url": "https://api.deepseek.com/v1"}
AZURE = {
    "models": ["gpt-4o"],
    "api_key": "azure-key",
    "base_url": "https://campus.openai.azure.com/",
    "api_version": "2024-02-15-preview",
    "is_azure": True,
}
ALIASES = {"type": "alias", "alias": {"azure-4o": "azure/gpt-4o", "deepseek": "deepseek-chat"}}
FIRST: Any = {"config": {"default": [OPENAI, DEEPSEEK]}, "azure": [AZURE]}
"""As the README of the first generation has it: a namespace beside `config`."""
SECOND: Any = {
    "default": [{"type": "openai", **OPENAI}, {"type": "openai", **DEEPSEEK}],
    "azure": [
        {
            "type": "azure",
            "models": ["gpt-4o"],
            "api_key": "azure-key",
            "azure_endpoint": "https://campus.openai.azure.com/",
            "api_version": "2024-02-15-preview",
        }
    ],
    "foo": [ALIASES],
}
COMPOSE: Any = {**SECOND, "azure": [{"type": "azure", **AZURE}]}


def read(document: Any, keys: str = "key1,key2") -> GatewayConfig:
    text = document if isinstance(document, str) else json.dumps(document)
    return read_openai_gateway(text, keys, Providers.installed().schemas, {})


def names(config: GatewayConfig) -> dict[str, tuple[str, ...]]:
    return {each.name: each.aliases for each in config.endpoints}


@pytest.mark.parametrize("document", [FIRST, SECOND, COMPOSE])
def test_namespaces_become_names(document: Any) -> None:
    found = names(read(document))
    aliases = ("foo/azure-4o",) if "foo" in document else ()
    assert found == {
        "gpt-4o": ("default/gpt-4o",),
        "gpt-4o-mini": ("default/gpt-4o-mini",),
        "deepseek-chat": ("default/deepseek-chat", *(("foo/deepseek",) if aliases else ())),
        "azure/gpt-4o": aliases,
    }


@pytest.mark.parametrize("document", [FIRST, SECOND, COMPOSE])
def test_azure_is_asked_for_the_deployment_of_the_models_name(document: Any) -> None:
    config = read(document)
    (azure,) = [each for each in config.endpoints if each.name == "azure/gpt-4o"]
    settings = azure.model.settings
    assert settings["openai_api_type"] == "azure"
    assert settings["openai_deployment_name"] == "gpt-4o"
    assert settings["openai_api_base"] == "https://campus.openai.azure.com"
    assert config.warnings == ()


def test_older_name_of_models_and_a_namespace_inside_config() -> None:
    entry = {"model_list": ["m"], "api_key": "k", "base_url": "http://127.0.0.1:1/v1"}
    assert names(read({"config": {"default": [entry], "lab": [entry]}})) == {
        "m": ("default/m",),
        "lab/m": (),
    }


def test_names_with_slashes_stay_whole() -> None:
    entry = {"models": ["facebook/opt-125m"], "base_url": "http://127.0.0.1:1/v1"}
    assert names(read({"default": [entry], "lab": [entry]})) == {
        "facebook/opt-125m": ("default/facebook/opt-125m",),
        "lab/facebook/opt-125m": (),
    }
    with pytest.raises(ConfigFault) as raised:
        read({"default": [entry], "facebook": [{**entry, "models": ["opt-125m"]}]})
    assert raised.value.path == "facebook[0].models"
    assert "default[0]" in raised.value.problem


def test_several_entries_are_several_deployments() -> None:
    second = {**OPENAI, "models": ["gpt-4o"], "base_url": "http://127.0.0.1:1/v1", "api_key": None}
    (both, one) = read({"default": [OPENAI, second]}).endpoints
    assert [each.model.provider for each in both.deployments] == ["openai", "openai-compatible"]
    assert len(one.deployments) == 1


def test_types_are_guessed_or_said() -> None:
    assert guessed_type("text-embedding-3-small") == "llm/v1/embeddings"
    assert guessed_type("BAAI/bge-m3") == "llm/v1/embeddings"
    assert guessed_type("gpt-3.5-turbo-instruct") == "llm/v1/completions"
    assert guessed_type("gpt-4o") == "llm/v1/chat"
    entry = {**OPENAI, "models": ["odd"], "endpoint_type": "llm/v1/embeddings"}
    assert read({"default": [entry]}).endpoints[0].endpoint_type == "llm/v1/embeddings"


@pytest.mark.parametrize(
    ("document", "path", "problem"),
    [
        ("{,}", "CONFIG", "not valid JSON: line 1"),
        ("[]", "CONFIG", "must be a mapping"),
        ({}, "CONFIG", "has no model"),
        ({"default": "x"}, "default", "must be a list of entries"),
        ({"default": [3]}, "default[0]", "must be a mapping"),
        ({"default": [{"api_key": "k"}]}, "default[0].models", "must be a list of names"),
        ({"config": {"a": [{"models": []}]}}, "config.a[0].models", "must be a list of names"),
        ({"default": [{**OPENAI, "type": "mistral"}]}, "default[0].type", "must be openai, azure or alias"),
        ({"default": [{**OPENAI, "api_key": None}]}, "default[0].api_key", "is required"),
        ({"d": [OPENAI], "x": [{**AZURE, "base_url": None}]}, "x[0].base_url", "is required"),
        ({"d": [{**DEEPSEEK, "base_url": "deepseek"}]}, "d[0].base_url", "must be a URL"),
        ({"d": [OPENAI], "f": [ALIASES]}, "f[0].alias", "is no model of this configuration"),
        ({"f": [{"type": "alias", "alias": 3}]}, "f[0].alias", "must be a mapping"),
    ],
)
def test_what_is_wrong_is_named_in_the_words_of_their_file(document: Any, path: str, problem: str) -> None:
    with pytest.raises(ConfigFault) as raised:
        read(document)
    assert raised.value.path == path
    assert problem in raised.value.problem
    assert "sk-" not in str(raised.value)
    assert "endpoints[" not in str(raised.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigFault) as raised:
        read({"default": [{**OPENAI, "models": ["a"], "api_key": None}, {**DEEPSEEK, "base_url": "x"}]})
    assert "default[1].base_url" in str(raised.value)


def test_what_was_ignored_is_still_and_said() -> None:
    config = read({"azure": [{**AZURE, "azure_deployment": "mine", "colour": "red"}]})
    assert [each.partition(":")[0] for each in config.warnings] == ["azure[0]", "azure[0].azure_deployment"]
    assert config.endpoints[0].model.settings["openai_deployment_name"] == "gpt-4o"


def test_api_keys() -> None:
    keys = read_api_keys(" key1, key2,,key1\nkey3 ")
    assert [(name, key.reveal()) for name, key in keys] == [
        ("api-key-1", "key1"),
        ("api-key-2", "key2"),
        ("api-key-3", "key3"),
    ]
    assert "key1" not in repr(read(FIRST).keys)
    for empty in ("", " , "):
        with pytest.raises(ConfigFault, match="nobody could come in"):
            read(FIRST, empty)
