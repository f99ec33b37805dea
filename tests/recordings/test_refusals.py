"""What real servers refused, and what that means to the caller: by vendor, status and the vendor's word."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jupyterhub_ai_gateway.config import parse
from jupyterhub_ai_gateway.errors import ELSEWHERE, NEVER
from jupyterhub_ai_gateway.providers.registry import Providers

from .cassettes import Recording, refused

KEY = "sk-0123456789abcdef"
PROVIDERS = Providers.installed()
HOSTS: dict[str, tuple[str, dict[str, Any]]] = {
    "": ("openai", {"openai_api_key": KEY}),
    "anthropic.com": ("anthropic", {"anthropic_api_key": KEY}),
    "azure.com": ("openai", {"openai_api_key": KEY, "openai_api_base": "https://me.openai.azure.com"}),
    "generativelanguage.googleapis.com": ("gemini", {"gemini_api_key": KEY}),
    "amazonaws.com": (
        "bedrock",
        {
            "aws_config": {
                "aws_region": "us-east-1",
                "aws_access_key_id": "AKIA0",
                "aws_secret_access_key": KEY,
            }
        },
    ),
}
MEANT: dict[tuple[int, str], tuple[int, str, str]] = {
    **{(401, word): (502, "upstream_auth_error", ELSEWHERE) for word in ("invalid_api_key", "401", "")},
    **{
        (404, word): (502, "upstream_not_found", ELSEWHERE)
        for word in ("model_not_found", "DeploymentNotFound", "not_found_error", "")
    },
    (400, "model_not_found"): (502, "upstream_not_found", ELSEWHERE),
    (400, "ValidationException"): (502, "upstream_not_found", ELSEWHERE),  # AWS on a model it does not know
    (400, "API_KEY_INVALID"): (502, "upstream_auth_error", ELSEWHERE),
    **{
        (400, word): (400, "upstream_invalid_request", NEVER)
        for word in (
            *("unknown_parameter", "invalid_image_url", "invalid_image_format"),
            *("invalid_request_error", "invalid_request"),
        )
    },
}
"""By status and word: the caller's status, our slug, and whether another deployment is worth a try."""


def word_of(recording: Recording) -> str:
    """Return the most precise word that the vendor has for it."""
    document = recording.documents[0]
    error = (document[0] if isinstance(document, list) else document).get("error") or {}
    reasons = [each["reason"] for each in error.get("details", ()) if "reason" in each]
    kind = recording.headers.get("x-amzn-errortype", "").partition(":")[0]
    word = error.get("code") or (error.get("type") if "anthropic" in recording.host else None)
    return str([*reasons, kind or word or ""][0])


@pytest.mark.parametrize("recording", refused(), ids=str)
def test_refusal_means_to_the_caller_what_the_table_says(recording: Recording) -> None:
    _, (name, config) = max((end, host) for end, host in HOSTS.items() if recording.host.endswith(end))
    model = {"provider": name, "name": "m", "config": config}
    document = {"endpoints": [{"name": "x", "endpoint_type": "llm/v1/chat", "model": model}]}
    provider = PROVIDERS.make(parse(document, PROVIDERS.schemas, {}).endpoints[0].model)
    headers = {key.encode(): value.encode() for key, value in recording.headers.items()}
    fault = provider.refusal(recording.status, headers, recording.body)
    assert (fault.status, fault.slug, fault.retry) == MEANT[recording.status, word_of(recording)]
    message = json.loads(recording.body)
    is_told = fault.public in json.dumps(message, ensure_ascii=False).replace('\\"', '"')
    assert is_told == (fault.status == 400)


def test_every_kind_of_refusal_was_recorded() -> None:
    kinds = {(each.status, word_of(each)) for each in refused()}
    assert kinds == set(MEANT)
