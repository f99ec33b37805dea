"""Bodies that are sent as they come, by both clients."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import pytest
from fakes.upstream import FIN, STALL, FakeUpstream, Raw, Reply, happened

from jupyterhub_ai_gateway.errors import (
    RequestFault,
    UpstreamBroken,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from jupyterhub_ai_gateway.upstream.base import Client, Exchange, StreamedBody
from jupyterhub_ai_gateway.vocabulary import Timeouts
from upstream.test_clients import LIMIT, PATIENT, both, client_of, target, upstream

SOON = Timeouts(first_byte_s=0.3)


async def each(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class Tap:
    """Pieces that a test lets out one by one. `asked` counts how many were asked for."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.asked = 0
        self.is_closed = False

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            while True:
                self.asked += 1
                piece = await self.queue.get()
                if isinstance(piece, Exception):
                    raise piece
                if piece is None:
                    return
                yield piece
        finally:
            self.is_closed = True


async def uploaded(
    client: Client, up: FakeUpstream, body: StreamedBody, timeouts: Timeouts = PATIENT
) -> Exchange:
    return await client.upload(target(up), [("X-One", "1")], body, timeouts)


Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def raw_server(up: FakeUpstream, handle: Handle) -> AsyncIterator[None]:
    """Serve in the place of `up`, with little room for what is not read."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError):
            await handle(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
    up.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        for _ in range(5):
            await asyncio.sleep(0)


async def nothing_is_open(client: Client) -> None:
    while client.open_connections:
        await asyncio.sleep(0)


async def was_reached(up: FakeUpstream) -> None:
    """Wait until a connection has arrived: one that has not cannot be ended properly."""
    while not up.connections:
        await asyncio.sleep(0)


@both
@pytest.mark.parametrize("length", [None, 9])
async def test_body_arrives_whole_in_either_framing(kind: str, length: int | None) -> None:
    with upstream() as up:
        async with client_of(kind) as client:
            exchange = await uploaded(client, up, StreamedBody(each([b"one", b"", b"two", b"six"]), length))
            assert await exchange.read(LIMIT) == b"hello"
            exchange.close()
        request = up.take()
    assert request.body == b"onetwosix"
    assert request.header("content-length") == (None if length is None else "9")
    assert request.header("transfer-encoding") == ("chunked" if length is None else None)
    assert request.header("x-one") == "1"


@both
async def test_next_piece_leaves_before_the_one_after_it_is_there(kind: str) -> None:
    tap = Tap()
    with upstream() as up:
        async with client_of(kind) as client:
            sending = asyncio.ensure_future(uploaded(client, up, StreamedBody(tap.pieces(), 6)))
            tap.queue.put_nowait(b"one")
            tap.queue.put_nowait(b"two")
            assert (await up.taken()).body == b"onetwo"  # by its length, although the pieces have not ended
            tap.queue.put_nowait(None)
            exchange = await sending
            assert exchange.status == 200
            exchange.close()


@both
async def test_failure_of_the_pieces_is_raised_and_cuts_the_upload(kind: str) -> None:
    tap = Tap()
    with upstream() as up:
        async with client_of(kind) as client:
            tap.queue.put_nowait(b"one")
            tap.queue.put_nowait(RequestFault("The form cannot be read."))
            with pytest.raises(RequestFault, match="cannot be read"):
                await uploaded(client, up, StreamedBody(tap.pieces()))
            await nothing_is_open(client)
            await was_reached(up)
        assert up.requests == []


@both
async def test_cancelling_stops_the_pieces_and_closes(kind: str) -> None:
    tap = Tap()
    with upstream() as up:
        async with client_of(kind) as client:
            sending = asyncio.ensure_future(uploaded(client, up, StreamedBody(tap.pieces())))
            tap.queue.put_nowait(b"one")
            while tap.asked < 2:
                await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            while not tap.is_closed or client.open_connections:
                await asyncio.sleep(0)
            await was_reached(up)


@both
async def test_early_refusal_ends_the_upload(kind: str) -> None:
    tap = Tap()
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal)

    with upstream() as up:
        async with raw_server(up, refuse), client_of(kind) as client:
            tap.queue.put_nowait(b"one")
            exchange = await uploaded(client, up, StreamedBody(tap.pieces()))
            assert exchange.status == 413
            assert await exchange.read(LIMIT) == b"big"
            exchange.close()
            while not tap.is_closed or client.open_connections:
                await asyncio.sleep(0)


@both
async def test_upstream_that_does_not_read_slows_the_pieces_and_times_out(kind: str) -> None:
    asked = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            assert asked < 300, "more than fits into the sockets"
            yield b"x" * 65536

    async def stand_still(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read nothing."""

    with upstream() as up:
        async with raw_server(up, stand_still), client_of(kind) as client:
            with pytest.raises(UpstreamTimeout):
                await uploaded(client, up, StreamedBody(endless()), SOON)
            await nothing_is_open(client)


