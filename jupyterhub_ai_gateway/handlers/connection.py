"""HTTP/1.1 in front: an asyncio server that speaks tornado's own interfaces.

    HTTPServer          listens, limits, sweeps, stops
    Connection          one TCP connection: reads requests one after the other (`framing`)
    RequestConnection   one request's answer: tornado's HTTPConnection and our own `Wire` (`answer`)

What is given to it is a `httputil.HTTPServerConnectionDelegate`; a `tornado.web.Application` is one and
works unchanged, except for what takes over the socket (`detach`, so websockets). As with tornado's own
server, a delegate hears of a hang-up by `on_connection_close` while its request is still arriving, and
by the callback of `set_close_callback` afterwards: by one of them, once.

At most one request of a connection is in work; what a client sends ahead of its answers waits as bytes,
up to `max_header_bytes`, beyond which nothing is read. No task and no timer is made for a request: one
sweep per server looks after all timeouts.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import ssl
import struct
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from tornado import httputil
from typing_extensions import override

from ..errors import BodyTooLarge, Fault, RequestFault
from .acceptor import Acceptor
from .answer import RequestConnection, RequestContext, context_of, encode_refusal
from .framing import (
    DateLine,
    Head,
    RequestReader,
    malformed,
)
from .wire import StockWire, Wire, wire_of

__all__ = ["ConnectionLimits", "HTTPServer", "RequestConnection", "StockWire", "Wire", "wire_of"]

log = logging.getLogger(__name__)

# The stages of a connection, in the order in which a request passes through them
HEAD: Final = 0  # waiting for a head, or for the rest of one
BODY: Final = 1  # a delegate is receiving its request
ANSWER: Final = 2  # the request has been read, its answer is not complete
LINGER: Final = 3  # the last answer is out; what still arrives is thrown away until the peer closes
CLOSED: Final = 4

_STEPS_AT_ONCE = 64  # after that many pieces of one connection the others have their turn
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection may take. Times are in seconds and kept to about a second.

    `header_timeout_s` runs from a head's first byte to its last, and from a new connection's start;
    `body_timeout_s` is silence within a body, `idle_timeout_s` silence between requests (long, because
    proxies keep connections), `write_timeout_s` silence of a peer that does not read its answer. After
    an answer that ends a connection early, up to `linger_bytes` and `linger_s` are read and thrown
    away, so that the peer gets to read the answer. `high_water_bytes` is how much of an answer waits
    in memory before its writer has to wait.
    """

    max_header_bytes: int = 65536
    max_headers: int = 128
    max_body_bytes: int = 100 * 1024 * 1024
    header_timeout_s: float = 30.0
    body_timeout_s: float = 60.0
    idle_timeout_s: float = 3600.0
    write_timeout_s: float = 300.0
    linger_s: float = 5.0
    linger_bytes: int = 8 * 1024 * 1024
    high_water_bytes: int = 65536

    @property
    def sweep_s(self) -> float:
        """Return how often timeouts are looked after."""
        return min(1.0, min(self.header_timeout_s, self.body_timeout_s, self.idle_timeout_s) / 4)


