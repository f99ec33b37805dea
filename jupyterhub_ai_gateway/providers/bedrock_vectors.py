"""Embeddings at Bedrock: Amazon's Titan takes one text at a time, Cohere's models many.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html and
/model-parameters-embed.html (read 2026-11).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from typing_extensions import override

from ..dialects.converse_fields import Family
from ..dialects.openai_answer import Count
from ..errors import RequestFault, UpstreamBroken
from ..upstream.base import Exchange, Write

MAX_TEXTS: Final = 96
"""How many texts a request may have: as many as Cohere takes at once, for Titan one request each."""
AT_ONCE: Final = 8
"""How many requests are under way for one of a caller's."""
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024

Ask = Callable[[bytes], Awaitable[Exchange]]
_encode = msgspec.json.Encoder().encode


class _Wanted(msgspec.Struct):
    texts: list[str]
    dimensions: int | None = None
    input_type: str | None = None


class _Titan(msgspec.Struct):
    embedding: list[float]
    tokens: Count | None = msgspec.field(default=None, name="inputTextTokenCount")


class _Floats(msgspec.Struct):
    floats: list[list[float]] = msgspec.field(name="float")


class _Cohere(msgspec.Struct):
    embeddings: list[list[float]] | _Floats


_wanted = msgspec.json.Decoder(_Wanted).decode
_titan = msgspec.json.Decoder(_Titan).decode
_cohere = msgspec.json.Decoder(_Cohere).decode


class Embedder(ABC):
    """How a family of models is asked: with which bodies, and how their answers are read."""

    @classmethod
    def of(cls, model: str) -> Embedder:
        """Return that of a model, by its name; Titan's for one that does not tell."""
        family = Family.named(model)
        return CohereEmbedder(family) if family.vendor == "cohere" else TitanEmbedder(family)

    def __init__(self, family: Family) -> None:
        self.family = family

    @abstractmethod
    def bodies(self, wanted: _Wanted) -> Iterator[bytes]:
        """Write the requests."""

    @abstractmethod
    def read(self, headers: Mapping[bytes, bytes], body: bytes) -> tuple[list[list[float]], int | None]:
        """Read the vectors of one answer, and how many tokens were read for them."""


class TitanEmbedder(Embedder):
    """Amazon's; only version 2 is told how long vectors shall be."""

    @override
    def bodies(self, wanted: _Wanted) -> Iterator[bytes]:
        more: dict[str, Any] = {}
        if wanted.dimensions is not None:
            if "v1" in self.family.model.partition(":")[0]:
                raise _wrong("dimensions", "cannot be chosen for this model; leave it out")
            more["dimensions"] = wanted.dimensions
        for text in wanted.texts:
            yield _encode({"inputText": text, **more})

    @override
    def read(self, headers: Mapping[bytes, bytes], body: bytes) -> tuple[list[list[float]], int | None]:
        found = _titan(body)
        return [found.embedding], found.tokens


class CohereEmbedder(Embedder):
    """Cohere's, who says in a header how many tokens there were; only version 4 is told a length."""

    @override
    def bodies(self, wanted: _Wanted) -> Iterator[bytes]:
        body: dict[str, Any] = {
            "texts": wanted.texts,
            "input_type": wanted.input_type or "search_document",
            "embedding_types": ["float"],
        }
        if wanted.dimensions is not None:
            if "v3" in self.family.model:
                raise _wrong("dimensions", "cannot be chosen for this model; leave it out")
            body["output_dimension"] = wanted.dimensions
        yield _encode(body)

    @override
    def read(self, headers: Mapping[bytes, bytes], body: bytes) -> tuple[list[list[float]], int | None]:
        found = _cohere(body).embeddings
        told = headers.get(b"x-amzn-bedrock-input-token-count", b"")
        return found.floats if isinstance(found, _Floats) else found, int(told) if told.isdigit() else None


async def embed(embedder: Embedder, body: bytes, ask: Ask) -> Exchange:
    """Ask for vectors, in as many requests as it takes, and return one answer.

    The first error is the answer; the other requests are given up then. `RequestFault` for more texts
    than may be, and for what the model cannot do.
    """
    wanted = _wanted(body)
    if len(wanted.texts) > MAX_TEXTS:
        raise _wrong("input", f"holds more than {MAX_TEXTS} texts; send them in several requests")
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(each: bytes) -> _Piece:
        async with turns:
            return await _one(embedder, each, ask)

    tasks = [asyncio.ensure_future(one(each)) for each in embedder.bodies(wanted)]
    try:
        pieces = await asyncio.gather(*tasks)
    except _Refused as refused:
        return refused.answer
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    vectors = [vector for piece in pieces for vector in piece[0]]
    if len(vectors) != len(wanted.texts):
        raise _broken("there are not as many embeddings as texts")
    tokens = [piece[1] for piece in pieces]
    known = None if None in tokens else sum(count or 0 for count in tokens)
    return Whole(200, _encode({"vectors": vectors, "input_tokens": known}), {})


_Piece = tuple[Sequence[list[float]], int | None]


class _Refused(Exception):  # noqa: N818 - Bedrock's, not ours
    """Bedrock answers with an error."""

    def __init__(self, answer: Exchange) -> None:
        super().__init__()
        self.answer = answer


async def _one(embedder: Embedder, body: bytes, ask: Ask) -> _Piece:
    exchange = await ask(body)
    try:
        found = await exchange.read(MAX_ANSWER_BYTES)
    finally:
        exchange.close()
    if exchange.status != 200:
        raise _Refused(Whole(exchange.status, found, exchange.headers))
    try:
        return embedder.read(exchange.headers, found)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _broken("the answer has no embeddings") from None


class Whole(Exchange):
    """An answer that is here already."""

    def __init__(self, status: int, body: bytes, headers: Mapping[bytes, bytes]) -> None:
        self.status = status
        self.headers = {**headers, b"content-type": b"application/json"}
        self._body = body

    @override
    async def read(self, limit: int) -> bytes:
        if len(self._body) > limit:
            raise _broken("the answer is too long")
        return self._body

    @override
    async def relay(self, write: Write) -> None:
        waiting = write(self._body)
        if waiting is not None:
            await waiting

    @override
    def close(self) -> None:
        """Nothing is open."""


def _wrong(param: str, why: str) -> RequestFault:
    return RequestFault(f"{param} {why}.", param=param)


def _broken(detail: str) -> UpstreamBroken:
    return UpstreamBroken("The model's provider sent an answer that cannot be read.", detail=detail)
