"""Embeddings between hosts and callers of different formats: a request crosses over, the vectors come back.

Source: https://platform.openai.com/docs/api-reference/embeddings, https://docs.cohere.com/reference/embed
(read 2026-11).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import msgspec
from typing_extensions import override

from ..errors import UpstreamFault
from ..vocabulary import BEDROCK_EMBED, COHERE_EMBED, EMBEDDINGS, SERVING_VECTORS, Operation, Usage
from . import openai_answer
from .bridge import BridgeTap, is_error
from .canonical import Json
from .codec import Manners, broken, decode_json, encode_json
from .cohere_back import usage_of
from .loss import DROPPED, Loss, Refused, Verb
from .serving_back import vectors_of
from .vector_fronts import FRONTS, Vectors, Wanted

_LENGTH = Refused("asks for vectors of another length than the model's own")


class VectorHost(Protocol):
    """One host's format. `lacks` has the verb of what it cannot be told."""

    lacks: ClassVar[Mapping[str, Verb]] = {}

    def encode(self, wanted: Wanted) -> dict[str, Json]:
        """Write a request, all but the model."""

    def decode(self, document: Json) -> Vectors:
        """Read the vectors, in the order of the texts; `UpstreamBroken` for what is no answer."""


class OpenAIVectors(VectorHost):
    """OpenAI's, and everything compatible."""

    lacks: ClassVar[Mapping[str, Verb]] = {"input_type": DROPPED}

    @override
    def encode(self, wanted: Wanted) -> dict[str, Json]:
        body: dict[str, Json] = {"input": list(wanted.texts), "encoding_format": "float"}
        return body if wanted.dimensions is None else {**body, "dimensions": wanted.dimensions}

    @override
    def decode(self, document: Json) -> Vectors:
        try:
            items = sorted(document["data"], key=lambda each: each["index"])
            found = [openai_answer.unpacked_vector(each["embedding"]) for each in items]
        except (KeyError, TypeError, ValueError):
            raise broken("the answer has no embeddings") from None
        usage = openai_answer.read_usage(msgspec.Raw(encode_json(document.get("usage"))))
        model = document.get("model")
        told = None if usage is None else Usage(usage.input_tokens, 0)
        return Vectors(found, told, model if isinstance(model, str) else None)


class CohereVectors(VectorHost):
    """Cohere's embed, version 2."""

    @override
    def encode(self, wanted: Wanted) -> dict[str, Json]:
        body: dict[str, Json] = {
            "texts": list(wanted.texts),
            "input_type": wanted.input_type or "search_document",
            "embedding_types": ["float"],
        }
        if wanted.dimensions is not None:
            body["output_dimension"] = wanted.dimensions
        return body

    @override
    def decode(self, document: Json) -> Vectors:
        found = document.get("embeddings") if isinstance(document, dict) else None
        vectors = found.get("float") if isinstance(found, dict) else None
        if not isinstance(vectors, list):
            raise broken("the answer has no embeddings")
        usage = usage_of(document.get("meta"))
        return Vectors(vectors, None if usage is None else Usage(usage.input_tokens, 0))


class ServingVectors(VectorHost):
    """A served MLflow model's."""

    lacks: ClassVar[Mapping[str, Verb]] = {"input_type": DROPPED, "dimensions": _LENGTH}

    @override
    def encode(self, wanted: Wanted) -> dict[str, Json]:
        return {"inputs": list(wanted.texts), "params": {}}

    @override
    def decode(self, document: Json) -> Vectors:
        return Vectors(*vectors_of(document))


class BedrockVectors(VectorHost):
    """Bedrock's models: each has a format of its own, which `providers.bedrock_vectors` knows."""

    @override
    def encode(self, wanted: Wanted) -> dict[str, Json]:
        given = {"dimensions": wanted.dimensions, "input_type": wanted.input_type}
        return {"texts": list(wanted.texts)} | {
            name: item for name, item in given.items() if item is not None
        }

    @override
    def decode(self, document: Json) -> Vectors:
        tokens = document["input_tokens"]
        return Vectors(document["vectors"], None if tokens is None else Usage(tokens, 0))


BACKS: Mapping[Operation, VectorHost] = {
    BEDROCK_EMBED: BedrockVectors(),
    COHERE_EMBED: CohereVectors(),
    EMBEDDINGS: OpenAIVectors(),
    SERVING_VECTORS: ServingVectors(),
}


@dataclass(frozen=True, slots=True)
class VectorBridge:
    """From a caller's format of embeddings, `front`, to a host's, `back`."""

    front: Operation
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
        given = {name: decode_json(raw) for name, raw in fields.items()}
        wanted, host = FRONTS[self.front].decode(given, loss), BACKS[self.back]
        for name, verb in host.lacks.items():
            if getattr(wanted, name) is None:
                continue
            told = wanted.names.get(name, name)
            if isinstance(verb, Refused):
                loss.refuse(told, verb.why)
            loss.drop(told)
        body = host.encode(wanted)
        return VectorCrossing(self, wanted, request_id, body, list(loss.dropped))


@dataclass(slots=True)
class VectorCrossing:
    """One request on its way. `body` is for the host, `dropped` names what is lost."""

    bridge: VectorBridge
    wanted: Wanted = field(repr=False)
    request_id: str
    body: dict[str, Json] = field(repr=False)
    dropped: list[str]

    def answer(self, body: bytes) -> tuple[bytes, openai_answer.Answer]:
        """Translate the answer; with it comes what is to be known of it. `UpstreamBroken` for no answer."""
        try:
            document = decode_json(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise broken("the answer is not valid JSON") from None
        if is_error(document):
            return body, openai_answer.Answer(None, True, None)
        bridge = self.bridge
        found = BACKS[bridge.back].decode(document)
        written = FRONTS[bridge.front].encode(found, self.wanted, bridge.manners.model, self.request_id)
        return encode_json(written), openai_answer.Answer(found.usage, False, found.model)

    def tap(self, refuse: object) -> BridgeTap:
        """Embeddings are not streamed."""
        raise UpstreamFault("Embeddings are not streamed.")


def fronts_of(straight: Collection[Operation]) -> list[Operation]:
    """Return the callers' formats of embeddings, less those that a host speaks itself."""
    return [each for each in FRONTS if each not in straight]
