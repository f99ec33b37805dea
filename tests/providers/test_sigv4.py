"""Requests are signed as AWS's examples and AWS's own signer sign them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_ai_gateway.providers.sigv4 import Keys, Scope, sign

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
NOW = datetime(2015, 8, 30, 12, 36, 0, tzinfo=timezone.utc)
SUITE = Scope("us-east-1", "service")
HOST = ("Host", "example.amazonaws.com")


@pytest.mark.parametrize(
    ("method", "path", "headers", "scope", "names", "signature"),
    [
        (
            "GET",
            "/?Action=ListUsers&Version=2010-05-08",
            [
                ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),
                ("Host", "iam.amazonaws.com"),
            ],
            Scope("us-east-1", "iam"),
            "content-type;host;x-amz-date",
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        ),
        (
            "GET",
            "/",
            [HOST],
            SUITE,
            "host;x-amz-date",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "POST",
            "/",
            [HOST],
            SUITE,
            "host;x-amz-date",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
    ],
)
def test_published_examples(
    method: str, path: str, headers: Any, scope: Scope, names: str, signature: str
) -> None:
    """Source: the Signature Version 4 test suite, and the IAM example of AWS's General Reference."""
    found = dict(sign(method, path, headers, b"", keys=KEYS, scope=scope, now=NOW))
    assert found["X-Amz-Date"] == "20150830T123600Z"
    assert found["Authorization"] == (
        f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/{scope.service}/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )


words = st.text(st.characters(codec="ascii", exclude_characters=" \x7f", min_codepoint=33), max_size=20)
segments = st.text("abcXYZ019-._~", max_size=8) | st.sampled_from(
    ["arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Ax%2Fy", "m-v1%3A0", "%C3%A9"]
)
paths = st.lists(segments, max_size=5).map(lambda parts: "/" + "/".join(parts))
blanks = st.sampled_from([" ", "  ", "   "])
header_values = st.lists(words.filter(bool), min_size=1, max_size=3).flatmap(
    lambda each: blanks.map(lambda b: b.join(each))
)


@given(
    paths,
    st.dictionaries(st.sampled_from(["Content-Type", "Accept", "X-Amz-Target", "x-team"]), header_values),
    st.binary(max_size=200),
    words.filter(bool),
    st.none() | words.filter(bool),
    st.datetimes(datetime(2016, 1, 1), datetime(2090, 1, 1)),
)
def test_signature_is_the_one_of_aws_s_own_signer(
    path: str, headers: dict[str, str], body: bytes, secret: str, token: str | None, when: datetime
) -> None:
    now = when.replace(tzinfo=timezone.utc)
    given_headers = [("Host", "bedrock-runtime.eu-west-1.amazonaws.com"), *headers.items()]
    ours = sign(
        "POST",
        path,
        given_headers,
        body,
        keys=Keys("AKID", secret, token),
        scope=Scope("eu-west-1", "bedrock"),
        now=now,
    )
    url = f"https://bedrock-runtime.eu-west-1.amazonaws.com{path}"
    theirs = AWSRequest("POST", url, headers, body)
    signer = SigV4Auth(Credentials("AKID", secret, token), "bedrock", "eu-west-1")
    theirs.context["timestamp"] = now.strftime("%Y%m%dT%H%M%SZ")
    signer._modify_request_before_signing(theirs)
    told = signer.string_to_sign(theirs, signer.canonical_request(theirs))
    assert dict(ours)["Authorization"].endswith(f"Signature={signer.signature(told, theirs)}")
    assert dict(ours).get("X-Amz-Security-Token") == token


def test_keys_do_not_show_themselves() -> None:
    shown = repr(Keys("AKIDEXAMPLE", "secret-text", "token-text"))
    assert "secret-text" not in shown
    assert "token-text" not in shown
