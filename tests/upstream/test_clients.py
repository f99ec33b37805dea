"""One suite over both clients: aiohttp's is the oracle, ours keeps the same promises."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.upstream import (
    BYTE_BY_BYTE,
    FIN,
    RESET,
    STALL,
    WHOLE,
    Cuts,
    FakeUpstream,
    Gate,
    Raw,
    Reply,
    happened,
    random_cuts,
)
from handlers.certificates import write_certificate

from jupyterhub_ai_gateway.config import TlsConfig
from jupyterhub_ai_gateway.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from jupyterhub_ai_gateway.upstream import make_client
from jupyterhub_ai_gateway.upstream.base import Client, Exchange, Target
from jupyterhub_ai_gateway.vocabulary import Timeouts

KINDS = ["lean", "aiohttp"]
CUTS = [WHOLE, BYTE_BY_BYTE, *(random_cuts(seed) for seed in range(4))]
PATIENT = Timeouts()
SOON = 0.3
LIMIT = 10_000_000

both = pytest.mark.parametrize("kind", KINDS)


@contextlib.asynccontextmanager
async def client_of(kind: str, context: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    client = make_client(kind, ssl_context=context)
    try:
        yield client
    finally:
        await client.close()


def upstream(**more: object) -> FakeUpstream:
    return FakeUpstream(is_strict=False, **more)  # type: ignore[arg-type]


def target(up: FakeUpstream, path: str = "/v1/x", **more: object) -> Target:
    return Target.from_url(f"{up.url}{path}", [("Content-Type", "application/json")], **more)  # type: ignore[arg-type]


async def sent(
    client: Client, up: FakeUpstream, timeouts: Timeouts = PATIENT, body: bytes = b"{}"
) -> Exchange:
    return await client.send(target(up), (), body, timeouts)


async def whole(
    client: Client, up: FakeUpstream, timeouts: Timeouts = PATIENT, body: bytes = b"{}"
) -> bytes:
    exchange = await sent(client, up, timeouts, body)
    try:
        return await exchange.read(LIMIT)
    finally:
        exchange.close()


async def relayed(client: Client, up: FakeUpstream, timeouts: Timeouts = PATIENT) -> bytes:
    pieces: list[bytes] = []
    exchange = await sent(client, up, timeouts)
    try:
        await exchange.relay(pieces.append)
    finally:
        exchange.close()
    return b"".join(pieces)


def framings(body: bytes) -> list[Reply]:
    return [
        Reply(body=body),
        Reply(body=[body[:3], body[3:]]),
        Reply(body=body, framing="close"),
        Reply(body=body, version="HTTP/1.0", framing="close"),
    ]


@both
@pytest.mark.parametrize("cuts", CUTS)
async def test_answer_arrives_in_every_framing_however_it_is_cut(kind: str, cuts: Cuts) -> None:
    body = b"Hello, this is the body.\r\n0\r\n\r\n"
    with upstream(cuts=cuts) as up:
        async with client_of(kind) as client:
            for reply in framings(body):
                up.script(reply, reply)
                assert await whole(client, up) == body
                assert await relayed(client, up) == body


@both
async def test_request_arrives_as_it_was_meant(kind: str) -> None:
    with upstream() as up:
        async with client_of(kind) as client:
            exchange = await client.send(target(up, "/v1/x?a=b%2Fc"), [("X-One", "1")], b'{"a":1}', PATIENT)
            exchange.close()
        request = up.take()
    assert (request.method, request.target, request.version) == ("POST", "/v1/x?a=b%2Fc", "HTTP/1.1")
    assert request.body == b'{"a":1}'
    names = sorted(name.lower() for name, _ in request.headers)
    assert names == ["content-length", "content-type", "host", "x-one"]
    assert request.header("host") == f"127.0.0.1:{up.port}"


@both
async def test_head_is_told_with_joined_headers(kind: str) -> None:
    with upstream() as up:
        up.script(Reply(418, [("X-A", "1"), ("Content-Type", "text/plain"), ("x-a", "2")], b"tea"))
        async with client_of(kind) as client:
            exchange = await sent(client, up)
            assert (exchange.status, exchange.headers[b"x-a"]) == (418, b"1, 2")
            assert exchange.headers[b"content-type"] == b"text/plain"
            exchange.close()


@both
@pytest.mark.parametrize("status", [204, 304])
async def test_answer_without_a_body_ends_at_once(kind: str, status: int) -> None:
    with upstream() as up:
        up.script(Reply(status, framing="none"))
        async with client_of(kind) as client:
            assert await whole(client, up) == b""
            assert await whole(client, up) == b"hello"


@both
async def test_connection_is_used_again(kind: str) -> None:
    with upstream() as up:
        async with client_of(kind) as client:
            for _ in range(5):
                assert await whole(client, up) == b"hello"
            assert await relayed(client, up) == b"hello"
            assert client.open_connections == 1
    assert up.connections == 1


@both
async def test_every_concurrent_request_has_a_connection_of_its_own(kind: str) -> None:
    gate = Gate()
    with upstream() as up:
        up.script(*[Reply(body=b"held", before=[gate])] * 5)
        async with client_of(kind) as client:
            asking = [asyncio.ensure_future(whole(client, up)) for _ in range(5)]
            for _ in range(5):
                await up.taken()
            gate.set()
            assert await asyncio.gather(*asking) == [b"held"] * 5
    assert up.connections == 5


@both
@pytest.mark.parametrize("end", [FIN, RESET])
async def test_pooled_connection_that_was_closed_is_replaced(kind: str, end: object) -> None:
    with upstream() as up:
        # Closed before any byte of an answer, while the request is on its way
        up.script(Reply(body=b"one"), Raw.of(end))  # type: ignore[arg-type]
        async with client_of(kind) as client:
            assert await whole(client, up) == b"one"
            assert await whole(client, up) == b"hello"
            up.drop_connections()
            assert await whole(client, up) == b"hello"


@both
async def test_fresh_connection_that_is_closed_is_not_tried_again(kind: str) -> None:
    with upstream() as up:
        up.always(Raw.of(FIN))
        async with client_of(kind) as client:
            with pytest.raises(UpstreamUnreachable):
                await whole(client, up)
    assert len(up.requests) == 1


@both
async def test_connection_marked_to_close_is_not_used_again(kind: str) -> None:
    with upstream() as up:
        up.script(Reply(body=b"one", headers=[("Connection", "close")]))
        async with client_of(kind) as client:
            assert await whole(client, up) == b"one"
            assert await whole(client, up) == b"hello"
    assert up.connections == 2


@both
async def test_bytes_after_an_answer_are_no_answer_to_the_next_request(kind: str) -> None:
    smuggled = Reply(body=b"smuggled").wire
    with upstream() as up:
        up.script(Raw.of(Reply(body=b"one").wire + smuggled))
        async with client_of(kind) as client:
            with contextlib.suppress(UpstreamBroken):
                assert await whole(client, up) == b"one"
            assert await whole(client, up) == b"hello"


@both
@pytest.mark.parametrize("end", [FIN, RESET])
@pytest.mark.parametrize(
    "reply", [Reply(body=b"Hello, all of you."), Reply(body=[b"Hello,", b" all of you."])]
)
async def test_answer_that_is_cut_short_is_broken(kind: str, reply: Reply, end: object) -> None:
    with upstream() as up:
        for at in (len(reply.wire) - 1, len(reply.wire) - 9):
            up.script(reply.cut(at, end), reply.cut(at, end))  # type: ignore[arg-type]
        async with client_of(kind) as client:
            for _ in range(2):
                with pytest.raises(UpstreamBroken):
                    await whole(client, up)
                with pytest.raises(UpstreamBroken):
                    await relayed(client, up)


@both
async def test_what_came_before_the_cut_was_passed_on(kind: str) -> None:
    pieces: list[bytes] = []
    gate = Gate()
    with upstream() as up:
        up.script(Reply(body=[b"first", gate, FIN]))
        async with client_of(kind) as client:
            exchange = await sent(client, up)

            def write(piece: bytes) -> None:
                pieces.append(piece)
                gate.set()

            with pytest.raises(UpstreamBroken):
                await exchange.relay(write)
            exchange.close()
    assert pieces == [b"first"]


@both
async def test_nobody_listening_is_unreachable(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    async with client_of(kind) as client:
        with pytest.raises(UpstreamUnreachable) as caught:
            await client.send(Target.from_url(f"http://127.0.0.1:{port}/", ()), (), b"", PATIENT)
    assert str(port) not in caught.value.public
    assert f"127.0.0.1:{port}" in str(caught.value.detail)


@both
async def test_unknown_host_is_unreachable(kind: str) -> None:
    async with client_of(kind) as client:
        with pytest.raises(UpstreamUnreachable):
            await client.send(Target.from_url("http://no-such-host.invalid/", ()), (), b"", PATIENT)


@both
@pytest.mark.parametrize(
    ("script", "timeouts"),
    [
        (Raw.of(STALL), Timeouts(first_byte_s=SOON)),
        (Raw.of(b"HTTP/1.1 200 OK\r\n", STALL), Timeouts(first_byte_s=SOON)),
        (Raw.of(STALL), Timeouts(total_s=SOON)),
        (Reply(body=[b"some", STALL]), Timeouts(idle_s=SOON)),
        (Reply(body=[b"some", STALL]), Timeouts(total_s=SOON)),
    ],
)
async def test_silence_ends_in_a_timeout_and_closes(
    kind: str, script: Reply | Raw, timeouts: Timeouts
) -> None:
    with upstream() as up:
        up.script(script, script)
        async with client_of(kind) as client:
            with pytest.raises(UpstreamTimeout):
                await whole(client, up, timeouts)
            await happened(up.take().closed)
            with pytest.raises(UpstreamTimeout):
                await relayed(client, up, timeouts)
            await happened(up.take().closed)


@both
async def test_cancelling_before_the_head_closes_at_once(kind: str) -> None:
    with upstream() as up:
        up.script(Raw.of(STALL))
        async with client_of(kind) as client:
            asking = asyncio.ensure_future(sent(client, up))
            request = await up.taken()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await happened(request.closed)


@both
async def test_cancelling_a_relay_closes_at_once(kind: str) -> None:
    with upstream() as up:
        up.script(Reply(body=[b"first", STALL]))
        async with client_of(kind) as client:
            exchange = await sent(client, up)
            begun = asyncio.Event()
            relaying = asyncio.ensure_future(exchange.relay(lambda piece: begun.set()))
            await begun.wait()
            relaying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await relaying
            exchange.close()
            await happened(up.take().closed)


@both
async def test_closing_before_the_end_closes_the_connection(kind: str) -> None:
    with upstream() as up:
        up.script(Reply(body=[b"first", STALL]))
        async with client_of(kind) as client:
            exchange = await sent(client, up)
            exchange.close()
            exchange.close()
            await happened(up.take().closed)
            assert await whole(client, up) == b"hello"


@both
async def test_what_write_raises_ends_the_relay(kind: str) -> None:
    class Full(Exception):  # noqa: N818
        pass

    def write(piece: bytes) -> None:
        raise Full

    with upstream() as up:
        up.script(Reply(body=[b"first", STALL]))
        async with client_of(kind) as client:
            exchange = await sent(client, up)
            with pytest.raises(Full):
                await exchange.relay(write)
            exchange.close()
            await happened(up.take().closed)


@both
async def test_slow_reader_slows_the_provider(kind: str) -> None:
    chunk, count = b"x" * 65536, 400
    may_read = asyncio.Event()
    received = 0

    async def wait() -> None:
        await may_read.wait()

    def write(piece: bytes) -> object:
        nonlocal received
        received += len(piece)
        return None if may_read.is_set() else wait()

    with upstream() as up:
        up.script(Reply(body=[chunk] * count))
        async with client_of(kind) as client:
            exchange = await sent(client, up)
            relaying = asyncio.ensure_future(exchange.relay(write))  # type: ignore[arg-type]
            request = await up.taken()
            for _ in range(20):
                await asyncio.to_thread(request.answered.wait, 0.05)
            assert request.sent_bytes < count * len(chunk) / 2
            assert not request.answered.is_set()
            may_read.set()
            await relaying
            exchange.close()
    assert received == count * len(chunk)


@both
async def test_long_bodies_pass_both_ways(kind: str) -> None:
    body = bytes(range(256)) * 20_000
    with upstream() as up:
        up.script(Reply(body=body), Reply(body=[body[:100_000]] * 20))
        async with client_of(kind) as client:
            assert await whole(client, up, body=body) == body
            assert up.take().body == body
            assert await relayed(client, up) == body[:100_000] * 20


@both
async def test_refusal_in_the_middle_of_a_long_request_is_heard(kind: str) -> None:
    refusal = Reply(413, [("Connection", "close")], b"too long").wire
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal)
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        served.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, client_of(kind) as client:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        exchange = await client.send(Target.from_url(url, ()), (), b"x" * 8_000_000, PATIENT)
        assert (exchange.status, await exchange.read(LIMIT)) == (413, b"too long")
        exchange.close()
        await served.wait()


@both
@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"x" * 1001),
        Reply(body=[b"x" * 700, b"x" * 301]),
        Reply(body=[b"x"] * 1001),
        Reply(body=[b"x"] * 1001, cuts=BYTE_BY_BYTE),
    ],
)
async def test_answer_beyond_the_limit_is_broken(kind: str, reply: Reply) -> None:
    with upstream() as up:
        up.script(reply, reply)
        async with client_of(kind) as client:
            exchange = await sent(client, up)
            with pytest.raises(UpstreamBroken, match="too long"):
                await exchange.read(1000)
            exchange.close()
            exchange = await sent(client, up)
            assert len(await exchange.read(1001)) == 1001
            exchange.close()


@both
async def test_redirect_is_an_answer_like_any_other(kind: str) -> None:
    with upstream() as up:
        up.script(Reply(307, [("Location", f"{up.url}/elsewhere")], b""))
        async with client_of(kind) as client:
            exchange = await sent(client, up)
            assert exchange.status == 307
            exchange.close()
    assert len(up.requests) == 1


@both
async def test_cookie_is_not_kept(kind: str) -> None:
    with upstream() as up:
        up.script(Reply(200, [("Set-Cookie", "a=b; Path=/")], b"x"))
        async with client_of(kind) as client:
            await whole(client, up)
            await whole(client, up)
    assert up.requests[1].header("cookie") is None


@both
async def test_early_hints_are_passed_over(kind: str) -> None:
    with upstream() as up:
        up.script(
            Reply(
                body=b"real",
                before=[
                    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
                    b"HTTP/1.1 100 Continue\r\n\r\n",
                ],
            )
        )
        async with client_of(kind) as client:
            exchange = await sent(client, up)
            assert exchange.status == 200
            assert b"link" not in exchange.headers
            assert await exchange.read(LIMIT) == b"real"
            exchange.close()


@both
async def test_compressed_answer_that_nobody_asked_for_is_broken(kind: str) -> None:
    with upstream() as up:
        up.script(Reply(200, [("Content-Encoding", "gzip")], b"xyz"))
        async with client_of(kind) as client:
            with pytest.raises(UpstreamBroken):
                await whole(client, up)


HOSTILE = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    ),
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n",
    "chunk size that is no number": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "chunk longer than said": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * 200_000,
}


@both
@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_framing_is_broken_and_the_connection_is_gone(kind: str, name: str) -> None:
    if kind == "aiohttp" and name in ("two lengths", "length and chunks"):
        pytest.skip("aiohttp takes this in its lenient mode for answers; the connection is dropped")
    with upstream() as up:
        up.script(Raw.of(HOSTILE[name], STALL))
        async with client_of(kind) as client:
            with pytest.raises(UpstreamBroken):
                await whole(client, up, Timeouts(first_byte_s=5, idle_s=5))
            await happened(up.take().closed)
            assert await whole(client, up) == b"hello"


@both
async def test_header_with_a_line_break_is_never_sent(kind: str) -> None:
    with upstream() as up:
        async with client_of(kind) as client:
            with pytest.raises(ValueError, match=r"(?i)line break|newline|header"):
                await client.send(target(up), [("X-A", "1\r\nX-B: 2")], b"", PATIENT)
            with pytest.raises(ValueError, match="line break"):
                Target.from_url(f"{up.url}/", [("X-A", "1\nX-B: 2")])
        assert not up.requests


@both
async def test_tls_is_verified(kind: str, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=certificate)
    with upstream(tls=server) as up:
        async with client_of(kind, trusting) as client:
            assert await whole(client, up) == b"hello"
            assert await relayed(client, up) == b"hello"
        async with client_of(kind) as client:
            with pytest.raises(UpstreamUnreachable):
                await whole(client, up)
            exchange = await client.send(target(up, verify_tls=False), (), b"", PATIENT)
            assert await exchange.read(LIMIT) == b"hello"
            exchange.close()


@both
async def test_an_origin_s_own_certificates_count(kind: str, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    server.load_verify_locations(certificate)
    server.verify_mode = ssl.CERT_REQUIRED
    knows = TlsConfig(str(certificate))
    shows = TlsConfig(str(certificate), str(certificate), str(key))
    with upstream(tls=server) as up:
        async with client_of(kind) as client:
            exchange = await client.send(target(up, tls=shows), (), b"", PATIENT)
            assert await exchange.read(LIMIT) == b"hello"
            exchange.close()
            for other in (knows, None):
                with pytest.raises((UpstreamUnreachable, UpstreamBroken)):
                    await client.send(target(up, tls=other), (), b"", PATIENT)


@both
async def test_a_socket_of_this_machine_is_a_place_like_any_other(kind: str, tmp_path: Path) -> None:
    with upstream(unix=tmp_path / "Model server.sock") as up:
        async with client_of(kind) as client:
            assert await whole(client, up) == b"hello"
            assert await relayed(client, up) == b"hello"
            assert (up.requests[0].path, up.requests[0].header("host")) == ("/v1/x", "localhost")
            assert up.connections == 1
            up.stop_listening()
            up.drop_connections()
            with pytest.raises(UpstreamUnreachable):
                await whole(client, up)


PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy")


@both
@pytest.mark.parametrize("is_asked", [False, True])
async def test_proxies_of_the_environment_count_only_when_that_is_said(
    kind: str, is_asked: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    netrc = tmp_path / "netrc"
    netrc.write_text("default login root password secret")
    monkeypatch.setenv("NETRC", str(netrc))
    with upstream() as up, upstream() as proxy:
        address = proxy.url.replace("://", "://me:pass@")
        monkeypatch.setenv("http_proxy", address)
        client = make_client(kind, uses_environment=is_asked)
        try:
            assert await whole(client, up) == b"hello"
        finally:
            await client.close()
        assert (len(proxy.requests), len(up.requests)) == ((1, 0) if is_asked else (0, 1))
        if is_asked:
            (request,) = proxy.requests
            assert request.target == f"{up.url}/v1/x"
            assert request.header("proxy-authorization") == "Basic bWU6cGFzcw=="
            assert request.header("authorization") is None
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        client = make_client(kind, uses_environment=is_asked)
        try:
            assert await whole(client, up) == b"hello"
        finally:
            await client.close()
        assert len(up.requests) == (1 if is_asked else 2)


@both
async def test_keep_only_closes_idle_connections_to_other_places(kind: str) -> None:
    gate = Gate()
    with upstream() as kept, upstream() as dropped, upstream() as busy:
        async with client_of(kind) as client:
            for up in (kept, dropped):
                await whole(client, up)
            busy.script(Reply(body=[b"a", gate, b"b"]))
            in_use = await sent(client, busy)
            client.keep_only([target(kept).origin])
            await happened(dropped.take().closed)
            gate.set()
            assert await in_use.read(LIMIT) == b"ab"
            in_use.close()
            await happened(busy.take().closed)
            await whole(client, kept)
        assert kept.connections == 1


@both
async def test_closing_the_client_closes_every_connection(kind: str) -> None:
    with upstream() as up:
        async with client_of(kind) as client:
            await whole(client, up)
        await happened(up.take().closed)
        assert client.open_connections == 0


async def test_idle_connections_are_bounded_and_grow_old() -> None:
    from jupyterhub_ai_gateway.upstream.lean import LeanClient

    gate = Gate()
    with upstream() as up:
        up.script(*[Reply(body=b"held", before=[gate])] * 6)
        client = LeanClient(max_idle=2, max_idle_s=0.5)
        asking = [asyncio.ensure_future(whole(client, up)) for _ in range(6)]
        requests = [await up.taken() for _ in range(6)]
        gate.set()
        await asyncio.gather(*asking)
        assert client.open_connections <= 6
        await asyncio.sleep(0)
        assert sum(map(len, client._idle.values())) == 2
        for request in requests:
            await happened(request.closed)
        await client.close()


@both
def test_same_promises_on_uvloop(kind: str) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def story() -> None:
        with upstream() as up:
            up.script(Reply(body=[b"a", b"b"]), Reply(body=[b"some", STALL]), Reply(body=b"cut").cut(-2))
            async with client_of(kind) as client:
                assert await relayed(client, up) == b"ab"
                with pytest.raises(UpstreamTimeout):
                    await relayed(client, up, Timeouts(idle_s=SOON))
                with pytest.raises(UpstreamBroken):
                    await whole(client, up)
                assert await whole(client, up) == b"hello"

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(story())
    finally:
        loop.close()
