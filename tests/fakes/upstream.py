"""An upstream on a real socket, strict as a vendor, that plays scripts of bytes, cuts, waits and ends.

    with FakeUpstream(key="sk-test") as up:
        up.script(Reply.error(429, "Slow down.", headers=[("Retry-After", "2")]))
        ...                                     # the first request gets that, later ones a usual answer
        assert up.requests[0].document["model"] == "gpt-4o-mini"

It runs in a thread of its own, so it serves synchronous clients, other processes and coroutines alike.
In a coroutine wait with `await happened(request.closed)`: `request.closed.wait()` would stop the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import queue
import random
import re
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from http.client import responses
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote, unquote, urlsplit

from typing_extensions import override

from . import media
from .vendor import (
    BASES,
    OPERATIONS,
    USAGE_TEXT,
    VENDOR_HEADERS,
    Complaint,
    answer_of,
    chat_chunk,
    chat_chunks,
    chat_completion,
    check_document,
    check_head,
    check_key,
    completion,
    completion_chunks,
    embeddings,
    error_body,
    events_of,
    model_card,
    parse_strictly,
    sse,
    usage,
)

__all__ = [
    "BYTE_BY_BYTE",
    "FIN",
    "RESET",
    "STALL",
    "WHOLE",
    "FakeUpstream",
    "Gate",
    "Raw",
    "Reply",
    "Request",
    "chat_chunk",
    "chat_chunks",
    "chat_completion",
    "completion",
    "completion_chunks",
    "embeddings",
    "error_body",
    "happened",
    "random_cuts",
    "sse",
    "usage",
]

PATIENCE_S = 10.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class End:
    """A step that ends a script. Compared by identity."""

    def __init__(self, name: str) -> None:
        self._name = name

    @override
    def __repr__(self) -> str:
        return self._name


FIN = End("FIN")
"""Close the connection, after all that was written."""
RESET = End("RESET")
"""Close it with a reset; what the peer has not read yet may be lost."""
STALL = End("STALL")
"""Send nothing more, until the peer leaves."""


class Gate(threading.Event):
    """A step at which a script waits until the test calls `set`. `reached` tells that it got there."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self._wakers: list[Callable[[], None]] = []

    def on_set(self, waker: Callable[[], None]) -> None:
        """Call this, in the setting thread, once the gate is open."""
        self._wakers.append(waker)
        if self.is_set():
            waker()

    @override
    def set(self) -> None:
        super().set()
        for waker in list(self._wakers):
            waker()


Step = bytes | Gate | End

Cuts = Callable[[bytes], Iterator[bytes]]


def WHOLE(piece: bytes) -> Iterator[bytes]:  # noqa: N802 - used as a constant
    """Write each piece of a script at once."""
    yield piece


def BYTE_BY_BYTE(piece: bytes) -> Iterator[bytes]:  # noqa: N802 - used as a constant
    """Write and flush every byte by itself."""
    for i in range(len(piece)):
        yield piece[i : i + 1]