@both
async def test_slow_caller_is_no_timeout_of_upstream(kind: str) -> None:
    tap = Tap()
    with upstream() as up:
        async with client_of(kind) as client:
            sending = asyncio.ensure_future(uploaded(client, up, StreamedBody(tap.pieces()), SOON))
            tap.queue.put_nowait(b"one")
            await asyncio.wait([sending], timeout=0.8)
            assert not sending.done()
            tap.queue.put_nowait(None)
            (await sending).close()


@both
async def test_silence_after_the_last_piece_times_out(kind: str) -> None:
    with upstream() as up:
        up.script(Raw.of(STALL))
        async with client_of(kind) as client:
            with pytest.raises(UpstreamTimeout):
                await uploaded(client, up, StreamedBody(each([b"one"])), SOON)
            await nothing_is_open(client)


@both
async def test_close_without_an_answer_is_unreachable_and_asked_once(kind: str) -> None:
    with upstream() as up:
        up.always(Raw.of(FIN))
        async with client_of(kind) as client:
            with pytest.raises(UpstreamUnreachable):
                await uploaded(client, up, StreamedBody(each([b"one"])))
        assert len(up.requests) == 1


@both
async def test_no_upload_meets_a_stale_connection(kind: str) -> None:
    with upstream() as up:
        async with client_of(kind) as client:
            (await client.send(target(up), (), b"{}", PATIENT)).close()
            up.drop_connections()
            exchange = await uploaded(client, up, StreamedBody(each([b"one"])))
            assert exchange.status == 200
            exchange.close()


@both
async def test_answer_that_is_cut_is_broken(kind: str) -> None:
    with upstream() as up:
        up.script(Reply(body=b"0123456789").cut(45))
        async with client_of(kind) as client:
            exchange = await uploaded(client, up, StreamedBody(each([b"one"])))
            with pytest.raises(UpstreamBroken):
                await exchange.read(LIMIT)
            exchange.close()


@both
@pytest.mark.parametrize("pieces", [[b"on"], [b"one", b"more"]])
async def test_length_that_is_not_kept_is_a_bug(kind: str, pieces: list[bytes]) -> None:
    with upstream() as up:
        up.always(Raw.of(STALL))
        async with client_of(kind) as client:
            with pytest.raises(ValueError, match="than was said"):
                await uploaded(client, up, StreamedBody(each(pieces), 3))
            await was_reached(up)


@both
async def test_connection_serves_the_next_request_or_is_closed(kind: str) -> None:
    with upstream() as up:
        async with client_of(kind) as client:
            exchange = await uploaded(client, up, StreamedBody(each([b"one"])))
            await exchange.read(LIMIT)
            exchange.close()
            (await client.send(target(up), (), b"{}", PATIENT)).close()
            assert [request.body for request in up.requests] == [b"one", b"{}"]
            await happened(up.requests[1].answered)