class Connection(asyncio.Protocol):
    """One TCP connection. Reads requests one after the other and hands each to a delegate."""

    __slots__ = (
        "_body_bytes",
        "_context",
        "_drained",
        "_is_admitted",
        "_is_fresh",
        "_is_paused",
        "_is_pumping",
        "_is_stalled",
        "_is_waiting",
        "_linger_left",
        "_loop",
        "_message",
        "_reader",
        "_server",
        "_since",
        "_stage",
        "_transport",
        "_unread",
        "_unread_since",
        "write",
    )

    write: Callable[[bytes], None]

    def __init__(self, server: HTTPServer, loop: asyncio.AbstractEventLoop) -> None:
        limits = server.limits
        self._server = server
        self._loop = loop
        self._reader = RequestReader(limits.max_header_bytes, limits.max_headers)
        self._message: RequestConnection | None = None
        self._stage = HEAD
        self._since = 0.0  # when the present wait began, by the sweep's clock
        self._context: RequestContext | None = None
        self._body_bytes = 0
        self._linger_left = limits.linger_bytes
        self._is_fresh = True  # True until the first byte
        self._is_admitted = False  # True once the body's announced length was looked at
        self._is_pumping = False  # True while `_advance` is on the stack
        self._is_waiting = False  # True while the delegate has to finish something first
        self._is_paused = False  # True while the socket is not read
        self._is_stalled = False  # True while more than the high-water mark waits to be written
        self._drained: asyncio.Future[None] | None = None
        self._unread = 0  # bytes that the peer had not taken at the last sweep
        self._unread_since = 0.0

    # What asyncio calls

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._server.limits.high_water_bytes)
        self.write = self._transport.write
        self._server.opened(self)
        self._since = self._server.now

    @override
    def data_received(self, data: bytes) -> None:
        stage = self._stage
        if stage >= LINGER:
            self._throw_away(len(data))
            return
        reader = self._reader
        if stage != HEAD or not reader.waiting_bytes:
            self._since = self._server.now
        self._is_fresh = False
        reader.feed(data)
        if stage != ANSWER and not self._is_waiting:
            self._pump()
        elif reader.waiting_bytes > self._server.limits.max_header_bytes:
            self._is_paused = True
            self._transport.pause_reading()

    @override
    def eof_received(self) -> None:
        if self._message is not None:
            self.hang_up()
        self._stage = CLOSED  # asyncio closes what we leave open here, once all is written

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._lose()
        self._reader.clear()
        self._server.closed(self)

    @override
    def pause_writing(self) -> None:
        self._is_stalled = True

    @override
    def resume_writing(self) -> None:
        self._is_stalled = False
        self._release()

    # What a RequestConnection calls; `write` is the transport's own

    def date_line(self) -> str:
        """Return the Date header's line."""
        return self._server.date_line.at(time.time())

    def may_be_kept(self) -> bool:
        """Say whether the connection could serve another request after the present one."""
        if self._server.is_stopping:
            return False
        return self._stage != BODY or self._reader.has_rest_of_body

    def context_of(self, headers: httputil.HTTPHeaders) -> RequestContext:
        """Return where a request with these headers comes from."""
        if self._context is None:
            self._context = context_of(self._transport)
        if self._server.xheaders:
            return self._context.behind_proxy(headers, self._server.trusted_downstream)
        return self._context

    def drain(self) -> asyncio.Future[None] | None:
        """Return None while the peer keeps up, else what is done once it has, or is gone."""
        if not self._is_stalled:
            return None
        if self._drained is None or self._drained.done():
            self._drained = self._loop.create_future()
        return self._drained

    def flushed(self) -> asyncio.Future[None]:
        """Return `drain` as tornado wants it: always a future."""
        return self.drain() or self._server.done

    def answered(self, message: RequestConnection) -> None:
        """Go on to the next request, or close."""
        if not message.keeps_alive or self._server.is_stopping:
            self._close_politely()
        elif self._stage == ANSWER:
            self._next_request()
        else:
            self._loop.call_soon(self._pump)  # the rest of the body has arrived, to be thrown away

    def cut(self, can_tell: bool) -> None:
        """Close in the middle of an answer. Without `can_tell` only a reset shows that it is cut."""
        self._lose()
        if can_tell:
            self._transport.close()
            return
        peer = self._transport.get_extra_info("socket")
        if peer is not None and self._transport.get_extra_info("sslcontext") is None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    # What the server calls

    def retire(self) -> None:
        """Close now if nothing is going on."""
        if self._stage == HEAD and not self._reader.waiting_bytes:
            self._close()

    def hang_up(self) -> None:
        """Close at once, whatever is going on."""
        self._lose()
        self._transport.abort()

    def check(self, now: float) -> None:
        """Close, or answer 408, when the peer has been silent for too long."""
        limits = self._server.limits
        silence_s = now - self._since - limits.sweep_s  # the clock may have been a sweep behind
        if self._stage == HEAD:
            self._check_head(silence_s, limits)
        elif self._stage == BODY and not self._is_waiting:
            if silence_s >= limits.body_timeout_s:
                self._refuse(_timed_out("body"))
        elif self._stage == LINGER and silence_s >= limits.linger_s and not self._unread:
            self.hang_up()
        if self._is_paused and _has_left(self._transport):
            self.hang_up()
        self._check_progress(now, limits)

    def _check_head(self, silence_s: float, limits: ConnectionLimits) -> None:
        if self._reader.waiting_bytes:
            if silence_s >= limits.header_timeout_s:
                self._refuse(_timed_out("headers"))
        elif silence_s >= (limits.header_timeout_s if self._is_fresh else limits.idle_timeout_s):
            self._close()

    def _check_progress(self, now: float, limits: ConnectionLimits) -> None:
        unread = self._transport.get_write_buffer_size()
        if unread != self._unread or not unread:
            self._unread = unread
            self._unread_since = now
        elif now - self._unread_since >= limits.write_timeout_s:
            self.hang_up()

    # Reading

    def _pump(self) -> None:
        if not self._is_pumping:
            self._is_pumping = True
            self._guard(self._advance)
            self._is_pumping = False

    def _guard(self, call: Callable[..., None], *args: object) -> None:
        """Call into a delegate; its faults and bugs end the connection, never the server."""
        try:
            call(*args)
        except RequestFault as fault:
            self._refuse(fault)
        except httputil.HTTPInputError:
            self._refuse(malformed("its headers do not make sense"))
        except Exception:  # the door between asyncio and the handlers
            log.exception("Uncaught exception while a request was read")
            self._refuse(Fault("The gateway failed to handle this request."))

    def _advance(self) -> None:
        for _ in range(_STEPS_AT_ONCE):
            if self._is_waiting:
                return
            if self._stage == HEAD:
                if not self._read_head():
                    return
            elif self._stage != BODY or not self._read_body():
                return
        self._loop.call_soon(self._pump)

    def _read_head(self) -> bool:
        head = self._reader.next_head()
        if head is None:
            return False
        message = RequestConnection(self, head, self._server.limits.max_body_bytes)
        self._message = message
        self._stage = BODY
        self._is_admitted = False
        self._body_bytes = 0
        delegate = self._server.delegate.start_request(self, message)
        message.delegate = delegate
        waiting = delegate.headers_received(head.start_line, head.headers)
        if waiting is not None:
            self._await(waiting)
        return True

    def _read_body(self) -> bool:
        message: RequestConnection = self._message  # type: ignore[assignment]  # there is one in this stage
        reader = self._reader
        if not self._is_admitted:
            self._is_admitted = True
            self._admit(message, message.head)
        if not reader.is_body_done:
            piece = reader.next_piece()
            if not piece:
                return reader.is_body_done  # the end of a chunked body adds nothing to it
            self._body_bytes += len(piece)
            if self._body_bytes > message.max_body_bytes:
                raise _too_large(message.max_body_bytes)
            waiting = None if message.delegate is None else message.delegate.data_received(piece)
            if waiting is not None:
                self._await(waiting)
            if waiting is not None or self._stage != BODY or not reader.is_body_done:
                return True
        self._end_request(message)
        return True

    def _admit(self, message: RequestConnection, head: Head) -> None:
        if message.is_answered:
            return
        body_bytes = head.body_bytes
        if body_bytes is not None and body_bytes > message.max_body_bytes:
            raise _too_large(message.max_body_bytes)
        if head.expects_continue and not message.is_begun and not self._reader.waiting_bytes:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _end_request(self, message: RequestConnection) -> None:
        self._stage = ANSWER
        if message.is_answered:
            self._next_request()
        elif message.delegate is not None:
            message.delegate.finish()

    def _await(self, awaitable: Awaitable[None]) -> None:
        """Read no further until the delegate is ready."""
        future = asyncio.ensure_future(awaitable)
        if future.done():
            future.result()
            return
        self._is_waiting = True
        future.add_done_callback(self._go_on)

    def _go_on(self, future: asyncio.Future[None]) -> None:
        self._is_waiting = False
        self._since = self._server.now
        failure = asyncio.CancelledError() if future.cancelled() else future.exception()
        if self._stage >= LINGER:
            return
        self._resume()
        if failure is not None:
            self._guard(_fail, failure)
        self._pump()

    def _next_request(self) -> None:
        self._message = None
        self._stage = HEAD
        self._since = self._server.now
        self._resume()
        if self._reader.waiting_bytes and not self._is_pumping:
            self._loop.call_soon(self._pump)

    def _resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    # Ending

    def _refuse(self, fault: Fault) -> None:
        """Answer on the delegate's behalf, if nothing was answered yet, and close."""
        if self._stage >= LINGER:
            return
        if self._message is not None and self._message.is_begun:
            self.cut(can_tell=False)
            return
        request_id = uuid.uuid4().hex
        log.info("Request %s refused with %d %s", request_id, fault.status, fault.slug)
        self.write(encode_refusal(fault, request_id, self.date_line()))
        self._linger()

    def _close_politely(self) -> None:
        """Close so that the answer just written is not lost with it."""
        if self._stage == ANSWER and not self._reader.waiting_bytes:
            self._message = None
            self._close()
        else:
            self._linger()

    def _linger(self) -> None:
        """Let the peer read the answer: a close with bytes unread would reset the connection."""
        self._lose(LINGER)
        self._since = self._server.now
        self._reader.clear()
        self._resume()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def _throw_away(self, count: int) -> None:
        self._linger_left -= count
        if self._linger_left < 0:
            self._transport.abort()

    def _close(self) -> None:
        self._stage = CLOSED
        self._transport.close()

    def _lose(self, stage: int = CLOSED) -> None:
        was, self._stage = self._stage, stage
        message, self._message = self._message, None
        self._release()
        if message is not None:
            self._guard(message.lose, was == BODY)

    def _release(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)


