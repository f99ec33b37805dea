"""One request's answer: tornado's HTTPConnection and our own `Wire`, over whatever carries the bytes.

Nothing here reads; `connection` does. The two meet in `Link`.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol, cast

from tornado import httputil, netutil
from tornado.iostream import StreamClosedError
from typing_extensions import override

from ..errors import Fault
from .framing import Head, encode_fields, has_body, may_tell_length, refuse_framing, status_line
from .wire import Headers


class Link(Protocol):
    """What an answer needs of the connection under it."""

    write: Callable[[bytes], None]

    def date_line(self) -> str:
        """Return the Date header's line."""

    def may_be_kept(self) -> bool:
        """Say whether the connection could serve another request after the present one."""

    def context_of(self, headers: httputil.HTTPHeaders) -> RequestContext:
        """Return where a request with these headers comes from."""

    def drain(self) -> asyncio.Future[None] | None:
        """Return None while the peer keeps up, else what is done once it has, or is gone."""

    def flushed(self) -> asyncio.Future[None]:
        """Return `drain` as tornado wants it: always a future."""

    def answered(self, message: RequestConnection) -> None:
        """Go on to the next request, or close."""

    def cut(self, can_tell: bool) -> None:
        """Close in the middle of an answer. Without `can_tell` only a reset shows that it is cut."""


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Where a request comes from, by the names that `HTTPServerRequest` reads."""

    remote_ip: str
    protocol: str
    address: Any
    address_family: socket.AddressFamily | None

    @override
    def __str__(self) -> str:
        return self.remote_ip

    def behind_proxy(self, headers: httputil.HTTPHeaders, trusted: Collection[str]) -> RequestContext:
        """Return what the proxy's headers say, as tornado reads them: the last address not trusted."""
        address = self.remote_ip
        for candidate in reversed(headers.get("X-Forwarded-For", address).split(",")):
            address = candidate.strip()
            if address not in trusted:
                break
        address = headers.get("X-Real-Ip", address)
        protocol = headers.get("X-Scheme", headers.get("X-Forwarded-Proto", self.protocol))
        protocol = protocol.split(",")[-1].strip()
        return RequestContext(
            address if netutil.is_valid_ip(address) else self.remote_ip,
            protocol if protocol in ("http", "https") else self.protocol,
            self.address,
            self.address_family,
        )


