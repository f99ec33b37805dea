"""A client of little more than a C parser: HTTP/1.1 over keep-alive connections, nothing else.

    LeanClient     pools, timeouts, one fresh start when a pooled connection turns out to be closed
    _Connection    one TCP or TLS connection: bytes in, one answer at a time out
    _Answer        one exchange: the head, and the body on its way to whoever wants it

No task and no timer is made for a request, but for one that is uploaded: pieces are handed on from the
socket's own callback, and one sweep per client looks after all timeouts, which are kept to about a quarter
of a second. What the environment says of proxies is not read; the stock client does that.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Collection, Sequence
from typing import Any, cast

import httptools
from aiohappyeyeballs import start_connection
from typing_extensions import override

from ..config import TlsConfig
from ..errors import UpstreamTimeout
from ..vocabulary import Timeouts
from .base import Client, Exchange, Origin, StreamedBody, Target, Write
from .deadline import timeout
from .failures import broken, cut_short, not_public, timed_out, too_long, unreachable
from .names import NEXT_ADDRESS_S, Names, NotPublicError
from .tls import context_of

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 65536
_SWEEP_S = 0.25
_NEVER = float("inf")


class LeanClient(Client):
    """Keeps up to `max_idle` connections per origin for `max_idle_s`, and opens as many as are needed.

    `ssl_context` stands in for the system's certificates where TLS is verified.
    """

    def __init__(
        self,
        *,
        max_idle: int = 1024,
        max_idle_s: float = 60.0,
        ssl_context: ssl.SSLContext | None = None,
        names: Names | None = None,
    ) -> None:
        self.names = names or Names()
        self._max_idle, self._max_idle_s = max_idle, max_idle_s
        self._verifying = ssl_context
        self._contexts: dict[tuple[TlsConfig | None, bool], ssl.SSLContext] = {}
        self._idle: dict[Origin, deque[_Connection]] = {}
        self._connections: set[_Connection] = set()
        self._kept: frozenset[Origin] | None = None  # None: every origin is
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    @override
    def open_connections(self) -> int:
        return len(self._connections)

    @override
    async def send(
        self, target: Target, headers: Sequence[tuple[str, str]], body: bytes, timeouts: Timeouts
    ) -> Exchange:
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        message = _message(target, headers, body)
        now = loop.time()
        total_at = _NEVER if timeouts.total_s is None else now + timeouts.total_s
        connection = self._pooled(target.origin, now)
        is_pooled = connection is not None
        while True:
            if connection is None:
                connection = await self._connect(target.origin, timeouts, total_at)
            answer = _Answer(connection, timeouts, total_at)
            answer.ask(message)
            try:
                while not answer.is_begun and answer.failure is None:
                    await answer.news()
            except BaseException:
                answer.close()
                raise
            if answer.failure is None:
                return answer
            connection.release(answer)
            if not isinstance(answer.failure, _ClosedSilentlyError):
                raise answer.failure
            if not is_pooled:
                raise unreachable(target.origin, "the connection was closed without an answer")
            connection, is_pooled = None, False

    @override
    async def upload(
        self,
        target: Target,
        headers: Sequence[tuple[str, str]],
        body: StreamedBody,
        timeouts: Timeouts,
    ) -> Exchange:
        head = _head(target, headers, body.length)
        loop = asyncio.get_running_loop()
        total_at = _NEVER if timeouts.total_s is None else loop.time() + timeouts.total_s
        # A pooled connection may turn out to be closed when the first pieces are gone already
        connection = await self._connect(target.origin, timeouts, total_at)
        answer = _Answer(connection, timeouts, total_at)
        answer.ask(head, body)
        try:
            while not answer.is_begun and answer.failure is None:
                await answer.news()
        except BaseException:
            answer.close()
            raise
        if answer.status >= 300:
            answer.stop_sending()
        if answer.failure is None:
            return answer
        answer.close()
        if isinstance(answer.failure, _ClosedSilentlyError):
            raise unreachable(target.origin, "the connection was closed without an answer")
        raise answer.failure

    @override
    def keep_only(self, origins: Collection[Origin]) -> None:
        self._kept = frozenset(origins)
        self.names.keep_only({(origin.host, origin.port) for origin in origins})
        known = {(origin.tls, origin.verify_tls) for origin in self._kept}
        self._contexts = {key: context for key, context in self._contexts.items() if key in known}
        for origin in [origin for origin in self._idle if origin not in self._kept]:
            for connection in self._idle.pop(origin):
                connection.drop()

    @override
    async def close(self) -> None:
        self._is_closed = True
        self.names.close()
        self._idle.clear()
        for connection in tuple(self._connections):
            connection.drop()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        await asyncio.sleep(0)

    def _pooled(self, origin: Origin, now: float) -> _Connection | None:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            is_fresh = now - connection.idle_since < self._max_idle_s and not self._is_old(connection, now)
            if connection.is_open and is_fresh:
                return connection
            connection.drop()
        return None

    def _is_old(self, connection: _Connection, now: float) -> bool:
        """Say whether a connection has lived so long that its host's name may be another address's."""
        age_s = self.names.config.connection_age_s
        return age_s is not None and now - connection.began >= age_s

    async def _connect(self, origin: Origin, timeouts: Timeouts, total_at: float) -> _Connection:
        loop = asyncio.get_running_loop()
        limit_s = min(timeouts.connect_s or _NEVER, total_at - loop.time())
        context = self._context(origin)
        try:
            async with timeout(None if limit_s == _NEVER else max(0.0, limit_s)):
                if origin.unix is not None and origin.public_only:
                    raise NotPublicError(
                        "it is a socket of this machine, and its addresses have to be public"
                    )
                if origin.unix is not None:
                    _, connection = await loop.create_unix_connection(
                        lambda: _Connection(self, origin, loop), origin.unix
                    )
                    return connection
                return await self._connect_by_name(origin, context, loop)
        except (TimeoutError, asyncio.TimeoutError):
            self.names.forget(origin.host, origin.port)
            raise timed_out(origin, "connecting") from None
        except NotPublicError as error:
            raise not_public(origin, error) from error
        except (OSError, ssl.SSLError, UnicodeError) as error:
            self.names.forget(origin.host, origin.port)
            raise unreachable(origin, _reason(error)) from error

    async def _connect_by_name(
        self, origin: Origin, context: ssl.SSLContext | None, loop: asyncio.AbstractEventLoop
    ) -> _Connection:
        """Connect to whichever of a name's addresses answers first."""
        found = await self.names.addresses(origin.host, origin.port, public_only=origin.public_only)
        peer = await start_connection(
            cast(Any, found), happy_eyeballs_delay=NEXT_ADDRESS_S, interleave=1, loop=loop
        )
        _, connection = await loop.create_connection(  # which closes it when this fails
            lambda: _Connection(self, origin, loop),
            sock=peer,
            ssl=context,
            server_hostname=origin.host if context is not None else None,
        )
        return connection

    def _context(self, origin: Origin) -> ssl.SSLContext | None:
        if origin.scheme != "https":
            return None
        key = (origin.tls, origin.verify_tls)
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = context_of(origin, self._verifying)
        return context

    # What a connection calls

    def opened(self, connection: _Connection) -> None:
        """Look after a new connection."""
        self._connections.add(connection)
        if self._sweeper is None:
            self._sweeper = connection.loop.call_later(_SWEEP_S, self._sweep)

    def closed(self, connection: _Connection) -> None:
        """Part from a connection."""
        self._connections.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle is not None and connection in idle:
            idle.remove(connection)
        if not self._connections and self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def release(self, connection: _Connection) -> None:
        """Take back a connection whose answer is complete."""
        origin = connection.origin
        is_kept = self._kept is None or origin in self._kept
        if self._is_closed or not is_kept or self._is_old(connection, connection.loop.time()):
            connection.drop()
            return
        idle = self._idle.get(origin)
        if idle is None:  # not by setdefault, which would make one each time
            idle = self._idle[origin] = deque()
        if len(idle) >= self._max_idle:
            connection.drop()
            return
        connection.idle_since = connection.loop.time()
        idle.append(connection)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep)
        now = loop.time()
        for connection in tuple(self._connections):
            connection.check(now, self._max_idle_s)


