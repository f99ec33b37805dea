"""A form with files on its way from a caller to a provider: never whole in memory, unless it is short.

The front `feed`s what arrives and waits when nobody takes it; the gateway `open`s the form as far as it has
to, to know the model, and hands on the rest as it comes. So a slow provider slows the caller.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence

from .dialects.multipart import Event, FormReader, FormWriter, Part, boundary_of
from .dialects.opening import MAX_MODEL_CHARS, Asked, open_form
from .errors import BodyTooLarge, RequestFault
from .upstream.base import StreamedBody
from .vocabulary import Operation

HIGH_WATER_BYTES = 65536
"""How much of an upload waits for the provider before its caller has to."""
SHORT_BYTES = 1024 * 1024
"""An upload that says it is no longer is taken whole, so that it can be tried elsewhere."""
MAX_HELD_BYTES = 32 * 1024 * 1024
"""How much of one upload is kept in memory until its model is known."""
_CONTENT_LENGTH_DIGITS = 18


class Holding:
    """How much of all uploads is in memory, now and at most so far."""

    __slots__ = ("held_bytes", "peak_bytes")

    def __init__(self) -> None:
        self.held_bytes = 0
        self.peak_bytes = 0

    def add(self, count: int) -> None:
        """Note that so many bytes came, or went."""
        self.held_bytes += count
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)


class Upload:
    """One form. `announced_bytes` is its length as far as the caller says it."""

    def __init__(self, content_type: str, content_length: str | None, holding: Holding) -> None:
        self._reader = FormReader(boundary_of(content_type))
        self._holding = holding
        is_number = content_length is not None and content_length.isdigit()
        is_told = is_number and len(content_length or "") <= _CONTENT_LENGTH_DIGITS
        self.announced_bytes = int(content_length or 0) if is_told else None
        self._inbox: list[bytes] = []
        self._inbox_bytes = 0
        self._events: list[Event] = []  # what has been read and may be needed again
        self._event_bytes = 0
        self._model = b""
        self._is_in_model = False  # True while the content of the field `model` is read
        self._has_model = False
        self._has_ended = False  # True once the front has no more
        self._is_closed = False  # True once nobody reads any more
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self.may_repeat = True
        """True as long as all that was read is still here, so that another provider can have it."""

    # What the front calls

    def feed(self, piece: bytes) -> asyncio.Future[None] | None:
        """Take what has arrived; None, or what to await before more."""
        if self._is_closed:
            return None
        self._inbox.append(piece)
        self._note_inbox(self._inbox_bytes + len(piece))
        _wake(self._news)
        if self._inbox_bytes < HIGH_WATER_BYTES:
            return None
        self._room = asyncio.get_running_loop().create_future()
        return self._room

    def end(self) -> None:
        """Say that all of it has arrived."""
        self._has_ended = True
        _wake(self._news)

    def close(self) -> None:
        """Forget what is held; what still arrives is thrown away."""
        self._is_closed = True
        self._take_inbox()
        self._forget()

    # What the gateway calls

    async def open(self, operation: Operation, path_model: str | None) -> Asked:
        """Read as far as it takes to know the model. `RequestFault` for what is no form, or has none."""
        while not self._reader.is_done and not self._is_open_enough(path_model):
            self._hold(await self._read())
        model = self._model.decode("utf-8", "replace") if self._has_model else None
        return open_form(operation, model, path_model)

    def sent(
        self, given: Mapping[str, str], replaced: Mapping[str, str]
    ) -> tuple[str, bytes | StreamedBody]:
        """Return the Content-Type and the body for a provider; `FormWriter` says what the fields are."""
        writer = FormWriter(secrets.token_hex(24), given, replaced)
        if self._reader.is_done and self.may_repeat:
            pieces = [writer.begin(), *map(writer.add, self._events), writer.close()]
            length = sum(map(len, pieces))
            if length > SHORT_BYTES:  # without a copy
                return writer.content_type, StreamedBody(_each(pieces), length)
            return writer.content_type, b"".join(pieces)
        return writer.content_type, StreamedBody(self._pieces(writer))

    async def throw_away(self) -> None:
        """Read a short form to its end: some servers end a connection on which a refusal is left unread."""
        if self._is_short:
            while not self._has_ended:
                self._take_inbox()
                await self._anything()

    @property
    def _is_short(self) -> bool:
        return self.announced_bytes is not None and self.announced_bytes <= SHORT_BYTES

    def _is_open_enough(self, path_model: str | None) -> bool:
        """Say whether the model is known, and the rest may be read while it is sent."""
        is_known = path_model is not None or (self._has_model and not self._is_in_model)
        return is_known and not self._is_short

    async def _pieces(self, writer: FormWriter) -> AsyncIterator[bytes]:
        yield writer.begin()
        for event in tuple(self._events):
            yield writer.add(event)
        while not self._reader.is_done:
            events = await self._read()
            self.may_repeat = False
            self._forget()
            yield b"".join(map(writer.add, events))
        yield writer.close()

    async def _read(self) -> list[Event]:
        """Read on. `RequestFault` at an end that comes too early."""
        while not self._inbox:
            if self._has_ended:
                self._reader.close()
            await self._anything()
        return self._reader.feed(self._take_inbox())

    async def _anything(self) -> None:
        """Wait until the front has something to say."""
        self._news = asyncio.get_running_loop().create_future()
        await self._news

    def _hold(self, events: list[Event]) -> None:
        """Keep what was read, and look for the model in it."""
        for event in events:
            if isinstance(event, Part):
                self._is_in_model = event.name == "model" and not self._has_model
                self._has_model = self._has_model or self._is_in_model
            elif self._is_in_model:
                self._model += event
                if len(self._model) > 4 * MAX_MODEL_CHARS:
                    text = f"model must be text of 1 to {MAX_MODEL_CHARS} characters."
                    raise RequestFault(text, param="model")
            if isinstance(event, bytes):
                self._event_bytes += len(event)
                self._holding.add(len(event))
        self._events += events
        if self._event_bytes > MAX_HELD_BYTES:
            raise BodyTooLarge(
                "The form is too long to be held until its field model comes: put model before the file."
            )

    def _forget(self) -> None:
        self._events.clear()
        self._holding.add(-self._event_bytes)
        self._event_bytes = 0

    def _take_inbox(self) -> bytes:
        piece = b"".join(self._inbox)
        self._inbox.clear()
        self._note_inbox(0)
        _wake(self._room)
        return piece

    def _note_inbox(self, count: int) -> None:
        self._holding.add(count - self._inbox_bytes)
        self._inbox_bytes = count


async def _each(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
