"""Joins two formats through the private language: a caller's request crosses over, the answer comes back.

The only place that knows more than one format. Strangers cost a decode and an encode; those who speak the
same format never come here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from ..errors import UpstreamFault
from ..vocabulary import (
    CHAT,
    COHERE_CHAT,
    COMPLETIONS,
    CONVERSE,
    GENERATE_CONTENT,
    MESSAGES,
    MISTRAL_CHAT,
    RESPONSES,
    SERVING,
    Operation,
    Usage,
)
from . import openai_answer
from .canonical import Begin, Event, Finish, Json, Request, Used
from .chat_back import ChatBack
from .chat_front import ChatFront
from .codec import (
    Back,
    BackCodec,
    Context,
    FrontCodec,
    Manners,
    ToldError,
    broken,
    decode_json,
    encode_json,
)
from .cohere_back import CohereBack
from .cohere_front import CohereFront
from .completions_front import CompletionsFront
from .converse_back import ConverseBack
from .gemini_back import GeminiBack
from .gemini_front import GeminiFront
from .loss import Loss
from .messages_back import MessagesBack
from .messages_front import MessagesFront
from .mistral_front import MistralFront
from .responses_back import ResponsesBack
from .responses_front import ResponsesFront
from .serving_back import ServingBack
from .sse import EventFrames

FRONTS: Mapping[Operation, FrontCodec] = {
    CHAT: ChatFront(),
    COMPLETIONS: CompletionsFront(),
    MESSAGES: MessagesFront(),
    RESPONSES: ResponsesFront(),
    GENERATE_CONTENT: GeminiFront(),
    COHERE_CHAT: CohereFront(),
    MISTRAL_CHAT: MistralFront(),
}
BACKS: Mapping[Operation, BackCodec] = {
    CHAT: ChatBack(),
    CONVERSE: ConverseBack(),
    MESSAGES: MessagesBack(),
    RESPONSES: ResponsesBack(),
    COHERE_CHAT: CohereBack(),
    SERVING: ServingBack(),
    GENERATE_CONTENT: GeminiBack(),
}
FRONTS_OF: Mapping[str, tuple[Operation, ...]] = {
    CHAT.endpoint_type: (CHAT, MESSAGES, RESPONSES, GENERATE_CONTENT, COHERE_CHAT, MISTRAL_CHAT),
    COMPLETIONS.endpoint_type: (COMPLETIONS,),
}
"""What callers may speak to an endpoint of a type, whatever its deployments speak."""


class Frames(Protocol):
    """Finds the events in the bytes of a stream: the name and the body of each."""

    def feed(self, piece: bytes) -> list[tuple[str, bytes]]:
        """Take a piece, however it was cut."""

    def close(self) -> list[tuple[str, bytes]]:
        """Return what is left at the end."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """From what callers speak, `front`, to what a deployment speaks, `back`."""

    front: Operation
    back: Operation
    manners: Manners
    frames: Callable[[], Frames] = EventFrames

    def cross(
        self,
        fields: Mapping[str, msgspec.Raw],
        *,
        is_stream: bool,
        wants_usage: bool,
        request_id: str,
        created: int,
    ) -> Crossing:
        """Translate a request. `RequestFault` for what is wrong in it, or cannot be said over there."""
        loss = Loss(self.manners.where)
        given = {name: decode_json(raw) for name, raw in fields.items()}
        request = FRONTS[self.front].decode_request(given, loss)
        request.is_stream = is_stream
        back = Back.of(request, self.manners)
        body = BACKS[self.back].encode_request(back, loss)
        context = Context(request_id, created, self.manners.model, request, wants_usage)
        return Crossing(self, back, context, body, list(loss.dropped))


@dataclass(slots=True)
class Crossing:
    """One request on its way. `body` is for the provider, all but its model; `dropped` is what is lost."""

    bridge: Bridge
    back: Back
    context: Context
    body: dict[str, Json] = field(repr=False)
    dropped: list[str]

    @property
    def request(self) -> Request:
        return self.context.request

    def answer(self, body: bytes) -> tuple[bytes, openai_answer.Answer]:
        """Translate a complete answer; with it comes what is to be known of it.

        `UpstreamBroken` for what is no answer.
        """
        try:
            document = decode_json(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise broken("the answer is not valid JSON") from None
        if is_error(document):
            return body, openai_answer.Answer(None, True, None)
        found = BACKS[self.bridge.back].decode_answer(document, self.back)
        written = FRONTS[self.bridge.front].encode_answer(found, self.context)
        return encode_json(written), openai_answer.Answer(found.usage, False, found.model)

    def tap(self, refuse: Callable[[bytes], UpstreamFault]) -> BridgeTap:
        """Return what translates a stream; `refuse` makes the fault of an error that the provider tells."""
        return BridgeTap(self, refuse)


def is_error(document: Json) -> bool:
    """Say whether an answer is an error after all."""
    if not isinstance(document, dict):
        return False
    return bool(document.get("error")) or "error" in (document.get("type"), document.get("object"))


class BridgeTap:
    """Translates one stream. `feed` every piece, then `close`; what they return is sent to the caller."""

    has_error = False
    is_aligned = True
    latest_event = b""

    def __init__(self, crossing: Crossing, refuse: Callable[[bytes], UpstreamFault]) -> None:
        bridge = crossing.bridge
        self.usage: Usage | None = None
        self.answered_model: str | None = None
        self._frames = bridge.frames()
        self._decoder = BACKS[bridge.back].decoder(crossing.back)
        self._encoder = FRONTS[bridge.front].encoder(crossing.context)
        self._refuse = refuse
        self._is_finished = False
        self.failure: UpstreamFault | None = None  # what followed upon what was passed on last

    def feed(self, piece: bytes) -> bytes:
        """Take a piece, however it was cut, and return what it means to the caller.

        `UpstreamBroken` for what cannot be read, `UpstreamFault` for an error that it tells. What came
        before that in the same piece is returned first, and `failure` is what is to be raised then.
        """
        if self.failure is not None:
            raise self.failure
        written: list[bytes] = []
        try:
            for name, body in self._frames.feed(piece):
                written += self._read(name, body)
        except UpstreamFault as fault:
            if not any(written):
                raise
            self.failure = fault
        return b"".join(written)

    def close(self) -> bytes:
        """Return the end. `UpstreamBroken` when it came too early."""
        if self.failure is not None:
            raise self.failure
        written = []
        for name, body in self._frames.close():
            written += self._read(name, body)
        written += [self._write(event) for event in self._decoder.close()]
        if not self._is_finished:
            raise broken("the stream ends without a reason")
        return b"".join(written) + self._encoder.close()

    def last(self, event: bytes, *, is_first: bool) -> bytes:
        """Return an event of ours with which the answer ends."""
        return event

    def _read(self, name: str, body: bytes) -> list[bytes]:
        try:
            return [self._write(event) for event in self._decoder.feed(name, body)]
        except ToldError as error:
            raise self._refuse(error.body) from None

    def _write(self, event: Event) -> bytes:
        if isinstance(event, Begin):
            self.answered_model = event.model
            self.usage = event.usage or self.usage
        elif isinstance(event, Used):
            self.usage = event.usage
        elif isinstance(event, Finish):
            self._is_finished = True
        return self._encoder.encode(event)
