"""An answer that is neither text nor a stream of events, on its way through: images, sound, subtitles.

Short JSON is taken whole, so that one which is cut short is an error with a status, and can be tried
elsewhere. All else passes as it comes, and a slow caller slows the provider.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from .dialects.media import MediaTap, read_answer
from .upstream.base import Exchange
from .vocabulary import Usage

Headers = Sequence[tuple[str, str]]

SHORT_BYTES = 1024 * 1024
"""A JSON answer that is longer passes piece by piece."""


class Outlet(Protocol):
    """Writes one answer, as the gateway's Reply does."""

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Write a complete answer."""

    def begin(self, status: int, headers: Headers) -> None:
        """Start an answer whose length is not known."""

    def send(self, piece: bytes) -> Awaitable[None] | None:
        """Write a piece; None, or what to await before the next one."""

    def end(self) -> None:
        """End the body properly."""


class Passage:
    """One answer of the type `content_type`. `headers` are asked for when it begins.

    `clean` cuts out what callers must not see. `passed_bytes` is how much has gone through; `is_begun` is
    true once the answer's head is out.
    """

    def __init__(
        self,
        outlet: Outlet,
        content_type: str,
        headers: Callable[[], Headers],
        clean: Callable[[bytes], bytes],
    ) -> None:
        self._outlet = outlet
        self._content_type = content_type
        self._headers = headers
        self._is_sound = not content_type.lower().startswith(("application/json", "text/"))
        self._clean: Callable[[bytes], bytes] = bytes if self._is_sound else clean
        self._held: list[bytes] | None = [] if content_type.lower().startswith("application/json") else None
        self._held_bytes = 0
        self._tap = MediaTap(counts_data=True)
        self.is_begun = False
        self.is_error = False
        """True when it is an error that came with a good status; then nothing has been written."""
        self.whole = b""
        self.passed_bytes = 0
        self.usage: Usage | None = None
        self.answered_model: str | None = None

    async def run(self, exchange: Exchange) -> None:
        """Let it pass. OSError once the caller is gone."""
        try:
            await exchange.relay(self._write)
        finally:
            if not self._is_sound:
                self.usage = self._tap.usage
        if self._held is not None:
            self._respond(b"".join(self._held))
        else:
            if not self.is_begun:
                self._begin()
            self._outlet.end()

    def _write(self, piece: bytes) -> Awaitable[None] | None:
        if not self._is_sound:
            self._tap.feed(piece)
        if self._held is not None:
            self._held.append(piece)
            self._held_bytes += len(piece)
            if self._held_bytes <= SHORT_BYTES:
                return None
            piece, self._held = b"".join(self._held), None
        if not self.is_begun:
            self._begin()
        self.passed_bytes += len(piece)
        return self._outlet.send(self._clean(piece))

    def _begin(self) -> None:
        self.is_begun = True
        self._outlet.begin(200, self._all_headers())

    def _respond(self, body: bytes) -> None:
        answer = read_answer(body)
        self.usage, self.answered_model = answer.usage, answer.answered_model
        self.passed_bytes = len(body)
        self.is_error, self.whole = answer.is_error, body
        if not self.is_error:
            self.is_begun = True
            self._outlet.respond(200, self._all_headers(), self._clean(body))

    def _all_headers(self) -> Headers:
        kind = ("Content-Type", self._content_type)
        return [kind, ("X-Content-Type-Options", "nosniff"), *self._headers()]
