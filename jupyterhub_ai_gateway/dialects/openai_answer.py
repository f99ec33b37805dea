"""An OpenAI answer that is complete: what it used, and embeddings in the encoding that was asked for."""

from __future__ import annotations

import base64
import binascii
import re
import sys
from array import array
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import msgspec

from ..errors import UpstreamBroken
from ..vocabulary import Usage

_MODEL_NAME = re.compile(rb"[A-Za-z0-9_.:/@+\-]{1,200}")
_EMBEDDING_AS_TEXT = re.compile(rb'"embedding"\s*:\s*"')
_EMBEDDING_AS_LIST = re.compile(rb'"embedding"\s*:\s*\[')


Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
"""How many tokens there may be; a usage with anything else makes no sense as a whole."""


class _InputDetails(msgspec.Struct):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    audio_tokens: Count | None = None
    image_tokens: Count | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None


class UsageObject(msgspec.Struct):
    """Usage as OpenAI's formats have it, and what hosts that speak them have added to it.

    DeepSeek tells its cache in `prompt_cache_hit_tokens`, Moonshot in `cached_tokens`; OpenRouter tells
    `cost`, in dollars; xAI leaves reasoning out of `completion_tokens` but not out of `total_tokens`.

    Source: platform.openai.com/docs/api-reference/chat/object; api-docs.deepseek.com/api,
    openrouter.ai/docs/use-cases/usage-accounting, docs.x.ai/docs/guides/reasoning (read 2026-11).
    """

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: Count | None = None
    cached_tokens: Count | None = None
    cost: float | str | None = None

    def usage(self) -> Usage | None:
        """Return it in our words; None when it says nothing."""
        if self.prompt_tokens is None and self.completion_tokens is None:
            return None
        if (
            self.prompt_tokens_details is None
            and self.completion_tokens_details is None
            and self.prompt_cache_hit_tokens is None
            and self.cached_tokens is None
            and self.cost is None
        ):
            return Usage(self.prompt_tokens, self.completion_tokens)
        into = self.prompt_tokens_details or _NO_INPUT_DETAILS
        out = self.completion_tokens_details or _NO_OUTPUT_DETAILS
        cached = into.cached_tokens
        if cached is None:
            cached = (
                self.cached_tokens if self.prompt_cache_hit_tokens is None else self.prompt_cache_hit_tokens
            )
        return Usage(
            self.prompt_tokens,
            self._output(out.reasoning_tokens),
            cached,
            out.reasoning_tokens,
            into.cache_write_tokens,
            None,
            into.audio_tokens,
            into.image_tokens,
            out.audio_tokens,
            nanousd(self.cost),
        )

    def _output(self, reasoning: int | None) -> int | None:
        """Return all that was written, reasoning included whether or not the host counts it in."""
        out, into, total = self.completion_tokens, self.prompt_tokens, self.total_tokens
        if reasoning and out is not None and into is not None and total == into + out + reasoning:
            return out + reasoning
        return out


_NO_INPUT_DETAILS = _InputDetails()
_NO_OUTPUT_DETAILS = _OutputDetails()


def nanousd(dollars: float | str | None) -> int | None:
    """Return an amount in billionths of a dollar; None for none, and for what cannot be one."""
    if not isinstance(dollars, float) or not 0 <= dollars < 1e6:
        return None
    return round(dollars * 1e9)


NOTHING = msgspec.Raw()
"""What a field is that is not there."""


class _Answer(msgspec.Struct):
    usage: UsageObject | None = None
    error: msgspec.Raw = NOTHING
    choices: msgspec.Raw = NOTHING
    data: msgspec.Raw = NOTHING
    model: msgspec.Raw = NOTHING


class _OddAnswer(msgspec.Struct):
    error: msgspec.Raw = NOTHING
    choices: msgspec.Raw = NOTHING
    data: msgspec.Raw = NOTHING
    model: msgspec.Raw = NOTHING


class Answer(NamedTuple):
    """What the gateway reads of a whole answer.

    `is_error` is true for an error that came with a good status. `answered_model` is what the provider
    calls the model that answered, None where it does not say.
    """

    usage: Usage | None
    is_error: bool
    answered_model: str | None


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
    return _Answer(None, odd.error, odd.choices, odd.data, odd.model)


def read_answer(body: bytes) -> Answer:
    """Read a whole answer. `UpstreamBroken` for what is no JSON object."""
    try:
        answer = _answer(body)
        usage = None if answer.usage is None else answer.usage.usage()
    except msgspec.ValidationError:
        answer, usage = _oddly(body), None  # a usage that makes no sense
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _broken() from None
    is_error = answer.error is not NOTHING and is_given(answer.error)
    is_error = is_error and not is_given(answer.choices) and not is_given(answer.data)
    return Answer(usage, is_error, model_name(answer.model))


def model_name(raw: bytes | msgspec.Raw) -> str | None:
    """Read the name of a model from its JSON; None for what is no such name."""
    return _name_in(bytes(raw))


@lru_cache(256)
def _name_in(quoted: bytes) -> str | None:
    """Do it once for each of the few names that there are."""
    name = quoted[1:-1]
    return name.decode() if _MODEL_NAME.fullmatch(name) else None


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
            item["embedding"] = (
                packed_vector(item["embedding"]) if wants_base64 else unpacked_vector(item["embedding"])
            )
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
        text = "The model's provider sent embeddings that cannot be read."
        raise UpstreamBroken(text, detail="an embedding is neither a list of numbers nor base64") from None
    return msgspec.json.encode(document)


def packed_vector(embedding: Any) -> str:
    """Return an embedding in base64, whichever it was."""
    return (
        embedding
        if isinstance(embedding, str)
        else base64.b64encode(_swapped(array("f", embedding))).decode()
    )


def unpacked_vector(embedding: Any) -> list[float]:
    """Return an embedding as a list, whichever it was; `ValueError` for what is neither."""
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
