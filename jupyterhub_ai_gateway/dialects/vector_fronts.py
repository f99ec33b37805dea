"""Embeddings towards a caller: requests read, vectors written.

Source: https://platform.openai.com/docs/api-reference/embeddings, https://docs.cohere.com/reference/embed
(read 2026-11).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ..vocabulary import COHERE_EMBED, EMBEDDINGS, MISTRAL_EMBED, Operation, Usage
from .canonical import Json
from .loss import DROPPED, IGNORED, MAPPED, Loss, Reader, Refused, Table, kind_of, wrong
from .openai_answer import packed_vector

_PICTURES = Refused("holds pictures, of which other models than Cohere's make no vectors")
_ROUNDED = "asks for rounded numbers, which only its vendor's own models are made for"

REQUEST: Table = {
    "input": MAPPED,
    "model": IGNORED,
    "encoding_format": IGNORED,  # the vectors are encoded as asked once they are here
    "dimensions": MAPPED,
    "input_type": MAPPED,
    "user": IGNORED,
}
COHERE: Table = {
    "texts": MAPPED,
    "inputs": MAPPED,
    "images": _PICTURES,
    "model": IGNORED,
    "input_type": MAPPED,
    "output_dimension": MAPPED,
    "embedding_types": MAPPED,
    "truncate": DROPPED,
    "max_tokens": DROPPED,
    "priority": DROPPED,
}
MISTRAL: Table = {
    "input": MAPPED,
    "model": IGNORED,
    "metadata": DROPPED,
    "output_dimension": MAPPED,
    "output_dtype": MAPPED,
    "encoding_format": MAPPED,
}
COHERE_INPUT: Table = {"content": MAPPED}
COHERE_CONTENT: Table = {"type": MAPPED, "text": MAPPED, "image_url": _PICTURES}
TYPES = ("float", "base64")
"""What of Cohere's types of embeddings can be made of anybody's."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Texts to embed. `input_type` is Cohere's word for what they are.

    `kinds` are how the vectors are wanted, in Cohere's words; `names` says what the caller calls an
    attribute.
    """

    texts: Sequence[str]
    dimensions: int | None = None
    input_type: str | None = None
    kinds: Sequence[str] = ("float",)
    names: Mapping[str, str] = field(default_factory=dict)


class Vectors(NamedTuple):
    """What came back: a vector for each text, and what the host calls the model, if it says."""

    vectors: list[list[float]]
    usage: Usage | None
    model: str | None = None


class VectorFront(Protocol):
    """One format that callers speak."""

    def decode(self, fields: dict[str, Json], loss: Loss) -> Wanted:
        """Read a request; `RequestFault` names the field that is wrong."""

    def encode(self, found: Vectors, wanted: Wanted, model: str, request_id: str) -> Json:
        """Write the answer; `model` is what the host is asked for."""


class OpenAIFront:
    """OpenAI's embeddings."""

    def decode(self, fields: dict[str, Json], loss: Loss) -> Wanted:
        reader = Reader(fields, "", REQUEST, loss)
        return Wanted(_texts(reader), reader.integer("dimensions"), reader.text("input_type"))

    def encode(self, found: Vectors, wanted: Wanted, model: str, request_id: str) -> Json:
        tokens = None if found.usage is None else found.usage.input_tokens
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(found.vectors)
            ],
            "model": found.model or model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }


def _texts(reader: Reader) -> list[str]:
    value = reader.any("input")
    if isinstance(value, list) and value and not isinstance(value[0], str):
        reader.loss.refuse("input", "is of tokens, whose meaning is another model's")
    texts = reader.texts("input")
    if not texts:
        raise wrong("input", "must be text or a list of texts")
    return texts


class MistralEmbedFront:
    """Mistral's embeddings, which are OpenAI's but for a few names."""

    def decode(self, fields: dict[str, Json], loss: Loss) -> Wanted:
        reader = Reader(fields, "", MISTRAL, loss)
        if reader.text("output_dtype") not in (None, "float"):
            loss.refuse("output_dtype", _ROUNDED)
        kind = reader.text("encoding_format") or "float"
        if kind not in TYPES:
            raise wrong("encoding_format", "must be float or base64")
        names = {"dimensions": "output_dimension"}
        return Wanted(_texts(reader), reader.integer("output_dimension"), None, (kind,), names)

    def encode(self, found: Vectors, wanted: Wanted, model: str, request_id: str) -> Json:
        told = OpenAIFront().encode(found, wanted, model, request_id)
        for card, vector in zip(told["data"], _written(found.vectors, wanted.kinds[0]), strict=True):
            card["embedding"] = vector
        return {"id": request_id, **told}


class CohereEmbedFront:
    """Cohere's embed, version 2."""

    def decode(self, fields: dict[str, Json], loss: Loss) -> Wanted:
        reader = Reader(fields, "", COHERE, loss)
        kinds = reader.texts("embedding_types") or ["float"]
        if any(kind not in TYPES for kind in kinds):
            loss.refuse("embedding_types", _ROUNDED)
        texts = [*reader.texts("texts"), *_inputs(reader)]
        if not texts:
            raise wrong("texts", "must be a list of texts")
        length, use = reader.integer("output_dimension"), reader.text("input_type")
        return Wanted(texts, length, use, kinds, {"dimensions": "output_dimension"})

    def encode(self, found: Vectors, wanted: Wanted, model: str, request_id: str) -> Json:
        tokens = None if found.usage is None else found.usage.input_tokens
        used = {} if tokens is None else {"billed_units": {"input_tokens": tokens}}
        return {
            "id": request_id,
            "response_type": "embeddings_by_type",
            "embeddings": {kind: _written(found.vectors, kind) for kind in wanted.kinds},
            "texts": list(wanted.texts),
            "meta": {"api_version": {"version": "2"}, **used},
        }


def _written(vectors: list[list[float]], kind: str) -> Json:
    return vectors if kind == "float" else [packed_vector(each) for each in vectors]


def _inputs(reader: Reader) -> Iterator[str]:
    """Yield each input as one text; `Untranslatable` for one with a picture."""
    for place, item in reader.items("inputs"):
        inner = Reader(item, place, COHERE_INPUT, reader.loss)
        words = []
        for where, each in inner.items("content"):
            if kind_of(each, where) not in ("text", "image_url"):
                raise wrong(f"{where}.type", "must be text or image_url")
            words.append(Reader(each, where, COHERE_CONTENT, reader.loss).text("text") or "")
        yield "\n".join(words)


FRONTS: Mapping[Operation, VectorFront] = {
    EMBEDDINGS: OpenAIFront(),
    COHERE_EMBED: CohereEmbedFront(),
    MISTRAL_EMBED: MistralEmbedFront(),
}
