"""Usage as it is told, embeddings as they were asked for."""

from __future__ import annotations

import base64
import json
import struct

import pytest

from jupyterhub_ai_gateway.dialects.openai_answer import read_answer, with_encoding
from jupyterhub_ai_gateway.errors import UpstreamBroken
from jupyterhub_ai_gateway.vocabulary import Usage

VECTORS = [[0.5, -1.25, 3.0], [1e-3, 0.0, 2.0]]


def listed(vectors: list[list[float]] = VECTORS) -> bytes:
    data = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)]
    return json.dumps(
        {"object": "list", "data": data, "model": "e", "usage": {"prompt_tokens": 4}}
    ).encode()


def packed(vectors: list[list[float]] = VECTORS) -> bytes:
    document = json.loads(listed(vectors))
    for item in document["data"]:
        floats = item["embedding"]
        item["embedding"] = base64.b64encode(struct.pack(f"<{len(floats)}f", *floats)).decode()
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ('{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}', Usage(9, 4)),
        (
            '{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":2},'
            '"completion_tokens_details":{"reasoning_tokens":3}}',
            Usage(9, 4, 2, 3),
        ),
        ('{"prompt_tokens":9,"prompt_tokens_details":null}', Usage(9, None)),
        ('{"prompt_tokens":0,"completion_tokens":0}', Usage(0, 0)),
        ("null", None),
        ("{}", None),
        ('{"prompt_tokens":"nine"}', None),
        ("7", None),
    ],
)
def test_usage_is_what_was_told_and_unknown_is_not_zero(usage: str, read: Usage | None) -> None:
    assert read_answer(f'{{"choices":[],"usage":{usage}}}'.encode())[:2] == (read, False)


def test_answer_without_usage_has_none() -> None:
    assert read_answer(b'{"choices":[]}')[:2] == (None, False)


@pytest.mark.parametrize(
    "body", [b"", b"oops", b"[]", b'{"choices":[', b"<html>", b'{"usage":' + b"[" * 10_000]
)
def test_what_is_no_json_object_is_broken(body: bytes) -> None:
    with pytest.raises(UpstreamBroken, match="not valid JSON"):
        read_answer(body)


@pytest.mark.parametrize(
    ("body", "is_error"),
    [
        (b'{"error":{"message":"x"}}', True),
        (b'{"error":"x"}', True),
        (b'{"error":null,"choices":[]}', False),
        (b'{"error":{"message":"x"},"choices":[1]}', False),
        (b'{"error":null}', False),
    ],
)
def test_error_with_a_good_status_is_an_error(body: bytes, is_error: bool) -> None:
    assert read_answer(body)[1] is is_error


def test_floats_become_base64_for_who_asked_for_it() -> None:
    assert json.loads(with_encoding(listed(), True)) == json.loads(packed())


def test_base64_becomes_floats_for_who_did_not_ask_for_it() -> None:
    found = json.loads(with_encoding(packed(), False))
    assert found["data"][0]["embedding"] == VECTORS[0]
    assert found["data"][1]["embedding"] == pytest.approx(VECTORS[1])


@pytest.mark.parametrize(("body", "wants_base64"), [(listed(), False), (packed(), True)])
def test_right_encoding_passes_as_it_came(body: bytes, wants_base64: bool) -> None:
    assert with_encoding(body, wants_base64) is body


@pytest.mark.parametrize(
    ("body", "wants_base64"),
    [
        (b'{"data":[{"embedding":["a"]}]}', True),
        (b'{"data":[{"embedding":[1e999]}]}', True),
        (b'{"data":{"embedding":[1]}}', True),
        (b'{"data":[{"embedding":"%%%"}]}', False),
        (b'{"data":[{"embedding":"YQ=="}]}', False),
    ],
)
def test_embeddings_without_sense_are_broken(body: bytes, wants_base64: bool) -> None:
    with pytest.raises(UpstreamBroken, match="cannot be read"):
        with_encoding(body, wants_base64)