def random_cuts(seed: int, longest: int = 40) -> Cuts:
    """Cut at random places, the same for the same seed."""
    dice = random.Random(seed)

    def cut(piece: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(piece):
            size = dice.randint(1, longest)
            yield piece[at : at + size]
            at += size

    return cut


@dataclass
class Request:
    """One request as it came in."""

    connection: int  # counts from 1
    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes
    complaint: str | None = None  # what the strict vendor said against it
    answered: threading.Event = field(default_factory=threading.Event)  # its script is played to the end
    closed: threading.Event = field(default_factory=threading.Event)  # the peer has closed the connection
    was_cut_short: bool = False  # True when the peer closed before the script's end
    sent_bytes: int = 0  # what the kernel has taken of the answer

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def document(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """Return a header's value, or None; AssertionError when it came more than once."""
        found = [value for given, value in self.headers if given.lower() == name.lower()]
        assert len(found) < 2, f"{name} came {len(found)} times"
        return found[0] if found else None


@dataclass(frozen=True)
class Raw:
    """An answer as bare steps: bytes of the wire, gates, and an end."""

    steps: Iterable[Step]
    cuts: Cuts | None = None

    @classmethod
    def of(cls, *steps: Step) -> Raw:
        return cls(steps)


@dataclass(frozen=True)
class Reply:
    """An answer in HTTP.

    `body` is bytes, sent with their length, or steps, each piece of bytes one chunk. `framing` says
    otherwise: "length", "chunked", "close" (until the end of the connection) or "none" (the headers
    given are all there is). `before` is played before the head, `then` after the body.
    """

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | Iterable[Step] = b""
    framing: str | None = None
    version: str = "HTTP/1.1"
    before: Sequence[Step] = ()
    then: Sequence[Step] = ()
    cuts: Cuts | None = None

    @classmethod
    def json(
        cls, document: Any, status: int = 200, headers: Sequence[tuple[str, str]] = (), **more: Any
    ) -> Reply:
        """Answer with a JSON document."""
        kind = ("Content-Type", "application/json")
        return cls(status, [kind, *headers], json.dumps(document).encode(), **more)

    @classmethod
    def error(
        cls,
        status: int,
        message: str,
        headers: Sequence[tuple[str, str]] = (),
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
    ) -> Reply:
        """Answer with an OpenAI error."""
        body = error_body(message, kind=kind, code=code)
        return cls(status, [("Content-Type", "application/json"), *headers], body)

    @classmethod
    def stream(cls, *steps: Any, headers: Sequence[tuple[str, str]] = (), **more: Any) -> Reply:
        """Answer with server-sent events: bytes, gates and ends as they are; dicts and text as events."""
        kind = ("Content-Type", "text/event-stream; charset=utf-8")
        body = [step if isinstance(step, bytes | Gate | End) else sse(step)[0] for step in steps]
        return cls(200, [kind, *headers], body, **more)

    def cut(self, at: int, end: End = FIN) -> Raw:
        """Return the same answer, ended after so many bytes of the wire (head included)."""
        return Raw.of(self.wire[:at], end)

    @property
    def wire(self) -> bytes:
        """All bytes of the answer; gates and ends are passed over."""
        return b"".join(step for step in self.steps() if isinstance(step, bytes))

    def steps(self) -> Iterator[Step]:
        """Return what is played on the wire."""
        framing = self.framing or ("length" if isinstance(self.body, bytes) else "chunked")
        yield from self.before
        yield self._head(framing)
        pieces = [self.body] if isinstance(self.body, bytes) else self.body
        for step in pieces:
            if isinstance(step, bytes) and framing == "chunked":
                yield b"%x\r\n%b\r\n" % (len(step), step)
            else:
                yield step
        if framing == "chunked":
            yield b"0\r\n\r\n"
        yield from self.then
        if framing == "close":
            yield FIN

    def _head(self, framing: str) -> bytes:
        lines = [f"{self.version} {self.status} {responses.get(self.status, 'Whatever')}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if framing == "length":
            lines.append(f"Content-Length: {len(cast(bytes, self.body))}")
        elif framing == "chunked":
            lines.append("Transfer-Encoding: chunked")
        elif framing == "close":
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


Script = Reply | Raw | Callable[[Request], "Reply | Raw"]


async def happened(event: threading.Event, timeout_s: float = PATIENCE_S) -> None:
    """Wait for this without stopping the loop; AssertionError when it does not come."""
    assert await asyncio.to_thread(event.wait, timeout_s), "it never happened"


class FakeUpstream:
    """The server. Use it in `with`.

    Scripts are played in order, one per request that is in order; after them come usual answers
    (`text` is what the model says), or what `always` was given. `key` is what callers must send (None:
    whatever), `models` what is offered (None: everything). With `is_strict=False` nothing is checked and
    any path is answered. `greetings` are played on new connections instead of listening to them, in order.
    `cuts` says in which pieces everything is written. `bases` is a pattern of the base paths that a
    strict upstream answers under, such as `/v1`. With `unix` it listens on a socket of that path.
    """

    def __init__(
        self,
        *,
        key: str | None = "sk-test",
        models: Sequence[str] | None = None,
        is_strict: bool = True,
        text: str = USAGE_TEXT,
        cuts: Cuts = WHOLE,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        unix: Path | None = None,
        bases: str = BASES,
    ) -> None:
        self.key = key
        self.models = models
        self.is_strict = is_strict
        self.bases = bases
        self.text = text
        self.cuts = cuts
        self.requests: list[Request] = []
        self.connections = 0
        self.greetings: deque[Raw] = deque()
        self._host = host
        self._unix = unix
        self._tls = tls
        self._scripts: deque[Script] = deque()
        self._always: Script | None = None
        self._arrived: queue.Queue[Request] = queue.Queue()
        self._lines: set[_Line] = set()
        self._failures: list[BaseException] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-upstream", daemon=True)
        self._server: asyncio.AbstractServer | None = None
        self.port = 0

    # What a test calls

    @property
    def url(self) -> str:
        """The root, without a slash at the end."""
        if self._unix is not None:
            return f"http+unix://{quote(str(self._unix), safe='')}"
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client is given."""
        return f"{self.url}/v1"

    @property
    def open_connections(self) -> int:
        return len(self._lines)

    def script(self, *scripts: Script) -> None:
        """Play these, one per request."""
        self._scripts.extend(scripts)

    def always(self, script: Script | None) -> None:
        """Play this whenever nothing else is scripted; None: the usual answers."""
        self._always = script

    def take(self, timeout_s: float = PATIENCE_S) -> Request:
        """Wait for the next request that was not taken yet."""
        return self._arrived.get(timeout=timeout_s)

    async def taken(self, timeout_s: float = PATIENCE_S) -> Request:
        """Do as `take`, without stopping the loop."""
        return await asyncio.to_thread(self.take, timeout_s)

    def stop_listening(self) -> None:
        """Refuse new connections from now on, and keep those there are."""
        self._call(self._close_server())

    def drop_connections(self) -> None:
        """Close every connection from this side."""
        self._call(self._drop())

    # Running

    def __enter__(self) -> FakeUpstream:
        self._thread.start()
        self._call(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()
        if error is None and self._failures:
            raise self._failures[0]

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    async def _start(self) -> None:
        if self._unix is not None:
            self._server = await self._loop.create_unix_server(lambda: _Line(self), str(self._unix))
            return
        self._server = await self._loop.create_server(
            lambda: _Line(self), self._host, self.port, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close_server(self) -> None:
        if self._server is not None:
            for each in self._server.sockets:
                self._loop.remove_reader(each.fileno())
            for _ in range(
                3
            ):  # who was accepted is served some turns later, or for ever left by a closed server
                await asyncio.sleep(0)
            self._server.close()
            self._server = None
            await asyncio.sleep(0)

    async def _drop(self) -> None:
        for line in list(self._lines):
            line.transport.close()
        await asyncio.sleep(0)

    async def _stop(self) -> None:
        await self._close_server()
        tasks = [line.task for line in self._lines]
        for line in list(self._lines):
            line.task.cancel()
            line.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._lines:
            await asyncio.sleep(0)

    # What a line calls

    def arrived(self, request: Request) -> None:
        self.requests.append(request)
        self._arrived.put(request)

    def failed(self, error: BaseException) -> None:
        self._failures.append(error)

    def answer(self, request: Request) -> Reply | Raw:
        """Choose what is played for a request."""
        try:
            if self.is_strict:
                check_head(request.method, request.target, request.version, request.headers)
                self._check(request)
            script = self._scripts.popleft() if self._scripts else self._always
            if script is None:
                return self._compressed(request, self._usual(request))
        except Complaint as complaint:
            request.complaint = str(complaint)
            kind = ("Content-Type", "application/json")
            return Reply(complaint.status, [kind, *VENDOR_HEADERS], complaint.body)
        return script if isinstance(script, Reply | Raw) else script(request)

    def _check(self, request: Request) -> None:
        found = OPERATIONS.fullmatch(request.path)
        if found is None or not re.fullmatch(self.bases, found["base"]):
            raise Complaint(404, f"Invalid URL ({request.method} {request.path})")
        if self.key is not None:
            check_key(request.path, request.headers, self.key)
        is_listing = found["what"].startswith("models")
        if request.method != ("GET" if is_listing else "POST"):
            raise Complaint(405, f"Not allowed to {request.method} on {request.path}")
        if not is_listing:
            if found["what"] in media.FORMS and media.is_form(request.header("content-type")):
                media.check_form(found["what"], request.header("content-type"), request.body)
                return
            if (request.header("content-type") or "").split(";")[0].strip() != "application/json":
                raise Complaint(400, "Unsupported content type: send application/json.")
            document = parse_strictly(request.body)
            check_document(request.path, found["what"], document, self.models)

    def _usual(self, request: Request) -> Reply:
        found = OPERATIONS.fullmatch(request.path)
        if found is None:
            return Reply(200, [("Content-Type", "text/plain")], b"hello")
        if found["what"].startswith("models"):
            return self._usual_models(found["what"])
        if found["what"] in media.OPERATIONS:
            answer = media.answer_of(found["what"], request.header("content-type"), request.body, self.text)
            return Reply(200, [*answer.headers, *VENDOR_HEADERS], answer.body)
        document = parse_strictly(request.body)
        if document.get("stream") and found["what"] != "embeddings":
            return Reply.stream(
                *events_of(found["what"], document, self.text), headers=[*VENDOR_HEADERS, _NO_CACHE]
            )
        return Reply.json(answer_of(found["what"], document, self.text), headers=VENDOR_HEADERS)

    def _usual_models(self, what: str) -> Reply:
        names = self.models if self.models is not None else ("gpt-4o-mini", "text-embedding-3-small")
        _, _, name = what.partition("/")
        if not name:
            cards = [model_card(each) for each in names]
            return Reply.json({"object": "list", "data": cards}, headers=VENDOR_HEADERS)
        if name not in names:
            raise Complaint(404, f"The model '{name}' does not exist", code="model_not_found")
        return Reply.json(model_card(name), headers=VENDOR_HEADERS)

    def _compressed(self, request: Request, reply: Reply) -> Reply:
        """Compress for a client that takes it, as vendors do."""
        accepted = (request.header("accept-encoding") or "").lower()
        if "gzip" not in accepted or not isinstance(reply.body, bytes):
            return reply
        headers = [*reply.headers, ("Content-Encoding", "gzip")]
        return replace(reply, headers=headers, body=gzip.compress(reply.body))


_NO_CACHE = ("Cache-Control", "no-cache")


class _Left(Exception):  # noqa: N818 - not a failure
    """The peer has closed the connection."""


class _Line(asyncio.Protocol):
    """One connection: reads requests one after the other, plays an answer to each."""

    def __init__(self, upstream: FakeUpstream) -> None:
        self._upstream = upstream
        self._unread = bytearray()
        self._news = asyncio.Event()  # something arrived, opened, drained or closed
        self._has_left = False
        self._is_stalled = False
        self._played: list[Request] = []
        self._written = 0

    # What asyncio calls

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.transport.get_extra_info("sslcontext") is None:  # over TLS asyncio would not resume
            self.transport.set_write_buffer_limits(high=0)
        self._upstream.connections += 1
        self._upstream._lines.add(self)
        self._number = self._upstream.connections
        self.task = asyncio.get_running_loop().create_task(self._serve())

    @override
    def data_received(self, data: bytes) -> None:
        self._unread += data
        self._news.set()

    @override
    def eof_received(self) -> bool:
        self._leave()
        return self.transport.get_extra_info("sslcontext") is None  # TLS cannot be half open

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream._lines.discard(self)
        self._leave()

    @override
    def pause_writing(self) -> None:
        self._is_stalled = True

    @override
    def resume_writing(self) -> None:
        self._is_stalled = False
        self._news.set()

    def _leave(self) -> None:
        self._has_left = True
        for request in self._played:
            if not request.answered.is_set():
                request.was_cut_short = True
            request.closed.set()
        self._news.set()

    # The story

    async def _serve(self) -> None:
        try:
            if self._upstream.greetings:
                await self._play(self._upstream.greetings.popleft(), None)
            while await self._exchange():
                pass
        except _Left:
            pass
        except Exception as error:  # noqa: BLE001 - the test is to see it, whatever it is
            self._upstream.failed(error)
        finally:
            self.transport.close()

    async def _exchange(self) -> bool:
        """Answer one request; False when the connection has ended."""
        request = await self._read_request()
        self._played.append(request)
        self._upstream.arrived(request)
        script = self._upstream.answer(request)
        is_open = await self._play(script, request)
        request.answered.set()
        return is_open and (request.header("connection") or "").lower() != "close"

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self._has_left:
                raise _Left
            self._news.clear()
            await self._news.wait()

    async def _play(self, script: Reply | Raw, request: Request | None) -> bool:
        cut = script.cuts or self._upstream.cuts
        self._written = 0
        for step in script.steps() if isinstance(script, Reply) else script.steps:
            if isinstance(step, Gate):
                await self._pass(step)
            elif isinstance(step, End):
                await self._end(step)
                return False
            else:
                await self._write(cut(step), request)
        return True

    async def _pass(self, gate: Gate) -> None:
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the server has been stopped
                loop.call_soon_threadsafe(self._news.set)

        gate.on_set(wake)
        gate.reached.set()
        await self._until(gate.is_set)

    async def _end(self, end: End) -> None:
        if end is STALL:
            await self._until(lambda: False)
        if end is RESET:
            peer = self.transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()
        self.transport.close()

    async def _write(self, pieces: Iterable[bytes], request: Request | None) -> None:
        for piece in pieces:
            if self._has_left:
                raise _Left
            self.transport.write(piece)
            self._written += len(piece)
            self._note_sent(request)
            await self._until(lambda: not self._is_stalled)
            self._note_sent(request)
            await asyncio.sleep(0)

    def _note_sent(self, request: Request | None) -> None:
        if request is not None:
            request.sent_bytes = self._written - self.transport.get_write_buffer_size()

    # Reading

    async def _read_request(self) -> Request:
        await self._until(lambda: b"\r\n\r\n" in self._unread)
        head, _, _ = bytes(self._unread).partition(b"\r\n\r\n")
        del self._unread[: len(head) + 4]
        lines = head.decode("latin-1").split("\r\n")
        method, target, version = lines[0].split(" ")
        headers = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            assert colon, f"not a header: {line!r}"
            headers.append((name, value[1:] if value.startswith(" ") else value))
        request = Request(self._number, method, target, version, headers, b"")
        request.body = await self._read_body(request)
        return request

    async def _read_body(self, request: Request) -> bytes:
        if (request.header("transfer-encoding") or "").lower() == "chunked":
            assert request.header("content-length") is None, "two framings in one request"
            return await self._read_chunks()
        return await self._take(int(request.header("content-length") or 0))

    async def _take(self, count: int) -> bytes:
        await self._until(lambda: len(self._unread) >= count)
        taken = bytes(self._unread[:count])
        del self._unread[:count]
        return taken

    async def _read_chunks(self) -> bytes:
        body = bytearray()
        while True:
            await self._until(lambda: b"\r\n" in self._unread)
            line = await self._take(self._unread.index(b"\r\n") + 2)
            size = int(line, 16)
            body += (await self._take(size + 2))[:size]
            if size == 0:
                return bytes(body)