class _Connection(asyncio.Protocol):
    """One connection. `answer` is the exchange in work, None while it is idle."""

    __slots__ = (
        "_client",
        "_drained",
        "_head_bytes",
        "_is_final",
        "_is_stalled",
        "_parser",
        "answer",
        "began",
        "idle_since",
        "is_open",
        "is_paused",
        "loop",
        "origin",
        "transport",
    )

    def __init__(self, client: LeanClient, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._parser = httptools.HttpResponseParser(self)
        self._head_bytes = 0
        self._is_final = False  # True once the head of an answer that is not 1xx is being read, or was
        self.origin = origin
        self.loop = loop
        self.answer: _Answer | None = None
        self.is_open = False
        self.is_paused = False
        self._is_stalled = False  # True while upstream has to read before more is written
        self._drained: asyncio.Future[None] | None = None
        self.idle_since = self.began = loop.time()

    # What asyncio calls

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.is_open = True
        self._client.opened(self)

    @override
    def data_received(self, data: bytes) -> None:
        answer = self.answer
        if answer is None:  # nobody asked
            self.drop()
            return
        answer.has_bytes = True
        if not answer.is_begun:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not answer.is_complete:
                answer.fail(broken(self.origin, f"not HTTP: {type(error).__name__}"))
            self.drop()
            return
        if not answer.is_begun and self._head_bytes > MAX_HEAD_BYTES:
            answer.fail(broken(self.origin, "the answer's headers are too long"))
            self.drop()
            return
        answer.moved()

    @override
    def eof_received(self) -> None:
        answer = self.answer
        if answer is not None:
            answer.end_by_close()

    @override
    def pause_writing(self) -> None:
        self._is_stalled = True

    @override
    def resume_writing(self) -> None:
        self._is_stalled = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.resume_writing()
        self.is_open = False
        answer, self.answer = self.answer, None
        self._client.closed(self)
        if answer is not None:
            answer.lost(exc)

    # What the parser calls

    def on_message_begin(self) -> None:
        answer = self.answer
        if answer is not None and answer.is_complete:
            answer.is_reusable = False  # bytes after the answer's end
        self._is_final = False

    def on_header(self, name: bytes, value: bytes) -> None:
        answer = self.answer
        if answer is not None and not answer.is_begun:
            name, headers = name.lower(), answer.headers
            headers[name] = headers[name] + b", " + value if name in headers else value

    def on_headers_complete(self) -> None:
        answer = self.answer
        status = self._parser.get_status_code()
        if answer is None or answer.is_complete:
            return
        if status < 200:
            answer.headers.clear()
            return
        self._is_final = True
        answer.begun(status)

    def on_body(self, data: bytes) -> None:
        answer = self.answer
        if answer is not None and not answer.is_complete:
            answer.pieces.append(data)
            answer.body_bytes += len(data)

    def on_message_complete(self) -> None:
        if self._is_final and self.answer is not None and not self.answer.is_complete:
            self.answer.is_complete = True
            self.answer.is_reusable = self._parser.should_keep_alive()
            self._head_bytes = 0

    # What the client and the answer call

    def check(self, now: float, max_idle_s: float) -> None:
        """Close when it was idle, or silent, for too long."""
        answer = self.answer
        if answer is not None:
            answer.check(now)
        elif now - self.idle_since >= max_idle_s:
            self.drop()

    def release(self, answer: _Answer) -> None:
        """End an exchange: keep the connection if the answer came to its end, else close it at once."""
        if self.answer is not answer:
            return
        self.answer = None
        unsent = self.transport.get_write_buffer_size()
        is_over = answer.is_complete and answer.is_reusable and answer.is_sent
        if is_over and self.is_open and not unsent:
            self.resume()
            self._client.release(self)
        else:
            self.drop()

    def drained(self) -> asyncio.Future[None] | None:
        """Return None while upstream keeps up, else what is done once it has, or is gone."""
        if not self._is_stalled:
            return None
        self._drained = self.loop.create_future()
        return self._drained

    def drop(self) -> None:
        """Close at once."""
        self.is_open = False
        self.transport.abort()

    def pause(self) -> None:
        """Read no further."""
        if not self.is_paused and self.is_open:
            self.is_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.is_paused:
            self.is_paused = False
            if self.is_open:
                self.transport.resume_reading()


class _Answer(Exchange):
    """One exchange. Its pieces wait here until they are read, or are handed on as they come."""

    __slots__ = (
        "_connection",
        "_deadline",
        "_is_framed",
        "_sender",
        "_timeouts",
        "_total_at",
        "_waiter",
        "_waiting",
        "_write",
        "body_bytes",
        "failure",
        "has_bytes",
        "headers",
        "is_begun",
        "is_complete",
        "is_reusable",
        "is_sent",
        "pieces",
        "status",
    )

    headers: dict[bytes, bytes]

    def __init__(self, connection: _Connection, timeouts: Timeouts, total_at: float) -> None:
        self._connection = connection
        self._timeouts = timeouts
        self._total_at = total_at
        self._deadline = _NEVER
        self.failure: BaseException | None = None
        self._is_framed = False  # True when the end is told by length or chunks, not by closing
        self._waiter: asyncio.Future[None] | None = None
        self._waiting: Awaitable[None] | None = None  # what `write` wants to be awaited
        self._write: Write | None = None
        self._sender: asyncio.Task[None] | None = None
        self.is_sent = True  # False while more of the request's body is to come
        self.has_bytes = False
        self.headers = {}
        self.is_begun = False  # True once the head is here
        self.is_complete = False
        self.is_reusable = False
        self.pieces: list[bytes] = []
        self.body_bytes = 0  # of the body so far, whoever took the pieces
        self.status = 0
        connection.answer = self

    # The exchange

    def ask(self, message: bytes, body: StreamedBody | None = None) -> None:
        """Send; then there is `news` until the head is here, or a `failure`."""
        connection = self._connection
        self._expect(self._timeouts.first_byte_s)
        connection.transport.write(message)
        if body is not None:
            self.is_sent = False
            self._sender = connection.loop.create_task(self._send(body))

    async def _send(self, body: StreamedBody) -> None:
        """Send a body as it comes; what it raises is this exchange's failure."""
        self._deadline = self._total_at
        try:
            async for piece in body.checked():
                await self._pass_on(_chunk(piece) if body.length is None else piece)
            if body.length is None:
                await self._pass_on(_LAST_CHUNK)
        except Exception as error:  # noqa: BLE001 - raised again where the answer is awaited
            self.fail(error)
            self._connection.drop()
            return
        self.is_sent = True
        if not self.is_begun:
            self._expect(self._timeouts.first_byte_s)

    async def _pass_on(self, data: bytes) -> None:
        """Write, and wait until upstream has taken enough of it; then the next piece may take its time."""
        self._connection.transport.write(data)
        waiting = self._connection.drained()
        if waiting is not None:
            if not self.is_begun:
                self._expect(self._timeouts.first_byte_s)
            await waiting
        if not self.is_begun:
            self._deadline = self._total_at

    def stop_sending(self) -> None:
        """Ask for no further piece of the request's body."""
        if self._sender is not None and not self._sender.done():
            self._sender.cancel()

    @override
    async def read(self, limit: int) -> bytes:
        while True:
            if self.body_bytes > limit or (not self.is_complete and self._announced() > limit):
                raise too_long(self._connection.origin, limit)
            if self.is_complete:
                pieces = self.pieces
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
            if self.failure is not None:
                raise self.failure
            await self.news()

    def _announced(self) -> int:
        return int(self.headers.get(b"content-length", b"0"))

    @override
    async def relay(self, write: Write) -> None:
        self._write = write
        self._hand_on()
        while True:
            if self._waiting is not None:
                await self._let_drain(self._waiting)
            elif self.failure is not None:
                raise self.failure
            elif self.is_complete and not self.pieces:
                return
            else:
                await self.news()

    @override
    def close(self) -> None:
        self._write = None
        if self._sender is not None:
            self.stop_sending()
        self._connection.release(self)

    async def _let_drain(self, waiting: Awaitable[None]) -> None:
        """Read no further until whoever takes the pieces can take more."""
        self._connection.pause()
        self._deadline = self._total_at
        await waiting
        self._waiting = None
        self._connection.resume()
        self._expect(self._timeouts.idle_s)
        self._hand_on()

    def news(self) -> asyncio.Future[None]:
        """Return what is done once something happens."""
        self._waiter = waiter = self._connection.loop.create_future()
        return waiter

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _expect(self, seconds: float | None) -> None:
        deadline = self._total_at
        if seconds is not None:
            then = self._connection.loop.time() + seconds
            if then < deadline:
                deadline = then
        self._deadline = deadline

    # What the connection calls

    def begun(self, status: int) -> None:
        """Note that the head is complete."""
        headers = self.headers
        self.status = status
        self.is_begun = True
        coding = headers.get(b"transfer-encoding")
        self._is_framed = coding is not None or b"content-length" in headers or status in (204, 304)
        if coding is not None and coding.strip().lower() != b"chunked":
            self.fail(broken(self._connection.origin, "an unknown transfer coding"))
        encoding = headers.get(b"content-encoding")
        if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
            self.fail(broken(self._connection.origin, "an answer that is compressed, unasked"))

    def moved(self) -> None:
        """Go on after new bytes."""
        if self.failure is not None:
            self._connection.drop()
        elif self._write is not None and self._waiting is None:
            self._hand_on()
        elif len(self.pieces) > 256 and self._write is None:
            self._merge()
        if self.is_complete:
            self._wake()  # no time is limited any more
        elif self.is_begun:
            self._expect(self._timeouts.idle_s)
            if self._write is None or self._waiting is not None or self.failure:
                self._wake()

    def _merge(self) -> None:
        """Keep memory in proportion to the bytes, not to the number of pieces."""
        self.pieces[:] = [b"".join(self.pieces)]

    def _hand_on(self) -> None:
        pieces = self.pieces
        if not pieces or self._write is None:
            return
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        try:
            self._waiting = self._write(data)
        except BaseException as error:  # raised again where the relay is awaited
            self.failure = error
            if not isinstance(error, Exception):
                raise

    def end_by_close(self) -> None:
        """Take the connection's end for the answer's, where nothing else tells it."""
        if self.is_begun and not self._is_framed and self.failure is None:
            self.is_complete = True
            self._wake()

    def lost(self, error: Exception | None) -> None:
        """Fail, now that the connection is gone, unless the answer is complete."""
        if self.is_complete or self.failure is not None:
            self._wake()
            return
        origin = self._connection.origin
        if not self.has_bytes:
            self.fail(_ClosedSilentlyError())
        elif error is None and self.is_begun and not self._is_framed:
            self.is_complete = True
            self._wake()
        else:
            self.fail(cut_short(origin, _reason(error) if error else "closed"))

    def fail(self, failure: BaseException) -> None:
        """Tell whoever waits."""
        self.failure = failure
        self._wake()

    def check(self, now: float) -> None:
        """Fail when the deadline has passed."""
        if now < self._deadline or self.is_complete or self.failure is not None:
            return
        origin = self._connection.origin
        doing = "reading the answer" if self.is_begun else "waiting for an answer"
        fault: UpstreamTimeout = timed_out(origin, doing)
        self.fail(fault)
        connection = self._connection
        connection.drop()


class _ClosedSilentlyError(Exception):
    """The connection was closed before any byte of an answer."""


_LAST_CHUNK = b"0\r\n\r\n"


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _head(target: Target, headers: Sequence[tuple[str, str]], length: int | None) -> bytes:
    coding = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    return b"%b%b%b\r\n\r\n" % (target.head, _lines(headers), coding)


def _message(target: Target, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    if not headers:
        return b"%bContent-Length: %d\r\n\r\n%b" % (target.head, len(body), body)
    return b"%b%bContent-Length: %d\r\n\r\n%b" % (target.head, _lines(headers), len(body), body)


def _lines(headers: Sequence[tuple[str, str]]) -> bytes:
    extra = ""
    for name, value in headers:
        if "\r" in value or "\n" in value or "\r" in name or "\n" in name:
            raise ValueError("a header of a request to a provider holds a line break")
        extra += f"{name}: {value}\r\n"
    return extra.encode("latin-1")


def _reason(error: BaseException) -> str:
    """Name an error of the system, without what it quotes."""
    if isinstance(error, ssl.SSLError):
        return f"TLS: {getattr(error, 'verify_message', None) or error.reason or type(error).__name__}"
    strerror: Any = getattr(error, "strerror", None)
    return f"{type(error).__name__}: {strerror}" if strerror else type(error).__name__
