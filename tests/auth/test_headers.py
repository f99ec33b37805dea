"""Where a request carries its token."""

from __future__ import annotations

import base64

import pytest
from tornado.httputil import HTTPHeaders

from jupyterhub_ai_gateway.auth import has_credentials, token_from_headers


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({"Authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bearer abc"}, "abc"),
        ({"Authorization": "BEARER   abc  "}, "abc"),
        ({"Authorization": "Bearer  abc"}, "abc"),
        ({"Authorization": "token abc"}, "abc"),
        ({"Authorization": "Token abc"}, "abc"),
        ({"X-Api-Key": "abc"}, "abc"),
        ({"api-key": " abc "}, "abc"),
        ({"X-GOOG-API-KEY": "abc"}, "abc"),
        ({"Authorization": basic("alice:abc")}, "abc"),
        ({"Authorization": basic(":abc")}, "abc"),
        ({"Authorization": basic("alice:a:b")}, "a:b"),
        ({"Authorization": basic("alice:abc").replace("Basic", "basic")}, "abc"),
        ({"Authorization": "Bearer abc", "x-api-key": "def"}, "abc"),
        ({"x-api-key": "abc", "api-key": "def"}, "abc"),
        ({"Authorization": "Negotiate abc", "x-api-key": "def"}, "def"),
        ({"Authorization": "Bearer ", "x-api-key": "def"}, "def"),
        ({"Authorization": "Bearer a b"}, "a b"),
        ({}, None),
        ({"Authorization": "Bearer"}, None),
        ({"Authorization": ""}, None),
        ({"Authorization": "abc"}, None),
        ({"Authorization": "Bearerabc"}, None),
        ({"Authorization": basic("alice")}, None),
        ({"Authorization": basic("alice:")}, None),
        ({"Authorization": "Basic !!!"}, None),
        ({"Authorization": "Basic " + base64.b64encode(b"a:\xff").decode()}, None),
        ({"x-api-key": "  "}, None),
        ({"Cookie": "token=abc"}, None),
    ],
)
def test_token_is_found(headers: dict[str, str], token: str | None) -> None:
    assert token_from_headers(HTTPHeaders(headers)) == token


def test_two_authorizations_are_no_token() -> None:
    headers = HTTPHeaders()
    headers.add("Authorization", "Bearer abc")
    headers.add("Authorization", "Bearer def")
    assert " " in (token_from_headers(headers) or "")  # which the resolver refuses


@pytest.mark.parametrize(
    ("headers", "has"),
    [
        ({"Authorization": "Bearer abc"}, True),
        ({"Authorization": "Bearer"}, True),
        ({"Authorization": "Basic !!!"}, True),
        ({"x-api-key": ""}, True),
        ({"Authorization": "Negotiate abc"}, False),
        ({"Cookie": "a=b"}, False),
    ],
)
def test_credentials_count_even_when_wrong(headers: dict[str, str], has: bool) -> None:
    assert has_credentials(HTTPHeaders(headers)) is has
