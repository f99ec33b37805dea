"""The servers that the conformance suite runs over, a delegate that keeps a record, and a raw client."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import json
import queue
import random
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvloop
from tornado import httputil, netutil
from tornado.httpserver import HTTPServer as StockServer
from typing_extensions import override

from jupyterhub_ai_gateway.handlers.connection import ConnectionLimits, HTTPServer, Wire, wire_of

ALL = ("stock", "asyncio", "uvloop")
OURS = ("asyncio", "uvloop")
PATIENCE_S = 10.0
T = TypeVar("T")


class Message(httputil.HTTPMessageDelegate):
    """One request as it was delivered, and what the test wants done with it."""

    def __init__(self, book: Book, server_conn: Any, conn: Any) -> None:
        self.book = book
        self.server_conn = server_conn
        self.conn = conn
        self.wire: Wire = wire_of(conn)
        self.pieces: list[bytes] = []
        self.events: list[str] = []

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def parsed(self) -> dict[str, Any]:
        """What a peer can compare: the request as the delegate saw it."""
        return {
            "method": self.line.method,
            "path": self.line.path,
            "version": self.line.version,
            "headers": sorted(self.headers.get_all()),
            "body": self.body.decode("latin-1"),
        }

    @override
    def headers_received(self, start_line: Any, headers: httputil.HTTPHeaders) -> Awaitable[None] | None:
        self.line = start_line
        self.headers = headers
        self.events.append("headers")
        self.book.heads.put(self)
        return self.book.on_headers(self)

    @override
    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        assert chunk
        self.pieces.append(chunk)
        self.book.data.put(self)
        return self.book.on_data(self)

    @override
    def finish(self) -> None:
        self.events.append("finish")
        self.book.finished.put(self)
        self.book.on_finish(self)

    @override
    def on_connection_close(self) -> None:
        self.events.append("close")
        self.book.closed.put(self)


def answer_parsed(message: Message) -> None:
    message.wire.respond(200, [("Content-Type", "application/json")], json.dumps(message.parsed()).encode())


def leave(message: Message) -> None:
    """Do nothing."""


class Book(httputil.HTTPServerConnectionDelegate):
    """Answers with what it has parsed, unless told otherwise, and notes everything."""

    def __init__(
        self,
        on_finish: Callable[[Message], None] = answer_parsed,
        on_headers: Callable[[Message], Awaitable[None] | None] = leave,
        on_data: Callable[[Message], Awaitable[None] | None] = leave,
    ) -> None:
        self.on_finish = on_finish
        self.on_headers = on_headers
        self.on_data = on_data
        self.heads: queue.Queue[Message] = queue.Queue()
        self.data: queue.Queue[Message] = queue.Queue()
        self.finished: queue.Queue[Message] = queue.Queue()
        self.closed: queue.Queue[Message] = queue.Queue()
        self.gone: queue.Queue[object] = queue.Queue()  # tornado's own server never tells

    @override
    def start_request(self, server_conn: object, request_conn: Any) -> Message:
        return Message(self, server_conn, request_conn)

    @override
    def on_close(self, server_conn: object) -> None:
        self.gone.put(server_conn)


def take(from_queue: queue.Queue[T]) -> T:
    """Return what comes next, in reasonable time."""
    return from_queue.get(timeout=PATIENCE_S)


@dataclass
class Front:
    """A running server."""

    kind: str
    port: int
    loop: asyncio.AbstractEventLoop
    server: Any
    tls: ssl.SSLContext | None = None

    @property
    def is_ours(self) -> bool:
        return self.kind != "stock"

    def call(self, what: Callable[..., T], *args: object) -> T:
        """Run this in the server's thread and return what it returns."""
        result: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                result.set_result(what(*args))
            except BaseException as error:  # noqa: BLE001 - the test is to see it, whatever it is
                result.set_exception(error)

        self.loop.call_soon_threadsafe(run)
        return result.result(PATIENCE_S)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Ask in the server's thread until it is so."""
        end = time.monotonic() + PATIENCE_S
        while not self.call(condition):
            assert time.monotonic() < end, "it never came to pass"

    def wait_until_empty(self) -> None:
        """Return once every connection is gone."""
        connections = self.server._connections
        self.wait_until(lambda: not connections)

    def run(self, work: Awaitable[T]) -> T:
        """Await this in the server's thread."""

        async def await_it() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(await_it(), self.loop).result(PATIENCE_S)

    def connect(self) -> Peer:
        return Peer(self.port, self.tls)


def _new_loop(kind: str) -> asyncio.AbstractEventLoop:
    return uvloop.new_event_loop() if kind == "uvloop" else asyncio.new_event_loop()


async def _start(kind: str, delegate: Any, limits: ConnectionLimits, sockets: Any, options: Any) -> Any:
    if kind != "stock":
        server = HTTPServer(delegate, limits, **options)
        await server.start(sockets)
        return server
    context = options.pop("ssl_context", None)
    stock = StockServer(
        delegate,
        ssl_options=context,
        max_header_size=limits.max_header_bytes,
        max_body_size=limits.max_body_bytes,
        body_timeout=limits.body_timeout_s,
        idle_connection_timeout=limits.idle_timeout_s,
        **options,
    )
    stock.add_sockets(sockets)
    return stock


