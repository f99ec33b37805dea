"""The embedded provider: answers by itself, always the same, so that a Hub works before it has a key.

It reads nothing but the body that the gateway would send to a host, and answers as a host would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping

import msgspec
from typing_extensions import override

from ..config import TEXT_TYPES, ModelConfig, ProviderSchema, Setting
from ..errors import UpstreamBroken
from ..upstream.base import Client, Exchange, Target, Write
from ..vocabulary import CHAT, COMPLETIONS, EMBEDDINGS, Operation, Timeouts
from .base import Headers, Provider
from .echo_answers import Events, chat, chat_events, completion, completion_events, embeddings
from .echo_requests import BadRequestError, read_request

TOKENS_PER_SECOND = "50"
_ORIGIN = "http://echo.invalid"
_ANSWERS = {CHAT.path: chat, COMPLETIONS.path: completion, EMBEDDINGS.path: embeddings}
_EVENTS = {CHAT.path: chat_events, COMPLETIONS.path: completion_events}
_encode = msgspec.json.Encoder().encode


def _check(settings: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    try:
        is_fine = 0 <= float(str(settings["tokens_per_second"])) <= 1e6
    except ValueError:
        is_fine = False
    if not is_fine:
        yield "tokens_per_second", 'must be a number in quotes, such as "50"; "0" does not wait at all'


class Echo(Provider):
    """Says what it was told, and that it is no model."""

    schema = ProviderSchema(
        name="echo",
        settings=(
            Setting(
                "tokens_per_second",
                "text",
                default=TOKENS_PER_SECOND,
                help='How fast streams are, in quotes; "0" does not wait.',
            ),
        ),
        endpoint_types=frozenset(TEXT_TYPES),
        model_name_required=False,
        check=_check,
    )

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model)
        rate = float(self.settings["tokens_per_second"])
        self._pause_s = 1 / rate if rate else 0.0

    @override
    def url(self, operation: Operation) -> str:
        return f"{_ORIGIN}{operation.path}"

    @override
    async def send(
        self, client: Client, target: Target, body: bytes, timeouts: Timeouts, headers: Headers = ()
    ) -> Exchange:
        return answer(target.path, body, self.model_name or "echo", self._pause_s)


def answer(path: str, body: bytes, model: str, pause_s: float) -> Exchange:
    """Answer as a host would that hears `body` at `path`."""
    try:
        request = read_request(path, body)
        request.setdefault("model", model)
        if request.get("stream") and path in _EVENTS:
            return _Streamed(_EVENTS[path](request), pause_s)
        return _Whole(200, _ANSWERS[path](request))
    except BadRequestError as error:
        return _refused(str(error), error.param)
    except RecursionError:
        return _refused("The request is nested too deeply.", None)


def _refused(message: str, param: str | None) -> Exchange:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return _Whole(400, {"error": error})


class _Whole(Exchange):
    """An answer that is there at once."""

    def __init__(self, status: int, document: object) -> None:
        self.status = status
        self.headers = {b"content-type": b"application/json"}
        self._body = _encode(document)

    @override
    async def read(self, limit: int) -> bytes:
        if len(self._body) > limit:
            raise UpstreamBroken("The answer is too long.")
        return self._body

    @override
    async def relay(self, write: Write) -> None:
        waiting = write(self._body)
        if waiting is not None:
            await waiting

    @override
    def close(self) -> None:
        """Nothing is open."""


class _Streamed(Exchange):
    """An answer that comes at the pace of a model."""

    def __init__(self, events: Events, pause_s: float) -> None:
        self.status = 200
        self.headers = {b"content-type": b"text/event-stream"}
        self._events = events
        self._pause_s = pause_s

    @override
    async def read(self, limit: int) -> bytes:
        return b"".join(self._pieces())

    @override
    async def relay(self, write: Write) -> None:
        for piece in self._pieces():
            await asyncio.sleep(self._pause_s)
            waiting = write(piece)
            if waiting is not None:
                await waiting

    @override
    def close(self) -> None:
        """Nothing is open."""

    def _pieces(self) -> Iterator[bytes]:
        for event in self._events:
            yield b"data: " + _encode(event) + b"\n\n"
        yield b"data: [DONE]\n\n"
