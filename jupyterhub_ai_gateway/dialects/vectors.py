"""Embeddings for hosts with a format of their own: OpenAI's request crosses over, the vectors come back.

Source: https://platform.openai.com/docs/api-reference/embeddings, https://docs.cohere.com/reference/embed
(read 2026-11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from ..errors import UpstreamFault
from ..vocabulary import BEDROCK_EMBED, COHERE_EMBED, EMBEDDINGS, SERVING_VECTORS, Operation, Usage
from . import openai_answer
from .bridge import BridgeTap
from .canonical import Json
from .codec import Manners, broken, decode_json, encode_json
from .cohere_back import usage_of
from .loss import IGNORED, MAPPED, Loss, Reader, Table, wrong
from .serving_back import vectors_of

REQUEST: Table = {
    "input": MAPPED,
    "model": IGNORED,
    "encoding_format": IGNORED,  # the vectors are encoded as asked once they are here
    "dimensions": MAPPED,
    "input_type": MAPPED,
    "user": IGNORED,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Texts to embed. `input_type` is Cohere's word for what they are, "search_document" by default."""

    texts: Sequence[str]
    dimensions: int | None = None
    input_type: str | None = None


class Vectors(Protocol):
    """One host's format."""

    def encode(self, wanted: Wanted) -> dict[str, Json]:
        """Write a request, all but the model."""

    def decode(self, document: Json) -> tuple[list[list[float]], Usage | None]:
        """Read the vectors, in the order of the texts; `UpstreamBroken` for what is no answer."""


class CohereVectors:
    """Cohere's embed, version 2."""

    def encode(self, wanted: Wanted) -> dict[str, Json]:
        body: dict[str, Json] = {
            "texts": list(wanted.texts),
            "input_type": wanted.input_type or "search_document",
            "embedding_types": ["float"],
        }
        if wanted.dimensions is not None:
            body["output_dimension"] = wanted.dimensions
        return body

    def decode(self, document: Json) -> tuple[list[list[float]], Usage | None]:
        found = document.get("embeddings") if isinstance(document, dict) else None
        vectors = found.get("float") if isinstance(found, dict) else None
        if not isinstance(vectors, list):
            raise broken("the answer has no embeddings")
        usage = usage_of(document.get("meta"))
        return vectors, None if usage is None else Usage(usage.input_tokens, 0)


class ServingVectors:
    """A served MLflow model's."""

    def encode(self, wanted: Wanted) -> dict[str, Json]:
        return {"inputs": list(wanted.texts), "params": {}}

    def decode(self, document: Json) -> tuple[list[list[float]], Usage | None]:
        return vectors_of(document)


class BedrockVectors:
    """Bedrock's models: each has a format of its own, which `providers.bedrock_vectors` knows."""

    def encode(self, wanted: Wanted) -> dict[str, Json]:
        given = {"dimensions": wanted.dimensions, "input_type": wanted.input_type}
        return {"texts": list(wanted.texts)} | {
            name: item for name, item in given.items() if item is not None
        }

    def decode(self, document: Json) -> tuple[list[list[float]], Usage | None]:
        tokens = document["input_tokens"]
        return document["vectors"], None if tokens is None else Usage(tokens, 0)


BACKS: Mapping[Operation, Vectors] = {
    BEDROCK_EMBED: BedrockVectors(),
    COHERE_EMBED: CohereVectors(),
    SERVING_VECTORS: ServingVectors(),
}


@dataclass(frozen=True, slots=True)
class VectorBridge:
    """From OpenAI's embeddings to a host's own."""

    back: Operation
    manners: Manners

    def cross(
        self,
        fields: Mapping[str, msgspec.Raw],
        *,
        is_stream: bool,
        wants_usage: bool,
        request_id: str,
        created: int,
    ) -> VectorCrossing:
        """Translate a request. `RequestFault` for what is wrong in it, or cannot be said over there."""
        loss = Loss(self.manners.where)
        reader = Reader({name: decode_json(raw) for name, raw in fields.items()}, "", REQUEST, loss)
        wanted = Wanted(_texts(reader), reader.integer("dimensions"), reader.text("input_type"))
        body = BACKS[self.back].encode(wanted)
        return VectorCrossing(self, body, list(loss.dropped))


def _texts(reader: Reader) -> list[str]:
    value = reader.any("input")
    if isinstance(value, list) and value and not isinstance(value[0], str):
        reader.loss.refuse("input", "is of tokens, whose meaning is another model's")
    texts = reader.texts("input")
    if not texts:
        raise wrong("input", "must be text or a list of texts")
    return texts


@dataclass(slots=True)
class VectorCrossing:
    """One request on its way. `body` is for the host, `dropped` names what is lost."""

    bridge: VectorBridge
    body: dict[str, Json] = field(repr=False)
    dropped: list[str]

    def answer(self, body: bytes) -> tuple[bytes, openai_answer.Answer]:
        """Translate the answer; with it comes what is to be known of it. `UpstreamBroken` for no answer."""
        try:
            document = decode_json(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise broken("the answer is not valid JSON") from None
        vectors, usage = BACKS[self.bridge.back].decode(document)
        cards = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ]
        tokens = None if usage is None else usage.input_tokens
        written = {
            "object": "list",
            "data": cards,
            "model": self.bridge.manners.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return encode_json(written), openai_answer.Answer(usage, False, None)

    def tap(self, refuse: object) -> BridgeTap:
        """Embeddings are not streamed."""
        raise UpstreamFault("Embeddings are not streamed.")


FRONT = EMBEDDINGS
"""What callers speak."""
