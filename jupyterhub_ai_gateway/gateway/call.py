"""What comes in and goes out: a request is a `Call`, the answer leaves by a `Reply`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ..dialects.dialect import DIALECT_OF, GEMINI_ARRAY, Dialect
from ..dialects.mlflow import MlflowForm
from ..uploads import Upload
from ..vocabulary import Caller, Operation, Place, Wishes

Headers = Sequence[tuple[str, str]]

EVENTS, ARRAY = "events", "array"
"""How a path asks for a stream."""


class Reply(Protocol):
    """Writes one answer: `respond` alone, or `begin`, any number of `send`, then `end`.

    Once the caller is gone `send` raises an OSError and the others do nothing.
    """

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Write a complete answer."""

    def begin(self, status: int, headers: Headers) -> None:
        """Start an answer whose length is not known."""

    def send(self, piece: bytes) -> Awaitable[None] | None:
        """Write a piece; None, or what to await before the next one."""

    def end(self) -> None:
        """End the body properly."""

    def abort(self) -> None:
        """Cut an answer that has begun, so that nobody takes it for whole."""


@dataclass(slots=True)
class Call:
    """One request. `caller` is None when `token` has yet to say who it is; `id` is its x-request-id.

    `betas` is what its dialect's `beta_header` says, for the provider to hear; `path_model` is the model
    where the path names it; `project` is the group of the caller's that is to pay, None for the usual one;
    `provider` is the only one that may serve it, None for any. `place` is where the model is to run, None
    for wherever. `is_batch` is true for what can wait while others' requests do not. `upload` is a form
    that is still arriving; then `body` is empty. `path_streams` is what the path says of a stream:
    "events", an "array", or "" for nothing. `wishes` is what else they say in headers, None for nothing.
    """

    operation: Operation
    body: bytes = field(repr=False)
    id: str
    token: str | None = field(default=None, repr=False)
    caller: Caller | None = None
    betas: str | None = None
    path_model: str | None = None
    project: str | None = None
    form: MlflowForm | None = None
    """How the body is read where the path is one of MLflow's."""
    provider: str | None = None
    upload: Upload | None = None
    path_streams: str = ""
    wishes: Wishes | None = None
    place: Place | None = None
    is_batch: bool = False
    task: asyncio.Task[None] | None = field(default=None, repr=False)
    """What answers it, where that is known before it begins."""

    @property
    def dialect(self) -> Dialect:
        """Return the format in which the caller is answered."""
        return GEMINI_ARRAY if self.path_streams == ARRAY else DIALECT_OF[self.operation]


class Running(NamedTuple):
    """A request that is being answered, without anything of its content. `took_s` is its age."""

    request_id: str
    caller: Caller
    endpoint: str
    operation: str
    at_ms: int
    took_s: float
    is_stream: bool
    attempts: int
    provider: str | None
    deployment: str | None
    passed_bytes: int
