"""What every host of models is: a ladder, on which a subclass stops at the first rung that serves.

1  `schema`            what the operator configures, as data
2  `url`, `headers`    where requests go, and with which unchanging headers
3  `fresh_headers`     credentials that expire
4  `amend`             the body, where the host departs from the wire format it speaks
5  `refusal`           what its error answers mean
6  `send`              how it is asked at all; rarely replaced
"""

from __future__ import annotations

import abc
from collections.abc import Coroutine, Mapping, MutableMapping, Sequence
from typing import Any, ClassVar

import msgspec

from ..config import ModelConfig, ProviderSchema
from ..dialects.codec import Manners
from ..errors import UpstreamRefused
from ..upstream.base import Client, Exchange, StreamedBody, Target
from ..vocabulary import (
    CHAT,
    MEDIA,
    MESSAGES,
    OPENAI_OPERATIONS,
    RESPONSES,
    UPLOADS,
    Operation,
    Timeouts,
)
from .refusals import refusal
from .tokens import TokenCache

Headers = Sequence[tuple[str, str]]


class Provider(abc.ABC):
    """One host as one deployment uses it. Made once per configuration, shared by all its requests."""

    schema: ClassVar[ProviderSchema]

    takes_stream_usage: bool = True
    """True when `stream_options.include_usage` may be asked for; then a stream's usage is known."""

    temperature_scale: float = 1.0
    """What MLflow multiplies a temperature from 0 to 2 by for this host, on MLflow's paths alone."""

    reports_cost: bool = False
    """True for a host that tells with each answer what it cost."""

    def __init__(self, model: ModelConfig) -> None:
        self.model_name = model.name
        self.settings: Mapping[str, Any] = model.settings
        self.tls = model.tls
        self.public_only = model.public_only

    @property
    def name(self) -> str:
        """Return what metrics and answers call this host."""
        return self.schema.name

    @abc.abstractmethod
    def url(self, operation: Operation) -> str:
        """Return the absolute URL that serves an operation."""

    def speaks(self, endpoint_type: str) -> frozenset[Operation]:
        """Return the operations that serve an endpoint of this type, in the formats it speaks."""
        return frozenset(each for each in OPENAI_OPERATIONS if each.endpoint_type == endpoint_type)

    translates: Sequence[Operation] = (CHAT, MESSAGES, RESPONSES)
    """The formats into which others are translated, the best first; one that it does not speak is passed
    over."""

    is_stranger: bool = False
    """True for a host whose chat completions have fields of their own: everything is translated."""

    def manners(self) -> Manners:
        """Return what a translator has to know of this host."""
        return Manners(model=self.model_name or "")

    def headers(self) -> Headers:
        """Return the headers that never change, credentials included."""
        return ()

    tokens: TokenCache | None = None
    """Where the token comes from that the host wants with each request; None where a key serves."""

    betas: frozenset[str] | None = None
    """Which of the features that callers ask for by a header this host may hear of; None for all."""

    has_fresh_headers: bool = False
    """True in a class whose requests need `fresh_headers`."""

    async def fresh_headers(self) -> Headers:
        """Return the headers that do change, such as a token that expires. `UpstreamFault` without one."""
        return ()

    def amend(  # noqa: B027 - most hosts need none
        self, operation: Operation, fields: MutableMapping[str, msgspec.Raw]
    ) -> None:
        """Change the body's top-level fields in place; `model` is set already."""

    def refusal(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> UpstreamRefused:
        """Return what an answer with an error status means for the caller, without any secret in it."""
        return refusal(self.name, status, headers, body, self.secrets())

    def secrets(self) -> tuple[str, ...]:
        """Return the texts that must never be relayed, whatever the host writes into its errors."""
        return ()

    def target(self, operation: Operation) -> Target:
        """Return what `send` wants for an operation; made once."""
        headers = self.headers()
        if operation in MEDIA:
            headers = _media_headers(operation, headers)
        return self.reach(self.url(operation), headers)

    def reach(self, url: str, headers: Headers, *, method: str = "POST") -> Target:
        """Return one of this host's URLs, connected to as the operator says; ValueError when it is none."""
        return Target.from_url(
            url,
            headers,
            method=method,
            verify_tls=self.verifies_tls,
            tls=self.tls,
            public_only=self.public_only,
        )

    def stream_target(self, operation: Operation) -> Target:
        """Return the same for a streamed answer, where the host has another address for it; made once."""
        return self.target(operation)

    verifies_tls: bool = True
    """False only where the operator said so for this host."""

    def send(
        self, client: Client, target: Target, body: bytes, timeouts: Timeouts, headers: Headers = ()
    ) -> Coroutine[None, None, Exchange]:
        """Send one request and return once the answer's head is here.

        `headers` are this request's own: what the caller may say to the host.
        """
        if self.has_fresh_headers or self.tokens is not None:
            return self._send_fresh(client, target, body, timeouts, headers)
        return client.send(target, headers, body, timeouts)

    def upload(
        self,
        client: Client,
        target: Target,
        body: bytes | StreamedBody,
        timeouts: Timeouts,
        headers: Headers,
    ) -> Coroutine[None, None, Exchange]:
        """Send a form with files; `headers` have its Content-Type."""
        if isinstance(body, bytes):
            return self.send(client, target, body, timeouts, headers)
        return self._upload(client, target, body, timeouts, headers)

    async def _upload(
        self, client: Client, target: Target, body: StreamedBody, timeouts: Timeouts, headers: Headers
    ) -> Exchange:
        if self.has_fresh_headers:
            headers = [*await self.fresh_headers(), *headers]
        return await client.upload(target, headers, body, timeouts)

    def whole_answer(self, operation: Operation, asked: Mapping[str, msgspec.Raw], body: bytes) -> bytes:
        """Return a whole answer in the words of the operation, where the host has words of its own.

        `asked` are the fields of the caller's request.
        """
        return body

    async def _send_fresh(
        self, client: Client, target: Target, body: bytes, timeouts: Timeouts, headers: Headers
    ) -> Exchange:
        own = [*await self.fresh_headers(), *headers]
        if self.tokens is None:
            return await client.send(target, own, body, timeouts)
        token = await self.tokens.get(client)
        exchange = await client.send(target, [bearer(token), *own], body, timeouts)
        if exchange.status != 401:
            return exchange
        exchange.close()  # it was taken back before its time: once more, with another
        self.tokens.renounce(token)
        again = bearer(await self.tokens.get(client))
        return await client.send(target, [again, *own], body, timeouts)


def bearer(token: str) -> tuple[str, str]:
    """Return the header that carries a token."""
    return ("Authorization", f"Bearer {token}")


def _media_headers(operation: Operation, headers: Headers) -> Headers:
    """Return headers for what is not JSON alone: any answer, and of a form each request says what it is."""
    own = [pair for pair in headers if pair[0].lower() not in ("accept", "content-type")]
    kind = [pair for pair in headers if pair[0].lower() == "content-type" and operation not in UPLOADS]
    return [*own, ("Accept", "*/*"), *kind]
