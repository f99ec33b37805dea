"""A wire format as the gateway uses it, and which operation is spoken in which."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ..errors import Fault
from ..vocabulary import (
    CHAT,
    COHERE_CHAT,
    COHERE_EMBED,
    COMPLETIONS,
    COUNT_CONTENT,
    COUNT_TOKENS,
    EMBEDDINGS,
    FIM,
    GENERATE_CONTENT,
    INPUT_TOKENS,
    MEDIA,
    MESSAGES,
    MISTRAL_CHAT,
    MISTRAL_EMBED,
    MODERATIONS,
    RERANK,
    RESPONSES,
    Operation,
)
from . import (
    anthropic,
    cohere,
    faults,
    gemini,
    media,
    mistral,
    openai_answer,
    openai_stream,
    rerank,
    responses,
)
from .media import MediaTap
from .openai_answer import Answer
from .openai_stream import StreamTap
from .opening import Asked


@dataclass(frozen=True, slots=True)
class Dialect:
    """What answers, streams and failures look like.

    The functions for a fault take the request's name as well. `content` finds the event with which an
    answer has begun for good. `id_header` is where the SDKs look for that
    name, besides x-request-id. `beta_header` is what a caller's SDK may say to the provider, None for
    nothing. `keep_alive` is what breaks a silence in a stream, `stream_type` the Content-Type of one; with
    `is_array` it is one JSON array, made of the events.
    """

    name: str
    read_answer: Callable[[bytes], Answer]
    tap: Callable[[Asked], StreamTap | MediaTap]
    error_object: Callable[[Fault, str], bytes]
    error_event: Callable[[Fault, str], bytes]
    content: re.Pattern[bytes]
    id_header: str | None = None
    beta_header: str | None = None
    keep_alive: bytes = openai_stream.KEEP_ALIVE
    is_array: bool = False
    stream_type: str = "text/event-stream; charset=utf-8"


OPENAI = Dialect(
    "openai",
    openai_answer.read_answer,
    lambda asked: StreamTap(hides_usage=not asked.wants_usage),
    faults.error_object,
    faults.error_event,
    openai_stream.CONTENT,
)
ANTHROPIC = Dialect(
    "anthropic",
    anthropic.read_answer,
    lambda asked: anthropic.MessagesTap(),
    anthropic.error_object,
    anthropic.error_event,
    anthropic.CONTENT,
    id_header="request-id",
    beta_header="anthropic-beta",
)

MISTRAL = Dialect(
    "mistral",
    openai_answer.read_answer,
    lambda asked: StreamTap(hides_usage=False),
    mistral.error_object,
    mistral.error_event,
    openai_stream.CONTENT,
)

RESPONSES_API = Dialect(
    "responses",
    responses.read_answer,
    lambda asked: responses.ResponsesTap(),
    faults.error_object,
    responses.error_event,
    responses.CONTENT,
)

OPENAI_MEDIA = Dialect(
    "openai",
    media.read_answer,
    lambda asked: media.MediaTap(),
    faults.error_object,
    faults.error_event,
    media.CONTENT,
)

COHERE_RERANK = Dialect(
    "cohere",
    media.read_answer,
    lambda asked: media.MediaTap(),
    rerank.error_object,
    faults.error_event,
    media.CONTENT,
)

COHERE = Dialect(
    "cohere",
    cohere.read_answer,
    lambda asked: cohere.CohereTap(),
    cohere.error_object,
    cohere.error_event,
    cohere.CONTENT,
)

GEMINI = Dialect(
    "gemini",
    gemini.read_answer,
    lambda asked: gemini.GeminiTap(),
    gemini.error_object,
    gemini.error_event,
    gemini.CONTENT,
    keep_alive=gemini.KEEP_ALIVE,
)
GEMINI_ARRAY = replace(GEMINI, is_array=True, stream_type="application/json; charset=utf-8")
"""The same, with a stream that is one JSON array."""

DIALECT_OF: Mapping[Operation, Dialect] = {
    CHAT: OPENAI,
    COMPLETIONS: OPENAI,
    EMBEDDINGS: OPENAI,
    MESSAGES: ANTHROPIC,
    COUNT_TOKENS: ANTHROPIC,
    RESPONSES: RESPONSES_API,
    INPUT_TOKENS: RESPONSES_API,
    MODERATIONS: OPENAI_MEDIA,
    RERANK: COHERE_RERANK,
    COHERE_CHAT: COHERE,
    COHERE_EMBED: COHERE,
    MISTRAL_CHAT: MISTRAL,
    MISTRAL_EMBED: MISTRAL,
    FIM: MISTRAL,
    **dict.fromkeys(MEDIA, OPENAI_MEDIA),
    GENERATE_CONTENT: GEMINI,
    COUNT_CONTENT: GEMINI,
}
