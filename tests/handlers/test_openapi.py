"""The OpenAPI document: valid, and as useful as it claims."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from jupyterhub_ai_gateway.handlers import ops
from jupyterhub_ai_gateway.handlers.openapi import DOCUMENTED, OAuthUrls, document
from jupyterhub_ai_gateway.vocabulary import CHAT, COMPLETIONS, EMBEDDINGS, OPERATIONS

OAUTH = OAuthUrls("/hub/api/oauth2/authorize", "/hub/api/oauth2/token")


def made(**changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "title": "JupyterHub AI Gateway",
        "description": "Every model of this Hub",
        "version": "1.2.3",
        "prefix": "/services/ai-gateway/",
    }
    return document(**{**settings, **changes})


def operations(found: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def validator(found: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": found["components"]})


@pytest.mark.parametrize("oauth", [None, OAUTH])
def test_document_is_valid(oauth: OAuthUrls | None) -> None:
    assert not list(OpenAPIV31SpecValidator(made(oauth=oauth)).iter_errors())


def test_document_is_json() -> None:
    assert json.loads(json.dumps(made())) == made()


def test_documented_is_what_the_document_says() -> None:
    assert sorted(DOCUMENTED) == sorted((method, path) for method, path, _ in operations(made()))


def test_every_ops_path_is_documented() -> None:
    assert {("GET", f"/{path}") for path, _ in ops.ROUTES} <= set(DOCUMENTED)


def test_every_operation_of_the_vocabulary_is_documented() -> None:
    scopes = {operation["x-required-scope"] for _, _, operation in operations(made())}
    assert {f"custom:ai-gateway:{name}" for name in OPERATIONS if name != "docs:read"} <= scopes
    for operation in (CHAT, COMPLETIONS, EMBEDDINGS):
        document_of = made()["paths"][f"/v1{operation.path}"]["post"]
        assert document_of["x-required-scope"] == f"custom:ai-gateway:{operation.scope}"


def test_scopes_carry_the_name_of_the_service() -> None:
    found = made(service_name="campus", oauth=OAUTH)
    assert found["paths"]["/v1/models"]["get"]["x-required-scope"] == "custom:campus:models:list"
    flow = found["components"]["securitySchemes"]["hub"]["flows"]["authorizationCode"]
    assert {"access:services!service=campus", "custom:campus:full-access"} <= set(flow["scopes"])
    assert "ai-gateway:" not in json.dumps(found["components"]["securitySchemes"])


def test_open_paths_need_nothing() -> None:
    for _, path, operation in operations(made()):
        is_open = path in ("/health", "/health/live", "/health/ready", "/ping", "/openapi.json")
        assert (operation["security"] == []) is is_open
        assert (operation["x-required-scope"] is None) is is_open


def test_login_is_offered_where_it_leads_somewhere() -> None:
    paths = made(oauth=OAUTH)["paths"]
    assert {"hub": ["custom:ai-gateway:chat:create"]} in paths["/v1/chat/completions"]["post"]["security"]
    assert not any("hub" in scheme for scheme in paths["/metrics"]["get"]["security"])


@pytest.mark.parametrize(
    ("public_url", "prefix", "server"),
    [
        ("", "/services/ai-gateway/", "/services/ai-gateway"),
        ("", "/", "/"),
        (
            "https://hub.example.org/services/ai-gateway/",
            "/x/",
            "https://hub.example.org/services/ai-gateway",
        ),
    ],
)
def test_server_is_where_the_paths_begin(public_url: str, prefix: str, server: str) -> None:
    assert made(public_url=public_url, prefix=prefix)["servers"] == [{"url": server}]


def test_examples_fit_their_schemas() -> None:
    found = made()
    checked = 0
    for _, _, operation in operations(found):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        for example in content.get("examples", {}).values():
            validator(found, content["schema"]).validate(example["value"])
            checked += 1
    for response in found["components"]["responses"].values():
        content = response["content"]["application/json"]
        validator(found, content["schema"]).validate(content["example"])
        checked += 1
    assert checked > 15


def test_a_request_without_its_model_does_not_fit() -> None:
    found = made()
    schema = found["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    assert not validator(found, schema).is_valid({"messages": [{"role": "user", "content": "Hello"}]})
    assert validator(found, schema).is_valid(
        {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "new_vendor_field": {"a": 1}}
    )


def test_every_status_of_a_call_is_documented() -> None:
    found = made()
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
        answers = found["paths"][path]["post"]["responses"]
        assert set(answers) == {"200", "400", "401", "403", "404", "413", "429", "502", "503", "504"}
        assert "x-ratelimit-remaining-requests" in answers["200"]["headers"]
    limit = found["components"]["responses"]["Error429"]
    assert {"Retry-After", "retry-after-ms", "x-ratelimit-limit-requests"} <= set(limit["headers"])
    assert limit["content"]["application/json"]["example"]["error"]["code"] == "rate_limit_exceeded"


def test_document_names_no_host() -> None:
    text = json.dumps(made())
    assert not re.search(r"https?://(?!json-schema)", text)
