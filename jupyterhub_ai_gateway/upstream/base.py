"""What a client of upstream servers promises, whichever one carries the bytes.

Two clients keep this promise: `lean` (a C parser over keep-alive connections) and `stock` (aiohttp).
One conformance suite runs over both. Foreign exceptions become ours here and nowhere else:
`UpstreamUnreachable`, `UpstreamTimeout`, `UpstreamBroken`.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from typing_extensions import override

from ..config import TlsConfig
from ..vocabulary import Timeouts
from .names import Names

Write = Callable[[bytes], "Awaitable[None] | None"]
"""Takes a piece of a body. Returns None, or something to await before the next piece is sent."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections go: one pool each. `host` is a name or an address without brackets."""

    scheme: str
    host: str
    port: int
    verify_tls: bool = True
    unix: str | None = None
    """The path of a socket on this machine, to which connections go in place of host and port."""
    tls: TlsConfig | None = None
    public_only: bool = False
    """True where a connection is made to public addresses alone."""
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = (self.scheme, self.host, self.port, self.verify_tls, self.unix, self.tls, self.public_only)
        object.__setattr__(self, "_hash", hash(known))

    @override
    def __hash__(self) -> int:  # made once: each request looks a pool up
        return self._hash

    @property
    def authority(self) -> str:
        """Return what the Host header says: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port == {"http": 80, "https": 443}[self.scheme]:
            return host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """One URL of an upstream with the headers that never change, credentials included.

    `path` is the request target, query string included. `head` is the request line and these headers
    as bytes, made once: a request appends its own headers, Content-Length and the empty line.
    """

    origin: Origin
    path: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    method: str = "POST"
    head: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {self.origin.authority}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        text = "\r\n".join(lines) + "\r\n"
        if "\r" in text.replace("\r\n", "") or "\n" in text.replace("\r\n", ""):
            raise ValueError("a header or path of an upstream target holds a line break")
        object.__setattr__(self, "head", text.encode("latin-1"))

    @classmethod
    def from_url(
        cls,
        url: str,
        headers: Sequence[tuple[str, str]],
        *,
        method: str = "POST",
        verify_tls: bool = True,
        tls: TlsConfig | None = None,
        public_only: bool = False,
    ) -> Target:
        """Split an absolute URL, http(s) or http+unix; ValueError when it is not one."""
        parts = urlsplit(url)
        if parts.scheme == "http+unix":
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            unix = unquote(parts.netloc)
            origin = Origin("http", "localhost", 80, unix=unix, public_only=public_only)
            return cls(origin, path, tuple(headers), method)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an absolute http or https URL")
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        origin = Origin(parts.scheme, parts.hostname, port, verify_tls, tls=tls, public_only=public_only)
        return cls(origin, path, tuple(headers), method)


@dataclass(frozen=True, slots=True)
class StreamedBody:
    """A request's body that is sent as it comes; chunked, unless its length is known."""

    pieces: AsyncIterator[bytes]
    length: int | None = None

    async def checked(self) -> AsyncIterator[bytes]:
        """Return the pieces that hold something; ValueError when they are not as long as was said."""
        sent = 0
        async for piece in self.pieces:
            sent += len(piece)
            if self.length is not None and sent > self.length:
                raise ValueError("a body is longer than was said")
            if piece:
                yield piece
        if self.length is not None and sent < self.length:
            raise ValueError("a body is shorter than was said")


class Exchange(abc.ABC):
    """One request whose answer's head has arrived. `close` it whatever happens.

    `headers` maps lower-case names to values, both bytes; repeated ones are joined with ", ".
    Exactly one of `read` and `relay` is awaited, once.
    """

    status: int
    headers: Mapping[bytes, bytes]

    @abc.abstractmethod
    async def read(self, limit: int) -> bytes:
        """Return the whole body; `UpstreamBroken` beyond `limit` bytes or when it is cut short."""

    @abc.abstractmethod
    async def relay(self, write: Write) -> None:
        """Hand each piece of the body to `write` as it arrives, until the body's regular end.

        When `write` returns something to await, upstream is not read further until it is done:
        that is how a slow caller slows the provider. A body that ends before its framing says so
        raises `UpstreamBroken`, silence beyond `idle_s` `UpstreamTimeout`.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Give the connection back when the answer is complete, else close it at once. Repeatable."""


class Client(abc.ABC):
    """Sends requests over pooled keep-alive connections. Never follows a redirect, keeps no cookie.

    `names` says to which addresses a connection is made, and how old one may become.
    """

    names: Names

    @property
    @abc.abstractmethod
    def open_connections(self) -> int:
        """Return how many connections are open, idle ones included."""

    @abc.abstractmethod
    async def send(
        self,
        target: Target,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        timeouts: Timeouts,
    ) -> Exchange:
        """Send one request and return once the answer's head is here, whatever its status.

        Cancelling closes the connection. A pooled connection that turns out closed before any byte
        of an answer is replaced by a fresh one, once.
        """

    @abc.abstractmethod
    async def upload(
        self,
        target: Target,
        headers: Sequence[tuple[str, str]],
        body: StreamedBody,
        timeouts: Timeouts,
    ) -> Exchange:
        """Do as `send` does with a body that comes in pieces, on a connection of its own.

        The next piece is asked for once upstream has taken the ones before. `first_byte_s` begins anew
        with each of them, and does not run while the next one is awaited. An answer that comes before the
        body's end is returned at once; after a status of 300 or more no further piece is asked for. What
        the pieces raise is raised here, and the connection is closed.
        """

    @abc.abstractmethod
    def keep_only(self, origins: Collection[Origin]) -> None:
        """Close the idle connections to every origin not named; those in use finish first."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Close every connection."""
