"""Forms with files while they arrive: what need not be held is not, what must not be sent is not."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from expected import ExpectedLog
from fakes.media import parts_of
from fakes.upstream import FakeUpstream, Reply
from served import KEY, PREFIX, WAYS, Served, served
from test_accounting import only_row
from test_media import media

from jupyterhub_ai_gateway import uploads

every_way = pytest.mark.parametrize("way", WAYS)
OURS = pytest.mark.parametrize("way", ["fast", "handlers"])  # tornado's server resets what it does not read
BOUNDARY = "----client-boundary"
END = f"\r\n--{BOUNDARY}--\r\n".encode()
TRANSCRIBE = "v1/audio/transcriptions"
MB = 1024 * 1024


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    """Write a part, with the line's end that comes before the next boundary."""
    more = f'; filename="{filename}"\r\nContent-Type: audio/wav' if filename else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts)[:-2] + END


def file_of(size: int) -> bytes:
    """Make a file that looks a little like a form."""
    piece = bytes(range(256)) + f"\r\n--{BOUNDARY[:-1]}\r\n--\r\n\n--{BOUNDARY}--x".encode()
    return (piece * (size // len(piece) + 1))[:size]


def listeners(up: FakeUpstream, **more: Any) -> list[dict[str, Any]]:
    return [media(up, "listener", "transcriptions", **more)]


def upstream() -> FakeUpstream:
    return FakeUpstream(key=KEY)


class Sender:
    """A caller who sends piece by piece."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def begin(
        self, path: str = TRANSCRIBE, *, length: int | None = None, token: str = "t-alice", **headers: str
    ) -> None:
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        lines = [
            f"POST {PREFIX}{path} HTTP/1.1",
            "Host: gateway",
            f"Authorization: Bearer {token}",
            framing,
        ]
        lines.append(f"Content-Type: multipart/form-data; boundary={BOUNDARY}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._is_chunked = length is None
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        await self.writer.drain()

    async def send(self, piece: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._is_chunked else piece)
        await self.writer.drain()

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n" if self._is_chunked else b"")
        await self.writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Return the status and the body of an answer with a length."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        body = await self.reader.readexactly(int(length[1]) if length else 0)
        return int(head.split(b" ")[1]), body


@contextlib.asynccontextmanager
async def sender(running: Served) -> AsyncIterator[Sender]:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.service.port)
    try:
        yield Sender(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def heard(up: FakeUpstream) -> dict[str, bytes]:
    """Return the fields of the only form that arrived."""
    (request,) = up.requests
    return {each.name: each.content for each in parts_of(request.header("content-type"), request.body)}


@pytest.mark.parametrize(
    ("way", "size"), [("fast", 50), ("stock handlers", 50), ("handlers", 5), ("stock", 5)]
)
async def test_long_file_passes_without_being_held(way: str, size: int) -> None:
    content = file_of(size * MB)
    with upstream() as up:
        async with served(up, listeners(up), **WAYS[way]) as running, sender(running) as caller:
            body = form(part("model", b"listener"), part("file", content, "a.wav"))
            await caller.begin(length=len(body))
            await caller.send(body)
            status, _ = await caller.answer()
            assert status == 200
            holding = running.service.gateway.holding
            assert 0 < holding.peak_bytes < MB
            assert holding.held_bytes == 0
        found = heard(up)
        assert hashlib.sha256(found.pop("file")).digest() == hashlib.sha256(content).digest()
        assert found == {"model": b"their-listener"}
        assert up.requests[0].header("transfer-encoding") == "chunked"


Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def provider(up: FakeUpstream, handle: Handle) -> AsyncIterator[None]:
    """Stand in for `up`, with little room for what is not read."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError):
            await handle(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
    own, up.port = up.port, server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        up.port = own
        server.close()
        for writer in writers:
            writer.transport.abort()
        for _ in range(5):
            await asyncio.sleep(0)


@every_way
async def test_provider_that_does_not_read_stops_the_caller(way: str, expected_log: ExpectedLog) -> None:
    async def stand_still(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read nothing."""

    async def pour(caller: Sender) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await caller.send(b"x" * 65536)

    with upstream() as up:
        async with provider(up, stand_still):
            endpoints = listeners(up, timeouts={"first_byte_s": 0.4})
            async with served(up, endpoints, **WAYS[way]) as running, sender(running) as caller:
                await caller.begin()
                await caller.send(part("model", b"listener"))
                await caller.send(part("file", b"x", "a.wav")[:-2])
                pouring = asyncio.ensure_future(pour(caller))
                if "stock" in way:
                    await pouring  # the connection is ended
                else:
                    assert (await caller.answer())[0] == 504
                    pouring.cancel()
                    await asyncio.wait([pouring])
                assert running.service.gateway.holding.peak_bytes < MB
    expected_log.take("upstream_timeout")


@every_way
async def test_hangup_stops_the_upload(way: str, tmp_path: Path) -> None:
    begun, ended, got = asyncio.Event(), asyncio.Event(), bytearray()

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            got.extend(piece)
            if b"first words" in got:
                begun.set()
        ended.set()

    config = {"ledger": {"url": f"sqlite:///{tmp_path}/l.sqlite", "flush_s": 0.01}}
    with upstream() as up:
        async with provider(up, read), served(up, listeners(up), config=config, **WAYS[way]) as running:
            async with sender(running) as caller:
                await caller.begin(length=10 * MB)
                await caller.send(part("model", b"listener"))
                await caller.send(part("file", b"first words" + bytes(100_000), "a.wav"))
                await begun.wait()
            await ended.wait()
            row = await only_row(running)
            assert (row["status"], row["outcome"], row["attempts"]) == (499, "caller_left", 1)
            assert running.service.gateway.holding.held_bytes == 0
    assert not got.endswith(b"0\r\n\r\n")


@every_way
@pytest.mark.parametrize("size", [1000, 3 * MB])
async def test_model_that_comes_last(way: str, size: int) -> None:
    content = file_of(size)
    with upstream() as up:
        async with served(up, listeners(up), **WAYS[way]) as running:
            body = form(part("file", content, "a.wav"), part("language", b"en"), part("model", b"listener"))
            kind = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
            answer = await running.ask("POST", TRANSCRIBE, body=body, headers=[kind])
            assert answer.json["text"] == up.text
            assert running.service.gateway.holding.held_bytes == 0
        assert heard(up) == {"model": b"their-listener", "file": content, "language": b"en"}
        assert up.requests[0].header("content-length") == str(len(up.requests[0].body))


@OURS
async def test_model_that_comes_too_late(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_HELD_BYTES", 2 * MB)
    with upstream() as up:
        async with served(up, listeners(up), **WAYS[way]) as running, sender(running) as caller:
            await caller.begin(length=8 * MB)
            await caller.send(part("file", file_of(3 * MB), "a.wav"))
            status, body = await caller.answer()
            assert status == 413
            assert b"put model before the file" in body
        assert up.requests == []


@OURS
@pytest.mark.parametrize(
    ("token", "model", "status"),
    [("t-nobody", b"listener", 401), ("t-alice", b"nothing", 404), ("t-poor", b"listener", 403)],
)
async def test_refusal_comes_before_the_file(way: str, token: str, model: bytes, status: int) -> None:
    with upstream() as up:
        async with served(up, listeners(up), **WAYS[way]) as running, sender(running) as caller:
            running.knows("t-poor", "access:services!service=ai-gateway", "custom:ai-gateway:chat:create")
            await caller.begin(length=20 * MB, token=token)
            await caller.send(part("model", model) + part("file", b"beginning", "a.wav"))
            assert (await caller.answer())[0] == status
        assert (up.requests, up.connections) == ([], 0)


@OURS
async def test_limit_comes_before_the_file(way: str) -> None:
    limit = {"calls": 1, "renewal_period": "day"}
    with upstream() as up:
        async with served(up, listeners(up, limit=limit), **WAYS[way]) as running:
            body = form(part("model", b"listener"), part("file", b"sound", "a.wav"))
            for status in (200, 429):
                async with sender(running) as caller:
                    await caller.begin(length=len(body) if status == 200 else 20 * MB)
                    await caller.send(body)
                    assert (await caller.answer())[0] == status
        assert len(up.requests) == 1


@OURS
async def test_continue_is_said_to_who_waits_for_it(way: str) -> None:
    with upstream() as up:
        async with served(up, listeners(up), **WAYS[way]) as running, sender(running) as caller:
            body = form(part("model", b"listener"), part("file", b"sound", "a.wav"))
            await caller.begin(length=len(body), Expect="100-continue")
            assert (await caller.answer())[0] == 100
            await caller.send(body)
            assert (await caller.answer())[0] == 200


@every_way
async def test_connection_serves_the_next_request(way: str) -> None:
    with upstream() as up:
        async with served(up, listeners(up), **WAYS[way]) as running, sender(running) as caller:
            for content in (file_of(2 * MB), b"short"):
                await caller.begin()
                await caller.send(part("model", b"listener"))
                await caller.send(part("file", content, "a.wav")[:-2] + END)
                await caller.end()
                assert (await caller.answer())[0] == 200
        assert [len(each.body) > MB for each in up.requests] == [True, False]


@OURS
async def test_provider_that_refuses_early_is_heard(way: str) -> None:
    refusal = Reply.error(400, "This is no sound.").wire

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal)

    with upstream() as up:
        async with (
            provider(up, refuse),
            served(up, listeners(up), **WAYS[way]) as running,
            sender(running) as caller,
        ):
            await caller.begin(length=20 * MB)
            await caller.send(part("model", b"listener") + part("file", bytes(MB), "a.wav"))
            status, body = await caller.answer()
            assert status == 400
            assert b"This is no sound" in body


BROKEN = [
    (b"no form at all", "it ends in the middle"),
    (form(part("model", b"listener"), part("file", b"x", "a.wav"))[:-4], "it ends in the middle"),
    (form(part("file", b"x", "a.wav")), "model is missing"),
    (form(part("model", b""), part("file", b"x", "a.wav")), "1 to 256 characters"),
    (form(part("model", b"x" * 2000), part("file", b"x", "a.wav")), "1 to 256 characters"),
    (form(part('a"b', b"x")), "no name"),
    (f"--{BOUNDARY}\r\n\r\n\r\nx{END.decode()}".encode(), "cannot be read"),
]


@every_way
@pytest.mark.parametrize(("body", "problem"), BROKEN, ids=range(len(BROKEN)))
async def test_form_that_is_none_is_the_caller_s_to_mend(way: str, body: bytes, problem: str) -> None:
    with upstream() as up:
        async with served(up, listeners(up), **WAYS[way]) as running:
            kind = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
            answer = await running.ask("POST", TRANSCRIBE, body=body, headers=[kind])
            assert answer.status == 400
            assert problem in answer.error["message"]
            answer = await running.ask(
                "POST", TRANSCRIBE, body=body, headers=[("Content-Type", "multipart/form-data")]
            )
            assert (answer.status, answer.error["code"]) == (400, "invalid_form")
        assert up.requests == []


@every_way
async def test_form_that_ends_too_early_while_it_is_sent(way: str) -> None:
    ended = asyncio.Event()

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        ended.set()

    with upstream() as up:
        async with provider(up, read), served(up, listeners(up), **WAYS[way]) as running:
            async with sender(running) as caller:
                await caller.begin()
                await caller.send(part("model", b"listener") + part("file", bytes(2 * MB), "a.wav"))
                await caller.end()
                status, body = await caller.answer()
                assert status == 400
                assert b"it ends in the middle" in body
            await ended.wait()


async def test_fields_reach_the_provider_once_and_under_a_pseudonym() -> None:
    with upstream() as up:
        async with served(up, listeners(up)) as running, sender(running) as caller:
            await caller.begin()
            await caller.send(part("model", b"listener") + part("file", file_of(2 * MB), "a.wav"))
            more = part("model", b"another") + part("user", b"alice") + part("user", b"alice")
            await caller.send(more[:-2] + END)
            await caller.end()
            assert (await caller.answer())[0] == 200
        (request,) = up.requests
        names = [each.name for each in parts_of(request.header("content-type"), request.body)]
        assert names == ["model", "file", "user"]
        assert b"alice" not in request.body
        assert b"another" not in request.body


def two(up: FakeUpstream, first_base: str) -> list[dict[str, Any]]:
    """Make an endpoint whose first deployment is somewhere else."""
    (one,) = listeners(up)
    config = {"openai_api_key": KEY, "openai_api_base": first_base}
    first = {**one["model"], "config": config}
    deployments = [
        {"name": "first", "model": first},
        {"name": "second", "model": one["model"], "priority": 2},
    ]
    return [{"name": "listener", "endpoint_type": "llm/v1/transcriptions", "deployments": deployments}]


@every_way
async def test_upload_of_which_nothing_is_gone_goes_elsewhere(way: str) -> None:
    content = file_of(2 * MB)
    with upstream() as gone:
        base = f"{gone.url}/v1"
    with upstream() as up:
        async with served(up, two(up, base), **WAYS[way]) as running, sender(running) as caller:
            await caller.begin()
            await caller.send(part("model", b"listener"))
            await caller.send(part("file", content, "a.wav")[:-2] + END)
            await caller.end()
            assert (await caller.answer())[0] == 200
        assert heard(up)["file"] == content


@every_way
@pytest.mark.parametrize(("size", "status"), [(1000, 200), (2 * MB, 500)])
async def test_only_what_is_still_here_is_tried_elsewhere(
    way: str, size: int, status: int, expected_log: ExpectedLog
) -> None:
    with upstream() as down, upstream() as up:
        down.always(Reply.error(500, "down"))
        endpoints = two(up, f"{down.url}/v1")
        async with served(up, endpoints, **WAYS[way]) as running, sender(running) as caller:
            body = form(part("model", b"listener"), part("file", file_of(size), "a.wav"))
            await caller.begin(length=len(body))
            await caller.send(body)
            assert (await caller.answer())[0] == status
        assert (len(down.requests), len(up.requests)) == (1, status == 200)
    if status == 500:
        expected_log.take("upstream_error")


@every_way
async def test_path_that_names_the_model(way: str) -> None:
    kind = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    path = "endpoints/listener/invocations"
    with upstream() as up:
        async with served(up, listeners(up), **WAYS[way]) as running:
            body = form(part("file", file_of(2 * MB), "a.wav"))
            answer = await running.ask("POST", path, body=body, headers=[kind])
            assert answer.json["text"] == up.text
            body = form(part("model", b"listener"), part("file", b"x", "a.wav"))
            answer = await running.ask("POST", path, body=body, headers=[kind])
            assert answer.status == 422
        assert heard(up)["model"] == b"their-listener"


async def test_stopping_ends_an_upload_with_a_word(expected_log: ExpectedLog) -> None:
    with upstream() as up:
        async with served(up, listeners(up), drain_timeout_s=0.1) as running, sender(running) as caller:
            await caller.begin(length=10 * MB)
            await caller.send(part("model", b"listener"))
            await caller.send(part("file", bytes(MB), "a.wav"))
            while not up.connections:
                await asyncio.sleep(0)
            stopping = asyncio.ensure_future(running.service.stop())
            status, body = await caller.answer()
            assert status == 503
            assert b"draining" in body
            await stopping
        assert up.requests == []
    expected_log.take("Cut off 1 request")
