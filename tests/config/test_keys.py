"""`keys` in the configuration."""

from __future__ import annotations

from typing import Any

import pytest

from jupyterhub_ai_gateway.config import GatewayConfig, parse
from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.providers.registry import Providers

ECHO = {"name": "chat", "endpoint_type": "llm/v1/chat", "model": {"provider": "echo"}}


def read(**more: Any) -> GatewayConfig:
    return parse({"endpoints": [ECHO], **more}, Providers.installed().schemas, {})


def test_keys_are_off_unless_the_operator_says_so() -> None:
    assert not read().keys.enabled
    assert not read(keys=None).keys.enabled
    assert not read(keys={}).keys.enabled
    assert read(keys={"enabled": True}).keys.enabled


@pytest.mark.parametrize(
    ("document", "path", "problem"),
    [
        ({"keys": True}, "keys", "must be a mapping"),
        ({"keys": {"enabled": "yes"}}, "keys.enabled", "must be true or false"),
        ({"keys": {"enable": True}}, "keys.enable", "is not a key of this place; did you mean enabled?"),
        ({"keys": {"enabled": True}, "ledger": False}, "keys.enabled", "needs the ledger's database"),
    ],
)
def test_what_is_wrong_is_named(document: dict[str, Any], path: str, problem: str) -> None:
    with pytest.raises(ConfigFault) as raised:
        read(**document)
    assert raised.value.path == path
    assert problem in raised.value.problem


def test_policies_name_keys() -> None:
    policy = {"resource": "requests", "limit": 1, "window": "day"}
    for word in ("key", "keys"):
        (found,) = read(policies=[{**policy, "scope": {word: "ci-*"}}]).policies
        assert found.scope.keys == ("ci-*",)
        assert not found.scope.is_everyone
