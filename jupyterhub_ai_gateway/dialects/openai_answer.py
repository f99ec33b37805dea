"""An OpenAI answer that is complete: what it used, and embeddings in the encoding that was asked for."""

from __future__ import annotations

import base64
import binascii
import re
import sys
from array import array
from typing import Any

import msgspec

from ..errors import UpstreamBroken
from ..vocabulary import Usage

_EMBEDDING_AS_TEXT = re.compile(rb'"embedding"\s*:\s*"')
_EMBEDDING_AS_LIST = re.compile(rb'"embedding"\s*:\s*\[')


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class UsageObject(msgspec.Struct):
    """Usage as OpenAI's formats have it."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None

    def usage(self) -> Usage | None:
        """Return it in our words; None when it says nothing."""
        if self.prompt_tokens is None and self.completion_tokens is None:
            return None
        into, out = self.prompt_tokens_details, self.completion_tokens_details
        return Usage(
            self.prompt_tokens,
            self.completion_tokens,
            None if into is None else into.cached_tokens,
            None if out is None else out.reasoning_tokens,
        )


NOTHING = msgspec.Raw()
"""What a field is that is not there."""


class _Answer(msgspec.Struct):
    usage: UsageObject | None = None
    error: msgspec.Raw = NOTHING
    choices: msgspec.Raw = NOTHING
    data: msgspec.Raw = NOTHING


class _OddAnswer(msgspec.Struct):
    error: msgspec.Raw = NOTHING
    choices: msgspec.Raw = NOTHING
    data: msgspec.Raw = NOTHING


_answer = msgspec.json.Decoder(_Answer).decode
_odd_answer = msgspec.json.Decoder(_OddAnswer).decode
_usage_object = msgspec.json.Decoder(UsageObject).decode


def read_usage(raw: msgspec.Raw) -> Usage | None:
    """Read a usage object; None when there is none, or one that makes no sense."""
    if not is_given(raw):
        return None
    try:
        return _usage_object(raw).usage()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def is_given(raw: msgspec.Raw) -> bool:
    """Say whether a field is there, and not null."""
    return bytes(raw) not in (b"", b"null")


def _broken() -> UpstreamBroken:
    text = "The model's provider sent an answer that is not valid JSON."
    return UpstreamBroken(text, detail="the answer is not a JSON object")


def _oddly(body: bytes) -> _Answer:
    try:
        odd = _odd_answer(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _broken() from None
    return _Answer(None, odd.error, odd.choices, odd.data)


def read_answer(body: bytes) -> tuple[Usage | None, bool]:
    """Return an answer's usage, and whether it is an error that came with a good status.

    `UpstreamBroken` for what is no JSON object.
    """
    try:
        answer = _answer(body)
        usage = None if answer.usage is None else answer.usage.usage()
    except msgspec.ValidationError:
        answer, usage = _oddly(body), None  # a usage that makes no sense
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _broken() from None
    is_error = is_given(answer.error) and not is_given(answer.choices) and not is_given(answer.data)
    return usage, is_error


def with_encoding(body: bytes, wants_base64: bool) -> bytes:
    """Return embeddings in the encoding that was asked for, converted only where the provider did not.

    base64 is of little-endian 32-bit floats, as the OpenAI SDK reads it (and asks for, unasked).
    """
    wrong = _EMBEDDING_AS_LIST if wants_base64 else _EMBEDDING_AS_TEXT
    if wrong.search(body) is None:
        return body
    try:
        document = msgspec.json.decode(body)
        for item in document["data"]:
            item["embedding"] = _packed(item["embedding"]) if wants_base64 else _unpacked(item["embedding"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
        text = "The model's provider sent embeddings that cannot be read."
        raise UpstreamBroken(text, detail="an embedding is neither a list of numbers nor base64") from None
    return msgspec.json.encode(document)


def _packed(embedding: Any) -> str:
    return (
        embedding
        if isinstance(embedding, str)
        else base64.b64encode(_swapped(array("f", embedding))).decode()
    )


def _unpacked(embedding: Any) -> list[float]:
    if not isinstance(embedding, str):
        return list(embedding)
    numbers = array("f")
    try:
        numbers.frombytes(base64.b64decode(embedding, validate=True))
    except binascii.Error as error:
        raise ValueError from error
    return list(array("f", _swapped(numbers)))


def _swapped(numbers: array[float]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