@contextlib.contextmanager
def serve(
    kind: str,
    delegate: Any,
    limits: ConnectionLimits | None = None,
    *,
    client_tls: ssl.SSLContext | None = None,
    **options: Any,
) -> Iterator[Front]:
    """Run a server of this kind in a thread of its own, on a port of its own."""
    loop = _new_loop(kind)
    thread = threading.Thread(target=_run, args=(loop,), daemon=True)
    thread.start()
    sockets = netutil.bind_sockets(0, "127.0.0.1")
    port = sockets[0].getsockname()[1]
    starting = _start(kind, delegate, limits or ConnectionLimits(), sockets, options)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result(PATIENCE_S)
    try:
        yield Front(kind, port, loop, server, client_tls)
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server), loop).result(PATIENCE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        loop.close()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    asyncio.set_event_loop(None)


async def _stop(server: Any) -> None:
    server.stop()
    await server.close_all_connections()
    here = asyncio.current_task()
    others = [task for task in asyncio.all_tasks() if task is not here]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@dataclass
class Answer:
    """One response as it came over the wire."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes = b""
    pieces: list[bytes] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        values = self.get_all(name)
        assert len(values) < 2, f"{name} is repeated: {self.fields}"
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class CutOff(Exception):  # noqa: N818 - what happened, not who erred
    """The connection ended in the middle of an answer; `body` is what had come of it."""

    def __init__(self, body: bytes) -> None:
        super().__init__(f"cut off after {len(body)} bytes of body")
        self.body = body


class Peer:
    """A client of raw bytes that reads answers strictly."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None, receive_bytes: int = 0) -> None:
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(PATIENCE_S)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.reader = self.socket.makefile("rb")

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.reader.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes) -> Answer:
        self.send(data)
        return self.answer("HEAD" if data.startswith(b"HEAD") else "GET")

    def send_cut(self, data: bytes, seed: int | None) -> None:
        """Send byte by byte, or cut at random places."""
        for piece in cuts(data, seed):
            self.send(piece)

    def head(self) -> Answer:
        """Read a status line and headers."""
        line = self.reader.readline()
        if not line:
            raise CutOff(b"")
        version, status, _ = line.decode("latin-1").split(" ", 2)
        assert version == "HTTP/1.1"
        fields = []
        while (line := self.reader.readline()) not in (b"\r\n", b""):
            assert line.endswith(b"\r\n")
            name, value = line.decode("latin-1").split(":", 1)
            fields.append((name, value.strip()))
        return Answer(int(status), fields)

    def answer(self, method: str = "GET") -> Answer:
        """Read one answer to its end."""
        answer = self.head()
        length, coding = answer.get("Content-Length"), answer.get("Transfer-Encoding")
        assert length is None or coding is None
        if method == "HEAD" or answer.status in (204, 304) or answer.status < 200:
            return answer
        if coding is not None:
            assert coding == "chunked"
            while piece := self.chunk(answer):
                answer.pieces.append(piece)
            answer.body = b"".join(answer.pieces)
        elif length is not None:
            answer.body = self.reader.read(int(length))
            if len(answer.body) != int(length):
                raise CutOff(answer.body)
        else:
            answer.body = self.reader.read()
        return answer

    def chunk(self, answer: Answer | None = None) -> bytes:
        """Read one chunk; empty for the last."""
        so_far = b"".join(answer.pieces) if answer else b""
        line = self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise CutOff(so_far)
        piece = self.reader.read(int(line, 16))
        if self.reader.read(2) != b"\r\n":
            raise CutOff(so_far + piece)
        return piece

    def is_closed(self) -> bool:
        """Read on; True when nothing comes but the end."""
        try:
            return self.reader.read(1) == b""
        except ConnectionResetError:
            return True


def cuts(data: bytes, seed: int | None) -> list[bytes]:
    """Cut into single bytes, or at seeded random places."""
    if seed is None:
        return [data[i : i + 1] for i in range(len(data))]
    dice = random.Random(seed)
    count = min(len(data) - 1, dice.randint(1, 12))
    places = sorted({0, len(data), *dice.sample(range(1, len(data)), count)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def get(path: str = "/", *lines: str, version: str = "HTTP/1.1") -> bytes:
    return request("GET", path, *lines, version=version)


def post(path: str, body: bytes, *lines: str, version: str = "HTTP/1.1") -> bytes:
    return request("POST", path, f"Content-Length: {len(body)}", *lines, version=version) + body


def chunked(path: str, *pieces: bytes) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    return request("POST", path, "Transfer-Encoding: chunked") + body + b"0\r\n\r\n"


def request(method: str, path: str, *lines: str, version: str = "HTTP/1.1") -> bytes:
    head = [f"{method} {path} {version}", "Host: gateway.test", *lines]
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1")
