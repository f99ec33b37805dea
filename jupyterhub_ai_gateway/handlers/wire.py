"""The few calls with which a hot path writes an answer, whichever server carries it.

Our own server's `RequestConnection` has them itself; `StockWire` gives them to tornado's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from http.client import responses
from typing import Protocol, cast

from tornado import httputil
from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError
from typing_extensions import override

from .framing import DateLine, encode_fields, has_body, may_tell_length, refuse_framing

Headers = Sequence[tuple[str, str]]


class Wire(Protocol):
    """Writes one answer: `respond`, or `begin`, any number of `send`, then `end` or `abort`.

    Connection, Content-Length, Transfer-Encoding and Date are written for the caller; to pass one of
    them, or a header that holds a line break, is a ValueError, and nothing has been written then. The
    body of an answer that has none (HEAD, 204, 304) is left out. Once the peer is gone `send` raises
    tornado's StreamClosedError and the others do nothing.
    """

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Write a complete answer at once."""

    def begin(self, status: int, headers: Headers) -> None:
        """Start an answer whose length is not known: chunked, or until the end in HTTP/1.0."""

    def send(self, piece: bytes) -> Awaitable[None] | None:
        """Write a piece and flush it.

        None when the peer keeps up. Otherwise await the result before the next piece: it is done once
        the peer has read enough, or is gone.
        """

    def end(self) -> None:
        """End the body properly."""

    def abort(self) -> None:
        """Close without ending the body, so that the peer knows it to be cut off."""


class StockWire(Wire):
    """The same calls over tornado's own connection, for tornado's own HTTPServer."""

    __slots__ = ("_connection", "_is_mute")

    def __init__(self, connection: HTTP1Connection) -> None:
        self._connection = connection
        self._is_mute = False  # True when the answer has no body, whatever is sent

    @override
    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        length = [("Content-Length", str(len(body)))] if may_tell_length(status) else []
        if self._open(status, headers, length, b"" if self._lacks_body(status) else body):
            self._connection.finish()

    @override
    def begin(self, status: int, headers: Headers) -> None:
        request = _request_line(self._connection)
        if request.version != "HTTP/1.1":
            # Tornado would promise keep-alive for a body that only the connection's end can end.
            self._connection._disconnect_on_finish = True
            cast(httputil.HTTPHeaders, self._connection._request_headers)["Connection"] = "close"
        self._is_mute = self._lacks_body(status)
        self._open(status, headers, [], b"")

    @override
    def send(self, piece: bytes) -> Awaitable[None] | None:
        if self._connection.stream.closed():
            raise StreamClosedError
        if self._is_mute or not piece:
            return None
        written = self._connection.write(piece)
        return None if written.done() else written

    @override
    def end(self) -> None:
        if not self._connection.stream.closed():
            self._connection.finish()

    @override
    def abort(self) -> None:
        self._connection.set_close_callback(None)
        self._connection.close()

    def _lacks_body(self, status: int) -> bool:
        return not has_body(_request_line(self._connection).method, status)

    def _open(self, status: int, headers: Headers, more: list[tuple[str, str]], body: bytes) -> bool:
        refuse_framing(headers)
        encode_fields(headers)
        if self._connection.stream.closed():
            return False
        fields = httputil.HTTPHeaders()
        for name, value in [*headers, ("Date", DateLine().at(time.time())[6:-2]), *more]:
            fields.add(name, value)
        reason = responses.get(status, "Unknown")
        start_line = httputil.ResponseStartLine("HTTP/1.1", status, reason)
        self._connection.write_headers(start_line, fields, body)
        return True


def _request_line(connection: HTTP1Connection) -> httputil.RequestStartLine:
    """Return what tornado keeps to itself, and an answer depends on."""
    return cast(httputil.RequestStartLine, connection._request_start_line)


def wire_of(request_conn: object) -> Wire:
    """Return the calls for this connection, as a server has given it to `start_request`."""
    if isinstance(request_conn, HTTP1Connection):
        return StockWire(request_conn)
    return cast(Wire, request_conn)