class HTTPServer:
    """Serves a delegate on listening sockets, over TLS when given a context.

    With `xheaders` a proxy in front is believed about addresses and protocol, as tornado's server does:
    the last address of X-Forwarded-For that is not in `trusted_downstream`, unless X-Real-Ip names one.
    """

    def __init__(
        self,
        delegate: httputil.HTTPServerConnectionDelegate,
        limits: ConnectionLimits | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        xheaders: bool = False,
        trusted_downstream: Iterable[str] = (),
    ) -> None:
        self.delegate = delegate
        self.limits = ConnectionLimits() if limits is None else limits
        self.xheaders = xheaders
        self.trusted_downstream = frozenset(trusted_downstream)
        self.date_line = DateLine()
        self.is_stopping = False  # True once nothing is accepted any more
        self.now = 0.0  # the loop's time at the last sweep
        self.done: asyncio.Future[None]
        self._ssl_context = ssl_context
        self._connections: set[Connection] = set()
        self._acceptors: list[Acceptor] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    @property
    def open_connections(self) -> int:
        """Return how many connections are open, idle ones included."""
        return len(self._connections)

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept connections on these sockets."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.done = loop.create_future()
        self.done.set_result(None)
        handshake_s = self.limits.header_timeout_s if self._ssl_context is not None else None
        for each in sockets:
            acceptor = Acceptor(
                loop,
                each,
                lambda: Connection(self, loop),
                ssl_context=self._ssl_context,
                handshake_s=handshake_s,
            )
            self._acceptors.append(acceptor)

    def stop(self) -> None:
        """Accept nothing more; close idle connections now and the others after their answer."""
        self.is_stopping = True
        for acceptor in self._acceptors:
            acceptor.close()
        self._acceptors.clear()
        for connection in tuple(self._connections):
            connection.retire()

    async def close_all_connections(self) -> None:
        """Cut every connection and return once all are gone."""
        for connection in tuple(self._connections):
            connection.hang_up()
        if self._connections:
            self._emptied = self._loop.create_future()
            await self._emptied

    def opened(self, connection: Connection) -> None:
        """Look after a new connection."""
        self._connections.add(connection)
        if self._sweeper is None:
            self._set_clock()

    def closed(self, connection: Connection) -> None:
        """Part from a connection."""
        self._connections.discard(connection)
        if not self._connections:
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
            if self._emptied is not None and not self._emptied.done():
                self._emptied.set_result(None)
        self.delegate.on_close(connection)

    def _set_clock(self) -> None:
        self.now = self._loop.time()
        self._sweeper = self._loop.call_later(self.limits.sweep_s, self._sweep)

    def _sweep(self) -> None:
        self._set_clock()
        for connection in tuple(self._connections):
            connection.check(self.now)


def _fail(failure: BaseException) -> None:
    if isinstance(failure, Exception):
        raise failure
    raise RuntimeError("what a delegate waited for was cancelled") from failure


def _timed_out(part: str) -> RequestFault:
    text = f"The request's {part} took too long to arrive."
    return RequestFault(text, slug="request_timeout", status=408)


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request's body is longer than the {limit_bytes} bytes accepted here.")


def _has_left(transport: asyncio.Transport) -> bool:
    """Ask the kernel whether the peer has closed, which unread bytes would otherwise hide."""
    peer = transport.get_extra_info("socket")
    if peer is None or not hasattr(select, "POLLRDHUP"):
        return False
    poll = select.poll()
    poll.register(peer.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))