class RequestConnection(httputil.HTTPConnection):
    """One request and its answer. Safe to keep: once answered or lost, its calls reach no socket."""

    __slots__ = (
        "_close_callback",
        "_expected",
        "_is_chunked",
        "_is_mute",
        "_keeps_alive",
        "_link",
        "delegate",
        "head",
        "is_answered",
        "is_begun",
        "is_lost",
        "max_body_bytes",
    )

    def __init__(self, link: Link, head: Head, max_body_bytes: int) -> None:
        self._link: Link | None = link  # None once answered or lost
        self.head = head
        self.max_body_bytes = max_body_bytes
        self.delegate: httputil.HTTPMessageDelegate | None = None
        self.is_begun = False  # True once the answer's head is out
        self.is_answered = False
        self.is_lost = False  # True when the peer left before the answer was complete
        self._close_callback: Callable[[], None] | None = None
        self._keeps_alive = head.is_keep_alive
        self._is_chunked = False
        self._is_mute = False  # True when the answer has no body, whatever is sent
        self._expected: int | None = None  # bytes still owed of an announced Content-Length

    # tornado's HTTPConnection, and what its own server adds to it

    @property
    def context(self) -> RequestContext | None:
        """Return where the request comes from; None when the connection is gone."""
        return self._link.context_of(self.head.headers) if self._link is not None else None

    @property
    def keeps_alive(self) -> bool:
        """Say whether another request may follow on the same connection."""
        return self._keeps_alive

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Call this, once, when the peer leaves after its request and before the answer's end.

        When it has left already, the call comes soon.
        """
        if self.is_lost and callback is not None:
            asyncio.get_running_loop().call_soon(callback)
        else:
            self._close_callback = callback

    def set_max_body_size(self, max_body_size: int) -> None:
        """Allow this request another length; to be called before its body is read."""
        self.max_body_bytes = max_body_size

    def set_body_timeout(self, timeout: float) -> None:
        """Do nothing: silence within a body is limited for the whole server."""

    @override
    def write_headers(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
        chunk: bytes | None = None,
    ) -> asyncio.Future[None]:
        link = self._link_to_begin()
        if link is None:
            return _closed_future()
        _, status, reason = cast(httputil.ResponseStartLine, start_line)
        if "\r" in reason or "\n" in reason:
            raise ValueError("the reason of the answer holds a line break")
        pairs = [pair for pair in headers.get_all() if not _is_replaced(*pair)]
        length = headers.get("Content-Length")
        if "close" in headers.get("Connection", "").lower():
            self._keeps_alive = False
        has_date = "Date" in headers
        self._plan(status, length)
        head = self._encode(link, f"HTTP/1.1 {status} {reason}\r\n", pairs, "", not has_date)
        link.write(head + self._format(chunk) if chunk else head)
        return link.flushed()

    @override
    def write(self, chunk: bytes) -> asyncio.Future[None]:
        link = self._link
        if link is None:
            return _closed_future()
        data = self._format(chunk)
        if data:
            link.write(data)
        return link.flushed()

    @override
    def finish(self) -> None:
        link = self._link
        if link is None:
            return
        if not self.is_begun:
            raise RuntimeError("an answer was finished before it began")
        if self._expected:
            self._cut(link)
            raise httputil.HTTPOutputError(f"{self._expected} bytes fewer than Content-Length said")
        if self._is_chunked:
            link.write(b"0\r\n\r\n")
        self._finish(link)

    # Wire

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Write a complete answer at once; see `Wire`."""
        refuse_framing(headers)
        link = self._link_to_begin()
        if link is None:
            return
        self._is_chunked = False
        length = f"Content-Length: {len(body)}\r\n" if may_tell_length(status) else ""
        head = self._encode(link, status_line(status), headers, length, True)
        link.write(head + body if has_body(self.head.start_line.method, status) else head)
        self._finish(link)

    def begin(self, status: int, headers: Headers) -> None:
        """Start an answer whose length is not known; see `Wire`."""
        refuse_framing(headers)
        link = self._link_to_begin()
        if link is None:
            return
        self._plan(status, None)
        link.write(self._encode(link, status_line(status), headers, "", True))

    def send(self, piece: bytes) -> Awaitable[None] | None:
        """Write a piece and flush it; see `Wire`."""
        link = self._link
        if link is None:
            raise StreamClosedError
        if self._is_mute or not piece:
            return None
        link.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._is_chunked else piece)
        return link.drain()

    def end(self) -> None:
        """End the body properly; see `Wire`."""
        self.finish()

    def abort(self) -> None:
        """Close without ending the body; see `Wire`."""
        if self._link is not None:
            self._cut(self._link)

    # What the connection calls

    def lose(self, is_incoming: bool) -> None:
        """Part from a connection that is gone, and say so to whom it concerns."""
        if self.is_answered or self.is_lost:
            return
        self.is_lost = True
        self._link = None
        delegate, self.delegate = self.delegate, None
        callback, self._close_callback = self._close_callback, None
        if is_incoming:
            if delegate is not None:
                delegate.on_connection_close()
        elif callback is not None:
            callback()

    # Encoding

    def _link_to_begin(self) -> Link | None:
        if self.is_begun and self._link is not None:
            raise RuntimeError("an answer was begun twice")
        return self._link

    def _plan(self, status: int, length: str | None) -> None:
        """Decide how the body's end will be told."""
        self._is_chunked = False
        self._expected = None
        self._is_mute = not has_body(self.head.start_line.method, status)
        if self._is_mute:
            self._expected = 0
        elif length is not None:
            self._expected = int(length)
        else:
            self._is_chunked = self.head.start_line.version == "HTTP/1.1"
            self._keeps_alive = self._keeps_alive and self._is_chunked

    def _encode(self, link: Link, first: str, pairs: Headers, length: str, with_date: bool) -> bytes:
        fields = encode_fields(pairs)
        date = link.date_line() if with_date else ""
        coding = "Transfer-Encoding: chunked\r\n" if self._is_chunked else ""
        self._keeps_alive = self._keeps_alive and link.may_be_kept()
        if not self._keeps_alive:
            connection = "Connection: close\r\n"
        else:
            connection = "" if self.head.start_line.version == "HTTP/1.1" else "Connection: keep-alive\r\n"
        head = f"{first}{fields}{date}{length}{coding}{connection}\r\n".encode("latin-1")
        self.is_begun = True
        return head

    def _format(self, chunk: bytes) -> bytes:
        if self._expected is not None:
            if len(chunk) > self._expected:
                self.abort()
                raise httputil.HTTPOutputError("more bytes than Content-Length said")
            self._expected -= len(chunk)
        if self._is_chunked and chunk:
            return b"%x\r\n%b\r\n" % (len(chunk), chunk)
        return chunk

    def _finish(self, link: Link) -> None:
        self.is_answered = True
        self._link = self._close_callback = self.delegate = None
        link.answered(self)

    def _cut(self, link: Link) -> None:
        self._close_callback = None
        link.cut(can_tell=self._is_chunked or self._expected is not None or not self.is_begun)


def _is_replaced(name: str, value: str) -> bool:
    """Say whether a header of tornado's is written by the server in its own way, or better not at all."""
    return name in ("Connection", "Transfer-Encoding") or (
        name == "Server" and value.startswith("TornadoServer")
    )


def _closed_future() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(StreamClosedError())
    future.exception()  # whoever does not look at it is not told in the log
    return future


def context_of(transport: asyncio.Transport) -> RequestContext:
    address = transport.get_extra_info("peername")
    peer = transport.get_extra_info("socket")
    family = None if peer is None else peer.family
    is_ip = family in (socket.AF_INET, socket.AF_INET6) and address
    protocol = "http" if transport.get_extra_info("sslcontext") is None else "https"
    # A Unix socket has no address to tell; tornado says this in its place.
    return RequestContext(address[0] if is_ip else "0.0.0.0", protocol, address, family)


def encode_refusal(fault: Fault, request_id: str, date_line: str) -> bytes:
    """Return a whole answer, in the manner of OpenAI's API, that also closes the connection."""
    error = {"message": fault.public, "type": fault.kind, "param": fault.param, "code": fault.slug}
    body = json.dumps({"error": error, "detail": fault.public}).encode()
    head = (
        f"{status_line(fault.status)}Content-Type: application/json\r\nx-request-id: {request_id}\r\n"
        f"{date_line}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + body
