"""The same promises kept by aiohttp, for what the lean client does not do: forward proxies, above all."""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Collection, Sequence
from typing import TypeVar
from urllib.request import (  # type: ignore[attr-defined]  # typeshed has one of them only
    getproxies_environment,
    proxy_bypass_environment,
)

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from typing_extensions import override
from yarl import URL

from ..vocabulary import Timeouts
from .base import Client, Exchange, Origin, StreamedBody, Target, Write
from .deadline import timeout
from .failures import broken, cut_short, not_public, timed_out, too_long, unreachable
from .names import NEXT_ADDRESS_S, AddressInfo, Names, NotPublicError
from .tls import context_of

T = TypeVar("T")

_MAX_HEADER_BYTES = 65536
_LONG_BYTES = 1024 * 1024
"""Above this aiohttp wants a body in pieces."""
_NEVER = float("inf")
_LOOK_S = 0.25
"""How often an upload's deadline is looked at, which moves while it is sent."""


class StockClient(Client):
    """Sends requests by aiohttp sessions, one per origin, made on the running loop when they are needed.

    `ssl_context` stands in for the system's certificates where TLS is verified. With `uses_environment`
    proxies are taken from `HTTPS_PROXY` and its relatives.
    """

    def __init__(
        self,
        *,
        max_idle_s: float = 60.0,
        ssl_context: ssl.SSLContext | None = None,
        uses_environment: bool = False,
        names: Names | None = None,
    ) -> None:
        self.names = names or Names()
        self._max_idle_s = max_idle_s
        self._ssl_context = ssl_context
        self._uses_environment = uses_environment
        self._pools: dict[Origin, _Pool] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    @override
    def open_connections(self) -> int:
        return sum(pool.open_connections for pool in self._pools.values())

    @override
    async def send(
        self, target: Target, headers: Sequence[tuple[str, str]], body: bytes, timeouts: Timeouts
    ) -> Exchange:
        origin = target.origin
        await self._check(origin)
        pool = self._pool(origin)
        clock = _Clock(timeouts)
        pool.in_use += 1
        try:
            response = await self._respond(
                pool, target, CIMultiDict([*target.headers, *headers]), body, clock
            )
        except BaseException as error:
            self._leave(pool)
            raise self._failure(origin, error) from error
        return self._exchange(pool, origin, response, clock)

    @override
    async def upload(
        self,
        target: Target,
        headers: Sequence[tuple[str, str]],
        body: StreamedBody,
        timeouts: Timeouts,
    ) -> Exchange:
        origin = target.origin
        await self._check(origin)
        pool = self._pool(origin)
        if pool.uploads is None:
            pool.uploads = self._session(origin, keeps=False)
        clock = _Clock(timeouts)
        feeder = _Feeder(body, clock)
        pool.in_use += 1
        try:
            own = CIMultiDict([*target.headers, *headers])
            if body.length is not None:
                own["Content-Length"] = str(body.length)
            asking = self._ask(pool, pool.uploads, target, own, feeder.pieces(), clock)
            response = await feeder.limit(asyncio.ensure_future(asking))
        except BaseException as error:
            self._leave(pool)
            raise feeder.failure or self._failure(origin, error) from error
        return self._exchange(pool, origin, response, clock, feeder)

    def _failure(self, origin: Origin, error: BaseException) -> BaseException:
        if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
            self.names.forget(origin.host, origin.port)
        return _fault_of(origin, error)

    async def _check(self, origin: Origin) -> None:
        """Refuse what aiohttp does not ask about: an address in place of a name, and what a proxy finds."""
        if not origin.public_only:
            return
        try:
            if self._proxy(origin) is not None:
                raise NotPublicError(
                    f"{origin.host} is found by a proxy, and its addresses have to be public"
                )
            if origin.unix is not None:
                raise NotPublicError("it is a socket of this machine, and its addresses have to be public")
            if origin.host.rpartition(".")[2][:1].isdigit() or ":" in origin.host:
                await self.names.addresses(origin.host, origin.port, public_only=True)
        except NotPublicError as error:
            raise not_public(origin, error) from error

    def _exchange(
        self,
        pool: _Pool,
        origin: Origin,
        response: aiohttp.ClientResponse,
        clock: _Clock,
        feeder: _Feeder | None = None,
    ) -> Exchange:
        exchange = _StockExchange(self, pool, origin, response, clock, feeder)
        if exchange.headers.get(b"content-encoding", b"identity").lower() not in (b"", b"identity"):
            exchange.close()
            raise broken(origin, "an answer that is compressed, unasked")
        return exchange

    async def _ask(
        self,
        pool: _Pool,
        session: aiohttp.ClientSession,
        target: Target,
        headers: CIMultiDict[str],
        data: object,
        clock: _Clock,
    ) -> aiohttp.ClientResponse:
        return await session.request(
            target.method,
            URL(f"{target.origin.scheme}://{target.origin.authority}{target.path}", encoded=True),
            data=data,
            headers=headers,
            allow_redirects=False,
            proxy=pool.proxy,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=clock.connect_s, sock_connect=clock.connect_s
            ),
        )

    async def _respond(
        self, pool: _Pool, target: Target, headers: CIMultiDict[str], body: bytes, clock: _Clock
    ) -> aiohttp.ClientResponse:
        """Ask; once more where a pooled connection may have been closed meanwhile."""
        for may_be_stale in (pool.has_idle, False):
            try:
                data = io.BytesIO(body) if len(body) > _LONG_BYTES else body
                asking = self._ask(pool, pool.session, target, headers, data, clock)
                return await clock.limit(asking, clock.first_byte_s)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not may_be_stale:
                    raise
        raise AssertionError("the second attempt returns or raises")

    @override
    def keep_only(self, origins: Collection[Origin]) -> None:
        self.names.keep_only({(origin.host, origin.port) for origin in origins})
        for origin in [origin for origin in self._pools if origin not in origins]:
            self._retire(origin)

    def _retire(self, origin: Origin) -> None:
        """Begin no further request over the connections to a place."""
        pool = self._pools.pop(origin)
        pool.is_retired = True
        self._close_if_unused(pool)

    @override
    async def close(self) -> None:
        self.names.close()
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            await pool.close()
        await asyncio.gather(*self._closing)

    def _pool(self, origin: Origin) -> _Pool:
        age_s, now = self.names.config.connection_age_s, asyncio.get_running_loop().time()
        pool = self._pools.get(origin)
        if pool is not None and age_s is not None and now - pool.began >= age_s:
            self._retire(origin)  # its host's name may be another address's by now
            pool = None
        if pool is None:
            pool = self._pools[origin] = _Pool(self._session(origin), self._proxy(origin), now)
        return pool

    def _session(self, origin: Origin, *, keeps: bool = True) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=self._connector(origin, keeps=keeps),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_field_size=_MAX_HEADER_BYTES,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    def _connector(self, origin: Origin, *, keeps: bool) -> aiohttp.BaseConnector:
        idle_s = self._max_idle_s if keeps else None
        if origin.unix is not None:
            return aiohttp.UnixConnector(
                origin.unix, limit=0, keepalive_timeout=idle_s, force_close=not keeps
            )
        context = context_of(origin, self._ssl_context) if origin.scheme == "https" else True
        return aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=idle_s,
            force_close=not keeps,
            ssl=context,
            resolver=_Resolver(self.names, public_only=origin.public_only),
            use_dns_cache=False,
            happy_eyeballs_delay=NEXT_ADDRESS_S,
            interleave=1,
        )

    def _proxy(self, origin: Origin) -> URL | None:
        """Return the proxy that the environment names for an origin, with who we are to it.

        aiohttp's own way would also send what a `.netrc` holds to the providers.
        """
        if not self._uses_environment or origin.unix is not None:
            return None
        found = getproxies_environment()
        proxy = found.get(origin.scheme)
        if not proxy or proxy_bypass_environment(origin.authority, found):
            return None
        return URL(proxy if "://" in proxy else f"http://{proxy}")

    def leave(self, pool: _Pool) -> None:
        """Note that an exchange is over."""
        self._leave(pool)

    def _leave(self, pool: _Pool) -> None:
        pool.in_use -= 1
        self._close_if_unused(pool)

    def _close_if_unused(self, pool: _Pool) -> None:
        if pool.is_retired and not pool.in_use:
            task = asyncio.ensure_future(pool.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


class _Resolver(AbstractResolver):
    """Tells aiohttp the addresses of names."""

    def __init__(self, names: Names, *, public_only: bool) -> None:
        self._names = names
        self._public_only = public_only

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._names.addresses(host, port, public_only=self._public_only)
        return [
            ResolveResult(
                hostname=host,
                host=_text_of(each),
                port=port,
                family=each[0],
                proto=each[2],
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for each in found
        ]

    @override
    async def close(self) -> None:
        """Leave the names to the client, which closes them."""


def _text_of(found: AddressInfo) -> str:
    """Return an address as text, with its interface where it has one."""
    address, scope = str(found[4][0]), found[4][3] if len(found[4]) == 4 else 0
    return f"{address}%{scope}" if scope and "%" not in address else address


class _Pool:
    """The connections to one origin. `uploads` makes those that carry one request alone."""

    def __init__(self, session: aiohttp.ClientSession, proxy: URL | None, began: float) -> None:
        self.session = session
        self.began = began
        self.uploads: aiohttp.ClientSession | None = None
        self.proxy = proxy
        self.in_use = 0
        self.is_retired = False  # True once no new request comes

    @property
    def has_idle(self) -> bool:
        """Say whether a connection may be used again."""
        connector = self.session.connector
        return connector is not None and bool(connector._conns)

    @property
    def open_connections(self) -> int:
        connectors = [each.connector for each in (self.session, self.uploads) if each is not None]
        return sum(
            len(each._acquired) + sum(map(len, each._conns.values()))
            for each in connectors
            if each is not None
        )

    async def close(self) -> None:
        for session in (self.session, self.uploads):
            if session is not None:
                await session.close()


class _Clock:
    """Keeps one exchange's times."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._loop = asyncio.get_running_loop()
        self.connect_s = timeouts.connect_s
        self.first_byte_s = timeouts.first_byte_s
        self.idle_s = timeouts.idle_s
        self.end = _NEVER if timeouts.total_s is None else self._loop.time() + timeouts.total_s

    async def limit(self, awaitable: Awaitable[T], seconds: float | None) -> T:
        """Wait no longer than this, nor beyond the total."""
        left = min(_NEVER if seconds is None else seconds, self.end - self._loop.time())
        async with timeout(None if left == _NEVER else max(0.0, left)):
            return await awaitable


class _Feeder:
    """Hands a body to aiohttp, and knows for how long to wait: not while the next piece is awaited."""

    def __init__(self, body: StreamedBody, clock: _Clock) -> None:
        self._body = body
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._deadline = self._from_now()
        self.is_done = False
        self.failure: Exception | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._body.checked():
                self._deadline = self._from_now()
                yield piece
                self._deadline = self._clock.end
        except Exception as error:  # what aiohttp makes of it says less
            self.failure = error
            raise
        self.is_done = True
        self._deadline = self._from_now()

    async def limit(self, asking: asyncio.Future[aiohttp.ClientResponse]) -> aiohttp.ClientResponse:
        """Wait for the answer's head; TimeoutError when upstream is too slow for it."""
        try:
            while not asking.done():
                left = self._deadline - self._loop.time()
                if left <= 0:
                    raise TimeoutError
                await asyncio.wait({asking}, timeout=min(left, _LOOK_S))
            return asking.result()
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.wait({asking})

    def _from_now(self) -> float:
        first_byte_s = self._clock.first_byte_s
        return (
            self._clock.end
            if first_byte_s is None
            else min(self._clock.end, self._loop.time() + first_byte_s)
        )


class _StockExchange(Exchange):
    def __init__(
        self,
        client: StockClient,
        pool: _Pool,
        origin: Origin,
        response: aiohttp.ClientResponse,
        clock: _Clock,
        feeder: _Feeder | None = None,
    ) -> None:
        self._client, self._pool, self._origin = client, pool, origin
        self._feeder = feeder
        self._response = response
        self._clock = clock
        self._is_closed = False
        self.status = response.status
        self.headers = _joined(response.raw_headers)

    @override
    async def read(self, limit: int) -> bytes:
        if int(self.headers.get(b"content-length", b"0")) > limit:
            raise too_long(self._origin, limit)
        pieces: list[bytes] = []
        left = limit
        while piece := await self._piece():
            left -= len(piece)
            if left < 0:
                raise too_long(self._origin, limit)
            pieces.append(piece)
        return b"".join(pieces)

    @override
    async def relay(self, write: Write) -> None:
        while piece := await self._piece():
            waiting = write(piece)
            if waiting is not None:
                await waiting

    async def _piece(self) -> bytes:
        try:
            return await self._clock.limit(self._response.content.readany(), self._clock.idle_s)
        except BaseException as error:
            raise _fault_of(self._origin, error, is_begun=True) from error

    @override
    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        is_sending = self._feeder is not None and not self._feeder.is_done
        if is_sending or not self._response.content.at_eof():
            self._response.close()
        self._response.release()
        self._client.leave(self._pool)


def _joined(raw: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in raw:
        key = name.lower()
        headers[key] = value if key not in headers else headers[key] + b", " + value
    return headers


def _fault_of(origin: Origin, error: BaseException, *, is_begun: bool = False) -> BaseException:
    """Turn what aiohttp raises into our faults; what is not its own goes on as it is."""
    name = type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, NotPublicError):
        return not_public(origin, error.os_error)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return timed_out(origin, "connecting")
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return timed_out(origin, "reading the answer" if is_begun else "waiting for an answer")
    if isinstance(error, (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
        return cut_short(origin, name) if is_begun else unreachable(origin, name)
    if isinstance(error, (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
        return cut_short(origin, name)
    if isinstance(error, (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError)):
        return broken(origin, name)
    return error
