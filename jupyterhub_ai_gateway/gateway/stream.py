"""A streamed answer on its way to the caller: held, begun, commented while there is silence, ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import cast

from ..dialects.bridge import BridgeTap
from ..dialects.gemini import ArrayTap
from ..dialects.media import MediaTap
from ..dialects.openai_stream import StreamTap, data_of
from ..errors import Fault
from ..router import Deployment
from .answering import Answering
from .call import Headers
from .faults import CallerGone

MAX_HELD_BYTES = 256 * 1024
MAX_HELD_PIECES = 64
"""How much of a stream without content is held while another deployment could take over."""

STREAM: Headers = (
    ("Cache-Control", "no-cache"),
    ("X-Accel-Buffering", "no"),
)


class Stream:
    """A streamed answer: begins with the first piece, or with the first comment after a long silence.

    While another deployment could take over, the pieces before the first content are held, so that an
    error that a provider tells inside its stream is no different from one that it tells by its status.
    """

    __slots__ = (
        "_answering",
        "_deployment",
        "_held",
        "_held_bytes",
        "_is_full",
        "_keepalive_s",
        "_loop",
        "_spoke",
        "_timer",
        "has_content",
        "is_begun",
        "tap",
    )

    def __init__(self, answering: Answering, keepalive_s: float) -> None:
        self._answering = answering
        self._keepalive_s = keepalive_s
        self.is_begun = False  # True once the answer's head is out
        self.has_content = False  # True once anything of a provider's is out
        self._is_full = False  # True while the caller has to read before more is sent
        self._loop = asyncio.get_running_loop()
        self._spoke = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        if keepalive_s > 0:
            self._timer = self._loop.call_later(keepalive_s, self._break_silence)
        self.tap: StreamTap | MediaTap | BridgeTap | ArrayTap
        self._use(answering.dialect.tap(answering.asked))  # it may fail before there is a deployment

    def _use(self, tap: StreamTap | MediaTap | BridgeTap) -> None:
        is_array = self._answering.dialect.is_array
        self.tap = ArrayTap(cast(StreamTap | BridgeTap, tap)) if is_array else tap

    def begin(self, deployment: Deployment, *, holds: bool) -> None:
        """Expect the answer of a deployment, in the place of one that failed."""
        self._deployment = deployment
        answering = self._answering
        if answering.crossing is None:
            self._use(answering.dialect.tap(answering.asked))
        else:
            self._use(answering.crossing.tap(lambda body: deployment.provider.refusal(500, {}, body)))
        self._held: list[bytes] | None = [] if holds else None
        self._held_bytes = 0

    def write(self, piece: bytes) -> Awaitable[None] | None:
        """Pass on what the tap lets through."""
        passed = self.tap.feed(piece)
        if not passed:
            return None
        if self._answering.owned is not None:
            passed = self._answering.with_own_ids(passed, self._deployment)
        if self._held is not None:
            passed = self._hold(passed)
            if not passed:
                return None
        outcome = self._answering.outcome
        outcome.passed_bytes += len(passed)
        if outcome.first_byte_s is None:
            outcome.first_byte_s = self._answering.rooms.clock() - outcome.began
        self.has_content = True
        waiting = self._send(self._deployment.without_secrets(passed))
        if self.tap.failure is not None:
            raise self.tap.failure
        return None if waiting is None else self._wait(waiting)

    def _hold(self, passed: bytes) -> bytes:
        """Keep what is no content yet; return all of it once there is some, or too much is held."""
        assert self._held is not None  # noqa: S101 - whoever calls has looked
        self._held.append(passed)
        self._held_bytes += len(passed)
        if self.tap.has_error:
            raise self._deployment.provider.refusal(500, {}, data_of(self.tap.latest_event))
        is_enough = self._held_bytes > MAX_HELD_BYTES or len(self._held) > MAX_HELD_PIECES
        if not is_enough and self._answering.dialect.content.search(passed) is None:
            return b""
        held, self._held = b"".join(self._held), None
        return held

    def finish(self) -> None:
        """End the answer, now that the provider has; `UpstreamBroken` when that was too early."""
        rest = self.tap.close()
        if self._held:
            rest = b"".join(self._held) + rest
            self._answering.outcome.passed_bytes += len(rest)
        if rest:
            self.has_content = True
            self._send(self._deployment.without_secrets(rest))
        self._answering.reply.end()

    def fail(self, fault: Fault) -> None:
        """End the answer with an event that SDKs raise as an error."""
        try:
            if self.has_content and not self.tap.is_aligned:
                self._send(b"\n\n")
            event = self._answering.dialect.error_event(fault, self._answering.call.id)
            self._send(self.tap.last(event, is_first=not self.has_content))
        except CallerGone:
            return
        self._answering.reply.end()

    def close(self) -> None:
        """Write no more comments."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self, data: bytes) -> Awaitable[None] | None:
        if not self.is_begun:
            self._begin()
        self._spoke = self._loop.time()
        try:
            return self._answering.reply.send(data)
        except OSError:
            raise CallerGone from None

    async def _wait(self, waiting: Awaitable[None]) -> None:
        self._is_full = True
        try:
            await waiting
        except OSError:
            raise CallerGone from None
        finally:
            self._is_full = False

    def _begin(self) -> None:
        answering = self._answering
        self.is_begun = True
        kind = ("Content-Type", answering.dialect.stream_type)
        told = [*answering.headers, answering.timing(), *answering.route_headers()]
        answering.reply.begin(200, [kind, *STREAM, *told])

    def _break_silence(self) -> None:
        silence_s = self._loop.time() - self._spoke
        if silence_s >= self._keepalive_s:
            silence_s = 0.0
            self._comment()
        if self._timer is not None:
            self._timer = self._loop.call_later(self._keepalive_s - silence_s, self._break_silence)

    def _comment(self) -> None:
        if self._is_full or (self.has_content and not self.tap.is_aligned):
            return
        try:
            self._send(self._answering.dialect.keep_alive)
        except CallerGone:
            self.close()  # whoever runs this request is told by the connection
